"""Calibration of a run on corpora: maps of its intensities from labelled clips, a novelty score from training clips."""

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic import batching
from emimic.calibration import Array, Calibration, Map, Single
from emimic.data.corpus import Item, Split, load_corpus
from emimic.data.loader import Heard, Source, decoded, waveforms
from emimic.files import fingerprint, make_folder, read_json
from emimic.media import decode
from emimic.model.model import WEIGHTS, EmiModel
from emimic.progress import shown
from emimic.task import SAMPLE_RATE, CorpusError, ModelError, SettingsError
from emimic.training.calibration_fit import calibration_error, fit_map, fit_novelty
from emimic.training.checkpoint import SETTINGS

SHORTEST: Final = 0.8
"""Seconds of the shortest crop of a clip for the novelty score."""

_FEW: Final = 100


@dataclass(frozen=True)
class Report:
    """What `calibrate` fitted, and where it lies.

    clips: labelled clips by target. error: by target, the calibration error (see `calibration_error`) on these clips
    before and after, the latter flattered since they fitted it. novel: by corpus, the fraction of held-out clips
    marked.
    """

    out: Path
    clips: dict[str, int]
    error: dict[str, tuple[float, float]]
    novel: dict[str, float]
    notes: tuple[str, ...]

    def table(self) -> str:
        """Return the report in plain lines."""
        lines = [f"{'':16} clips  error before, after (of the clips that fitted it)"]
        lines += [
            f"{name:16} {self.clips[name]:5}  {before:.3f}  {after:.3f}"
            for name, (before, after) in self.error.items()
        ]
        lines += [
            f"{name}: {part:.1%} of held-out clips are marked as unlike the training data"
            for name, part in self.novel.items()
        ]
        return "\n".join([*lines, *self.notes, f"written to {self.out}"])


def calibrate(
    run: Path,
    corpora: Sequence[Path],
    *,
    split: str = "valid",
    weights: Mapping[str, float] | None = None,
    clips: int = 1000,
    seed: int = 0,
    out: Path | None = None,
    label_scale: float | None = None,
    batch_seconds: float = 60.0,
    workers: int = 2,
    progress: bool = True,
) -> Report:
    """Fit a run's calibration and write it as `calibration.json` and `novelty.npz`.

    Each target's map is fitted to the clips of `split` that have its label, each corpus counting as `weights` says.
    The novelty score refers to at most `clips` of each corpus's training clips and is scaled on as many of `split`; of
    them a third each is taken as it is, cropped, and joined with others up to the model's longest, so that no length
    is new. A corpus without `split` fits no map, and a fifth of its training clips scales the novelty score.

    Args:
        run: a run folder of `emimic train`.
        corpora: corpora in the ABAW layout; their folders' names are those of the groups.
        split: labelled clips that the run did not learn from.
        weights: by corpus, 1 where not given.
        clips: how many of each corpus the novelty score looks at.
        seed: of the choice of these clips and of their crops.
        out: a folder, made where missing; by default the run.
        label_scale: what labels are divided by; None takes what the run was trained with.
        batch_seconds: seconds of audio in a batch.
        workers: threads that read audio.
        progress: whether to show bars.

    Raises:
        CorpusError: a corpus can't be read, or no clip is labelled for a target, or labels lie outside [0, 1].
        ModelError: the run can't be loaded, has no targets, or predicts NaN.
        SettingsError: the split is the training split, two corpora have one name, or a weight is of no corpus.
    """
    run, names = Path(run), [Path(folder).resolve().name for folder in corpora]
    weight = _weights(names, weights or {})
    if split == "train":
        raise SettingsError(
            "found the split train, expected one that the run did not learn from: give another"
        )
    model = EmiModel.open_run(run)
    targets = tuple(model.config.targets)
    if not targets:
        raise ModelError(f"{run} predicts V/A/D only; calibration needs a run with targets")
    out = make_folder(run if out is None else out)  # before the work
    settings = _settings(run)
    scale = settings.get("label_scale") if label_scale is None else label_scale
    rng = np.random.default_rng(seed)
    how: dict[str, Any] = {"batch_seconds": batch_seconds, "workers": workers, "progress": progress}
    found: dict[str, _Corpus] = {}
    for name, folder in zip(names, corpora, strict=True):
        train, part = _splits(folder, split, targets, scale, workers=workers, progress=progress)
        raw, labels = np.empty((0, len(targets))), np.empty((0, len(targets)))
        if part is not None:
            source = waveforms(part.items, model.config, model.min_samples)
            raw, _ = _predict(model, source, f"{name}, {part.name}", **how)
            labels = part.labels.astype(np.float64)
        pooled = (
            _predict(model, varied(model, items, seed), f"{name}, novelty", **how)[1]
            for items in _reference(train.items, None if part is None else part.items, clips, rng)
        )
        found[name] = _Corpus(weight[name], raw, labels, *pooled)
    maps, counts, errors = _fit_maps(targets, found)
    novelty = fit_novelty(
        {name: one.reference for name, one in found.items()}, {name: one.held for name, one in found.items()}
    )
    facts = {
        "weights": fingerprint(run / WEIGHTS),
        "split": split,
        "seed": seed,
        "corpora": {name: one.facts() for name, one in found.items()},
    }
    Calibration(targets, tuple(maps), novelty, facts).save(out)
    novel = {name: float((novelty.distances(one.held).min(axis=1) > 1).mean()) for name, one in found.items()}
    return Report(out, counts, errors, novel, _notes(settings, split, counts, found))


@dataclass(frozen=True)
class _Corpus:
    """What a corpus gives: its weight; raw intensities and labels (clip, target) of the split; pooled frames (clip,
    feature) of training clips and of the split's."""

    weight: float
    raw: Array
    labels: Array
    reference: Single
    held: Single

    def facts(self) -> dict[str, Any]:
        counts = {"labelled": len(self.labels), "reference": len(self.reference), "held_out": len(self.held)}
        return {"weight": self.weight, **counts}


def _splits(
    folder: Path, split: str, targets: Sequence[str], scale: float | None, *, workers: int, progress: bool
) -> tuple[Split, Split | None]:
    """The training split of a corpus and, where it has it, the one that maps are fitted to."""
    labelled = any((Path(folder) / f"{name}_split.csv").is_file() for name in _spellings(split))
    corpus = load_corpus(
        folder,
        targets=targets,
        splits=["train", *([split] if labelled else [])],
        label_scale=scale,
        workers=workers,
        progress=progress,
        partial=True,
    )
    train, *others = corpus.splits.values()
    return train, others[0] if others else None


def _spellings(split: str) -> tuple[str, ...]:
    return ("valid", "val") if split in ("valid", "val") else (split,)


def _reference(
    train: Sequence[Item], held: Sequence[Item] | None, clips: int, rng: np.random.Generator
) -> tuple[list[Item], list[Item]]:
    """The clips that the novelty score refers to, and those that scale it."""
    rows = rng.permutation(len(train))
    if held is None:
        count = max(1, min(len(rows), clips) // 5)
        return [train[i] for i in np.sort(rows[count:][:clips])], [train[i] for i in np.sort(rows[:count])]
    others = np.sort(rng.permutation(len(held))[:clips])
    return [train[i] for i in np.sort(rows[:clips])], [held[i] for i in others]


def _fit_maps(
    targets: Sequence[str], found: Mapping[str, _Corpus]
) -> tuple[list[Map], dict[str, int], dict[str, tuple[float, float]]]:
    """The maps, and by target the labelled clips and the calibration error before and after."""
    values, labels = (
        np.concatenate([getattr(one, name) for one in found.values()]) for name in ("raw", "labels")
    )
    groups = np.repeat(np.arange(len(found)), [len(one.labels) for one in found.values()])
    weights = [one.weight for one in found.values()]
    maps, counts, errors = [], {}, {}
    for target, x, y in zip(targets, values.T, labels.T, strict=True):
        share = _clip_weights(y, groups, weights, target)
        maps.append(fit_map(x, y, share))
        counts[target] = int(np.count_nonzero(share))
        errors[target] = (calibration_error(x, y, share), calibration_error(maps[-1](x), y, share))
    return maps, counts, errors


def _weights(names: Sequence[str], given: Mapping[str, float]) -> dict[str, float]:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names or twice:
        raise SettingsError(
            f"found corpora named {', '.join(names) or '(none)'}, expected one or more of different names: rename a "
            "folder"
        )
    if unknown := sorted(set(given) - set(names)):
        raise SettingsError(f"found a weight of {', '.join(unknown)}, expected one of {', '.join(names)}")
    if bad := [name for name, value in given.items() if not 0 <= value < math.inf]:
        raise SettingsError(f"found the weight {given[bad[0]]} of {bad[0]}, expected 0 or more")
    return {name: float(given.get(name, 1.0)) for name in names}


def _settings(run: Path) -> dict[str, Any]:
    """What the run was trained with; nothing where that isn't written down."""
    try:
        return dict(read_json(run / SETTINGS)["settings"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{run / SETTINGS} can't be read ({error}); expected the settings that emimic train wrote. Bring it back, "
            "or delete it"
        ) from error


def _notes(
    settings: Mapping[str, Any], split: str, counts: Mapping[str, int], found: Mapping[str, _Corpus]
) -> tuple[str, ...]:
    notes = []
    if split in str(settings.get("train_on", "")).split("+"):
        notes.append(f"the run learned from {split}: on other clips it is less well calibrated than on these")
    if few := [name for name, count in counts.items() if count < _FEW]:
        notes.append(f"fewer than {_FEW} labelled clips for {', '.join(few)}: a rough map")
    if few := [name for name, one in found.items() if len(one.held) < _FEW]:
        notes.append(f"fewer than {_FEW} held-out clips in {', '.join(few)}: a rough scale of novelty")
    return tuple(notes)


def _clip_weights(labels: Array, groups: NDArray[np.intp], weights: Sequence[float], target: str) -> Array:
    """Weights of clips (clip,): each corpus's sum to its own, over the clips with a label; 0 for the others."""
    known = np.isfinite(labels)
    outside = known & ((labels < 0) | (labels > 1))
    if outside.any():
        raise CorpusError(
            f"{target} has labels from {labels[known].min():g} to {labels[known].max():g}, expected 0 to 1: mend the "
            "table, or give --label-scale"
        )
    counts = np.bincount(groups[known], minlength=len(weights))
    share = np.where(known, (np.array(weights) / np.maximum(counts, 1))[groups], 0.0)
    if not share.any():
        raise CorpusError(
            f"no clip has a label of {target} (and its corpus a weight above 0); expected some: add a corpus"
        )
    return share


def varied(model: EmiModel, items: Sequence[Item], seed: int) -> Source:
    """The clips as they are, cropped, or joined with others, a third each; the seed and a clip's id decide which."""
    config = model.config
    longest = round(config.max_seconds * SAMPLE_RATE)

    def load(item: Item) -> Single:
        return decode.load(item.path, max_seconds=config.max_seconds, notes=[])

    def read(item: Item, epoch: int) -> Heard:
        rng = np.random.default_rng((seed, zlib.crc32(item.id.encode(errors="surrogateescape"))))
        samples, kind = load(item), rng.integers(3)
        if kind == 1 and len(samples) > SHORTEST * SAMPLE_RATE:
            size = round(math.exp(rng.uniform(math.log(SHORTEST * SAMPLE_RATE), math.log(len(samples)))))
            start = rng.integers(len(samples) - size + 1)
            samples = samples[start : start + size]
        elif kind == 2 and len(samples) < longest:
            size = rng.integers(len(samples), longest)
            joined = [samples]
            while (total := sum(map(len, joined))) < size and len(joined) < 100:
                joined.append(load(items[int(rng.integers(len(items)))])[: size - total])
            samples = np.concatenate(joined)
        ready = decode.prepare(
            samples,
            max_seconds=config.max_seconds,
            normalize=config.do_normalize,
            min_samples=model.min_samples,
        )
        return Heard(ready.samples)

    return Source(items, read)


def _predict(
    model: EmiModel, source: Source, name: str, *, batch_seconds: float, workers: int, progress: bool
) -> tuple[Array, Single]:
    """Raw intensities (clip, target) and pooled frames (clip, feature). Raises ModelError when one is not finite."""
    groups = batching.chunks(len(source.items))
    found = []
    for clips in shown(decoded(source, groups, workers=workers), name, total=len(groups), show=progress):
        found += model.predict([clip.values for clip in clips], batch_seconds=batch_seconds)
    intensities = np.array([one.intensities for one in found], dtype=np.float64)
    pooled = np.array([one.pooled for one in found], dtype=np.float32)
    if not (np.isfinite(intensities).all() and np.isfinite(pooled).all()):
        raise ModelError(
            f"the model predicts NaN or infinity for clips of {name}; its weights are damaged: use another checkpoint"
        )
    return intensities, pooled
