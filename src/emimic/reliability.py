"""Reliability of predictions: the mean label of clips with about the same prediction, and the calibration error.

NumPy only. Predictions are sorted into bins once; a resample weights the sorted clips.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic.resampling import (
    Floats,
    ScoreError,
    Units,
    check_pair,
    compute_interval,
    divide,
    find_units,
    resample,
    score_columns,
)

BINS: Final = 10
BIN_CLIPS: Final = 20
"""A calibration bin has at least this many clips on average: the mean label of fewer is mostly noise."""


@dataclass(frozen=True)
class Reliability:
    """Mean prediction and mean label of one target in bins of the prediction; all (bin,), sorted by `predicted`.

    low, high: the 95 % bootstrap interval of `observed`; NaN where there is none. error: the expected calibration
    error, the mean |predicted - observed| weighted by counts (Naeini et al. 2015, AAAI); NaN without a label.
    """

    predicted: Floats
    observed: Floats
    counts: NDArray[np.intp]
    low: Floats
    high: Floats
    error: float


def compute_reliability(
    predictions: ArrayLike,
    labels: ArrayLike,
    bins: int = BINS,
    *,
    groups: Sequence[object] | None = None,
    n: int = 1000,
    seed: int = 0,
) -> tuple[Reliability, ...]:
    """Compute the mean label of clips with about the same prediction, for each target.

    Bins contain equal numbers of labeled clips (`assign_bins`): at most `bins`, with at least `BIN_CLIPS` clips on
    average. Fewer than 2 * BIN_CLIPS clips are a single bin. Arguments are those of `metrics.compute_pearson`
    and `metrics.resample_statistic`.

    Returns:
        One `Reliability` per target (one for one-dimensional input).

    Raises:
        ScoreError: see `metrics.compute_pearson` and `metrics.resample_statistic`; or bins < 1.
    """
    if bins < 1:
        raise ScoreError(f"found {bins} bins, expected at least 1")
    x, y, _ = check_pair(predictions, labels)
    unit, units = find_units(groups, len(x))
    results = []
    for column in range(x.shape[1]):
        labeled = np.flatnonzero(~np.isnan(y[:, column]))
        index, count = _assign_labeled_bins(x[labeled, column], bins)
        binned = np.full((len(x), count), np.nan)
        binned[labeled, index] = y[labeled, column]
        counts = np.bincount(index, minlength=count)
        predicted = np.bincount(index, x[labeled, column], minlength=count) / counts
        observed = np.bincount(index, y[labeled, column], minlength=count) / counts
        drawn = resample(
            score_columns(_prepare_mean_label), np.zeros_like(binned), binned, unit, units, n, seed
        )
        low, high = compute_interval(drawn)
        differences = counts * np.abs(predicted - observed)
        error = float(differences.sum() / counts.sum()) if count else float("nan")
        results.append(Reliability(predicted, observed, counts, low, high, error))
    return tuple(results)


def assign_bins(values: ArrayLike, bins: int) -> NDArray[np.intp]:
    """Assign each of (n,) values to a bin, from 0 in rising order; bins have equal counts.

    Equal values go into one bin, that of their middle rank. Without ties, counts differ by at most one. With ties they
    may differ by more, and empty bins are skipped in the numbering.
    """
    distinct, index, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle = 2 * ends - counts  # twice the middle rank, in whole numbers
    chosen = middle * bins // (2 * max(int(counts.sum()), 1))
    numbers = np.unique(chosen, return_inverse=True)[1] if len(distinct) else chosen
    return np.asarray(numbers[index], dtype=np.intp)


def _prepare_mean_label(x: Floats, y: Floats, unit: Units, units: int) -> Callable[[Floats], Floats]:
    """Return the weighted mean label of one target."""
    count, total = np.bincount(unit, minlength=units), np.bincount(unit, y, minlength=units)
    return lambda weights: divide(weights @ total, weights @ count)


def _assign_labeled_bins(x: Floats, bins: int) -> tuple[NDArray[np.intp], int]:
    """Return the bin of each prediction (clip,), and the number of bins."""
    index = assign_bins(x, max(1, min(bins, len(x) // BIN_CLIPS)))
    return index, int(index.max(initial=-1)) + 1


def prepare_calibration_error(x: Floats, y: Floats, unit: Units, units: int) -> Callable[[Floats], Floats]:
    """Return the weighted calibration error of one target."""
    index, bins = _assign_labeled_bins(x, BINS)
    sums, count = np.zeros((units, bins)), np.bincount(unit, minlength=units)
    np.add.at(sums, (unit, index), x - y)
    return lambda weights: divide(np.abs(weights @ sums).sum(axis=1), weights @ count)
