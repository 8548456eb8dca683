"""Predictions of a trained model for a split of a corpus."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emimic.baselines.model import BaselineModel
from emimic.calibration import Calibration
from emimic.data import loader
from emimic.data.corpus import Split, load_corpus
from emimic.data.split_tables import list_some
from emimic.data.transcripts import add_texts
from emimic.features import frames
from emimic.features.encoder_cache import compute
from emimic.files import CsvText
from emimic.model.branches import list_branches
from emimic.task import ModelError, SettingsError
from emimic.training import checkpoint
from emimic.training.learner import Features, Learner, make_readers, make_source, open_run


def open_split(
    run: Path,
    folder: Path,
    split: str,
    label_scale: float | None = None,
    *,
    labels: bool = True,
    without: Sequence[str] = (),
    workers: int,
    progress: bool,
) -> tuple[Learner, Split, tuple[str, ...], Features | None]:
    """Open the model of a run and a split of the corpus.

    Args:
        run: a model folder.
        folder: a corpus in the ABAW layout.
        split: the split's name.
        label_scale: the divisor of labels; None takes that of the training run.
        labels: whether labels are read. Without them, a speaker of the training split is a warning only.
        without: further branches of the model that get no input.
        workers: threads that read audio.
        progress: whether to show a bar.

    Returns:
        The model, the split with the model's targets, the corpus's warnings, and the features of a baseline.

    Raises:
        ModelError: if the run is no local folder or can't be loaded.
        CorpusError: if the split can't be read or none of its clips can be used.
        SettingsError: if the model has no branch of a name in `without`.
    """
    model = open_run(run)
    branches = list_branches(model.config)
    _check_without(run, branches, without)
    features = (
        Features.from_folder(folder, model.config.modalities) if isinstance(model, BaselineModel) else None
    )
    vision = getattr(model.config, "vision", None) if "vision" not in without else None
    options: dict[str, Any] = {
        "max_seconds": model.config.max_seconds, "workers": workers, "progress": progress,
    }  # fmt: skip
    clips = None if features is None else features.clips
    if vision is not None and not getattr(model.config, "audio", True):
        clips = frames.list_clips(folder, vision, **options)
    corpus = load_corpus(
        folder,
        targets=model.config.targets,
        splits=[split],
        label_scale=checkpoint.read_stored(run).get("label_scale") if label_scale is None else label_scale,
        labels=labels,
        allow_speaker_overlap=not labels,
        partial=features is None and bool(model.config.targets),
        workers=workers,
        progress=progress,
        clips=clips,
    )
    if features is not None:
        corpus = features.add_warnings(corpus)
    elif "text" in branches and "text" not in without:
        corpus = add_texts(corpus)
    if vision is not None:
        corpus = frames.add_frames(corpus, vision, **options)
    # "val" is another spelling of "valid", so the one split loaded may have another name.
    (part,) = corpus.splits.values()
    return model, part, corpus.warnings, features


def _check_without(run: Path, branches: Sequence[str], without: Sequence[str]) -> None:
    """Raise SettingsError for a name in `without` that is none of the run's branches beside its voice."""
    if unknown := [name for name in without if name not in branches]:
        raise SettingsError(
            f"without names {', '.join(unknown)}; the branches of {run} beside its voice are "
            f"{', '.join(branches) or 'none'}: leave it out"
        )


def predict_split(
    run: Path,
    model: Learner,
    part: Split,
    inputs: Features | None,
    options: loader.BatchOptions,
    *,
    features: tuple[Path, str] | None = None,
    without: Sequence[str] = (),
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return intensities (clip, target) and V/A/D (clip, 3; NaN unless predicted) in the order of the split's items.

    They equal those of `emimic predict`: calibrated where the run folder has a calibration.

    Args:
        run: the model folder.
        model: its model.
        part: the split.
        inputs: the features that a baseline reads.
        options: how clips are read.
        features: the folder and type of a frozen encoder's features, to predict from these.
        without: further branches of the model that get no input.

    Raises:
        ModelError: if a prediction is not finite.
    """
    if features is None or isinstance(model, BaselineModel) or not model.config.audio:
        source = make_source(model, part.items, inputs, without)
    else:
        source = compute(model, part.items, features[0], options, dtype=features[1])
        source = loader.add_branches(source, make_readers(model, without))
    intensities, vad = loader.predict_source(model, source, options)
    predictions = np.hstack([intensities, vad]) if model.config.predicts_vad else intensities
    invalid = [
        item.id for item, row in zip(part.items, predictions, strict=True) if not np.isfinite(row).all()
    ]
    if invalid:
        raise ModelError(
            f"the model predicts NaN or infinity for {len(invalid)} of {len(part.items)} clips "
            f"({list_some(invalid)}); its weights are damaged or its training diverged: use another checkpoint"
        )
    calibration = Calibration.find_in_run(run, model.config.targets) if model.config.targets else None
    if calibration is None:
        return intensities, vad
    return calibration.calibrate_intensities(intensities), vad.clip(0.0, 1.0)


def format_csv(targets: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a CSV with the header `Filename` and the targets, as the challenge wants it."""
    text = CsvText()
    writer = csv.writer(text)
    writer.writerow(["Filename", *targets])
    writer.writerows(rows)
    return text.getvalue()
