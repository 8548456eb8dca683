"""Significance of a similarity among draws that are unrelated to the other side (NumPy only)."""

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from emimic.metrics import Floats

_HIGHEST: Final = 1.0 - 1e-6
"""Limit of correlations before Fisher's z, which is infinite for 1."""


@dataclass(frozen=True, slots=True)
class Chance:
    """The similarities of unrelated draws. All values are NaN if the observed one is.

    Attributes:
        low: Lower end of the interval that contains the fraction `level` of unrelated pairs, over all dimensions.
        high: Its upper end: a value above has p of at most 1 - level. Infinite if there are too few draws.
        p: Fraction of draws (including the observed) at least as high as the observed, corrected for the number of
            dimensions.
        p_alone: The same, not corrected.
        draws: Number of draws.
        beyond: More than chance, at the level.
    """

    low: float
    high: float
    p: float
    p_alone: float
    draws: int
    beyond: bool


def judge_side(
    observed: Floats, draws: Floats, *, level: float, coupling: Literal["positive", "negative", "both"]
) -> tuple[Chance, ...]:
    """Return `judge` of the values that count: the high ones, the low ones (negative), or those far from 0 (both)."""
    if coupling == "positive":
        return judge(observed, draws, level=level)
    if coupling == "negative":
        return tuple(
            replace(chance, low=-chance.high, high=-chance.low)
            for chance in judge(-observed, -draws, level=level)
        )
    return tuple(
        replace(chance, low=-chance.high) for chance in judge(np.abs(observed), np.abs(draws), level=level)
    )


def compute_p_alone(observed: Floats, draws: Floats, side: Literal["high", "low", "both"]) -> Floats:
    """Return the p (dimension,) of each value, not corrected: the fraction of draws as far on that side.

    `both`: as far from the draws' mean, on either side. NaN where the observed value is, or no draw is finite.
    """
    p = np.full(len(observed), np.nan)
    for column, value in enumerate(observed):
        finite = draws[np.isfinite(draws[:, column]), column]
        if math.isfinite(value) and len(finite):
            mean = float(np.mean(finite)) if side == "both" else 0.0
            sign = -1.0 if side == "low" else 1.0
            ranked = np.abs(finite - mean) if side == "both" else sign * finite
            p[column] = _compute_p(abs(value - mean) if side == "both" else sign * value, ranked)
    return p


def compute_p_corrected(observed: Floats, draws: Floats, side: Literal["high", "low", "both"]) -> Floats:
    """Return the p (dimension + 1,) of each value, corrected for the number of dimensions; the last needs none.

    The correction is that of `judge`: the largest of a draw's values over dimensions, each standardized.

    Args:
        observed: (dimension + 1,) values on an unbounded scale, overall last.
        draws: (draw, dimension + 1) the same by chance.
        side: The values that count against chance, see `compute_p_alone`.
    """
    joined = np.concatenate([observed[None], draws])[:, :-1]
    finite = np.isfinite(joined)
    mean, std = _compute_mean_std(joined, finite)
    scaled = np.where(finite, (joined - mean) / std, np.nan)
    ranked = np.where(finite, {"high": scaled, "low": -scaled, "both": np.abs(scaled)}[side], -np.inf)
    maxima = ranked[1:].max(axis=1, initial=-np.inf)
    maxima = maxima[np.isfinite(maxima)]
    p = np.full(len(observed), np.nan)
    for column, value in enumerate(ranked[0]):
        if math.isfinite(value) and len(maxima):
            p[column] = _compute_p(float(value), maxima)
    p[-1] = compute_p_alone(observed[-1:], draws[:, -1:], side)[0]
    return p


def judge(observed: Floats, draws: Floats, *, level: float) -> tuple[Chance, ...]:
    """Return a Chance for each dimension.

    The correction takes the largest of the draws' values over dimensions, each standardized by its dimension, as
    chance reaches further in some, on Fisher's z scale, which has no bounds. It holds for any dependence between the
    dimensions.

    Args:
        observed: (dimension,) correlations.
        draws: (draw, dimension) correlations.
        level: Fraction of unrelated pairs within the interval.
    """
    z = np.arctanh(np.clip(np.concatenate([observed[None], draws]), -_HIGHEST, _HIGHEST))
    finite = np.isfinite(z)
    defined = finite[0] & (finite.sum(axis=0) > 1)
    mean, std = _compute_mean_std(z, finite)
    scaled = np.where(finite & defined, (z - mean) / std, -np.inf)
    maxima = scaled[1:].max(axis=1, initial=-np.inf)
    maxima = maxima[np.isfinite(maxima)]
    results = []
    for column in range(len(observed)):
        ordered = np.sort(draws[finite[1:, column], column])
        if not defined[column]:
            results.append(Chance(math.nan, math.nan, math.nan, math.nan, len(ordered), False))
            continue
        limit = _find_limit(np.sort(maxima), level)
        p = _compute_p(scaled[0, column], maxima)
        results.append(
            Chance(
                low=float(ordered[0]),
                high=float(np.tanh(mean[column] + std[column] * limit)) if math.isfinite(limit) else math.inf,
                p=p,
                p_alone=_compute_p(float(observed[column]), ordered),
                draws=len(ordered),
                beyond=p <= 1 - level + 1e-12,
            )
        )
    return tuple(results)


def _compute_mean_std(values: Floats, finite: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation (dimension,) of the finite values; 0 and 1 without any, or if constant."""
    count = np.maximum(finite.sum(axis=0), 1)
    mean = np.where(finite, values, 0.0).sum(axis=0) / count
    std = np.sqrt(np.where(finite, np.square(values - mean), 0.0).sum(axis=0) / count)
    return mean, np.where(std > 0, std, 1.0)


def _compute_p(value: float, draws: Floats) -> float:
    """Return the fraction of draws at least as high as the value, which counts as one of them: never 0."""
    # Equal values may differ by rounding if they were added in another order.
    return float((1 + np.count_nonzero(draws >= value - 1e-9)) / (len(draws) + 1))


def _find_limit(ordered: Floats, level: float) -> float:
    """Return the lowest value whose p is at most 1 - level; infinity with too few draws."""
    allowed = min(math.floor((1 - level) * (len(ordered) + 1) + 1e-9), len(ordered))
    return float(ordered[-allowed]) if allowed else math.inf
