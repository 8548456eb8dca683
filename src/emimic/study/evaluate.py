"""Scores of a finished run on a labelled split, with intervals, pictures and every prediction kept."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emimic.files import write_atomic
from emimic.model import EmiModel
from emimic.study import pictures
from emimic.study.batches import predict
from emimic.study.checkpoint import SETTINGS
from emimic.study.corpus import Split, load_corpus
from emimic.study.report import Report, score
from emimic.study.tables import some
from emimic.task import VAD, CorpusError, ModelError


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
) -> Report:
    """Scores a run on a labelled split of a corpus, and writes what there is to look at.

    Scores are those of the raw predictions; `submit` clips them to [0, 1].

    Args:
        run: a model folder (`config.json`, `model.safetensors`).
        folder: a corpus in the ABAW layout.
        split: the name of a split with labels.
        out: where `report.json`, `predictions.csv`, `scatter.png` and `residuals.png` go; by default
            `evaluation/<split>` in the run's folder. Files there are replaced.
        label_scale: what labels are divided by, as in `load_corpus`; None takes what the run was trained with.
        n_bootstrap: the number of bootstrap resamples.
        seed: of the bootstrap.
        batch_seconds: seconds of audio in a batch.
        workers: threads that read audio.
        progress: whether to show a bar.

    Raises:
        CorpusError: if the split can't be read, has no labels, or none of its clips can be used.
        ModelError: if the run is no local folder, can't be loaded, or predicts NaN.
    """
    run = Path(run)
    model, part, warnings = open_split(run, folder, split, label_scale, workers=workers, progress=progress)
    labels = part.labels  # raises before hours of prediction if there are none
    targets = model.config.targets
    predictions, vad = predict_split(
        model, part, batch_seconds=batch_seconds, workers=workers, progress=progress
    )
    speakers = [item.speaker for item in part.items]
    reports = [
        score(
            x, y, names, speakers, split=part.name, n_bootstrap=n_bootstrap, seed=seed,
            left_out=[(left.id, left.reason) for left in part.left_out],
        )
        for x, y, names in _scorable(model, part, predictions, vad)
    ]  # fmt: skip
    report = reports[0] if len(reports) == 1 else dataclasses.replace(reports[0], vad=reports[1])
    report = dataclasses.replace(report, notes=(*_learnt(run, part.name), *report.notes, *warnings))
    if not targets:  # the VAD head alone
        targets, predictions, labels = list(VAD), vad, _vad_labels(part)
    out = run / "evaluation" / part.name if out is None else Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "report.json", json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n")
    rows = [(item.id, *(f"{v:.6f}" for v in row)) for item, row in zip(part.items, predictions, strict=True)]
    write_atomic(out / "predictions.csv", table_csv(targets, rows))
    write_atomic(out / "scatter.png", pictures.png(pictures.scatter(predictions, labels, targets)))
    write_atomic(out / "residuals.png", pictures.png(pictures.residuals(predictions, labels, targets)))
    return report


def _scorable(
    model: EmiModel, part: Split, predictions: NDArray[np.float32], vad: NDArray[np.float32]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32], Sequence[str]]]:
    """(predictions, labels, names) of the targets, and of VAD where the model answers it and every clip is labelled."""
    found: list[tuple[NDArray[np.float32], NDArray[np.float32], Sequence[str]]] = []
    if model.config.targets:
        found.append((predictions, part.labels, model.config.targets))
    truth = _vad_labels(part)
    if model.config.answers_vad and np.isfinite(truth).all():
        found.append((vad, truth, VAD))
    if not found:
        raise CorpusError(
            f"split {part.name!r} has no labels that this model answers; expected {', '.join(VAD)}"
        )
    return found


def _vad_labels(part: Split) -> NDArray[np.float32]:
    unknown = np.full(len(VAD), np.nan, np.float32)
    return np.stack([unknown if item.vad is None else item.vad for item in part.items])


def open_split(
    run: Path,
    folder: Path,
    split: str,
    label_scale: float | None = None,
    *,
    labels: bool = True,
    workers: int,
    progress: bool,
) -> tuple[EmiModel, Split, tuple[str, ...]]:
    """The model of a run, the split of the corpus with the model's targets, and the corpus's warnings.

    Without `labels` nothing is scored: they aren't read, and a speaker heard in training is a warning only.

    Raises:
        ModelError: if the run is no local folder or can't be loaded.
        CorpusError: if the split can't be read or none of its clips can be used.
    """
    model = EmiModel.open_run(run)
    corpus = load_corpus(
        folder,
        targets=model.config.targets,
        splits=[split],
        label_scale=_settings(run).get("label_scale") if label_scale is None else label_scale,
        labels=labels,
        allow_speaker_overlap=not labels,
        workers=workers,
        progress=progress,
    )
    # "val" is another spelling of "valid", so the one split loaded may have another name.
    (part,) = corpus.splits.values()
    return model, part, corpus.warnings


def _settings(run: Path) -> dict[str, Any]:
    """What the run was trained with; nothing for a model folder without `train.json`. Raises ModelError."""
    file = run / SETTINGS
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["settings"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file} can't be read ({error}); expected the settings that emimic train wrote. "
            "Bring it back, or delete it to go without"
        ) from error


def _learnt(run: Path, split: str) -> list[str]:
    """A sentence if the run says that it learnt from this split."""
    settings = _settings(run)
    learnt = str(settings["train_on"]).split("+") if "train_on" in settings else []
    return [f"{split} was trained on: these scores say nothing about unseen clips"] * (split in learnt)


def predict_split(
    model: EmiModel, part: Split, *, batch_seconds: float, workers: int, progress: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Intensities (clip, target) and VAD (clip, 3; NaN unless answered) in the order of the split's items.

    Raises:
        ModelError: if a prediction is not finite.
    """
    predictions, vad = predict(
        model, part.items, batch_seconds=batch_seconds, workers=workers, progress=progress
    )
    bad = [item.id for item, row in zip(part.items, predictions, strict=True) if not np.isfinite(row).all()]
    if bad:
        raise ModelError(
            f"the model predicts NaN or infinity for {len(bad)} of {len(part.items)} clips "
            f"({some(bad)}); its weights are damaged or its training diverged: use another checkpoint"
        )
    return predictions, vad


def table_csv(targets: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV with the header `Filename` and the targets, as the challenge writes it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Filename", *targets])
    writer.writerows(rows)
    return text.getvalue()
