"""Scores of the included model on speakers that it has not learned from: docs/results/default.json.

    python -m benchmarks.default score MODEL CORPORA --name NAME [--conditions]   # a run or an exported model
    python -m benchmarks.default ridge CORPORA --encoder WHISPER_BASE
    python -m benchmarks.default folds RUN CORPORA                                # Joy of EmoDB, speakers left out

CORPORA: made by benchmarks/default_corpora.py. Intervals resample speakers. `score` looks at the 60 test speakers of
the bursts, at ASED's even speakers and at TAVA: only a model whose every choice is made is scored.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bursts import write_record
from benchmarks.command import make_parser
from benchmarks.first_default import CONDITIONS, pooled, predict_by_ridge
from emimic import metrics
from emimic.data.corpus import Item, load_corpus
from emimic.data.loader import trim_silence
from emimic.inference.engine import Engine, open_engine
from emimic.media import decode
from emimic.model.model import EmiModel
from emimic.progress import show_progress
from emimic.task import EMOTIONS, SAMPLE_RATE, VAD
from emimic.training import checkpoint, probes
from emimic.training.corpora import load_corpora

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "default.json"
NOTE = (
    "Vocal bursts (EmoGator): labels are the intended category, cast onto the six targets by this project. "
    "Speech: acted. Not the paper's corpus, not comparable with its figures. 95 % intervals resample speakers."
)
SEVEN = ("Adoration", "Amusement", "Triumph", "Sympathy", "Elation", "Ecstasy", "Neutral")
"""The categories of the corpus that the model before this one was judged by."""
UNCHANGED = tuple(name for name in EMOTIONS if name != "Excitement")
LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 12.0)
WINDOW = 2.5

Wave = NDArray[np.float32]
Array = NDArray[np.float64]


def items_of(corpora: Path, name: str, split: str) -> tuple[Item, ...]:
    """The usable clips of a corpus's split, with every label that is known."""
    return (
        load_corpus(corpora / name, targets=EMOTIONS, splits=[split], scan=False, partial=True)
        .splits[split]
        .items
    )


def predict(engine: Engine, clips: Sequence[Wave]) -> tuple[Array, Array]:
    """Intensities (clip, target), and V/A/D as means over frames (clip, 3)."""
    clip_format = engine.spec.clip_format
    rows, vad = [], []
    starts = range(0, len(clips), 64)
    for start in show_progress(starts, "predicting", total=len(starts), show=sys.stderr.isatty()):
        ready = [clip_format.prepare(clip).samples for clip in clips[start : start + 64]]
        for one in engine.predict(ready):
            rows.append(one.intensities)
            vad.append(np.full(3, np.nan) if one.vad is None else one.vad.mean(axis=0))
    return np.array(rows, np.float64), np.array(vad, np.float64)


def interval(statistic: Any, x: Array, y: Array, speakers: Sequence[Any]) -> dict[str, Any]:
    """A score of each column and their mean, with 95 % intervals over speakers."""
    values = np.atleast_1d(statistic(x, y))
    draws = metrics.resample_statistic(statistic, x, y, groups=speakers, n=1000).reshape(1000, -1)
    low, high = metrics.compute_interval(draws)
    mean_low, mean_high = metrics.compute_interval(draws.mean(axis=1))
    figures = [
        {"value": float(v), "low": float(a), "high": float(b)}
        for v, a, b in zip(values, low, high, strict=True)
    ]
    mean = {"value": float(values.mean()), "low": float(mean_low), "high": float(mean_high)}
    return {"mean": mean, "columns": figures}


def named(figures: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """`interval`'s columns by name."""
    return {"mean": figures["mean"], "targets": dict(zip(names, figures["columns"], strict=True))}


def open_set(predictions: Array, items: Sequence[Item]) -> dict[str, Any]:
    """Pearson and AUC over all categories, unknown labels left out; and Pearson over the seven of before."""
    labels = np.stack([item.labels for item in items]).astype(np.float64)  # type: ignore[arg-type]
    speakers = [item.speaker for item in items]
    figures: dict[str, Any] = {
        "clips": len(items),
        "speakers": len(set(speakers)),
        "pearson": named(interval(metrics.compute_pearson, predictions, labels, speakers), EMOTIONS),
        "auc": named(interval(metrics.compute_auc, predictions, labels, speakers), EMOTIONS),
    }
    rows = [i for i, item in enumerate(items) if item.row["Category"] in SEVEN]
    columns = [EMOTIONS.index(name) for name in UNCHANGED]
    own = {"Adoration": 0, "Amusement": 1, "Triumph": 2, "Sympathy": 3, "Elation": 5}
    truth = np.zeros((len(rows), len(EMOTIONS)))
    for position, i in enumerate(rows):
        if (target := own.get(items[i].row["Category"])) is not None:
            truth[position, target] = 1.0
    seven = interval(
        metrics.compute_pearson,
        predictions[np.ix_(rows, columns)],
        truth[:, columns],
        [speakers[i] for i in rows],
    )
    return figures | {"pearson_seven_categories": named(seven, UNCHANGED)}


def cross_calibrated(raw: Array, items: Sequence[Item]) -> dict[str, Any]:
    """Calibration error on speakers whose clips fitted no map: maps of one half of the speakers, on the other."""
    from emimic.training.calibration_fit import fit_map

    labels = np.stack([item.labels for item in items]).astype(np.float64)  # type: ignore[arg-type]
    names = sorted({str(item.speaker) for item in items})
    half = set(np.random.default_rng(0).permutation(names)[: len(names) // 2].tolist())
    first = np.array([item.speaker in half for item in items])
    mapped = np.empty_like(raw)
    for part in (first, ~first):
        for j in range(raw.shape[1]):
            fitted = fit_map(raw[~part, j], labels[~part, j], np.ones(int((~part).sum())))
            mapped[part, j] = fitted(raw[part, j])
    speakers = [item.speaker for item in items]
    return {
        "before": named(interval(metrics.compute_calibration_error, raw, labels, speakers), EMOTIONS),
        "after": named(interval(metrics.compute_calibration_error, mapped, labels, speakers), EMOTIONS),
    }


def joy(predictions: Array, items: Sequence[Item]) -> dict[str, Any]:
    """Return how Joy separates happy speech from angry and from any other, and its means."""
    emotion = np.array([item.row["Emotion"] for item in items])
    speakers = np.array([item.speaker for item in items])
    others = np.isnan(predictions)  # where Joy alone is predicted
    value, happy = predictions[:, EMOTIONS.index("Joy")], emotion == "happiness"

    def auc(rows: NDArray[np.bool_]) -> dict[str, Any]:
        kept = value[rows, None], happy[rows, None].astype(float), list(speakers[rows])
        return interval(metrics.compute_auc, *kept)["mean"]  # type: ignore[no-any-return]

    return {
        "clips": len(items),
        "speakers": len(set(speakers.tolist())),
        "happy_against_angry": auc(happy | (emotion == "anger")),
        "happy_against_rest": auc(np.ones(len(items), bool)),
        "joy_of_happy": float(value[happy].mean()),
        "joy_of_angry": float(value[emotion == "anger"].mean()),
        "joy_of_neutral": float(value[emotion == "neutral"].mean()),
        "mean_of_six_of_neutral": None if others.any() else float(predictions[emotion == "neutral"].mean()),
    }


def vad_scores(vad: Array, items: Sequence[Item]) -> dict[str, Any]:
    """Pearson of V/A/D with ratings."""
    labels = np.stack([item.vad for item in items]).astype(np.float64)  # type: ignore[arg-type]
    return named(interval(metrics.compute_pearson, vad, labels, [item.speaker for item in items]), VAD)


def cut_to(samples: Wave, seconds: float) -> Wave:
    """The first seconds of a recording, repeated where it is shorter."""
    size = round(seconds * SAMPLE_RATE)
    return np.tile(samples, -(-size // len(samples)))[:size]


def lengths(engine: Engine, clips: Sequence[Wave]) -> dict[str, Any]:
    """Mean absolute difference of one prediction for a recording of each length to the mean over its 2.5 s windows."""
    size, hop = round(WINDOW * SAMPLE_RATE), round(0.5 * SAMPLE_RATE)
    figures = {}
    for seconds in LENGTHS:
        whole = [cut_to(clip, seconds) for clip in clips]
        windows, owner = [], []
        for number, samples in enumerate(whole):
            starts = range(0, max(1, len(samples) - size + 1), hop)
            windows += [samples[start : start + size] for start in starts]
            owner += [number] * len(starts)
        one, many = predict(engine, whole), predict(engine, windows)
        owners = np.array(owner)
        differences = []
        for single, several in zip(one, many, strict=True):
            means = np.stack([several[owners == i].mean(axis=0) for i in range(len(clips))])
            differences.append(np.abs(single - means).mean(axis=0))
        # Shorter than a window there is one window only; it is compared with the windows of 4 s of the recording.
        if seconds < WINDOW:
            reference = predict(engine, [cut_to(clip, WINDOW) for clip in clips])
            differences = [np.abs(a - b).mean(axis=0) for a, b in zip(one, reference, strict=True)]
        figures[f"{seconds:g} s"] = {
            "six": float(differences[0].mean()), "V/A/D": float(differences[1].mean()),
            **{name: float(x) for name, x in zip((*EMOTIONS, *VAD), np.concatenate(differences), strict=True)},
        }  # fmt: skip
    return figures


def loads(items: Sequence[Item], *, trim: bool = False) -> list[Wave]:
    """The recordings; trim: without digital silence at the ends."""
    clips = [decode.load(item.path) for item in items]
    return [trim_silence(clip) for clip in clips] if trim else clips


def score(folder: Path, corpora: Path, *, conditions: bool) -> dict[str, Any]:
    """All figures of a model."""
    engine: Any = open_engine(folder, device="cpu")
    # Bursts as the weights have them: the maps were fitted to these very clips.
    calibration, engine.calibration = getattr(engine, "calibration", None), None
    bursts = items_of(corpora, "bursts", "test")
    clips = loads(bursts)
    predictions, _ = predict(engine, clips)
    figures: dict[str, Any] = {"bursts": open_set(predictions, bursts)}
    print(f"bursts: {figures['bursts']['pearson']['mean']} {figures['bursts']['auc']['mean']}", flush=True)
    figures["calibration"] = cross_calibrated(predictions, bursts)
    category = np.array([item.row["Category"] for item in bursts])
    figures["bursts"]["mean_by_category"] = {
        name: dict(zip(EMOTIONS, predictions[category == name].mean(axis=0).round(4).tolist(), strict=True))
        for name in sorted(set(category.tolist()))
    }
    if conditions:
        half = set(sorted({item.speaker for item in bursts if item.speaker})[::2])
        rows = [i for i, item in enumerate(bursts) if item.speaker in half]
        one = open_set(predictions[rows], [bursts[i] for i in rows])
        figures["conditions"] = {
            "as recorded": {"pearson": one["pearson"]["mean"], "auc": one["auc"]["mean"]}
        }
        for name, change in CONDITIONS.items():
            rng = np.random.default_rng(0)
            changed, _ = predict(engine, [change(clips[i], rng) for i in rows])
            one = open_set(changed, [bursts[i] for i in rows])
            figures["conditions"][name] = {"pearson": one["pearson"]["mean"], "auc": one["auc"]["mean"]}
            print(f"{name}: {figures['conditions'][name]}", flush=True)
    engine.calibration = calibration
    ased = items_of(corpora, "ased", "test")
    spoken, vad = predict(engine, loads(ased))
    figures["ased"] = joy(spoken, ased) | {"by_sex": by_group(spoken, ased, "Gender")}
    odd = items_of(corpora, "ased", "valid")
    spoken, _ = predict(engine, loads(odd))
    figures["ased_odd"] = joy(spoken, odd) | {"by_sex": by_group(spoken, odd, "Gender")}
    emodb = items_of(corpora, "emodb", "train")
    german = loads(emodb, trim=True)
    figures["emodb_learned_from"] = joy(predict(engine, german)[0], emodb)
    plain = items_of(corpora, "plain", "train")[::8]
    figures["plain_learned_from"] = {"mean_of_six": float(predict(engine, loads(plain))[0].mean())}
    tava = items_of(corpora, "tava", "test")
    spoken, vad = predict(engine, loads(tava))
    figures["tava"] = vad_scores(vad, tava) | {"mean_of_six": float(spoken.mean())}
    print(f"speech: {figures['ased']} {figures['tava']}", flush=True)
    some = [*clips[::120], *german[::40], *loads(ased[::24])]
    figures["lengths"] = lengths(engine, some) | {"recordings": len(some)}
    return figures


def by_group(predictions: Array, items: Sequence[Item], column: str) -> dict[str, Any]:
    """`joy` for each value of a column."""
    figures = {}
    for value in sorted({item.row[column] for item in items}):
        rows = [i for i, item in enumerate(items) if item.row[column] == value]
        figures[value] = joy(predictions[rows], [items[i] for i in rows])
    return figures


def ridge(corpora: Path, encoder: str, layer: int = 3) -> dict[str, Any]:
    """Ridge regression on mean and standard deviation of a frozen layer, each target from the clips that have it."""
    model = EmiModel.from_encoder(encoder, layers=layer, vad_head=False, hidden_layers=[layer]).eval()
    learned = (*items_of(corpora, "bursts", "train"), *items_of(corpora, "bursts", "valid"))
    test = items_of(corpora, "bursts", "test")
    x, new = pooled(model, learned), pooled(model, test)
    labels = np.stack([item.labels for item in learned]).astype(np.float64)  # type: ignore[arg-type]
    speakers = np.array([item.speaker for item in learned])
    columns = []
    for j in range(len(EMOTIONS)):
        known = np.isfinite(labels[:, j])
        columns.append(predict_by_ridge(x[known], labels[known, j : j + 1], speakers[known], new)[0][:, 0])
    return {"layer": layer, "bursts": open_set(np.column_stack(columns), test)}


def folds(run: Path, corpora: Path) -> dict[str, Any]:
    """Joy of EmoDB as the recipe predicts it without a speaker's own clips: the ridge regression before a run's first
    step, solved again without each speaker.

    It reads layers that aren't trained, so nothing else of it depends on the clips; that the clips are speech is given.
    """
    settings = checkpoint.read_settings(run)
    members = load_corpora([corpora / name for name in settings.corpora], settings, progress=False)
    training = [item for member in members for item in member.list_training(both=False)]
    items = [item for item in training if item.domain == "speech"]
    x = probes.compute_means(
        EmiModel.open_run(run, device="cpu"), items, settings, progress=sys.stderr.isatty()
    )
    y = np.array([item.labels[EMOTIONS.index("Joy")] for item in items], np.float64)  # type: ignore[index]
    weights = np.array([item.ridge_weight for item in items])
    speakers = np.array([item.speaker for item in items], object)
    german = np.array([item.corpus == "emodb" for item in items])
    predictions = np.full((len(items), len(EMOTIONS)), np.nan)
    for speaker in sorted({*speakers[german]}):
        kept = np.isfinite(y) & (speakers != speaker)
        logits = probes.to_logits(y[kept])
        slope, intercept = probes.fit_ridge(x[kept], logits, weights[kept], settings.domain_ridge or 0.0)
        own = speakers == speaker
        predictions[own, EMOTIONS.index("Joy")] = 1 / (1 + np.exp(-(x[own] @ slope + intercept)))
    clips = [item for item in items if item.corpus == "emodb"]
    return {
        "joy": joy(predictions[german], clips) | {"by_sex": by_group(predictions[german], clips, "Gender")}
    }


def main() -> None:
    """Read the command line."""
    parser = make_parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    scoring = verbs.add_parser("score")
    scoring.add_argument("folder", type=Path)
    scoring.add_argument("corpora", type=Path)
    scoring.add_argument("--name", required=True)
    scoring.add_argument("--conditions", action="store_true")
    frozen = verbs.add_parser("ridge")
    frozen.add_argument("corpora", type=Path)
    frozen.add_argument("--encoder", required=True)
    folding = verbs.add_parser("folds")
    folding.add_argument("run", type=Path)
    folding.add_argument("corpora", type=Path)
    given = parser.parse_args()
    if given.verb == "score":
        write_record(
            RESULTS, NOTE, given.name, score(given.folder, given.corpora, conditions=given.conditions)
        )
    elif given.verb == "ridge":
        write_record(RESULTS, NOTE, "ridge", ridge(given.corpora, given.encoder))
    else:
        write_record(RESULTS, NOTE, "folds", folds(given.run, given.corpora))


if __name__ == "__main__":
    main()
