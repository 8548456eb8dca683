"""Scores of predictions against labels, with intervals, and the sentences that go with them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic import metrics as scores
from emimic.data.cells import speaker_key
from emimic.data.split_tables import some
from emimic.evaluation.groups import Groups
from emimic.evaluation.measures import (
    LEVEL,
    NAMES,
    NARROW,
    Metric,
    align,
    cell,
    measure,
    resampled_groups,
    to_metric,
)
from emimic.wording import plural

SCHEMA: Final = "emimic/evaluation/1"

_SPOKEN: Final = NAMES | {"pearson": "Pearson's correlation", "calibration_error": "the calibration error"}
_SHOWN: Final = 40  # notes in a table: a damaged corpus may have thousands
FEW: Final = 20
"""With fewer speakers than this, percentile intervals are said to be rough: they come out too narrow."""


@dataclass(frozen=True)
class Report:
    """What `score` and `evaluate` found."""

    split: str
    clips: int
    left_out: tuple[tuple[str, str], ...]
    """(clip, reason) for every clip of the split that could not be scored."""
    metrics: Mapping[str, Metric]
    """By name: pearson, ccc, mse, calibration_error; auc where a target's known labels are all 0 or 1."""
    known: Mapping[str, int]
    """How many clips have a known label, for each target."""
    calibration: Mapping[str, scores.Calibration]
    """For each target, mean prediction and mean label in bins of the prediction."""
    resampled: str
    """What the bootstrap drew: "speakers" or "clips"."""
    n_bootstrap: int
    notes: tuple[str, ...]
    """Plain sentences on everything undefined, left out, or odd in the corpus."""
    vad: "Report | None" = None
    """The same for arousal, dominance and valence, where the model answers them and the split has their labels."""
    groups: Mapping[str, Groups] = field(default_factory=dict)
    """By column of the split's table: scores by its values."""
    written: tuple[Path, ...] = ()
    """The files that `evaluate` wrote."""

    @property
    def mean_pearson(self) -> float:
        """The challenge's score (paper section 3.1, eq. 1), in [-1, 1], or NaN."""
        return self.metrics["pearson"].mean.value

    def to_dict(self) -> dict[str, Any]:
        """Everything but `written`, for strict JSON: NaN becomes None."""
        found = {
            "schema": SCHEMA,
            "split": self.split,
            "clips": self.clips,
            "left_out": [{"clip": clip, "reason": reason} for clip, reason in self.left_out],
            "interval": {"level": LEVEL, "resampled": self.resampled, "resamples": self.n_bootstrap},
            "known_labels": dict(self.known),
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "calibration": {name: _bins(one) for name, one in self.calibration.items()},
            "notes": list(self.notes),
        }
        if self.vad is not None:
            found["vad"] = {name: value for name, value in self.vad.to_dict().items() if name != "schema"}
        if self.groups:
            found["groups"] = {column: groups.to_dict() for column, groups in self.groups.items()}
            found["differences"] = {
                column: groups.differences_to_dict() for column, groups in self.groups.items()
            }
        return found

    def table(self) -> str:
        """The scores as aligned plain text, a row for each target and the mean, then the notes, then the groups."""
        masked = any(count != self.clips for count in self.known.values())
        head = [f"{self.split}: {plural(self.clips, 'clip')}", *(["labels"] if masked else [])]
        rows = [[*head, *(NAMES[name] for name in self.metrics)]]
        for name, count in self.known.items():
            cells = (metric.targets.get(name) for metric in self.metrics.values())
            rows.append([name, *([str(count)] if masked else []), *map(cell, cells)])
        gap = [""] if masked else []
        rows.append(["mean", *gap, *(cell(metric.mean) for metric in self.metrics.values())])
        if any(math.isnan(metric.mean.value) for metric in self.metrics.values()):
            means = (cell(metric.mean_of_defined) for metric in self.metrics.values())
            rows.append(["mean of the defined", *gap, *means])
        lines = align(rows)
        lines.append(
            f"[95 % bootstrap intervals over {self.resampled}, {self.n_bootstrap} resamples{NARROW[self.resampled]}]"
        )
        more = len(self.notes) - _SHOWN
        lines += [*self.notes[:_SHOWN], *([f"and {more} more notes"] if more > 0 else [])]
        lines += ["\n" + groups.table() for groups in self.groups.values()]
        return "\n".join(lines if self.vad is None else [*lines, "", self.vad.table()])


def _bins(one: scores.Calibration) -> dict[str, Any]:
    columns = {
        "prediction": one.predicted, "label": one.observed, "low": one.low, "high": one.high, "clips": one.counts,
    }  # fmt: skip
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    bins = [
        {name: None if math.isnan(v) else v for name, v in zip(columns, row, strict=True)} for row in rows
    ]
    return {"error": None if math.isnan(one.error) else one.error, "bins": bins}


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
    """Score each target, and the means over the targets, each with a 95 % bootstrap interval.

    Args:
        predictions: (clip, target), unbounded, as the model gives them.
        labels: (clip, target), intensities in [0, 1]; NaN where unknown, which is left out of that target's scores.
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
    groups = resampled_groups(speakers)
    measured = measure(x, y, groups, n_bootstrap, seed)
    metrics = {name: to_metric(one, targets) for name, one in measured.items()}
    calibrations = scores.calibration(x, y, groups=groups, n=n_bootstrap, seed=seed)
    notes = [*_undefined(x, y, targets, metrics), *_ignored(metrics, n_bootstrap)]
    if groups and len(set(groups)) < FEW:
        notes.append(
            f"intervals rest on {plural(len(set(groups)), 'speaker')} only and are probably too narrow"
        )
    known = {speaker_key(one or "") for one in speakers or ()}
    if len(known) == 1 and "" not in known:
        notes.append("all clips are of one speaker: nothing here says how it is with other voices")
    if left_out:
        named = some([f"{clip} ({why})" for clip, why in left_out])
        notes.append(f"clips left out: {len(left_out)}: {named}")
    return Report(
        split=split,
        clips=len(x),
        left_out=tuple(left_out),
        metrics=metrics,
        known=dict(zip(targets, (~np.isnan(y)).sum(axis=0).tolist(), strict=True)),
        calibration=dict(zip(targets, calibrations, strict=True)),
        resampled="clips" if groups is None else "speakers",
        n_bootstrap=n_bootstrap,
        notes=tuple(notes),
    )


def _undefined(
    x: NDArray[np.float64], y: NDArray[np.float64], targets: Sequence[str], metrics: Mapping[str, Metric]
) -> list[str]:
    """A sentence for each undefined score, and one for each undefined mean."""
    notes = []
    flat_x, flat_y = scores.constant(np.where(np.isnan(y), np.nan, x)), scores.constant(y)
    known = dict(zip(targets, (~np.isnan(y)).sum(axis=0).tolist(), strict=True))
    for name, metric in metrics.items():
        for i, target in enumerate(targets):
            if target in metric.defined or target not in metric.targets:
                continue
            if known[target] < 2:
                unit = "clip" if len(x) < 2 else "known label"
                why = f"1 {unit} is too few" if known[target] else f"0 {unit}s are too few"
            else:
                sides = [side for side, flat in (("predictions", flat_x[i]), ("labels", flat_y[i])) if flat]
                why = f"{' and '.join(sides)} are constant"
            notes.append(f"{target}: {why}, so {_SPOKEN[name]} is undefined")
        if len(metric.defined) < len(metric.targets):
            rest = f"over {', '.join(metric.defined)} it is {metric.mean_of_defined.value:.3f}"
            notes.append(
                f"mean: {_SPOKEN[name]} is undefined for {len(metric.targets) - len(metric.defined)} of "
                f"{len(metric.targets)} targets, so its mean is undefined; "
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
