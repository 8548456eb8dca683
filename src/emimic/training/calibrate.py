"""Calibration of a run: maps of its intensities from labeled clips, and a novelty score from training clips."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.calibration import Array, Calibration, Intervals, Map, Novelty, Single
from emimic.data.corpus import Split
from emimic.data.loader import BatchOptions
from emimic.files import fingerprint, make_folder
from emimic.model.model import WEIGHTS, EmiModel
from emimic.task import VAD, CorpusError, ModelError, SettingsError
from emimic.training.calibration_clips import choose_reference, load_splits, predict, vary_lengths
from emimic.training.calibration_fit import (
    compute_calibration_error,
    fit_intervals,
    fit_map,
    fit_novelty,
    map_across,
)
from emimic.training.calibration_report import Report as Report
from emimic.training.checkpoint import read_stored
from emimic.training.learner import make_source

_FEW: Final = 100


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

    Each target's map is fitted to the clips of `split` with its label; the corpora are weighted by `weights`. The
    novelty score refers to at most `clips` training clips of each corpus and is scaled on as many of `split`. A third
    each of them is unchanged, cropped, and joined with others up to the model's longest, so that no length is novel.
    A corpus without `split` fits no map, and a fifth of its training clips scales the novelty score. The score is of
    the voice, also of a run with words or images; a run without a voice has none.

    Args:
        run: a run folder of `emimic train`.
        corpora: corpora in the ABAW layout; their folders' names are those of the groups.
        split: labeled clips that the run was not trained on.
        weights: by corpus; 1 by default.
        clips: maximum number of each corpus's clips for the novelty score.
        seed: of the choice of these clips and of their crops.
        out: output folder; None: the run.
        label_scale: divisor of labels; None: the run's.
        batch_seconds: seconds of audio in a batch.
        workers: threads that decode.
        progress: show bars.

    Raises:
        CorpusError: if a corpus can't be read, no clip is labeled for a target, or labels lie outside [0, 1].
        ModelError: if the run can't be loaded, has no targets, or predicts NaN.
        SettingsError: if the split is the training split, two corpora have one name, or a weight is of no corpus.
    """
    run, names = Path(run), [Path(folder).resolve().name for folder in corpora]
    weight = _read_weights(names, weights or {})
    model = _open_model(run, split)
    targets = tuple(model.config.targets)
    out = make_folder(run if out is None else out)  # before the work
    settings = read_stored(run)
    scale = settings.get("label_scale") if label_scale is None else label_scale
    options = BatchOptions(batch_seconds, workers, progress)
    fitted = _predict_corpora(
        model, dict(zip(names, corpora, strict=True)), weight, split, scale, clips, seed, options
    )
    maps, counts, errors = _fit_maps(targets, fitted)
    intervals = _fit_intervals(targets, fitted, seed)
    novelty, novel = _fit_novelty(fitted) if model.config.audio else (None, {})
    facts = {
        "weights": fingerprint(run / WEIGHTS),
        "split": split,
        "seed": seed,
        "corpora": {name: corpus.describe() for name, corpus in fitted.items()},
    }
    Calibration(targets, tuple(maps), novelty, facts, intervals).save(out)
    coverage = {} if intervals is None else intervals.coverage
    return Report(out, counts, errors, novel, _list_notes(settings, split, counts, fitted), coverage)


def _open_model(run: Path, split: str) -> EmiModel:
    """Return a run's model that a split can calibrate. Raises as `calibrate`."""
    if split == "train":
        raise SettingsError(
            "found the split train, expected one that the run was not trained on: give another"
        )
    model = EmiModel.open_run(run)
    if not model.config.targets:
        raise ModelError(f"{run} predicts V/A/D only; calibration needs a run with targets")
    return model


@dataclass(frozen=True)
class _Corpus:
    """A corpus's part in a calibration.

    Attributes:
        weight: of its labeled clips.
        raw: (clip, target), intensities of the split.
        labels: (clip, target), of the split.
        reference: (clip, feature), pooled frames of training clips.
        held: (clip, feature), pooled frames of held-out clips.
        vad: (clip, 3), mean V/A/D of the split, within [0, 1]; NaN if not learned.
        vad_labels: (clip, 3), of the split; NaN where unknown.
        speakers: (clip,), of the split; a clip without one stands for itself.
    """

    weight: float
    raw: Array
    labels: Array
    reference: Single
    held: Single
    vad: Array
    vad_labels: Array
    speakers: list[str]

    def describe(self) -> dict[str, Any]:
        """Return the corpus's weight and numbers of clips, for the calibration's record."""
        counts = {"labeled": len(self.labels), "reference": len(self.reference), "held_out": len(self.held)}
        return {"weight": self.weight, **counts}


def _predict_corpora(
    model: EmiModel,
    folders: Mapping[str, Path],
    weights: Mapping[str, float],
    split: str,
    scale: float | None,
    clips: int,
    seed: int,
    options: BatchOptions,
) -> dict[str, _Corpus]:
    """Load the corpora in these folders, by name, and predict their clips, see `calibrate`."""
    rng = np.random.default_rng(seed)
    predicted = {}
    for name, folder in folders.items():
        splits = load_splits(model, folder, split, scale, workers=options.workers, progress=options.progress)
        predicted[name] = _predict_corpus(model, name, weights[name], splits, clips, seed, rng, options)
    return predicted


def _predict_corpus(
    model: EmiModel,
    name: str,
    weight: float,
    splits: tuple[Split, Split | None],
    clips: int,
    seed: int,
    rng: np.random.Generator,
    options: BatchOptions,
) -> _Corpus:
    """Predict a corpus's labeled clips, and the clips of the novelty score; splits: of `load_splits`."""
    train, part = splits
    targets = len(model.config.targets)
    raw, labels, vad = np.empty((0, targets)), np.empty((0, targets)), np.empty((0, len(VAD)))
    items = () if part is None else part.items
    if part is not None:
        source = make_source(model, part.items, None)
        raw, _, vad = predict(model, source, f"{name}, {part.name}", options)
        labels = part.labels.astype(np.float64)
    chosen = choose_reference(train.items, None if part is None else part.items, clips, rng)
    reference, held = (
        predict(model, vary_lengths(model, some, seed), f"{name}, novelty", options)[1]
        for some in (chosen if model.config.audio else ([], []))
    )
    unknown = np.full(len(VAD), np.nan)
    vad_labels = np.array([unknown if item.vad is None else item.vad for item in items]).reshape(-1, len(VAD))
    speakers = [f"{name}/{item.speaker or item.id}" for item in items]
    return _Corpus(weight, raw, labels, reference, held, vad, vad_labels, speakers)


def _fit_maps(
    targets: Sequence[str], corpora: Mapping[str, _Corpus]
) -> tuple[list[Map], dict[str, int], dict[str, tuple[float, float]]]:
    """Return the maps, and by target the labeled clips and the calibration error before and after."""
    values = np.concatenate([corpus.raw for corpus in corpora.values()])
    labels = np.concatenate([corpus.labels for corpus in corpora.values()])
    groups = np.repeat(np.arange(len(corpora)), [len(corpus.labels) for corpus in corpora.values()])
    weights = [corpus.weight for corpus in corpora.values()]
    maps, counts, errors = [], {}, {}
    for target, x, y in zip(targets, values.T, labels.T, strict=True):
        clip_weights = _weight_clips(y, groups, weights, target)
        maps.append(fit_map(x, y, clip_weights))
        counts[target] = int(np.count_nonzero(clip_weights))
        before = compute_calibration_error(x, y, clip_weights)
        errors[target] = (before, compute_calibration_error(maps[-1](x), y, clip_weights))
    return maps, counts, errors


def _fit_intervals(targets: Sequence[str], corpora: Mapping[str, _Corpus], seed: int) -> Intervals | None:
    """Return prediction intervals from two halves of the speakers: each is mapped by maps of the other."""
    used = [corpus for corpus in corpora.values() if corpus.weight > 0]
    speakers = [speaker for corpus in used for speaker in corpus.speakers]
    names = sorted(set(speakers))
    half = set(np.random.default_rng(seed).permutation(names)[: len(names) // 2].tolist())
    folds = np.array([int(speaker in half) for speaker in speakers], dtype=np.intp)
    raw, labels, vad, vad_labels = (
        np.concatenate([getattr(corpus, field) for corpus in used])
        for field in ("raw", "labels", "vad", "vad_labels")
    )
    columns = [map_across(x, y, folds) for x, y in zip(raw.T, labels.T, strict=True)]
    predictions = dict(zip((*targets, *VAD), (*columns, *vad.T), strict=True))
    return fit_intervals(
        predictions, dict(zip((*targets, *VAD), (*labels.T, *vad_labels.T), strict=True)), folds
    )


def _fit_novelty(corpora: Mapping[str, _Corpus]) -> tuple[Novelty, dict[str, float]]:
    """Return the novelty score, and by corpus the fraction of held-out clips that are novel by it."""
    novelty = fit_novelty(
        {name: corpus.reference for name, corpus in corpora.items()},
        {name: corpus.held for name, corpus in corpora.items()},
    )
    return novelty, {
        name: float((novelty.compute_distances(corpus.held).min(axis=1) > 1).mean())
        for name, corpus in corpora.items()
    }


def _read_weights(names: Sequence[str], given: Mapping[str, float]) -> dict[str, float]:
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


def _list_notes(
    settings: Mapping[str, Any], split: str, counts: Mapping[str, int], corpora: Mapping[str, _Corpus]
) -> tuple[str, ...]:
    notes = []
    if split in str(settings.get("train_on", "")).split("+"):
        notes.append(
            f"the run was trained on {split}: on other clips it is less well calibrated than on these"
        )
    if few := [name for name, count in counts.items() if count < _FEW]:
        notes.append(f"fewer than {_FEW} labeled clips for {', '.join(few)}: a rough map")
    if few := [name for name, corpus in corpora.items() if 0 < len(corpus.held) < _FEW]:
        notes.append(f"fewer than {_FEW} held-out clips in {', '.join(few)}: a rough scale of novelty")
    return tuple(notes)


def _weight_clips(labels: Array, groups: NDArray[np.intp], weights: Sequence[float], target: str) -> Array:
    """Return weights (clip,): those of a corpus's labeled clips sum to its weight; 0 without a label."""
    labeled = np.isfinite(labels)
    outside = labeled & ((labels < 0) | (labels > 1))
    if outside.any():
        raise CorpusError(
            f"{target} has labels from {labels[labeled].min():g} to {labels[labeled].max():g}, expected 0 to 1: "
            "correct the table, or give --label-scale"
        )
    counts = np.bincount(groups[labeled], minlength=len(weights))
    clip_weights = np.where(labeled, (np.array(weights) / np.maximum(counts, 1))[groups], 0.0)
    if not clip_weights.any():
        raise CorpusError(
            f"no clip has a label of {target} (and its corpus a weight above 0); expected some: add a corpus"
        )
    return clip_weights
