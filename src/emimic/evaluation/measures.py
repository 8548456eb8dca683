"""Scores of each target with intervals: how they are computed, and their form in tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic import metrics as scores
from emimic.data.cells import speaker_key

METRICS: Final[Mapping[str, scores.Statistic]] = {
    "pearson": scores.pearson,
    "ccc": scores.ccc,
    "mse": scores.mse,
    "auc": scores.auc,
    "calibration_error": scores.calibration_error,
}
"""All scores; AUC of the targets alone whose known labels are all 0 or 1."""
NAMES: Final = {
    "pearson": "Pearson", "ccc": "CCC", "mse": "MSE", "auc": "AUC", "calibration_error": "calibration error",
}  # fmt: skip
LEVEL: Final = 0.95
NARROW: Final = {
    "speakers": "",
    "clips": "; too narrow where clips share a speaker: resampling speakers needs two or more, all known",
}
"""What is to be known of intervals, by what was resampled."""


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
class Measured:
    """A score of some of the targets, and of resamples."""

    columns: NDArray[np.intp]
    """The places of these targets among all."""
    values: NDArray[np.float64]
    """(column,)."""
    drawn: NDArray[np.float64]
    """(resample, column)."""


def resampled_groups(speakers: Sequence[str | None] | None) -> Sequence[str | None] | None:
    """Return the speakers' keys if whole speakers can be resampled: all known, two or more; else None."""
    keys = [speaker_key(one or "") for one in speakers or ()]
    return keys if all(keys) and len(set(keys)) > 1 else None


def measure(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    groups: Sequence[str | None] | None,
    n: int,
    seed: int,
    *,
    binary: NDArray[np.bool_] | None = None,
) -> dict[str, Measured]:
    """Score predictions (clip, target) against labels, NaN where unknown, by every metric.

    Args:
        x: predictions.
        y: labels.
        groups: what is resampled, for each clip; None: clips.
        n: the number of resamples.
        seed: of the bootstrap.
        binary: (target,) of which targets AUC is computed; by default those whose known labels are all 0 or 1.
    """
    if binary is None:
        binary = two_valued(y)
    found = {}
    for name, statistic in METRICS.items():
        columns = np.flatnonzero(binary) if name == "auc" else np.arange(y.shape[1])
        if len(columns) or name != "auc":
            side = x[:, columns], y[:, columns]
            drawn = scores.resamples(statistic, *side, groups=groups, n=n, seed=seed)
            found[name] = Measured(columns, statistic(*side), drawn)
    return found


def two_valued(y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for which targets of (clip, target) there are known labels, all 0 or 1."""
    return np.asarray(((y == 0) | (y == 1) | np.isnan(y)).all(axis=0) & ~np.isnan(y).all(axis=0))


def to_metric(one: Measured, targets: Sequence[str]) -> Metric:
    """Put names and intervals to what was measured."""
    known = ~np.isnan(one.values)
    return Metric(
        targets={
            targets[place]: scored(one.values[i], one.drawn[:, i]) for i, place in enumerate(one.columns)
        },
        mean=_mean(one.values, one.drawn),
        mean_of_defined=_mean(one.values[known], one.drawn[:, known]),
    )


def scored(value: float, drawn: NDArray[np.float64]) -> Score:
    """A value with the interval of its resamples (n,)."""
    low, high = scores.interval(drawn, level=LEVEL)
    return Score(float(value), float(low), float(high), int(np.isnan(drawn).sum()))


def _mean(values: NDArray[np.float64], drawn: NDArray[np.float64]) -> Score:
    """The mean of values (target,) with resamples (n, target); NaN without targets."""
    if not len(values):
        return Score(math.nan, math.nan, math.nan, len(drawn))
    return scored(values.mean(), drawn.mean(axis=1))


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each row, its cells padded to the widest of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def cell(score: Score | None) -> str:
    """Return a score and its interval as text; - where there is none."""
    if score is None:
        return "-"
    if math.isnan(score.value):
        return "undefined"
    if math.isnan(score.low):
        return f"{score.value:.3f} [no interval]"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
