"""Scores of a trained model on a labeled split, with intervals, plots and all predictions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emimic import figures
from emimic.baselines.model import BaselineModel
from emimic.data.corpus import Item, Split
from emimic.data.fields import list_alike
from emimic.data.loader import DEFAULT, BatchOptions
from emimic.data.split_tables import find_split_files, get_clip_key, list_some
from emimic.evaluation import groups, plots
from emimic.evaluation.predictions import format_csv, open_split, predict_split
from emimic.evaluation.report import Report, score
from emimic.files import make_folder, read_json, write_atomically
from emimic.task import VAD, CorpusError
from emimic.training.checkpoint import SETTINGS, read_stored
from emimic.training.learner import Learner


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
    without: Sequence[str] = (),
    speakers: Mapping[str, str] | None = None,
) -> Report:
    """Score a run on a labeled split of a corpus, and write the report, the predictions and plots.

    Scores are those of the predictions of `emimic predict`: calibrated where the run is, else raw. `submit` clips them
    to [0, 1]. An unknown label leaves its clip out of that
    target's scores alone.

    Args:
        run: a model folder (`config.json`, `model.safetensors`).
        folder: a corpus in the ABAW layout.
        split: the name of a split with labels.
        out: the folder for `report.json`, `predictions.csv`, `scatter.png`, `residuals.png`, `reliability.png`, and a
            `by_COLUMN.csv` for each of `by`; by default `evaluation/<split>` in the run's folder. Files there are
            replaced; the report names those that were `written`.
        label_scale: the divisor of labels, as in `load_corpus`; None takes that of the training run.
        n_bootstrap: the number of bootstrap resamples.
        seed: of the bootstrap.
        batch_seconds: seconds of audio in a batch.
        workers: threads that read audio.
        progress: whether to show a bar.
        cached: predict from the stored features of a frozen encoder, rounded to `feature_dtype`, instead of from the
            clips.
        draw: whether to draw the plots.
        by: columns of the split's table; each group of clips with the same value is scored, too.
        without: further branches that get no input, such as text, so that the voice alone is scored; the default of
            `out` then ends with their names.
        speakers: clip key -> the speaker that the bootstrap resamples; None: those of the split's table.

    Raises:
        CorpusError: if the split can't be read, has no labels, or none of its clips can be used, or its table has no
            column of `by`.
        SettingsError: if the model has no branch of a name in `without`.
        ModelError: if the run is no local folder, can't be loaded, or predicts NaN.
        OutputError: if `out` can't be written, which is tested before the work.
    """
    run, by = Path(run), tuple(dict.fromkeys(by))
    model, part, warnings, inputs = open_split(
        run, folder, split, label_scale, without=without, workers=workers, progress=progress
    )
    part = part if speakers is None else _change_speakers(part, speakers)
    truths = _list_truths(model, part)  # raises before hours of prediction if there are no labels
    _check_columns(folder, part, by)
    name = "-without-".join([part.name, *without])
    out = make_folder(run / "evaluation" / name if out is None else out)
    settings = read_stored(run) if cached else {}
    features = (
        (Path(settings.get("features") or run / "features"), settings["feature_dtype"]) if settings else None
    )
    precision = settings["precision"] if settings else DEFAULT.precision
    options = BatchOptions(batch_seconds, workers, progress, precision)
    predictions = predict_split(run, model, part, inputs, options, features=features, without=without)
    reports = [
        _score_truth(
            truth, predictions[truth.vad][truth.rows], part, by, n_bootstrap=n_bootstrap, seed=seed, progress=progress,
            left_out=_list_left_out(part, truth) if truth is truths[0] else (),
        )
        for truth in truths
    ]  # fmt: skip
    fused = isinstance(model, BaselineModel) and model.config.weights is not None
    notes = _explain_bias(run, Path(folder), part.name, fused=fused)
    notes += [*reports[0].notes, *warnings, *_note_similar_groups(part, by)]
    report = replace(reports[0], vad=reports[1] if len(reports) > 1 else None, notes=tuple(notes))
    files = _format_files(report, truths[0], predictions[truths[0].vad], part, by, draw=draw)
    return replace(report, written=_write(out, files))


def _change_speakers(part: Split, speakers: Mapping[str, str]) -> Split:
    """Return a split whose clips have other speakers, by clip key."""
    items = (replace(item, speaker=speakers.get(get_clip_key(item.id))) for item in part.items)
    return replace(part, items=tuple(items))


def _write(out: Path, files: Mapping[str, str | bytes]) -> tuple[Path, ...]:
    """Write each file into `out`, and return their paths."""
    for name, content in files.items():
        write_atomically(out / name, content)
    return tuple(out / name for name in files)


@dataclass(frozen=True)
class _Truth:
    """The labels of a model's intensities, or of its V/A/D.

    Attributes:
        vad: whether they are V/A/D.
        items: the clips with a known label of this kind.
        rows: the indexes of these clips in the split.
        labels: (clip, name), NaN where unknown.
    """

    vad: bool
    names: Sequence[str]
    items: Sequence[Item]
    rows: NDArray[np.intp]
    labels: NDArray[np.float32]


def _list_truths(model: Learner, part: Split) -> list[_Truth]:
    """Return the labels of the model's targets, if any, then of V/A/D, if predicted and labeled.

    Raises:
        CorpusError: if there is nothing to score.
    """
    truths = []
    if model.config.targets:
        truths.append(_make_truth(part, part.labels, model.config.targets, vad=False))
    if model.config.predicts_vad:
        unknown = np.full(len(VAD), np.nan, np.float32)
        labels = np.stack([unknown if item.vad is None else item.vad for item in part.items])
        truths.append(_make_truth(part, labels, VAD, vad=True))
    if not truths or not truths[0].items:
        raise CorpusError(
            f"no clip of the split {part.name!r} has a label to score; expected one of "
            f"{', '.join(model.config.targets or VAD)}"
        )
    return [truth for truth in truths if truth.items]


def _make_truth(part: Split, labels: NDArray[np.float32], names: Sequence[str], *, vad: bool) -> _Truth:
    rows = np.flatnonzero(np.isfinite(labels).any(axis=1))
    return _Truth(vad, names, [part.items[row] for row in rows], rows, labels[rows])


def _list_left_out(part: Split, truth: _Truth) -> list[tuple[str, str]]:
    """Return (clip, reason) for the clips that can't be scored."""
    unlabeled = np.setdiff1d(np.arange(len(part.items)), truth.rows)
    left_out = [(clip.id, clip.reason) for clip in part.left_out]
    return left_out + [(part.items[row].id, "no label is known") for row in unlabeled]


def _score_truth(
    truth: _Truth,
    predictions: NDArray[np.float32],
    part: Split,
    by: Sequence[str],
    *,
    n_bootstrap: int,
    seed: int,
    progress: bool,
    left_out: Sequence[tuple[str, str]],
) -> Report:
    """Score predictions (clip, name) of the labeled clips, and their groups by each column of `by`."""
    speakers = [item.speaker for item in truth.items]
    report = score(
        predictions, truth.labels, truth.names, speakers,
        split=part.name, n_bootstrap=n_bootstrap, seed=seed, left_out=left_out,
    )  # fmt: skip
    by_column = groups.score_groups(
        truth.names, predictions, truth.labels,
        {column: [item.row[column] for item in truth.items] for column in by}, speakers,
        n_bootstrap=n_bootstrap, seed=seed, progress=progress,
    )  # fmt: skip
    return replace(report, groups=by_column)


def _format_files(
    report: Report,
    truth: _Truth,
    predictions: NDArray[np.float32],
    part: Split,
    by: Sequence[str],
    *,
    draw: bool,
) -> dict[str, str | bytes]:
    """Return the content of each file of an evaluation, by name."""
    reports = [report] if report.vad is None else [report, report.vad]
    rows = [(item.id, *(f"{v:.6f}" for v in row)) for item, row in zip(part.items, predictions, strict=True)]
    files: dict[str, str | bytes] = {
        "report.json": json.dumps(report.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n",
        "predictions.csv": format_csv(truth.names, rows),
    }
    for column, name in groups.name_files(by).items():
        files[name] = groups.format_csv(column, [scored.groups[column] for scored in reports])
    if draw:
        pair = predictions[truth.rows], truth.labels, truth.names
        calibrations = {name: bins for scored in reports for name, bins in scored.calibration.items()}
        files["scatter.png"] = figures.render(plots.draw_scatter(*pair))
        files["residuals.png"] = figures.render(plots.draw_residuals(*pair))
        files["reliability.png"] = figures.render(plots.draw_reliability(calibrations))
    return files


def _check_columns(folder: Path, part: Split, columns: Sequence[str]) -> None:
    """Raise CorpusError where the split's table hasn't a column."""
    names = [column for column in part.items[0].row if column]
    if unknown := [column for column in columns if column not in names]:
        (path,) = find_split_files(Path(folder), [part.name], [])[0].values()
        raise CorpusError(
            f"{path} has no column {', '.join(unknown)}; found {', '.join(names)}. Name one of these (--by)"
        )


def _note_similar_groups(part: Split, by: Sequence[str]) -> list[str]:
    """Return sentences about groups that may be one, with two spellings."""
    close = {
        column: list_alike({item.row[column] for item in part.items if item.row[column]}) for column in by
    }
    return [
        f"{list_some(names)} in the column {column} differ only in case, signs or how a number is written; "
        "are they one group?"
        for column, names in close.items()
        if names
    ]


def _explain_bias(run: Path, folder: Path, split: str, *, fused: bool) -> list[str]:
    """Return a sentence where the run was trained on this split, or chose its epoch or weights of fusion on it.

    Args:
        run: the model folder.
        folder: the corpus.
        split: the split's name.
        fused: whether the run's baseline has weights that were searched on valid.
    """
    settings = read_stored(run)
    learned = str(settings["train_on"]).split("+") if "train_on" in settings else []
    if split in learned:
        return [f"{split} was trained on: these scores say nothing about unseen clips"]
    chosen = ["the epoch"] if learned and settings.get("epochs") != 1 else []
    chosen += ["the weights of the branches"] if fused else []
    name = folder.resolve().name
    if split != "valid" or not chosen or name not in (_list_corpora(run) or [name]):
        return []
    return [
        f"valid chose {' and '.join(chosen)}, so these scores are a little too good for other voices: score a split "
        "that chose nothing (--split test)"
    ]


def _list_corpora(run: Path) -> list[str]:
    """Return the names of the corpora that a run was trained on; empty where it doesn't record them."""
    facts = read_json(run / SETTINGS) if (run / SETTINGS).exists() else {}
    reports = [facts.get("corpus"), *facts.get("further_corpora", ())]
    return [
        Path(report["folder"]).resolve().name
        for report in reports
        if isinstance(report, dict) and "folder" in report
    ]
