"""Scores of a finished run on a labelled split, with intervals, pictures and every prediction kept."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic import scores
from emimic.files import write_atomic
from emimic.model import EmiModel
from emimic.study import pictures
from emimic.study.batches import predict
from emimic.study.checkpoint import SETTINGS
from emimic.study.corpus import Split, load_corpus
from emimic.study.tables import some
from emimic.task import ModelError

METRICS: Final[Mapping[str, scores.Statistic]] = {
    "pearson": scores.pearson,
    "ccc": scores.ccc,
    "mse": scores.mse,
}
_SPOKEN: Final = {"pearson": "Pearson's correlation", "ccc": "CCC", "mse": "MSE"}
LEVEL: Final = 0.95
_SHOWN: Final = 40  # notes in a table: a damaged corpus may have thousands
FEW: Final = 20
"""With fewer speakers than this, percentile intervals are said to be rough: they come out too narrow."""


@dataclass(frozen=True)
class Score:
    """One number with its 95 % bootstrap interval; NaN where undefined."""

    value: float
    low: float
    high: float
    undefined: int
    """How many resamples left it undefined; the interval ignores those."""

    def to_dict(self) -> dict[str, float | None]:
        """For strict JSON: NaN becomes None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        clean = {name: None if math.isnan(number) else number for name, number in numbers.items()}
        return {**clean, "undefined_resamples": self.undefined}


@dataclass(frozen=True)
class Metric:
    """One metric for each target, and its means."""

    targets: Mapping[str, Score]
    mean: Score
    """Over all targets (paper section 3.1, eq. 1): NaN if one of them is undefined."""
    mean_of_defined: Score
    """Over the targets for which it is defined; the same as `mean` if that is all of them."""

    @property
    def defined(self) -> tuple[str, ...]:
        """The targets for which the metric is defined."""
        return tuple(name for name, score in self.targets.items() if not math.isnan(score.value))

    def to_dict(self) -> dict[str, Any]:
        """For strict JSON."""
        return {
            "targets": {name: score.to_dict() for name, score in self.targets.items()},
            "mean": self.mean.to_dict(),
            "mean_of_defined": {**self.mean_of_defined.to_dict(), "targets": list(self.defined)},
        }


@dataclass(frozen=True)
class Report:
    """What `score` and `evaluate` found."""

    split: str
    clips: int
    left_out: tuple[tuple[str, str], ...]
    """(clip, reason) for every clip of the split that could not be scored."""
    metrics: Mapping[str, Metric]
    """By name: pearson, ccc, mse."""
    resampled: str
    """What the bootstrap drew: "speakers" or "clips"."""
    n_bootstrap: int
    notes: tuple[str, ...]
    """Plain sentences on everything undefined, left out, or odd in the corpus."""

    @property
    def mean_pearson(self) -> float:
        """The challenge's score (paper section 3.1, eq. 1), in [-1, 1], or NaN."""
        return self.metrics["pearson"].mean.value

    def to_dict(self) -> dict[str, Any]:
        """Everything, for strict JSON: NaN becomes None."""
        return {
            "split": self.split,
            "clips": self.clips,
            "left_out": [{"clip": clip, "reason": reason} for clip, reason in self.left_out],
            "interval": {"level": LEVEL, "resampled": self.resampled, "resamples": self.n_bootstrap},
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "notes": list(self.notes),
        }

    def table(self) -> str:
        """The scores as aligned plain text, a row for each target and the mean, then the notes."""
        head = (f"{self.split}: {self.clips} clips", "Pearson", "CCC", "MSE")
        columns = [self.metrics[name] for name in METRICS]
        targets = columns[0].targets
        rows = [head, *((name, *(_cell(column.targets[name]) for column in columns)) for name in targets)]
        rows.append(("mean", *(_cell(column.mean) for column in columns)))
        if any(math.isnan(column.mean.value) for column in columns):
            rows.append(("mean of the defined", *(_cell(column.mean_of_defined) for column in columns)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines.append(f"[95 % bootstrap intervals over {self.resampled}, {self.n_bootstrap} resamples]")
        more = len(self.notes) - _SHOWN
        lines += [*self.notes[:_SHOWN], *([f"and {more} more notes"] if more > 0 else [])]
        return "\n".join(lines)


def score(
    predictions: ArrayLike,
    labels: ArrayLike,
    targets: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    *,
    split: str = "valid",
    left_out: Sequence[tuple[str, str]] = (),
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Report:
    """Pearson, CCC and MSE for each target and their means, each with a 95 % bootstrap interval.

    Args:
        predictions: (clip, target), unbounded, as the model gives them.
        labels: (clip, target), intensities in [0, 1].
        targets: the target's names.
        speakers: who speaks in each clip. If all are known and differ, whole speakers are resampled;
            otherwise clips, which makes intervals too narrow where clips share a speaker.
        split: a name for the report.
        left_out: (clip, reason) for clips that are not among the predictions, for the report.
        n_bootstrap: the number of resamples.
        seed: of the bootstrap.

    Raises:
        ScoreError: if the shapes, the number of targets or speakers differ, or a number is not finite.
    """
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != len(targets):
        raise scores.ScoreError(
            f"predictions have shape {x.shape}; expected (clip, {len(targets)}) for {targets}"
        )
    # One speaker alone can't be resampled.
    groups = speakers if speakers and all(speakers) and len(set(speakers)) > 1 else None
    metrics: dict[str, Metric] = {}
    for name, statistic in METRICS.items():
        values = statistic(x, y)
        drawn = scores.resamples(statistic, x, y, groups=groups, n=n_bootstrap, seed=seed)
        known = ~np.isnan(values)
        metrics[name] = Metric(
            targets={target: _scored(values[i], drawn[:, i]) for i, target in enumerate(targets)},
            mean=_scored(values.mean(), drawn.mean(axis=1)),
            mean_of_defined=_mean(values[known], drawn[:, known]),
        )
    notes = [*_undefined(x, y, targets, metrics), *_ignored(metrics, n_bootstrap)]
    if groups and len(set(groups)) < FEW:
        notes.append(f"intervals rest on {len(set(groups))} speakers only and are probably too narrow")
    if left_out:
        named = some([f"{clip} ({why})" for clip, why in left_out])
        notes.append(f"clips left out: {len(left_out)}: {named}")
    return Report(
        split=split,
        clips=len(x),
        left_out=tuple(left_out),
        metrics=metrics,
        resampled="clips" if groups is None else "speakers",
        n_bootstrap=n_bootstrap,
        notes=tuple(notes),
    )


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
    predictions = predict_split(model, part, batch_seconds=batch_seconds, workers=workers, progress=progress)
    report = score(
        predictions,
        labels,
        targets,
        [item.speaker for item in part.items],
        split=part.name,
        left_out=[(left.id, left.reason) for left in part.left_out],
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    report = dataclasses.replace(report, notes=(*_learnt(run, part.name), *report.notes, *warnings))
    out = run / "evaluation" / part.name if out is None else Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "report.json", json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n")
    rows = [(item.id, *(f"{v:.6f}" for v in row)) for item, row in zip(part.items, predictions, strict=True)]
    write_atomic(out / "predictions.csv", table_csv(targets, rows))
    write_atomic(out / "scatter.png", pictures.png(pictures.scatter(predictions, labels, targets)))
    write_atomic(out / "residuals.png", pictures.png(pictures.residuals(predictions, labels, targets)))
    return report


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
) -> NDArray[np.float32]:
    """Predictions (clip, target) in the order of the split's items.

    Raises:
        ModelError: if a prediction is not finite.
    """
    predictions = predict(model, part.items, batch_seconds=batch_seconds, workers=workers, progress=progress)
    bad = [item.id for item, row in zip(part.items, predictions, strict=True) if not np.isfinite(row).all()]
    if bad:
        raise ModelError(
            f"the model predicts NaN or infinity for {len(bad)} of {len(part.items)} clips "
            f"({some(bad)}); its weights are damaged or its training diverged: use another checkpoint"
        )
    return predictions


def table_csv(targets: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV with the header `Filename` and the targets, as the challenge writes it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Filename", *targets])
    writer.writerows(rows)
    return text.getvalue()


def _scored(value: float, drawn: NDArray[np.float64]) -> Score:
    """A value with the interval of its resamples (n,)."""
    low, high = scores.interval(drawn, level=LEVEL)
    return Score(float(value), float(low), float(high), int(np.isnan(drawn).sum()))


def _mean(values: NDArray[np.float64], drawn: NDArray[np.float64]) -> Score:
    """The mean of values (target,) with resamples (n, target); NaN without targets."""
    if not len(values):
        return Score(math.nan, math.nan, math.nan, len(drawn))
    return _scored(values.mean(), drawn.mean(axis=1))


def _undefined(
    x: NDArray[np.float64], y: NDArray[np.float64], targets: Sequence[str], metrics: Mapping[str, Metric]
) -> list[str]:
    """A sentence for each undefined score, and one for each undefined mean."""
    notes = []
    flat_x, flat_y = scores.constant(x), scores.constant(y)
    for name, metric in metrics.items():
        for i, target in enumerate(targets):
            if target in metric.defined:
                continue
            if len(x) < 2:
                why = "1 clip is too few" if len(x) else "0 clips are too few"
            else:
                sides = [side for side, flat in (("predictions", flat_x[i]), ("labels", flat_y[i])) if flat]
                why = f"{' and '.join(sides)} are constant"
            notes.append(f"{target}: {why}, so {_SPOKEN[name]} is undefined")
        if len(metric.defined) < len(targets):
            rest = f"over {', '.join(metric.defined)} it is {metric.mean_of_defined.value:.3f}"
            notes.append(
                f"mean: {_SPOKEN[name]} is undefined for {len(targets) - len(metric.defined)} of "
                f"{len(targets)} targets, so its mean is undefined; "
                + (rest if metric.defined else "no target is left to average")
            )
    return notes


def _ignored(metrics: Mapping[str, Metric], n: int) -> list[str]:
    """A sentence for each defined score that resamples left undefined."""
    return [
        f"{target}: {score.undefined} of {n} resamples leave {_SPOKEN[name]} undefined and are ignored"
        if score.undefined < n
        else f"{target}: {_SPOKEN[name]} has no interval, which takes at least two clips"
        for name, metric in metrics.items()
        for target, score in metric.targets.items()
        if score.undefined and not math.isnan(score.value)
    ]


def _cell(score: Score) -> str:
    if math.isnan(score.value):
        return "undefined"
    if math.isnan(score.low):
        return f"{score.value:.3f} [no interval]"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
