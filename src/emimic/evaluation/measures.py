"""Scores of each target with bootstrap intervals, and their format in tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic import metrics
from emimic.data.fields import get_speaker_key

METRICS: Final[Mapping[str, metrics.Statistic]] = {
    "pearson": metrics.compute_pearson,
    "ccc": metrics.compute_ccc,
    "mse": metrics.compute_mse,
    "auc": metrics.compute_auc,
    "calibration_error": metrics.compute_calibration_error,
}
"""All scores; AUC is computed for targets whose known labels are all 0 or 1."""
NAMES: Final = {
    "pearson": "Pearson", "ccc": "CCC", "mse": "MSE", "auc": "AUC", "calibration_error": "calibration error",
}  # fmt: skip
LEVEL: Final = 0.95
NARROW: Final = {
    "speakers": "",
    "clips": "; too narrow where clips share a speaker: resampling speakers needs two or more, all known",
}
"""A caveat of intervals, by the resampled unit."""


@dataclass(frozen=True)
class Score:
    """One number with its 95 % bootstrap interval; NaN where undefined.

    Attributes:
        undefined: the number of resamples in which it is undefined; the interval ignores those.
    """

    value: float
    low: float
    high: float
    undefined: int

    def to_dict(self) -> dict[str, float | None]:
        """Return the score for strict JSON: NaN becomes None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        clean = {name: None if math.isnan(number) else number for name, number in numbers.items()}
        return {**clean, "undefined_resamples": self.undefined}


@dataclass(frozen=True)
class Metric:
    """One metric for each target, and its means.

    Attributes:
        mean: over all targets (paper section 3.1, eq. 1): NaN if one of them is undefined.
        mean_of_defined: over the targets for which it is defined; the same as `mean` if that is all of them.
    """

    targets: Mapping[str, Score]
    mean: Score
    mean_of_defined: Score

    @property
    def defined(self) -> tuple[str, ...]:
        """The targets for which the metric is defined."""
        return tuple(name for name, score in self.targets.items() if not math.isnan(score.value))

    def to_dict(self) -> dict[str, Any]:
        """Return the metric for strict JSON."""
        return {
            "targets": {name: score.to_dict() for name, score in self.targets.items()},
            "mean": self.mean.to_dict(),
            "mean_of_defined": {**self.mean_of_defined.to_dict(), "targets": list(self.defined)},
        }


@dataclass(frozen=True)
class Measured:
    """A score of some of the targets, and its resamples.

    Attributes:
        columns: the indexes of these targets.
        values: (column,).
        drawn: (resample, column).
    """

    columns: NDArray[np.intp]
    values: NDArray[np.float64]
    drawn: NDArray[np.float64]


def get_resampling_groups(speakers: Sequence[str | None] | None) -> Sequence[str | None] | None:
    """Return the speakers' keys if whole speakers can be resampled: all known, two or more; else None."""
    keys = [get_speaker_key(speaker or "") for speaker in speakers or ()]
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
        groups: the resampled group of each clip; None resamples clips.
        n: the number of resamples.
        seed: of the bootstrap.
        binary: (target,), the targets with AUC; by default those whose known labels are all 0 or 1.
    """
    if binary is None:
        binary = find_binary(y)
    measured = {}
    for name, statistic in METRICS.items():
        columns = np.flatnonzero(binary) if name == "auc" else np.arange(y.shape[1])
        if len(columns) or name != "auc":
            pair = x[:, columns], y[:, columns]
            drawn = metrics.resample_statistic(statistic, *pair, groups=groups, n=n, seed=seed)
            measured[name] = Measured(columns, statistic(*pair), drawn)
    return measured


def find_binary(y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which targets of labels (clip, target) have known labels, all 0 or 1."""
    return np.asarray(((y == 0) | (y == 1) | np.isnan(y)).all(axis=0) & ~np.isnan(y).all(axis=0))


def make_metric(measured: Measured, targets: Sequence[str]) -> Metric:
    """Return the scores by target, with intervals and means."""
    values, drawn = measured.values, measured.drawn
    defined = ~np.isnan(values)
    return Metric(
        targets={
            targets[column]: make_score(values[i], drawn[:, i]) for i, column in enumerate(measured.columns)
        },
        mean=_average(values, drawn),
        mean_of_defined=_average(values[defined], drawn[:, defined]),
    )


def make_score(value: float, drawn: NDArray[np.float64]) -> Score:
    """Return a value with the interval of its resamples (n,)."""
    low, high = metrics.compute_interval(drawn, level=LEVEL)
    return Score(float(value), float(low), float(high), int(np.isnan(drawn).sum()))


def _average(values: NDArray[np.float64], drawn: NDArray[np.float64]) -> Score:
    """Return the mean of values (target,) with resamples (n, target); NaN without targets."""
    if not len(values):
        return Score(math.nan, math.nan, math.nan, len(drawn))
    return make_score(values.mean(), drawn.mean(axis=1))


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each row, its texts padded to the widest of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def format_score(score: Score | None) -> str:
    """Return a score and its interval as text; - for None."""
    if score is None:
        return "-"
    if math.isnan(score.value):
        return "undefined"
    if math.isnan(score.low):
        return f"{score.value:.3f} [no interval]"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
