"""The difference between two systems on the same clips: a bootstrap over speakers, and a t-test over seeds.

The interval shows how much the difference depends on the speakers of the split; the t-test, how much on the seed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emimic import metrics

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TTest:
    """Student's paired t over seeds: its value, degrees of freedom, and two-sided p.

    t and p are NaN where all differences are equal.
    """

    t: float
    freedom: int
    p: float


@dataclass(frozen=True)
class Difference:
    """The difference of two systems' mean Pearson, each averaged over seeds first; NaN where undefined.

    Attributes:
        low: of the interval of 95 % of the resamples.
        high: of the same.
        test: None with fewer than three seeds.
    """

    value: float
    low: float
    high: float
    test: TTest | None

    def to_dict(self) -> dict[str, Any]:
        """Return the difference for strict JSON: NaN becomes None."""
        test = None
        if self.test is not None:
            test = {
                "t": nan_to_none(self.test.t),
                "freedom": self.test.freedom,
                "p": nan_to_none(self.test.p),
            }
        return {
            "value": nan_to_none(self.value),
            "low": nan_to_none(self.low),
            "high": nan_to_none(self.high),
            "paired_t_over_seeds": test,
        }


def nan_to_none(value: float) -> float | None:
    """Return the number, or None for NaN, as strict JSON wants it."""
    return None if math.isnan(value) else float(value)


def resample_pearson(
    predictions: NDArray[Any], labels: NDArray[Any], groups: Sequence[str] | None, *, n: int, seed: int
) -> Floats:
    """Return the mean Pearson of all clips, then of n resamples: (1 + n,).

    Groups are resampled, or clips where `groups` is None. One seed draws the same resamples for all systems.
    """
    drawn = metrics.resample_statistic(
        metrics.compute_pearson, predictions, labels, groups=groups, n=n, seed=seed
    )
    return np.concatenate([[metrics.compute_mean_pearson(predictions, labels)], drawn.mean(axis=1)])


def subtract(minuend: Sequence[Floats], subtrahend: Sequence[Floats]) -> Difference:
    """Return the difference of two systems, given `resample_pearson` of each seed, in the same order of seeds."""
    values = np.mean(minuend, axis=0) - np.mean(subtrahend, axis=0)
    low, high = metrics.compute_interval(values[1:])
    seeds = np.array([first[0] - second[0] for first, second in zip(minuend, subtrahend, strict=True)])
    return Difference(
        float(values[0]), float(low), float(high), compute_t_test(seeds) if len(seeds) > 2 else None
    )


def compute_t_test(differences: Floats) -> TTest:
    """Test whether the mean of differences (seed,) is 0."""
    count = len(differences)
    error = float(np.std(differences, ddof=1)) / math.sqrt(count)
    t = float(np.mean(differences)) / error if error > 0 else math.nan
    return TTest(t, count - 1, compute_p(t, count - 1))


def compute_p(t: float, freedom: int) -> float:
    """Return P(|T| >= |t|) of Student's T with integer degrees of freedom, by its finite series."""
    if math.isnan(t):
        return math.nan
    angle = math.atan2(abs(t), math.sqrt(freedom))
    term, total = (math.cos(angle), 0.0) if freedom % 2 else (1.0, 0.0)
    for k in range(2 + freedom % 2, freedom + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k - 1) / k
    within = math.sin(angle) * total
    if freedom % 2:
        within = 2 / math.pi * (angle + within)
    return max(0.0, 1.0 - within)
