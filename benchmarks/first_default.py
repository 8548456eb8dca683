"""The model that was in the package first: corpus, scores and robustness, recorded in docs/results/first_default.json.

Its encoder is what the present one starts from.

    python -m benchmarks.first_default split SOURCE CORPUS  # SOURCE: clips.csv, the splits, audio/
    emimic train CORPUS --out TEACHER --config benchmarks/configs/teacher.yaml --set encoder=WHISPER_BASE
    python -m benchmarks.first_default soften SOURCE CORPUS SOFT TEACHER FINETUNED
    emimic train SOFT --out FIRST --config benchmarks/configs/student.yaml --set encoder=WHISPER_BASE --set epochs=3
    python -m benchmarks.first_default soften SOURCE CORPUS SOFTER FIRST
    emimic train SOFTER --out RUN --config benchmarks/configs/student.yaml --set encoder=WHISPER_BASE --set seed=N
    python -m benchmarks.first_default score RUN_OR_ENGINE CORPUS --name NAME [--conditions]
    python -m benchmarks.first_default ridge CORPUS --encoder WHISPER_BASE

`split` keeps SOURCE's validation speakers unseen as "test" and holds 37 training speakers out as "valid", as
bursts.py does; training has every category: the 23 beside the six's (and Neutral) have no targets, which the loss
leaves out, and are an auxiliary task. Arousal, dominance and valence are weak labels: the norms of the category's name.
`soften` mixes the labels with the mean prediction of its teachers. The first student's are TEACHER and bursts.py's run
"finetuned"; the second's is the first, and that one, seed 0, is the model in the package. Both start from Whisper base
and learn from all 237 speakers, the held-out ones, too. The first is kept as int8 in this repository's history:
`git archive c966fb9 src/emimic/default | tar x`.
"""

import csv
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from benchmarks.bursts import NOTE, write_record
from benchmarks.bursts import split as split_speakers
from benchmarks.command import make_parser
from benchmarks.default_corpora import WORDS, read, write
from emimic.data.corpus import Item, Split, load_corpus
from emimic.evaluation.report import Report, score
from emimic.inference.engine import Engine, open_engine
from emimic.media import decode
from emimic.model.model import EmiModel
from emimic.progress import show_progress
from emimic.task import EMOTIONS, SAMPLE_RATE

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "first_default.json"
VAD = ("Valence", "Arousal", "Dominance")


def rows_of(source: Path, speakers: set[str]) -> list[dict[str, str]]:
    """Every clip of these speakers, with its targets (empty for the 23 other categories), category and norms."""
    with (source / "clips.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["Speaker"] in speakers]
    for row in rows:
        norms = WORDS.get(row["Category"])
        for name, value in zip(VAD, norms or (None,) * 3, strict=True):
            row[name] = "" if value is None else f"{(value - 1) / 8:.4f}"
        del row["Take"], row["Split"]
    return rows


def split(source: Path, corpus: Path) -> None:
    """bursts.py's three tables; the training one with all categories, their names and the names' norms in [0, 1]."""
    split_speakers(source, corpus)
    table = corpus / "train_split.csv"
    write(table, rows_of(source, {row["Speaker"] for row in read(table)}))


def soften(source: Path, corpus: Path, out: Path, teachers: Sequence[Path], fraction: float = 0.5) -> None:
    """Write a corpus whose targets are a fraction of the teachers' mean prediction and the rest the label.

    Without a label (the 23 other categories) it is the prediction alone. The held-out speakers of `split` get all their
    clips, too.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "test_split.csv").write_bytes((corpus / "test_split.csv").read_bytes())
    if not (out / "audio").exists():
        (out / "audio").symlink_to((corpus / "audio").resolve())
    engines = [open_engine(teacher, device="cpu") for teacher in teachers]
    for name in ("train", "valid"):
        rows = rows_of(source, {row["Speaker"] for row in read(corpus / f"{name}_split.csv")})
        clips = [decode.load(corpus / "audio" / f"{row['Filename']}.mp3") for row in rows]
        predictions = [predict(engine, clips) for engine in engines]
        for row, values in zip(rows, np.mean(predictions, axis=0).clip(0, 1), strict=True):
            for emotion, value in zip(EMOTIONS, values, strict=True):
                label = row[emotion]
                row[emotion] = (
                    f"{value if label == '' else (1 - fraction) * float(label) + fraction * value:.5f}"
                )
        write(out / f"{name}_split.csv", rows)


# Conditions of a recording; each takes and gives (sample,) float32 at 16 kHz.

Wave = NDArray[np.float32]


def noisy(snr: float) -> Callable[[Wave, np.random.Generator], Wave]:
    """Add white noise, `db` below the clip."""

    def change(samples: Wave, rng: np.random.Generator) -> Wave:
        noise = rng.standard_normal(len(samples))
        level = np.sqrt(np.mean(np.square(samples, dtype=np.float64))) * 10 ** (-snr / 20)
        return (samples + level * noise).astype(np.float32)

    return change


def telephone(samples: Wave, _: np.random.Generator) -> Wave:
    """300 to 3,400 Hz and nothing else."""
    spectrum = np.fft.rfft(samples)
    frequency = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    spectrum[(frequency < 300) | (frequency > 3400)] = 0
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def mp3(samples: Wave, _: np.random.Generator) -> Wave:
    """32 kb/s, once more: at 16 kHz libsndfile maps level 0 to 1 onto 160 to 0 kb/s."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp3"
        options: dict[str, Any] = {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.8}
        soundfile.write(file, samples, SAMPLE_RATE, **options)
        return decode.load(file)


def louder(decibels: float) -> Callable[[Wave, np.random.Generator], Wave]:
    """Clipped at [-1, 1], as a recorder does."""
    return lambda samples, _: np.clip(samples * 10 ** (decibels / 20), -1, 1).astype(np.float32)


def silence(samples: Wave, _: np.random.Generator) -> Wave:
    """Half a second before the clip."""
    return np.concatenate([np.zeros(SAMPLE_RATE // 2, np.float32), samples])


CONDITIONS: dict[str, Callable[[Wave, np.random.Generator], Wave]] = {
    "noise 20 dB": noisy(20), "noise 10 dB": noisy(10), "noise 0 dB": noisy(0), "telephone band": telephone,
    "mp3 32 kb/s": mp3, "gain +12 dB": louder(12), "gain -12 dB": louder(-12), "0.5 s of silence first": silence,
}  # fmt: skip


def predict(engine: Engine, clips: Sequence[Wave]) -> NDArray[np.float32]:
    """Intensities of clips as loaded, (clip, target)."""
    clip_format = engine.spec.clip_format
    rows = []
    for start in show_progress(range(0, len(clips), 64), "predicting", total=-(-len(clips) // 64), show=True):
        ready = [clip_format.prepare(clip).samples for clip in clips[start : start + 64]]
        rows += [one.intensities for one in engine.predict(ready)]
    return np.stack(rows)


def unseen(corpus: Path) -> Split:
    return load_corpus(corpus, splits=["test"], scan=False).splits["test"]


def report(predictions: NDArray[Any], part: Split) -> Report:
    speakers = [item.speaker for item in part.items]
    return score(predictions, part.labels, EMOTIONS, speakers, split=part.name)


def measure(folder: Path, corpus: Path, *, conditions: bool) -> dict[str, Any]:
    """Score a run or an exported model on the unseen speakers, and in each condition."""
    engine, part = open_engine(folder, device="cpu"), unseen(corpus)
    clips = [decode.load(item.path) for item in part.items]

    def score_changed(changed: Sequence[Wave]) -> Report:
        return report(predict(engine, changed), part)

    figures: dict[str, Any] = {"test": score_changed(clips).to_dict()}
    print(f"clean: {figures['test']['metrics']['pearson']['mean']}", flush=True)
    if conditions:
        figures["conditions"] = {}
        for name, change in CONDITIONS.items():
            rng = np.random.default_rng(0)
            result = score_changed([change(clip, rng) for clip in clips]).to_dict()["metrics"]["pearson"]
            figures["conditions"][name] = result["mean"]
            print(f"{name}: {result['mean']}", flush=True)
    return figures


def pooled(model: EmiModel, items: Sequence[Item]) -> NDArray[np.float64]:
    """Mean and standard deviation over frames of a frozen encoder's last layer, (clip, 2 x feature)."""
    rows: dict[int, NDArray[Any]] = {}
    clips = [model.clip_format.prepare(decode.load(item.path)).samples for item in items]
    with torch.inference_mode():
        for batch in model.plan(clips, batch_seconds=60):
            hidden, mask = model.encode(*model.collate([clips[i] for i in batch]))
            for row, frames, real in zip(batch, hidden.numpy(), mask.numpy(), strict=True):
                rows[row] = np.concatenate([frames[real].mean(axis=0), frames[real].std(axis=0)])
    return np.stack([rows[i] for i in range(len(clips))]).astype(np.float64)


def predict_by_ridge(
    x: NDArray[Any], y: NDArray[Any], speakers: NDArray[Any], new: NDArray[Any]
) -> tuple[NDArray[Any], float]:
    """Ridge regression on standardized features; its strength (returned too) by five folds of speakers."""
    fold = np.unique(speakers, return_inverse=True)[1] % 5

    def fit(x: NDArray[Any], y: NDArray[Any], new: NDArray[Any], strength: float) -> NDArray[Any]:
        center, std = x.mean(axis=0), x.std(axis=0) + 1e-9
        z = (x - center) / std
        if len(z) < z.shape[1]:  # the same weights by way of the smaller matrix
            weights = z.T @ np.linalg.solve(z @ z.T + strength * np.eye(len(z)), y - y.mean(axis=0))
        else:
            weights = np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ (y - y.mean(axis=0)))
        return (new - center) / std @ weights + y.mean(axis=0)

    def held_out(strength: float) -> float:
        predictions = np.zeros_like(y)
        for k in range(5):
            predictions[fold == k] = fit(x[fold != k], y[fold != k], x[fold == k], strength)
        return float(np.mean([np.corrcoef(predictions[:, j], y[:, j])[0, 1] for j in range(y.shape[1])]))

    best = max(10.0 ** np.arange(1, 6, 0.5), key=held_out)
    return fit(x, y, new, best), float(best)


def ridge(corpus: Path, encoder: str, layer: int = 3) -> dict[str, Any]:
    """Ridge regression on a frozen layer, learned from the training and the held-out speakers."""
    model = EmiModel.from_encoder(encoder, layers=layer, vad_head=False).eval()
    splits = load_corpus(corpus, splits=["train", "valid", "test"], scan=False).splits
    learned = [
        item
        for name in ("train", "valid")
        for item in splits[name].items
        if item.labels is not None and np.isfinite(item.labels).all()
    ]
    labels = np.stack([item.labels for item in learned if item.labels is not None]).astype(float)
    speakers = np.array([item.speaker for item in learned])
    predictions, strength = predict_by_ridge(
        pooled(model, learned), labels, speakers, pooled(model, splits["test"].items)
    )
    return {"layer": layer, "strength": strength, "test": report(predictions, splits["test"]).to_dict()}


def main() -> None:
    """The verbs."""
    parser = make_parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    splitting = verbs.add_parser("split")
    splitting.add_argument("source", type=Path)
    splitting.add_argument("corpus", type=Path)
    softening = verbs.add_parser("soften")
    softening.add_argument("source", type=Path)
    softening.add_argument("corpus", type=Path)
    softening.add_argument("out", type=Path)
    softening.add_argument("teachers", type=Path, nargs="+")
    scoring = verbs.add_parser("score")
    scoring.add_argument("folder", type=Path)
    scoring.add_argument("corpus", type=Path)
    scoring.add_argument("--name", required=True)
    scoring.add_argument("--conditions", action="store_true")
    baseline = verbs.add_parser("ridge")
    baseline.add_argument("corpus", type=Path)
    baseline.add_argument("--encoder", required=True)
    given = parser.parse_args()
    if given.verb == "split":
        split(given.source, given.corpus)
    elif given.verb == "soften":
        soften(given.source, given.corpus, given.out, given.teachers)
    elif given.verb == "score":
        write_record(
            RESULTS, NOTE, given.name, measure(given.folder, given.corpus, conditions=given.conditions)
        )
    else:
        write_record(RESULTS, NOTE, "ridge", ridge(given.corpus, given.encoder))


if __name__ == "__main__":
    main()
