"""Whether one system beats another on the same clips: a bootstrap over speakers, and a t-test over seeds.

The interval says how far the difference depends on whose voices were judged; the t-test how far on the random start.
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
    """Student's paired t over seeds: its value, degrees of freedom, two-sided p; NaN where all differences are
    equal."""

    t: float
    freedom: int
    p: float


@dataclass(frozen=True)
class Difference:
    """Of mean Pearsons, each first averaged over seeds: one system less another; NaN where undefined.

    low, high: 95 % of the resamples. test: None with fewer than three seeds.
    """

    value: float
    low: float
    high: float
    test: TTest | None

    def to_dict(self) -> dict[str, Any]:
        """For strict JSON: NaN becomes None."""
        test = None
        if self.test is not None:
            test = {"t": clean(self.test.t), "freedom": self.test.freedom, "p": clean(self.test.p)}
        return {
            "value": clean(self.value),
            "low": clean(self.low),
            "high": clean(self.high),
            "paired_t_over_seeds": test,
        }


def clean(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def resampled(
    predictions: NDArray[Any], labels: NDArray[Any], groups: Sequence[str] | None, *, n: int, seed: int
) -> Floats:
    """Mean Pearson of all clips, then of n resamples of groups (None: of clips), the same for all systems: (1 + n,)."""
    drawn = metrics.resamples(metrics.pearson, predictions, labels, groups=groups, n=n, seed=seed)
    return np.concatenate([[metrics.mean_pearson(predictions, labels)], drawn.mean(axis=1)])


def difference(ours: Sequence[Floats], theirs: Sequence[Floats]) -> Difference:
    """Two systems from what `resampled` gave for each of their seeds, in the same order of seeds."""
    apart = np.mean(ours, axis=0) - np.mean(theirs, axis=0)
    low, high = metrics.interval(apart[1:])
    seeds = np.array([our[0] - their[0] for our, their in zip(ours, theirs, strict=True)])
    return Difference(float(apart[0]), float(low), float(high), t_test(seeds) if len(seeds) > 2 else None)


def t_test(differences: Floats) -> TTest:
    """Whether the mean of differences (seed,) is 0."""
    count = len(differences)
    error = float(np.std(differences, ddof=1)) / math.sqrt(count)
    t = float(np.mean(differences)) / error if error > 0 else math.nan
    return TTest(t, count - 1, two_sided(t, count - 1))


def two_sided(t: float, freedom: int) -> float:
    """P(|T| >= |t|) of Student's T with a whole number of degrees of freedom, by its finite series."""
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
