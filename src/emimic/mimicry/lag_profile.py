"""The mean over windows of the correlations at each lag: what the measures of a pair are made of (NumPy only)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry.alignment import average
from emimic.mimicry.results import Coupling
from emimic.mimicry.windows import Correlations

HIGHEST: Final = 1.0 - 1e-6
"""Limit of correlations before Fisher's z, which is infinite for 1."""


@dataclass(frozen=True, slots=True)
class LagProfile:
    """Means over windows, weighted by their steps with a voice on both sides; the mean over dimensions is last.

    A lag with less than half the weight of the best one is NaN: its mean would vary most by chance.

    Attributes:
        correlation: (pair, lag, dimension + 1) mean r.
        z: (pair, lag, dimension + 1) mean of Fisher's z.
        absolute: (pair, lag, dimension + 1) mean of |z|.
        first_leads: (pair, dimension + 1) fraction of windows in which the first recording leads, see `find_extreme`.
        second_leads: (pair, dimension + 1) the same of the second.
        windows: (pair,) number of valid windows.
    """

    correlation: Floats
    z: Floats
    absolute: Floats
    first_leads: Floats
    second_leads: Floats
    windows: Floats


def to_z(correlation: Floats) -> Floats:
    """Return Fisher's z, artanh(r), which is finite also for 1."""
    return np.asarray(np.arctanh(np.clip(correlation, -HIGHEST, HIGHEST)))


def append_mean(values: Floats) -> Floats:
    """Return (..., dimension + 1) of (..., dimension), with the mean of the finite ones last."""
    return np.concatenate([values, average(values, -1)[..., None]], axis=-1)


def find_extreme(values: Floats, coupling: Coupling = "positive") -> tuple[Floats, Floats]:
    """Return the extreme of (..., lag, dimension) over lags, and its lag in steps: (..., dimension) each.

    The extreme is the maximum for `positive` coupling, the minimum for `negative`, and the value of the largest
    magnitude for `both`. Of equal values the shortest lag counts. NaN if no value is finite.
    """
    reach = values.shape[-2] // 2
    lags = np.arange(-reach, reach + 1)
    order = np.argsort(np.abs(lags), kind="stable")
    ordered = values[..., order, :]
    ranked = {"positive": ordered, "negative": -ordered, "both": np.abs(ordered)}[coupling]
    best = np.where(np.isfinite(ordered), ranked, -np.inf).argmax(axis=-2)
    extreme = np.take_along_axis(ordered, best[..., None, :], axis=-2)[..., 0, :]
    finite = np.isfinite(extreme)
    return np.where(finite, extreme, np.nan), np.where(finite, lags[order][best], np.nan)


def make_profile(
    chunks: Iterable[Correlations], shape: tuple[int, int, int], coupling: Coupling
) -> LagProfile:
    """Return the means over the windows of all chunks.

    Args:
        chunks: Of the same pairs, in order.
        shape: (pair, lag, dimension).
        coupling: The sign of the extreme of a window that decides who leads in it.
    """
    sums = [np.zeros(shape) for _ in range(3)]
    weight = np.zeros(shape)
    leads = [np.zeros((shape[0], shape[2] + 1)) for _ in range(2)]
    defined, windows = np.zeros_like(leads[0]), np.zeros(shape[0])
    for chunk in chunks:
        finite = np.isfinite(chunk.values)
        weights = np.where(finite, chunk.pairs[..., None], 0.0)
        z = to_z(np.where(finite, chunk.values, 0.0))
        for total, values in zip(sums, (np.where(finite, chunk.values, 0.0), z, np.abs(z)), strict=True):
            total += np.einsum("wpld,wpld->pld", weights, values)
        weight += weights.sum(axis=0)
        lags = find_extreme(append_mean(chunk.values), coupling)[1]
        leads[0] += (lags > 0).sum(axis=0)
        leads[1] += (lags < 0).sum(axis=0)
        defined += np.isfinite(lags).sum(axis=0)
        windows += chunk.valid.sum(axis=0)
    enough = (weight > 0) & (2 * weight >= weight.max(axis=1, keepdims=True))
    means = [append_mean(np.where(enough, total / np.maximum(weight, 1.0), np.nan)) for total in sums]
    fractions = [np.where(defined > 0, count / np.maximum(defined, 1.0), np.nan) for count in leads]
    return LagProfile(means[0], means[1], means[2], fractions[0], fractions[1], windows)
