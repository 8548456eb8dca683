"""Scores of predictions against labels: Pearson, CCC, MSE, AUC, calibration, bootstrap intervals. NumPy only.

A label that is NaN is unknown: that clip is left out of that target's score. Pearson, CCC and MSE are functions of a
few sums over clips (`_sums`). A resample weights those sums, so a thousand resamples cost a thousand small products
instead of a thousand passes over the data. AUC and calibration sort once and weight what they have sorted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic.resampling import (
    Floats,
    Prepare,
    ScoreError,
    Units,
    Weighted,
    by_column,
    check_pair,
    find_units,
    interval,
    resampled,
)

__all__ = [
    "BINS", "BIN_CLIPS", "CONSTANT", "Calibration", "Floats", "ScoreError", "Statistic", "auc", "bootstrap",
    "calibration", "calibration_error", "ccc", "constant", "equal_bins", "interval", "mean_pearson", "mse", "pearson",
    "resamples",
]  # fmt: skip

Statistic: TypeAlias = Callable[[ArrayLike, ArrayLike], Floats]

CONSTANT: Final = 1e-6
"""A side is constant if its standard deviation is at most this share of its largest magnitude.

One float32 rounding is 6e-8 of a value; a constant computed in differently padded batches wobbles by
a few of those, and a correlation of such noise would be a number without meaning.
"""

BINS: Final = 10
BIN_CLIPS: Final = 20
"""A calibration bin has at least this many clips on average: the mean label of fewer is mostly noise."""


def pearson(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Pearson's correlation of each target (paper section 3.1, eq. 2).

    Args:
        predictions: (clip, target), or (clip,) for one target; any finite numbers.
        labels: the same shape; NaN where unknown: the clip is left out of that target's score.

    Returns:
        (target,) in [-1, 1], a float for one-dimensional input. NaN where either side is constant (see
        `CONSTANT`) or fewer than two labels are known: the correlation is undefined there.

    Raises:
        ScoreError: if the shapes differ, a prediction is not finite, or a label is infinite.
    """
    return _score(pearson, predictions, labels)


def ccc(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Lin's concordance correlation coefficient of each target, with variances over n (not n - 1).

    Takes and raises what `pearson` does. Returns (target,) in [-1, 1], a float for one-dimensional input.
    It is 0 where one side alone is constant, NaN where both are constant and equal or fewer than two
    labels are known.
    """
    return _score(ccc, predictions, labels)


def mse(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Mean squared error of each target: (target,) >= 0, a float for one-dimensional input.

    Takes and raises what `pearson` does. NaN where no label is known.
    """
    return _score(mse, predictions, labels)


def auc(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the area under the ROC curve of each target, for labels 0 and 1.

    It is the probability that a clip with label 1 has the higher prediction of a random pair, ties counting half
    (Hanley and McNeil 1982, Radiology 143, 29-36).

    Takes what `pearson` does. Returns (target,) in [0, 1], a float for one-dimensional input; NaN where no label is 0,
    or none is 1.

    Raises:
        ScoreError: as `pearson`, and if a known label is neither 0 nor 1.
    """
    return _score(auc, predictions, labels)


def calibration_error(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the expected calibration error of each target: `calibration(...).error`, in the labels' unit.

    Takes and raises what `pearson` does. Returns (target,) >= 0, a float for one-dimensional input; NaN where no label
    is known. Resamples keep the bins of the whole sample. Chance makes the error of few clips larger, and that of a
    resample larger than that of the sample: its interval may lie above the value.
    """
    return _score(calibration_error, predictions, labels)


@dataclass(frozen=True)
class Calibration:
    """Mean prediction and mean label in bins of the prediction, of one target; all (bin,), rising in `predicted`.

    low, high: the 95 % bootstrap interval of `observed`; NaN where there is none. error: the expected calibration
    error, the mean |predicted - observed| weighted by counts (Naeini et al. 2015, AAAI); NaN without a known label.
    """

    predicted: Floats
    observed: Floats
    counts: NDArray[np.intp]
    low: Floats
    high: Floats
    error: float


def calibration(
    predictions: ArrayLike,
    labels: ArrayLike,
    bins: int = BINS,
    *,
    groups: Sequence[object] | None = None,
    n: int = 1000,
    seed: int = 0,
) -> tuple[Calibration, ...]:
    """Return what a prediction is worth: the mean label of clips with about the same prediction, for each target.

    Bins hold equal numbers of clips with known labels (`equal_bins`): at most `bins`, with `BIN_CLIPS` clips or more
    on average, so few clips get fewer bins, below 2 * BIN_CLIPS a single one.

    Takes and raises what `pearson` and `resamples` do; also raises ScoreError if bins < 1. Returns one `Calibration`
    for each target (one for one-dimensional input).
    """
    if bins < 1:
        raise ScoreError(f"found {bins} bins, expected at least 1")
    x, y, _ = check_pair(predictions, labels)
    unit, units = find_units(groups, len(x))
    found = []
    for column in range(x.shape[1]):
        known = np.flatnonzero(~np.isnan(y[:, column]))
        place, count = _calibration_bins(x[known, column], bins)
        binned = np.full((len(x), count), np.nan)
        binned[known, place] = y[known, column]
        counts = np.bincount(place, minlength=count)
        predicted = np.bincount(place, x[known, column], minlength=count) / counts
        observed = np.bincount(place, y[known, column], minlength=count) / counts
        drawn = resampled(by_column(_mean_label), np.zeros_like(binned), binned, unit, units, n, seed)
        low, high = interval(drawn)
        gaps = counts * np.abs(predicted - observed)
        error = float(gaps.sum() / counts.sum()) if count else float("nan")
        found.append(Calibration(predicted, observed, counts, low, high, error))
    return tuple(found)


def equal_bins(values: ArrayLike, bins: int) -> NDArray[np.intp]:
    """Return the bin of each of (n,) values, from 0 up: bins of equal count, rising.

    Equal values are never split: all go where the middle of them lies. So counts differ by one without ties, by more
    with them, and a bin may be missing; the others are numbered without gaps.
    """
    distinct, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    chosen = (
        (2 * ends - counts) * bins // (2 * max(int(counts.sum()), 1))
    )  # of the middle rank, in whole numbers
    numbers = np.unique(chosen, return_inverse=True)[1] if len(distinct) else chosen
    return np.asarray(numbers[place], dtype=np.intp)


def mean_pearson(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The challenge's score (paper section 3.1, eq. 1): the mean of `pearson` over the targets.

    NaN if it is undefined for any target. Takes and raises what `pearson` does.
    """
    values = np.atleast_1d(pearson(predictions, labels))
    return float(values.mean()) if values.size else float("nan")


def constant(values: ArrayLike) -> NDArray[np.bool_]:
    """Whether each column of (clip, target) is constant in the sense of `CONSTANT`, NaN left out: (target,)."""
    array = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(array)
    count = np.maximum(known.sum(axis=0), 1)
    array = np.where(known, array, 0.0)
    apart = np.where(known, array - array.sum(axis=0) / count, 0.0)
    deviation = np.sqrt(np.square(apart).sum(axis=0) / count)
    return np.asarray(deviation <= CONSTANT * np.abs(array).max(axis=0, initial=0.0))


def resamples(
    statistic: Statistic,
    predictions: ArrayLike,
    labels: ArrayLike,
    *,
    groups: Sequence[object] | None = None,
    n: int = 1000,
    seed: int = 0,
) -> Floats:
    """The statistic on `n` bootstrap resamples: as many clips (or groups) as given, with replacement.

    The same seed draws the same resamples for every statistic.

    Args:
        statistic: `pearson`, `ccc`, `mse`, `auc` or `calibration_error` of this module.
        predictions: (clip, target) or (clip,).
        labels: the same shape; NaN where unknown. Every target is scored on the same draws.
        groups: a name for each clip, such as its speaker: whole groups are drawn, because clips of one
            speaker are not independent. None draws single clips.
        n: the number of resamples, at least 1.
        seed: of the random generator.

    Returns:
        (n, target), or (n,) for one-dimensional input; NaN where a resample leaves it undefined, and in all
        if the target's labels are known for fewer than two of the clips or groups that are drawn.

    Raises:
        ScoreError: as `pearson`, and if the statistic is not known, n < 1 or `groups` has another length.
    """
    prepare = _STATISTICS.get(statistic)
    if prepare is None:
        names = ", ".join(known.__name__ for known in _STATISTICS)
        raise ScoreError(f"can't resample {statistic!r}: use one of emimic.metrics: {names}")
    if n < 1:
        raise ScoreError(f"found {n} bootstrap resamples, expected at least 1")
    x, y, shape = check_pair(predictions, labels)
    return resampled(prepare, x, y, *find_units(groups, len(x)), n, seed).reshape((n, *shape))


def bootstrap(
    statistic: Statistic,
    predictions: ArrayLike,
    labels: ArrayLike,
    *,
    groups: Sequence[object] | None = None,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Floats, Floats]:
    """Percentile bootstrap interval of a score: `interval` of `resamples`, which see.

    Returns:
        (low, high), each (target,), or floats for one-dimensional input. Resamples in which the score is
        undefined are left out; `np.isnan(resamples(...)).sum(axis=0)` counts them.
    """
    return interval(resamples(statistic, predictions, labels, groups=groups, n=n, seed=seed), level=level)


def _score(statistic: Statistic, predictions: ArrayLike, labels: ArrayLike) -> Floats:
    x, y, shape = check_pair(predictions, labels)
    return _STATISTICS[statistic](x, y, *find_units(None, len(x)))(None).reshape(shape)[()]


def _of_sums(formula: Callable[[Floats, Floats], Floats]) -> Prepare:
    """A score that a formula makes of the sums of `_sums` (7, ..., target) and their reference (3, target)."""

    def prepare(x: Floats, y: Floats, unit: Units, units: int) -> Weighted:
        sums, reference = _sums(x, y)
        grouped = np.zeros((units, *sums.shape[1:]))
        np.add.at(grouped, unit, sums)
        flat = grouped.reshape(units, grouped.shape[1] * grouped.shape[2])

        def weighted(times: Floats | None) -> Floats:
            if times is None:
                return formula(sums.sum(axis=0), reference)[None]
            total = (times @ flat).reshape(len(times), *sums.shape[1:])
            return formula(np.moveaxis(total, 1, 0), reference)

        return weighted

    return prepare


def _sums(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """What each clip adds to the sums (clip, 7, target), and what the formulas refer to (3, target).

    The sums are of 1, x, y, x², y², xy, about the means of the whole sample since differences of large
    sums would lose the digits of a small variance, and of the squared error; of an unknown label, all are 0. The
    reference is the difference of those means and the largest magnitude on either side.
    """
    known = ~np.isnan(y)
    count = np.maximum(known.sum(axis=0), 1)
    x, y = np.where(known, x, 0.0), np.where(known, y, 0.0)
    x_mean, y_mean = x.sum(axis=0) / count, y.sum(axis=0) / count
    u, v = np.where(known, x - x_mean, 0.0), np.where(known, y - y_mean, 0.0)
    sums = np.stack([known.astype(np.float64), u, v, u * u, v * v, u * v, np.square(x - y)], axis=1)
    reference = np.stack(
        [x_mean - y_mean, np.abs(x).max(axis=0, initial=0.0), np.abs(y).max(axis=0, initial=0.0)]
    )
    return sums, reference


def _variances(sums: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Means (about the whole sample's), variances and covariance from summed sums (7, ..., target)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        u, v, uu, vv, uv = sums[1:6] / sums[0]
    return u, v, np.maximum(uu - u * u, 0.0), np.maximum(vv - v * v, 0.0), uv - u * v


def _pearson(sums: Floats, reference: Floats) -> Floats:
    _, _, x_var, y_var, cov = _variances(sums)
    defined = (sums[0] >= 2) & (np.sqrt(x_var) > CONSTANT * reference[1])
    defined &= np.sqrt(y_var) > CONSTANT * reference[2]
    spread = np.sqrt(np.where(defined, x_var, 1.0)) * np.sqrt(np.where(defined, y_var, 1.0))
    return np.where(defined, np.clip(cov / spread, -1.0, 1.0), np.nan)


def _ccc(sums: Floats, reference: Floats) -> Floats:
    u, v, x_var, y_var, cov = _variances(sums)
    total = x_var + y_var + np.square(u - v + reference[0])
    defined = (sums[0] >= 2) & (np.sqrt(total) > CONSTANT * np.maximum(reference[1], reference[2]))
    return np.where(defined, 2 * cov / np.where(defined, total, 1.0), np.nan)


def _mse(sums: Floats, _: Floats) -> Floats:
    return np.where(sums[0] > 0, sums[6] / np.maximum(sums[0], 1.0), np.nan)


def _mean_label(x: Floats, y: Floats, unit: Units, units: int) -> Callable[[Floats], Floats]:
    """The mean label of one target."""
    count, total = np.bincount(unit, minlength=units), np.bincount(unit, y, minlength=units)
    return lambda weights: _ratio(weights @ total, weights @ count)


def _auc(x: Floats, y: Floats, unit: Units, units: int) -> Callable[[Floats], Floats]:
    if bad := int(np.count_nonzero((y != 0) & (y != 1))):
        raise ScoreError(
            f"{bad} of {y.size} known labels of a target are neither 0 nor 1, which AUC takes alone"
        )
    order = np.argsort(x, kind="stable")
    positive, sorted_unit = y[order], unit[order]
    starts = np.unique(x[order], return_index=True)[1]  # of runs of equal predictions

    def weighted(weights: Floats) -> Floats:
        if not len(starts):
            return np.full(len(weights), np.nan)
        of_clips = weights[:, sorted_unit]
        ones = np.add.reduceat(of_clips * positive, starts, axis=1)
        zeros = np.add.reduceat(of_clips * (1 - positive), starts, axis=1)
        below = np.cumsum(zeros, axis=1) - zeros / 2
        return _ratio((ones * below).sum(axis=1), ones.sum(axis=1) * zeros.sum(axis=1))

    return weighted


def _calibration_bins(x: Floats, bins: int) -> tuple[NDArray[np.intp], int]:
    """The bin of each prediction (clip,), and the number of bins."""
    place = equal_bins(x, max(1, min(bins, len(x) // BIN_CLIPS)))
    return place, int(place.max(initial=-1)) + 1


def _calibration_error(x: Floats, y: Floats, unit: Units, units: int) -> Callable[[Floats], Floats]:
    place, bins = _calibration_bins(x, BINS)
    gaps, count = np.zeros((units, bins)), np.bincount(unit, minlength=units)
    np.add.at(gaps, (unit, place), x - y)
    return lambda weights: _ratio(np.abs(weights @ gaps).sum(axis=1), weights @ count)


def _ratio(above: Floats, below: Floats) -> Floats:
    """The quotient; NaN where `below` is 0."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


_STATISTICS: Final[dict[Statistic, Prepare]] = {
    pearson: _of_sums(_pearson),
    ccc: _of_sums(_ccc),
    mse: _of_sums(_mse),
    auc: by_column(_auc),
    calibration_error: by_column(_calibration_error),
}
