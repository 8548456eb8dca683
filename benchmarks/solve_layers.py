"""Solve the default model's linear layers again, so that a window has the same values alone and in one pass.

    python -m benchmarks.solve_layers RUN CORPORA OUT     # OUT: a run with new layers; figures: `folds`

RUN: the training run. CORPORA: made by benchmarks/default_corpora.py. The encoder stays as it is. What its frames say
of a window depends a little on where the window lies in a clip, and on the sound around it. Layers that are linear in
pooled frames can do without that part: they are fitted by ridge regression to windows predicted both ways, as clips and
in one pass over recordings joined from clips, with a penalty of the difference between both (`PENALTIES`).

Four layers are solved in closed form. V/A/D and Joy of speech are fitted to labels. The classifier of bursts and
speech, and the first layer of the regression head, are fitted to their own outputs for clips. Joy of speech also learns
from bursts of suffering, without which sobbing speech got as much Joy as happy speech. Sobbing was also taken for a
burst, so the classifier is shifted towards speech. To score the result:

    emimic export OUT --out MODEL --int8 --calibrate CLIPS
    python -m benchmarks.default score MODEL CORPORA --name NAME
    python -m benchmarks.one_pass score CORPORA --model MODEL --name NAME
"""

import dataclasses
import functools
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.bursts import write_record
from benchmarks.command import make_parser
from benchmarks.default import NOTE, RESULTS, Array, Wave, by_group, items_of, joy
from emimic.cpus import count_available
from emimic.data import loader
from emimic.data.corpus import Item
from emimic.inference.engine import TorchEngine
from emimic.inference.grid import WINDOW
from emimic.inference.passes import FILE
from emimic.model.model import EmiModel
from emimic.model.windows import Windows, regress_windows
from emimic.progress import show_progress
from emimic.task import EMOTIONS, SAMPLE_RATE, VAD
from emimic.training.probes import to_logits

JOY: Final = EMOTIONS.index("Joy")
SUFFERING: Final = ("Sadness", "Distress", "Pain", "Fear", "Disappointment", "Guilt", "Shame")
"""Categories of bursts without Joy that speech can sound like."""
JOY_WEIGHT: Final = {"emodb": 1.0, "plain": 0.1, "bursts": 0.1}
"""In Joy of speech, of a clip; of the bursts, those of suffering."""
SHIFT: Final = 3.0
"""Added to the logit of speech."""
EMODB_WEIGHT: Final = 10.0
"""In V/A/D, of a clip of speech beside a burst."""
LONG: Final = 12.0
"""Seconds of one window in 13, the longest clip that the model takes; the others have those of a timeline."""
BALANCE: Final = {"emodb": 4.0, "plain": 2.0, "bursts": 1.0}
"""Weight of a row in differences, and in the layers that are fitted to their own earlier outputs."""
LOGITS: Final = 8.0
"""Largest difference of the classifier's two logits to fit; larger ones are cut."""


class Penalties(NamedTuple):
    """Penalties of a ridge regression.

    Attributes:
        strength: Of a squared weight, in rows, for features of variance 1.
        agreement: Of the mean squared difference between both ways, beside the mean squared error.
    """

    strength: float
    agreement: float


PENALTIES: Final = {
    "arousal": Penalties(2000.0, 3.0),
    "dominance": Penalties(1000.0, 16.0),
    "valence": Penalties(500.0, 12.0),
    "joy": Penalties(60.0, 0.3),
    "domain": Penalties(1000.0, 3.0),
    "dense": Penalties(3000.0, 8.0),
}
"""Chosen on clips of ASED's odd speakers, and on recordings joined from these and from held-out bursts."""


class Both(NamedTuple):
    """The same windows both ways, (row, feature) each: as clips, and in one pass over a recording."""

    alone: NDArray[np.floating[Any]]
    within: NDArray[np.floating[Any]]

    def select(self, rows: Any, columns: Any = slice(None)) -> "Both":
        """Return some rows and columns."""
        return Both(*(part[rows][:, columns] for part in self))


class Rows(NamedTuple):
    """A corpus both ways: moments of all frames and the regression head's input, of clips and of windows."""

    moments: Both
    vectors: Both
    window_moments: Both
    window_vectors: Both


class Sound(NamedTuple):
    """A recording joined from clips, with pauses; edges of the clips and of windows in it, (row, 2), in samples."""

    wave: Wave
    clips: NDArray[np.int64]
    windows: NDArray[np.int64]


def join(clips: Sequence[Wave], seed: int) -> Sound:
    """Join clips in this order, with pauses of up to 0.6 s."""
    hop, rng = SAMPLE_RATE // 50, np.random.default_rng(seed)
    parts: list[Wave] = []
    edges, at = [], 0
    for clip in clips:
        pause = rng.integers(0, 30) * hop
        parts += [(1e-4 * rng.standard_normal(pause)).astype(np.float32), clip]
        parts.append(np.zeros(-len(clip) % hop, np.float32))
        edges.append((at + pause, at + pause + len(clip)))
        at = edges[-1][1] + len(parts[-1])
    windows = []
    for seconds, every in ((WINDOW, 2), (LONG, 24)):
        size = round(seconds * SAMPLE_RATE)
        count = max(1, at // (every * SAMPLE_RATE))
        starts = np.sort(rng.integers(0, max(1, (at - size) // hop + 1), count)) * hop
        windows.append(np.stack([starts, np.minimum(at, starts + size)], axis=1))
    return Sound(np.concatenate(parts), np.array(edges), np.concatenate(windows))


def encode_once(engine: TorchEngine, wave: Wave) -> NDArray[np.float32]:
    """Return hidden states of a recording, (frame, feature), as a file's timeline encodes it."""
    spec, parts = engine.spec, []
    for cut, own in FILE.split(len(wave), spec.hop, spec.max_seconds):
        piece = spec.clip_format.prepare(wave[cut]).samples
        (hidden,) = engine.encode([piece], reach=round(WINDOW / 2 * SAMPLE_RATE / spec.hop))
        parts.append(hidden[own])
    return np.concatenate(parts)


class Reader:
    """A model, and the inputs of its linear layers."""

    def __init__(self, run: Path) -> None:
        torch.set_num_threads(1)
        self.engine = TorchEngine(run, device="cpu")
        self._seen: dict[str, NDArray[np.float16]] = {}
        for name, module in (
            ("vectors", self.engine.model.head.dense),
            ("moments", self.engine.model.domains.domain),
        ):
            module.register_forward_pre_hook(self._make_hook(name))

    def _make_hook(self, name: str) -> Any:
        def keep(_module: Any, given: tuple[torch.Tensor]) -> None:
            self._seen[name] = given[0].half().numpy()

        return keep

    @torch.inference_mode()
    @torch.autocast("cpu", torch.bfloat16)
    def read(self, wave: Wave, edges: NDArray[np.int64]) -> tuple[Both, Both]:
        """Return moments and vectors of windows of a recording."""
        hop, model = self.engine.spec.hop, self.engine.model
        hidden = torch.from_numpy(encode_once(self.engine, wave))
        frames = torch.from_numpy(np.stack([edges[:, 0] // hop, -(-edges[:, 1] // hop)], axis=1))
        ways: dict[str, list[list[NDArray[np.float16]]]] = {"moments": [[], []], "vectors": [[], []]}
        for first in range(0, len(edges), 50):
            part = frames[first : first + 50]
            start = max(0, int(part.min()) - SAMPLE_RATE // 2 // hop)
            states = hidden[None, start : int(part.max()) + SAMPLE_RATE // 2 // hop]
            real = torch.ones(states.shape[:2], dtype=torch.bool)
            rows = torch.zeros(len(part), dtype=torch.long)
            regress_windows(model, states, real, Windows(rows, part[:, 0] - start, part[:, 1] - start))
            for name, kept in ways.items():
                kept[1].append(self._seen[name])
        for start, end in edges:
            values, mask = model.collate([self.engine.spec.clip_format.prepare(wave[start:end]).samples])
            model.regress(*model.encode(values, mask))
            for name, kept in ways.items():
                kept[0].append(self._seen[name])
        both = {name: Both(*(np.concatenate(part) for part in kept)) for name, kept in ways.items()}
        return both["moments"], both["vectors"]


@functools.cache
def _open(run: Path) -> Reader:
    return Reader(run)


def _read_group(given: tuple[Path, Sequence[Item], int]) -> Rows:
    run, items, seed = given
    reader = _open(run)
    sound = join([loader.load(item, LONG) for item in items], seed)
    return Rows(*reader.read(sound.wave, sound.clips), *reader.read(sound.wave, sound.windows))


def read_rows(run: Path, items: Sequence[Item], name: str) -> tuple[Rows, list[Item]]:
    """Return the rows of a corpus, and the clips in their order."""
    groups = group_items(items)
    given = [(run, group, seed) for seed, group in enumerate(groups)]
    with ProcessPoolExecutor(count_available(), get_context("spawn")) as pool:
        done = pool.map(_read_group, given)
        read = list(show_progress(done, name, total=len(given), show=sys.stderr.isatty()))
    rows = [
        Both(*(np.concatenate([getattr(one, field)[way] for one in read]) for way in (0, 1)))
        for field in Rows._fields
    ]
    return Rows(*rows), [item for group in groups for item in group]


def group_items(items: Sequence[Item], size: int = 30) -> list[list[Item]]:
    """Return the clips by speaker, shuffled, or in their order, `size` each, where no speaker is known."""
    rng, groups = np.random.default_rng(5), []
    for speaker in sorted({item.speaker for item in items if item.speaker is not None}):
        own = [item for item in items if item.speaker == speaker]
        groups.append([own[i] for i in rng.permutation(len(own))])
    rest = [item for item in items if item.speaker is None]
    return groups + [rest[first : first + size] for first in range(0, len(rest), size)]


def fit(
    x: Both, y: Array, weights: Array, pairs: Both, pair_weights: Array, penalties: Penalties
) -> tuple[Array, Array]:
    """Return slopes (output, feature) and intercepts (output,) of a ridge regression with a penalty of differences.

    Args:
        x: (row, feature); both ways of a row have its label.
        y: (row, output).
        weights: (row,).
        pairs: whose difference is penalized; their variance is the unit of the features.
        pair_weights: (pair,).
        penalties: of weights and differences.
    """
    center = pairs.alone.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = pairs.alone.astype(np.float32).std(axis=0) + 1e-4
    inputs = [(part.astype(np.float32) - center) / scale for part in x]
    each = (weights / 2 / weights.sum()).astype(np.float32)[:, None]
    mean, middle = sum((each * part).sum(axis=0) for part in inputs), 2 * (each * y).sum(axis=0)
    square = np.zeros((len(center), len(center)))
    product = np.zeros((len(center), y.shape[1]))
    for part in inputs:
        weighted = (part - mean) * each
        square += weighted.T @ (part - mean)
        product += weighted.T @ (y - middle).astype(np.float32)
    apart = (pairs.within.astype(np.float32) - pairs.alone.astype(np.float32)) / scale
    square += penalties.agreement * ((apart * (pair_weights / pair_weights.sum())[:, None]).T @ apart)
    square[np.diag_indices_from(square)] += penalties.strength / weights.sum()
    slopes = np.linalg.solve(square, product).T / scale
    return slopes, middle - slopes @ (center + mean * scale)


class Training(NamedTuple):
    """The corpora both ways, and their clips."""

    rows: dict[str, Rows]
    items: dict[str, list[Item]]

    def get_pairs(self, kind: str, columns: Any) -> tuple[Both, Array]:
        """Return all clips and windows both ways, with weights; kind: "moments" or "vectors"."""
        parts, weights = [], []
        for name, rows in self.rows.items():
            for field in (kind, f"window_{kind}"):
                parts.append(getattr(rows, field).select(slice(None), columns))
                weights.append(np.full(len(parts[-1].alone), BALANCE[name]))
        return Both(*(np.concatenate(way) for way in zip(*parts, strict=True))), np.concatenate(weights)

    def get_clips(self, names: Sequence[str], columns: Any) -> tuple[Both, list[Item]]:
        """Return the moments of corpora's clips both ways, and the clips."""
        parts = [self.rows[name].moments.select(slice(None), columns) for name in names]
        return Both(*(np.concatenate(way) for way in zip(*parts, strict=True))), [
            item for name in names for item in self.items[name]
        ]


def read_training(run: Path, corpora: Path) -> Training:
    """Return the rows of the training clips."""
    rows, items = {}, {}
    for name in BALANCE:
        given = items_of(corpora, name, "train")
        named = [dataclasses.replace(item, corpus=name, trim=name == "emodb") for item in given]
        rows[name], items[name] = read_rows(run, named, name)
    return Training(rows, items)


def solve_vad(model: EmiModel, training: Training) -> None:
    """Fit V/A/D to the labels of speech and bursts."""
    columns = np.arange(model.vad.out_proj.in_features)
    x, items = training.get_clips(("emodb", "bursts"), columns)
    labels = np.stack([np.full(len(VAD), np.nan) if item.vad is None else item.vad for item in items])
    weights = np.array([EMODB_WEIGHT if item.corpus == "emodb" else 1.0 for item in items])
    pairs = training.get_pairs("moments", columns)
    for row, (name, y) in enumerate(zip(VAD, to_logits(labels).T, strict=True)):
        known = np.isfinite(y)
        penalties = PENALTIES[name.lower()]
        slope, intercept = fit(x.select(known), y[known, None], weights[known], *pairs, penalties)
        set_layer(model.vad.out_proj, slope, intercept, columns, slice(row, row + 1))


def set_layer(
    layer: Any, slopes: Array, intercepts: Array, columns: Any = slice(None), rows: Any = slice(None)
) -> None:
    """Set rows of a linear layer; columns that are not named get no weight."""
    with torch.no_grad():
        layer.weight[rows] = 0.0
        layer.weight[rows, columns] = torch.from_numpy(slopes).float()
        layer.bias[rows] = torch.from_numpy(intercepts).float()


def get_joy_clips(training: Training) -> tuple[NDArray[np.intp], list[Item], Array, Array]:
    """Return the clips that Joy of speech learns from: rows of all clips, the clips, Joy's logits, and weights."""
    items = [item for name in BALANCE for item in training.items[name]]
    labels = np.array([item.labels[JOY] for item in items], np.float64)  # type: ignore[index]
    used = [item.corpus != "bursts" or item.row["Category"] in SUFFERING for item in items]
    rows = np.flatnonzero(np.isfinite(labels) & used)
    kept = [items[i] for i in rows]
    return rows, kept, to_logits(labels[rows])[:, None], np.array([JOY_WEIGHT[item.corpus] for item in kept])


def solve_joy(model: EmiModel, training: Training) -> tuple[Array, list[Item]]:
    """Fit Joy of speech to layers 1 and 2, which are the first two thirds of the features.

    Return Joy of EmoDB's clips, (clip, target), each from a layer fitted without its speaker's labels, and the clips.
    Other targets are NaN.
    """
    layer = model.domains.own["speech"]
    columns = np.arange(layer.in_features * 2 // 3)
    x, _ = training.get_clips(tuple(BALANCE), columns)
    rows, items, y, weights = get_joy_clips(training)
    x, pairs = x.select(rows), training.get_pairs("moments", columns)

    def fit_rows(kept: NDArray[np.bool_]) -> tuple[Array, Array]:
        return fit(x.select(kept), y[kept], weights[kept], *pairs, PENALTIES["joy"])

    set_layer(layer, *fit_rows(np.ones(len(rows), bool)), columns)
    german = [item for item in items if item.corpus == "emodb"]
    left_out = np.full((len(german), len(EMOTIONS)), np.nan)
    speakers = np.array([item.speaker if item.corpus == "emodb" else "" for item in items])
    for speaker in sorted({item.speaker for item in german if item.speaker}):
        slope, intercept = fit_rows(speakers != speaker)
        own = np.flatnonzero(speakers == speaker)
        logits = x.alone[own].astype(np.float64) @ slope[0] + intercept[0]
        left_out[own, JOY] = 1 / (1 + np.exp(-logits))
    return left_out, german


def solve_again(layer: Any, kind: str, training: Training, penalties: Penalties, limit: float | None) -> None:
    """Fit a layer to its own outputs for windows as clips; limit: the largest difference of two logits."""
    columns = np.flatnonzero(layer.weight.detach().abs().sum(dim=0).numpy())
    pairs, weights = training.get_pairs(kind, columns)
    with torch.inference_mode():
        weight, bias = layer.weight[:, columns].numpy(), layer.bias.numpy()
    wanted = pairs.alone.astype(np.float32) @ weight.T + bias
    if limit is not None:
        wanted = np.clip(wanted - wanted.mean(axis=1, keepdims=True), -limit / 2, limit / 2)
    set_layer(layer, *fit(pairs, wanted, weights, pairs, weights, penalties), columns)


def main() -> None:
    """Read the command line."""
    parser = make_parser(__doc__)
    for name in ("run", "corpora", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    shutil.copytree(given.run, given.out)
    model = EmiModel.open_run(given.out, device="cpu")
    training = read_training(given.run, given.corpora)
    solve_vad(model, training)
    left_out, german = solve_joy(model, training)
    folds = joy(left_out, german) | {"by_sex": by_group(left_out, german, "Gender")}
    write_record(RESULTS, NOTE, "folds", {"joy": folds})
    print(folds, flush=True)
    solve_again(model.domains.domain, "moments", training, PENALTIES["domain"], LOGITS)
    with torch.no_grad():
        model.domains.domain.bias[1] += SHIFT
    model.save_pretrained(given.out)
    # The regression head reads V/A/D, too, so its input is read again.
    solve_again(
        model.head.dense, "vectors", read_training(given.out, given.corpora), PENALTIES["dense"], None
    )
    model.save_pretrained(given.out)


if __name__ == "__main__":
    main()
