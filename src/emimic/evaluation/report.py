"""Scores of predictions against labels, with intervals, and notes on them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic import metrics
from emimic.data.fields import get_speaker_key
from emimic.data.split_tables import list_some
from emimic.evaluation.groups import Groups
from emimic.evaluation.measures import (
    LEVEL,
    NAMES,
    NARROW,
    Metric,
    align,
    format_score,
    get_resampling_groups,
    make_metric,
    measure,
)
from emimic.reliability import Reliability, compute_reliability
from emimic.wording import pluralize

SCHEMA: Final = "emimic/evaluation/1"

_LONG_NAMES: Final = NAMES | {
    "pearson": "Pearson's correlation",
    "calibration_error": "the calibration error",
}
_SHOWN: Final = 40  # notes in a table: a damaged corpus may have thousands
FEW: Final = 20
"""With fewer speakers, a note says that percentile intervals are too narrow."""


@dataclass(frozen=True)
class Report:
    """The result of `score` and `evaluate`.

    Attributes:
        left_out: (clip, reason) for every clip of the split that could not be scored.
        metrics: by name: pearson, ccc, mse, calibration_error; auc where a target's known labels are all 0 or 1.
        known: the number of clips with a known label, by target.
        calibration: by target, mean prediction and mean label in bins of the prediction.
        resampled: the unit of the bootstrap, "speakers" or "clips".
        notes: sentences on everything undefined, left out, or unusual in the corpus.
        vad: the report of arousal, dominance and valence, where the model predicts them and the split has labels.
        groups: by column of the split's table, scores by its values.
        written: the files that `evaluate` wrote.
    """

    split: str
    clips: int
    left_out: tuple[tuple[str, str], ...]
    metrics: Mapping[str, Metric]
    known: Mapping[str, int]
    calibration: Mapping[str, Reliability]
    resampled: str
    n_bootstrap: int
    notes: tuple[str, ...]
    vad: "Report | None" = None
    groups: Mapping[str, Groups] = field(default_factory=dict)
    written: tuple[Path, ...] = ()

    @property
    def mean_pearson(self) -> float:
        """The challenge's score (paper section 3.1, eq. 1), in [-1, 1], or NaN."""
        return self.metrics["pearson"].mean.value

    def to_dict(self) -> dict[str, Any]:
        """Return everything but `written`, for strict JSON: NaN becomes None."""
        values = {
            "schema": SCHEMA,
            "split": self.split,
            "clips": self.clips,
            "left_out": [{"clip": clip, "reason": reason} for clip, reason in self.left_out],
            "interval": {"level": LEVEL, "resampled": self.resampled, "resamples": self.n_bootstrap},
            "known_labels": dict(self.known),
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "calibration": {target: _list_bins(bins) for target, bins in self.calibration.items()},
            "notes": list(self.notes),
        }
        if self.vad is not None:
            values["vad"] = {name: value for name, value in self.vad.to_dict().items() if name != "schema"}
        if self.groups:
            values["groups"] = {column: groups.to_dict() for column, groups in self.groups.items()}
            values["differences"] = {
                column: groups.list_differences() for column, groups in self.groups.items()
            }
        return values

    def to_text(self) -> str:
        """Return the scores as aligned plain text: a row for each target and the mean, then notes, then groups."""
        masked = any(count != self.clips for count in self.known.values())
        head = [f"{self.split}: {pluralize(self.clips, 'clip')}", *(["labels"] if masked else [])]
        rows = [[*head, *(NAMES[name] for name in self.metrics)]]
        for name, count in self.known.items():
            scores = (metric.targets.get(name) for metric in self.metrics.values())
            rows.append([name, *([str(count)] if masked else []), *map(format_score, scores)])
        empty = [""] if masked else []
        rows.append(["mean", *empty, *(format_score(metric.mean) for metric in self.metrics.values())])
        if any(math.isnan(metric.mean.value) for metric in self.metrics.values()):
            means = (format_score(metric.mean_of_defined) for metric in self.metrics.values())
            rows.append(["mean of the defined", *empty, *means])
        lines = align(rows)
        lines.append(
            f"[95 % bootstrap intervals over {self.resampled}, {self.n_bootstrap} resamples{NARROW[self.resampled]}]"
        )
        more = len(self.notes) - _SHOWN
        lines += [*self.notes[:_SHOWN], *([f"and {more} more notes"] if more > 0 else [])]
        lines += ["\n" + groups.to_text() for groups in self.groups.values()]
        return "\n".join(lines if self.vad is None else [*lines, "", self.vad.to_text()])


def _list_bins(calibration: Reliability) -> dict[str, Any]:
    columns = {
        "prediction": calibration.predicted,
        "label": calibration.observed,
        "low": calibration.low,
        "high": calibration.high,
        "clips": calibration.counts,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    bins = [
        {name: None if math.isnan(v) else v for name, v in zip(columns, row, strict=True)} for row in rows
    ]
    return {"error": None if math.isnan(calibration.error) else calibration.error, "bins": bins}


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
        speakers: the speaker of each clip. If all are known and differ, whole speakers are resampled;
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
        raise metrics.ScoreError(
            f"predictions have shape {x.shape}; expected (clip, {len(targets)}) for {targets}"
        )
    groups = get_resampling_groups(speakers)
    measured = measure(x, y, groups, n_bootstrap, seed)
    by_metric = {name: make_metric(values, targets) for name, values in measured.items()}
    calibrations = compute_reliability(x, y, groups=groups, n=n_bootstrap, seed=seed)
    notes = [*_explain_undefined(x, y, targets, by_metric), *_note_ignored(by_metric, n_bootstrap)]
    if groups and len(set(groups)) < FEW:
        notes.append(
            f"intervals rest on {pluralize(len(set(groups)), 'speaker')} only and are probably too narrow"
        )
    keys = {get_speaker_key(speaker or "") for speaker in speakers or ()}
    if len(keys) == 1 and "" not in keys:
        notes.append("all clips are of one speaker: the scores say nothing about other voices")
    if left_out:
        clips = list_some([f"{clip} ({reason})" for clip, reason in left_out])
        notes.append(f"clips left out: {len(left_out)}: {clips}")
    return Report(
        split=split,
        clips=len(x),
        left_out=tuple(left_out),
        metrics=by_metric,
        known=dict(zip(targets, (~np.isnan(y)).sum(axis=0).tolist(), strict=True)),
        calibration=dict(zip(targets, calibrations, strict=True)),
        resampled="clips" if groups is None else "speakers",
        n_bootstrap=n_bootstrap,
        notes=tuple(notes),
    )


def _explain_undefined(
    x: NDArray[np.float64], y: NDArray[np.float64], targets: Sequence[str], by_metric: Mapping[str, Metric]
) -> list[str]:
    """Return a sentence for each undefined score, and one for each undefined mean."""
    notes = []
    flat_x, flat_y = metrics.find_constant(np.where(np.isnan(y), np.nan, x)), metrics.find_constant(y)
    counts = dict(zip(targets, (~np.isnan(y)).sum(axis=0).tolist(), strict=True))
    for name, metric in by_metric.items():
        for i, target in enumerate(targets):
            if target in metric.defined or target not in metric.targets:
                continue
            if counts[target] < 2:
                unit = "clip" if len(x) < 2 else "known label"
                reason = f"1 {unit} is too few" if counts[target] else f"0 {unit}s are too few"
            else:
                sides = [side for side, flat in (("predictions", flat_x[i]), ("labels", flat_y[i])) if flat]
                reason = f"{' and '.join(sides)} are constant"
            notes.append(f"{target}: {reason}, so {_LONG_NAMES[name]} is undefined")
        if len(metric.defined) < len(metric.targets):
            rest = f"over {', '.join(metric.defined)} it is {metric.mean_of_defined.value:.3f}"
            notes.append(
                f"mean: {_LONG_NAMES[name]} is undefined for {len(metric.targets) - len(metric.defined)} of "
                f"{len(metric.targets)} targets, so its mean is undefined; "
                + (rest if metric.defined else "no target is left to average")
            )
    return notes


def _note_ignored(by_metric: Mapping[str, Metric], n: int) -> list[str]:
    """Return a sentence for each defined score that is undefined in some resamples."""
    return [
        f"{target}: {score.undefined} of {n} resamples leave {_LONG_NAMES[name]} undefined and are ignored"
        if score.undefined < n
        else f"{target}: {_LONG_NAMES[name]} has no interval, which takes at least two clips"
        for name, metric in by_metric.items()
        for target, score in metric.targets.items()
        if score.undefined and not math.isnan(score.value)
    ]
