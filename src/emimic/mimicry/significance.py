"""Is it more than chance? An observed value among draws that share nothing with the other side (NumPy only)."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from emimic.metrics import Floats

_WHOLE: Final = 1.0 - 1e-6
"""The z of a correlation of 1 is infinite; from here on it isn't told from 1."""


@dataclass(frozen=True, slots=True)
class Chance:
    """What draws without any relation reach.

    low, high: the interval within which the share `level` of unrelated pairs stays, all dimensions taken together: a
    value above `high` has p of at most 1 - level. high is infinite when there are too few draws to tell. p: the
    share of draws (the observed among them) as high as the observed, corrected for the number of dimensions; p_alone:
    not corrected. draws: how many. beyond: more than chance, at the level. All NaN where the observed is.
    """

    low: float
    high: float
    p: float
    p_alone: float
    draws: int
    beyond: bool


def judge(observed: Floats, draws: Floats, *, level: float) -> tuple[Chance, ...]:
    """A Chance for each dimension of observed (dimension,) among draws (draw, dimension), correlations all.

    The correction is the largest over dimensions of the draws' values, each brought to the mean and spread of its
    dimension first (as some reach further by chance than others), on Fisher's z scale, which no bound leaves. It holds
    whatever the dimensions have in common.
    """
    everything = np.arctanh(np.clip(np.concatenate([observed[None], draws]), -_WHOLE, _WHOLE))
    there = np.isfinite(everything)
    known = there[0] & (there.sum(axis=0) > 1)
    center, spread = _centre(everything, there)
    scaled = np.where(there & known, (everything - center) / spread, -np.inf)
    most = scaled[1:].max(axis=1, initial=-np.inf)
    results = []
    for place in range(len(observed)):
        own = np.sort(draws[there[1:, place], place])
        if not known[place]:
            results.append(Chance(math.nan, math.nan, math.nan, math.nan, len(own), False))
            continue
        limit = _limit(np.sort(most[np.isfinite(most)]), level)
        p = _share(scaled[0, place], most[np.isfinite(most)])
        results.append(
            Chance(
                low=float(own[0]),
                high=float(np.tanh(center[place] + spread[place] * limit))
                if math.isfinite(limit)
                else math.inf,
                p=p,
                p_alone=_share(float(observed[place]), own),
                draws=len(own),
                beyond=p <= 1 - level + 1e-12,
            )
        )
    return tuple(results)


def _centre(values: Floats, there: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (dimension,) of what is there; 0 and 1 for nothing, or for a constant."""
    count = np.maximum(there.sum(axis=0), 1)
    center = np.where(there, values, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.where(there, np.square(values - center), 0.0).sum(axis=0) / count)
    return center, np.where(spread > 0, spread, 1.0)


def _share(value: float, draws: Floats) -> float:
    """The share of draws as high as the value, which counts as one of them: never 0."""
    # Equal values may differ by rounding when they were added in another order.
    return float((1 + np.count_nonzero(draws >= value - 1e-9)) / (len(draws) + 1))


def _limit(ordered: Floats, level: float) -> float:
    """The lowest value whose `_share` is at most 1 - level, just not reached: infinite with too few draws."""
    allowed = math.floor((1 - level) * (len(ordered) + 1) + 1e-9)
    return float(ordered[-allowed]) if allowed else math.inf
