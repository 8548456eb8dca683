"""Scores of predictions against labels: Pearson, CCC, MSE, AUC, calibration error, bootstrap intervals. NumPy only.

A NaN label is missing: that clip is left out of that target's score. Pearson, CCC and MSE are functions of a few sums
over clips (`_sum_clips`). A resample weights those sums, so a thousand resamples take a thousand small products instead
of a thousand passes over the data. AUC and calibration sort once and weight the sorted clips.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic.reliability import prepare_calibration_error
from emimic.resampling import (
    Floats,
    Prepare,
    ScoreError,
    Units,
    Weighted,
    check_pair,
    compute_interval,
    divide,
    find_units,
    resample,
    score_columns,
)

__all__ = [
    "CONSTANT",
    "Floats",
    "ScoreError",
    "Statistic",
    "bootstrap",
    "compute_auc",
    "compute_calibration_error",
    "compute_ccc",
    "compute_interval",
    "compute_mean_pearson",
    "compute_mse",
    "compute_pearson",
    "find_constant",
    "resample_statistic",
]  # fmt: skip

Statistic: TypeAlias = Callable[[ArrayLike, ArrayLike], Floats]

CONSTANT: Final = 1e-6
"""Predictions or labels are constant if their std is at most this fraction of their largest magnitude.

A float32 rounding is 6e-8 of a value. A constant computed in differently padded batches varies by a few of those, and a
correlation of such noise is meaningless.
"""


def compute_pearson(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Compute Pearson's correlation of each target (paper section 3.1, eq. 2).

    Args:
        predictions: (clip, target), or (clip,) for one target; any finite numbers.
        labels: the same shape; NaN where missing: the clip is left out of that target's score.

    Returns:
        (target,) in [-1, 1], a float for one-dimensional input. NaN, since undefined, where predictions or labels are
        constant (see `CONSTANT`) or there are fewer than two labels.

    Raises:
        ScoreError: the shapes differ, a prediction is not finite, or a label is infinite.
    """
    return _score(compute_pearson, predictions, labels)


def compute_ccc(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Compute Lin's concordance correlation coefficient of each target, with variances over n (not n - 1).

    Arguments and errors are those of `compute_pearson`.

    Returns:
        (target,) in [-1, 1], a float for one-dimensional input. 0 where either predictions or labels are constant; NaN
        where both are constant and equal, or there are fewer than two labels.
    """
    return _score(compute_ccc, predictions, labels)


def compute_mse(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Compute the mean squared error of each target.

    Arguments and errors are those of `compute_pearson`.

    Returns:
        (target,) >= 0, a float for one-dimensional input; NaN without a label.
    """
    return _score(compute_mse, predictions, labels)


def compute_auc(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Compute the area under the ROC of each target, for labels 0 and 1.

    It is the probability that, of a random clip with label 1 and one with label 0, the first has the higher prediction.
    Ties count half (Hanley and McNeil 1982, Radiology 143, 29-36). Arguments are those of `compute_pearson`.

    Returns:
        (target,) in [0, 1], a float for one-dimensional input; NaN without both a 0 and a 1 among the labels.

    Raises:
        ScoreError: see `compute_pearson`; or a label is neither 0 nor 1.
    """
    return _score(compute_auc, predictions, labels)


def compute_calibration_error(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Compute the expected calibration error of each target: `compute_reliability(...).error`, in the labels' unit.

    Resamples use the bins of the full sample. The error is biased upward, more so with few clips and in resamples: its
    interval may lie above the value. Arguments and errors are those of `compute_pearson`.

    Returns:
        (target,) >= 0, a float for one-dimensional input; NaN without a label.
    """
    return _score(compute_calibration_error, predictions, labels)


def compute_mean_pearson(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Compute the challenge's score (paper section 3.1, eq. 1): the mean of `compute_pearson` over the targets.

    Arguments and errors are those of `compute_pearson`. NaN if the correlation is undefined for any target.
    """
    values = np.atleast_1d(compute_pearson(predictions, labels))
    return float(values.mean()) if values.size else float("nan")


def find_constant(values: ArrayLike) -> NDArray[np.bool_]:
    """Return (target,) True for each column of (clip, target) that is constant (see `CONSTANT`), NaN left out."""
    array = np.asarray(values, dtype=np.float64)
    valid = ~np.isnan(array)
    count = np.maximum(valid.sum(axis=0), 1)
    array = np.where(valid, array, 0.0)
    centered = np.where(valid, array - array.sum(axis=0) / count, 0.0)
    std = np.sqrt(np.square(centered).sum(axis=0) / count)
    return np.asarray(std <= CONSTANT * np.abs(array).max(axis=0, initial=0.0))


def resample_statistic(
    statistic: Statistic,
    predictions: ArrayLike,
    labels: ArrayLike,
    *,
    groups: Sequence[object] | None = None,
    n: int = 1000,
    seed: int = 0,
) -> Floats:
    """Compute a statistic on `n` bootstrap resamples: as many clips (or groups) as there are, with replacement.

    The same seed draws the same resamples for every statistic.

    Args:
        statistic: `compute_pearson`, `compute_ccc`, `compute_mse`, `compute_auc` or `compute_calibration_error` of this
            module.
        predictions: (clip, target) or (clip,).
        labels: the same shape; NaN where missing. Every target is scored on the same draws.
        groups: a name for each clip, such as its speaker: groups are drawn, because clips of a speaker are not
            independent. None draws single clips.
        n: the number of resamples, at least 1.
        seed: seed of the random generator.

    Returns:
        (n, target), or (n,) for one-dimensional input; NaN where the statistic is undefined on a resample.
        All are NaN if fewer than two of the clips or groups have a label of the target.

    Raises:
        ScoreError: see `compute_pearson`; or the statistic is unknown, n < 1, or `groups` has another length.
    """
    prepare = _STATISTICS.get(statistic)
    if prepare is None:
        names = ", ".join(function.__name__ for function in _STATISTICS)
        raise ScoreError(f"can't resample {statistic!r}: use one of emimic.metrics: {names}")
    if n < 1:
        raise ScoreError(f"found {n} bootstrap resamples, expected at least 1")
    x, y, shape = check_pair(predictions, labels)
    return resample(prepare, x, y, *find_units(groups, len(x)), n, seed).reshape((n, *shape))


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
    """Compute the percentile bootstrap interval of a score: `compute_interval` of `resample_statistic`.

    Returns:
        (low, high), each (target,), or floats for one-dimensional input. Resamples on which the score is undefined are
        left out; `np.isnan(resample_statistic(...)).sum(axis=0)` counts them.
    """
    return compute_interval(
        resample_statistic(statistic, predictions, labels, groups=groups, n=n, seed=seed), level=level
    )


def _score(statistic: Statistic, predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Return a statistic of all clips: (target,), or a float for one-dimensional input."""
    x, y, shape = check_pair(predictions, labels)
    return _STATISTICS[statistic](x, y, *find_units(None, len(x)))(None).reshape(shape)[()]


def _score_sums(formula: Callable[[Floats, Floats], Floats]) -> Prepare:
    """Return a score that is a formula of the sums (7, ..., target) and the reference (3, target) of `_sum_clips`."""

    def prepare(x: Floats, y: Floats, unit: Units, units: int) -> Weighted:
        sums, reference = _sum_clips(x, y)
        grouped = np.zeros((units, *sums.shape[1:]))
        np.add.at(grouped, unit, sums)
        flat = grouped.reshape(units, grouped.shape[1] * grouped.shape[2])

        def score(times: Floats | None) -> Floats:
            if times is None:
                return formula(sums.sum(axis=0), reference)[None]
            total = (times @ flat).reshape(len(times), *sums.shape[1:])
            return formula(np.moveaxis(total, 1, 0), reference)

        return score

    return prepare


def _sum_clips(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return each clip's part of the sums (clip, 7, target), and the formulas' reference (3, target).

    The sums are of 1, x, y, x², y², xy and the squared error; a clip without a label adds 0. x and y are centered on
    the means of the full sample, since differences of large sums would lose the digits of a small variance. The
    reference is the difference of those means, and the largest magnitudes of x and y.
    """
    labeled = ~np.isnan(y)
    count = np.maximum(labeled.sum(axis=0), 1)
    x, y = np.where(labeled, x, 0.0), np.where(labeled, y, 0.0)
    x_mean, y_mean = x.sum(axis=0) / count, y.sum(axis=0) / count
    u, v = np.where(labeled, x - x_mean, 0.0), np.where(labeled, y - y_mean, 0.0)
    sums = np.stack([labeled.astype(np.float64), u, v, u * u, v * v, u * v, np.square(x - y)], axis=1)
    reference = np.stack(
        [x_mean - y_mean, np.abs(x).max(axis=0, initial=0.0), np.abs(y).max(axis=0, initial=0.0)]
    )
    return sums, reference


def _compute_variances(sums: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return means (relative to the full sample's), variances and covariance from summed sums (7, ..., target)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        u, v, uu, vv, uv = sums[1:6] / sums[0]
    return u, v, np.maximum(uu - u * u, 0.0), np.maximum(vv - v * v, 0.0), uv - u * v


def _derive_pearson(sums: Floats, reference: Floats) -> Floats:
    """Return Pearson's correlation from summed sums."""
    _, _, x_var, y_var, cov = _compute_variances(sums)
    defined = (sums[0] >= 2) & (np.sqrt(x_var) > CONSTANT * reference[1])
    defined &= np.sqrt(y_var) > CONSTANT * reference[2]
    stds = np.sqrt(np.where(defined, x_var, 1.0)) * np.sqrt(np.where(defined, y_var, 1.0))
    return np.where(defined, np.clip(cov / stds, -1.0, 1.0), np.nan)


def _derive_ccc(sums: Floats, reference: Floats) -> Floats:
    """Return the concordance correlation coefficient from summed sums."""
    u, v, x_var, y_var, cov = _compute_variances(sums)
    total = x_var + y_var + np.square(u - v + reference[0])
    defined = (sums[0] >= 2) & (np.sqrt(total) > CONSTANT * np.maximum(reference[1], reference[2]))
    return np.where(defined, 2 * cov / np.where(defined, total, 1.0), np.nan)


def _derive_mse(sums: Floats, _: Floats) -> Floats:
    """Return the mean squared error from summed sums."""
    return np.where(sums[0] > 0, sums[6] / np.maximum(sums[0], 1.0), np.nan)


def _prepare_auc(x: Floats, y: Floats, unit: Units, units: int) -> Callable[[Floats], Floats]:
    """Return the weighted AUC of one target."""
    if bad := int(np.count_nonzero((y != 0) & (y != 1))):
        raise ScoreError(f"{bad} of {y.size} labels of a target are neither 0 nor 1, as AUC needs")
    order = np.argsort(x, kind="stable")
    positive, sorted_unit = y[order], unit[order]
    starts = np.unique(x[order], return_index=True)[1]  # of groups of equal predictions

    def score(weights: Floats) -> Floats:
        if not len(starts):
            return np.full(len(weights), np.nan)
        clip_weights = weights[:, sorted_unit]
        ones = np.add.reduceat(clip_weights * positive, starts, axis=1)
        zeros = np.add.reduceat(clip_weights * (1 - positive), starts, axis=1)
        below = np.cumsum(zeros, axis=1) - zeros / 2
        return divide((ones * below).sum(axis=1), ones.sum(axis=1) * zeros.sum(axis=1))

    return score


_STATISTICS: Final[dict[Statistic, Prepare]] = {
    compute_pearson: _score_sums(_derive_pearson),
    compute_ccc: _score_sums(_derive_ccc),
    compute_mse: _score_sums(_derive_mse),
    compute_auc: score_columns(_prepare_auc),
    compute_calibration_error: score_columns(prepare_calibration_error),
}
