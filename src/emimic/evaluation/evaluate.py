"""Scores of a finished run on a labelled split, with intervals, pictures and every prediction kept."""

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emimic.baselines.model import BaselineModel
from emimic.calibration import Calibration
from emimic.data.cells import alike
from emimic.data.corpus import Item, Split, load_corpus
from emimic.data.loader import answer
from emimic.data.split_tables import some, split_files
from emimic.evaluation import groups, plots
from emimic.evaluation.report import Report, score
from emimic.features.encoder_cache import compute
from emimic.files import CsvText, make_folder, read_json, write_atomic
from emimic.task import VAD, CorpusError, ModelError
from emimic.training.checkpoint import SETTINGS
from emimic.training.learner import Features, Learner, open_run, source_of


def evaluate(
    run: Path,
    folder: Path,
    *,
    split: str = "valid",
    out: Path | None = None,
    label_scale: float | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    batch_seconds: float = 60.0,
    workers: int = 2,
    progress: bool = True,
    cached: bool = False,
    draw: bool = True,
    by: Sequence[str] = (),
) -> Report:
    """Scores a run on a labelled split of a corpus, and writes what there is to look at.

    Scores are those of the raw predictions; `submit` clips them to [0, 1]. A label that isn't known leaves its clip out
    of that target's scores alone.

    Args:
        run: a model folder (`config.json`, `model.safetensors`).
        folder: a corpus in the ABAW layout.
        split: the name of a split with labels.
        out: where `report.json`, `predictions.csv`, `scatter.png`, `residuals.png` and `reliability.png` go, and a
            `by_COLUMN.csv` for each of `by`; by default `evaluation/<split>` in the run's folder. Files there are
            replaced; the report names those that were `written`.
        label_scale: what labels are divided by, as in `load_corpus`; None takes what the run was trained with.
        n_bootstrap: the number of bootstrap resamples.
        seed: of the bootstrap.
        batch_seconds: seconds of audio in a batch.
        workers: threads that read audio.
        progress: whether to show a bar.
        cached: answer from the features of a frozen encoder where the run's training kept them, which are rounded
            to `feature_dtype`, instead of from the clips.
        draw: whether to make the pictures.
        by: columns of the split's table by whose values all is scored, too.

    Raises:
        CorpusError: if the split can't be read, has no labels, or none of its clips can be used, or its table has no
            column of `by`.
        ModelError: if the run is no local folder, can't be loaded, or predicts NaN.
        OutputError: if `out` can't be written, which is tried before the work.
    """
    run, by = Path(run), tuple(dict.fromkeys(by))
    model, part, warnings, heard = open_split(
        run, folder, split, label_scale, workers=workers, progress=progress
    )
    truths = _truths(model, part)  # raises before hours of prediction if there are no labels
    _check_columns(folder, part, by)
    out = make_folder(run / "evaluation" / part.name if out is None else out)
    settings = _settings(run) if cached else {}
    features = (
        (Path(settings.get("features") or run / "features"), settings["feature_dtype"]) if settings else None
    )
    answers = predict_split(
        run,
        model,
        part,
        heard,
        batch_seconds=batch_seconds,
        workers=workers,
        progress=progress,
        features=features,
    )
    bare = np.setdiff1d(np.arange(len(part.items)), truths[0].rows)
    left_out = [(left.id, left.reason) for left in part.left_out]
    left_out += [(part.items[row].id, "no label is known") for row in bare]
    reports = []
    for truth in truths:
        speakers = [item.speaker for item in truth.items]
        found = score(
            answers[truth.vad][truth.rows], truth.labels, truth.names, speakers,
            split=part.name, n_bootstrap=n_bootstrap, seed=seed, left_out=left_out if truth is truths[0] else (),
        )  # fmt: skip
        by_column = groups.score_groups(
            truth.names, answers[truth.vad][truth.rows], truth.labels,
            {column: [item.row[column] for item in truth.items] for column in by}, speakers,
            n_bootstrap=n_bootstrap, seed=seed, progress=progress,
        )  # fmt: skip
        reports.append(dataclasses.replace(found, groups=by_column))
    report = reports[0] if len(reports) == 1 else dataclasses.replace(reports[0], vad=reports[1])
    fused = isinstance(model, BaselineModel) and model.config.weights is not None
    notes = _seen_while_training(run, Path(folder), part.name, fused=fused)
    report = dataclasses.replace(report, notes=(*notes, *report.notes, *warnings, *_alike(part, by)))
    predictions, truth = answers[truths[0].vad], truths[0]
    rows = [(item.id, *(f"{v:.6f}" for v in row)) for item, row in zip(part.items, predictions, strict=True)]
    files: dict[str, str | bytes] = {
        "report.json": json.dumps(report.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n",
        "predictions.csv": table_csv(truth.names, rows),
    }
    for column, name in groups.csv_names(by).items():
        files[name] = groups.to_csv(column, [one.groups[column] for one in reports])
    if draw:
        pair = predictions[truth.rows], truth.labels, truth.names
        calibrations = {name: one for part_ in reports for name, one in part_.calibration.items()}
        files["scatter.png"] = plots.png(plots.scatter(*pair))
        files["residuals.png"] = plots.png(plots.residuals(*pair))
        files["reliability.png"] = plots.png(plots.reliability(calibrations))
    return dataclasses.replace(report, written=_write(out, files))


def _write(out: Path, files: Mapping[str, str | bytes]) -> tuple[Path, ...]:
    for name, content in files.items():
        write_atomic(out / name, content)
    return tuple(out / name for name in files)


def _check_columns(folder: Path, part: Split, columns: Sequence[str]) -> None:
    """Raise CorpusError where the split's table hasn't a column."""
    there = [column for column in part.items[0].row if column]
    if unknown := [column for column in columns if column not in there]:
        (path,) = split_files(Path(folder), [part.name], [])[0].values()
        raise CorpusError(
            f"{path} has no column {', '.join(unknown)}; found {', '.join(there)}. Name one of these (--by)"
        )


@dataclass(frozen=True)
class _Truth:
    """What a model's intensities, or its VAD, are scored against."""

    vad: bool
    names: Sequence[str]
    items: Sequence[Item]
    """The clips with a known label of this kind."""
    rows: NDArray[np.intp]
    """Their places in the split."""
    labels: NDArray[np.float32]
    """Theirs, (clip, name), NaN where unknown."""


def _truths(model: Learner, part: Split) -> list[_Truth]:
    """Of the targets, if the model has any, then of VAD, if it answers it and clips are labelled.

    Raises CorpusError where there is nothing to score.
    """
    found = []
    if model.config.targets:
        found.append(_truth(part, part.labels, model.config.targets, vad=False))
    if model.config.predicts_vad:
        unknown = np.full(len(VAD), np.nan, np.float32)
        labels = np.stack([unknown if item.vad is None else item.vad for item in part.items])
        found.append(_truth(part, labels, VAD, vad=True))
    if not found or not found[0].items:
        raise CorpusError(
            f"no clip of the split {part.name!r} has a label to score; expected one of "
            f"{', '.join(model.config.targets or VAD)}"
        )
    return [truth for truth in found if truth.items]


def _truth(part: Split, labels: NDArray[np.float32], names: Sequence[str], *, vad: bool) -> _Truth:
    rows = np.flatnonzero(np.isfinite(labels).any(axis=1))
    return _Truth(vad, names, [part.items[row] for row in rows], rows, labels[rows])


def open_split(
    run: Path,
    folder: Path,
    split: str,
    label_scale: float | None = None,
    *,
    labels: bool = True,
    workers: int,
    progress: bool,
) -> tuple[Learner, Split, tuple[str, ...], Features | None]:
    """The model of a run, the split of the corpus with the model's targets, the corpus's warnings, and of a baseline
    the features it uses.

    Without `labels` nothing is scored: they aren't read, and a speaker heard in training is a warning only.

    Raises:
        ModelError: if the run is no local folder or can't be loaded.
        CorpusError: if the split can't be read or none of its clips can be used.
    """
    model = open_run(run)
    heard = Features.of(folder, model.config.modalities) if isinstance(model, BaselineModel) else None
    corpus = load_corpus(
        folder,
        targets=model.config.targets,
        splits=[split],
        label_scale=_settings(run).get("label_scale") if label_scale is None else label_scale,
        labels=labels,
        allow_speaker_overlap=not labels,
        partial=heard is None and bool(model.config.targets),
        workers=workers,
        progress=progress,
        clips=None if heard is None else heard.clips,
    )
    if heard is not None:
        corpus = heard.add_warnings(corpus)
    # "val" is another spelling of "valid", so the one split loaded may have another name.
    (part,) = corpus.splits.values()
    return model, part, corpus.warnings, heard


def _alike(part: Split, by: Sequence[str]) -> list[str]:
    """Sentences about groups that may be one, spelled in two ways."""
    close = {column: alike({item.row[column] for item in part.items if item.row[column]}) for column in by}
    return [
        f"{some(names)} in the column {column} differ only in case, signs or how a number is written; are they one "
        "group?"
        for column, names in close.items()
        if names
    ]


def _settings(run: Path) -> dict[str, Any]:
    """What the run was trained with; nothing for a model folder without `train.json`. Raises ModelError."""
    file = run / SETTINGS
    try:
        return dict(read_json(file)["settings"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file} can't be read ({error}); expected the settings that emimic train wrote. "
            "Bring it back, or delete it to go without"
        ) from error


def _seen_while_training(run: Path, folder: Path, split: str, *, fused: bool) -> list[str]:
    """Sentences where the run learned from this split of a corpus, or it chose the run's epoch or weights of fusion.

    fused: whether the run's system has weights that were searched on valid.
    """
    settings = _settings(run)
    learned = str(settings["train_on"]).split("+") if "train_on" in settings else []
    if split in learned:
        return [f"{split} was trained on: these scores say nothing about unseen clips"]
    chosen = ["the epoch"] if learned and settings.get("epochs") != 1 else []
    chosen += ["the weights of the branches"] if fused else []
    if (
        split != "valid"
        or not chosen
        or folder.resolve().name not in (_corpora(run) or [folder.resolve().name])
    ):
        return []
    return [
        f"valid chose {' and '.join(chosen)}, so these scores are a little too good for other voices: score a split "
        "that chose nothing (--split test)"
    ]


def _corpora(run: Path) -> list[str]:
    """Names of the folders that a run was trained on; nothing where it doesn't say so."""
    facts = read_json(run / SETTINGS) if (run / SETTINGS).exists() else {}
    reports = [facts.get("corpus"), *facts.get("further_corpora", ())]
    return [
        Path(one["folder"]).resolve().name for one in reports if isinstance(one, dict) and "folder" in one
    ]


def predict_split(
    run: Path,
    model: Learner,
    part: Split,
    heard: Features | None,
    *,
    batch_seconds: float,
    workers: int,
    progress: bool,
    features: tuple[Path, str] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return intensities (clip, target) and V/A/D (clip, 3; NaN unless predicted) in the order of the split's items.

    They are what `emimic predict` gives: calibrated where the run folder has a calibration.

    Raises:
        ModelError: if a prediction is not finite.
    """
    how: dict[str, Any] = {"batch_seconds": batch_seconds, "workers": workers, "progress": progress}
    if features is None or isinstance(model, BaselineModel):
        source = source_of(model, part.items, heard)
    else:
        source = compute(model, part.items, features[0], dtype=features[1], **how)
    predictions, vad = answer(model, source, **how)
    answers = np.hstack([predictions, vad]) if model.config.predicts_vad else predictions
    bad = [item.id for item, row in zip(part.items, answers, strict=True) if not np.isfinite(row).all()]
    if bad:
        raise ModelError(
            f"the model predicts NaN or infinity for {len(bad)} of {len(part.items)} clips "
            f"({some(bad)}); its weights are damaged or its training diverged: use another checkpoint"
        )
    calibration = Calibration.of_run(run, model.config.targets) if model.config.targets else None
    if calibration is None:
        return predictions, vad
    return calibration.intensities(predictions), vad.clip(0.0, 1.0)


def table_csv(targets: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV with the header `Filename` and the targets, as the challenge writes it."""
    text = CsvText()
    writer = csv.writer(text)
    writer.writerow(["Filename", *targets])
    writer.writerows(rows)
    return text.getvalue()
