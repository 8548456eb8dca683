"""How well predictions agree with labels: Pearson, CCC, MSE and bootstrap intervals. NumPy only.

Every score here is a function of a few sums over clips (`_sums`). A resample weights those sums, so
a thousand resamples cost a thousand small products instead of a thousand passes over the data.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic.task import EmimicError

Floats: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[ArrayLike, ArrayLike], Floats]

CONSTANT: Final = 1e-6
"""A side is constant if its standard deviation is at most this share of its largest magnitude.

One float32 rounding is 6e-8 of a value; a constant computed in differently padded batches wobbles by
a few of those, and a correlation of such noise would be a number without meaning.
"""


class ScoreError(EmimicError, ValueError):
    """Predictions and labels that can't be compared."""


def pearson(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Pearson's correlation of each target (paper section 3.1, eq. 2).

    Args:
        predictions: (clip, target), or (clip,) for one target; any finite numbers.
        labels: the same shape.

    Returns:
        (target,) in [-1, 1], a float for one-dimensional input. NaN where either side is constant (see
        `CONSTANT`) or fewer than two clips are given: the correlation is undefined there.

    Raises:
        ScoreError: if the shapes differ, or a number is not finite.
    """
    return _score(_pearson, predictions, labels)


def ccc(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Lin's concordance correlation coefficient of each target, with variances over n (not n - 1).

    Takes and raises what `pearson` does. Returns (target,) in [-1, 1], a float for one-dimensional input.
    It is 0 where one side alone is constant, NaN where both are constant and equal or fewer than two
    clips are given.
    """
    return _score(_ccc, predictions, labels)


def mse(predictions: ArrayLike, labels: ArrayLike) -> Floats:
    """Mean squared error of each target: (target,) >= 0, a float for one-dimensional input.

    Takes and raises what `pearson` does. NaN without clips.
    """
    return _score(_mse, predictions, labels)


def mean_pearson(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The challenge's score (paper section 3.1, eq. 1): the mean of `pearson` over the targets.

    NaN if it is undefined for any target. Takes and raises what `pearson` does.
    """
    values = np.atleast_1d(pearson(predictions, labels))
    return float(values.mean()) if values.size else float("nan")


def constant(values: ArrayLike) -> NDArray[np.bool_]:
    """Whether each column of (clip, target) is constant in the sense of `CONSTANT`: (target,)."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return np.ones(array.shape[1:], dtype=np.bool_)
    spread = np.sqrt(np.square(array - array.mean(axis=0)).mean(axis=0))
    return np.asarray(spread <= CONSTANT * np.abs(array).max(axis=0))


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
        statistic: `pearson`, `ccc` or `mse` of this module.
        predictions: (clip, target) or (clip,).
        labels: the same shape.
        groups: a name for each clip, such as its speaker: whole groups are drawn, because clips of one
            speaker are not independent. None draws single clips.
        n: the number of resamples, at least 1.
        seed: of the random generator.

    Returns:
        (n, target), or (n,) for one-dimensional input; NaN where a resample leaves it undefined, and
        everywhere if there are fewer than two clips or groups to draw from.

    Raises:
        ScoreError: as `pearson`, and if the statistic is not known, n < 1 or `groups` has another length.
    """
    formula = _FORMULAS.get(statistic)
    if formula is None:
        raise ScoreError(f"can't resample {statistic!r}: use pearson, ccc or mse of emimic.scores")
    if n < 1:
        raise ScoreError(f"found {n} bootstrap resamples, expected at least 1")
    x, y, shape = _pair(predictions, labels)
    sums, reference = _sums(x, y)
    if groups is not None:
        sums = _grouped(sums, groups)
    units = len(sums)
    values = np.full((n, x.shape[1]), np.nan)
    if units >= 2:
        flat = sums.reshape(units, -1)
        rng = np.random.default_rng(seed)
        for row in range(n):
            times = np.bincount(rng.integers(units, size=units), minlength=units)
            values[row] = formula((times @ flat).reshape(sums.shape[1:]), reference)
    return values.reshape((n, *shape))


def interval(values: ArrayLike, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """The percentile interval of resampled scores, NaN resamples left out.

    Args:
        values: (n, ...) as from `resamples`.
        level: the share of resamples inside, in (0, 1).

    Returns:
        (low, high), each (...); NaN where every resample is NaN.

    Raises:
        ScoreError: if level is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ScoreError(
            f"found the level {level} for an interval, expected one between 0 and 1, such as 0.95"
        )
    array = np.asarray(values, dtype=np.float64)
    low, high = np.full(array.shape[1:], np.nan), np.full(array.shape[1:], np.nan)
    for where in np.ndindex(array.shape[1:]):
        column = array[(slice(None), *where)]
        column = column[~np.isnan(column)]
        if column.size:
            low[where], high[where] = np.quantile(column, [(1 - level) / 2, (1 + level) / 2])
    return low[()], high[()]


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


def _pair(predictions: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats, tuple[int, ...]]:
    """Both sides as float64 (clip, target), and the shape a result has: (target,) or ()."""
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.shape != y.shape or x.ndim not in (1, 2):
        raise ScoreError(
            f"predictions have shape {x.shape} and labels {y.shape}; "
            "expected the same (clip, target) or (clip,)"
        )
    for name, side in (("predictions", x), ("labels", y)):
        bad = int(np.count_nonzero(~np.isfinite(side)))
        if bad:
            raise ScoreError(f"{bad} of {side.size} {name} are NaN or infinite; leave those clips out")
    shape = x.shape[1:]
    return (x, y, shape) if x.ndim == 2 else (x[:, None], y[:, None], shape)


def _sums(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """What each clip adds to the sums (clip, 7, target), and what the formulas refer to (3, target).

    The sums are of 1, x, y, x², y², xy, about the means of the whole sample since differences of large
    sums would lose the digits of a small variance, and of the squared error. The reference is the
    difference of those means and the largest magnitude on either side.
    """
    x_mean, y_mean = x.sum(axis=0) / max(len(x), 1), y.sum(axis=0) / max(len(y), 1)
    u, v = x - x_mean, y - y_mean
    sums = np.stack([np.ones_like(u), u, v, u * u, v * v, u * v, np.square(x - y)], axis=1)
    reference = np.stack(
        [x_mean - y_mean, np.abs(x).max(axis=0, initial=0.0), np.abs(y).max(axis=0, initial=0.0)]
    )
    return sums, reference


def _grouped(sums: Floats, groups: Sequence[object]) -> Floats:
    """The sums of each group: (group, 7, target)."""
    if len(groups) != len(sums):
        raise ScoreError(f"found {len(groups)} group names for {len(sums)} clips, expected one for each clip")
    codes: dict[object, int] = {}
    index = np.array([codes.setdefault(name, len(codes)) for name in groups], dtype=np.intp)
    grouped = np.zeros((len(codes), *sums.shape[1:]))
    np.add.at(grouped, index, sums)
    return grouped


Formula: TypeAlias = Callable[[Floats, Floats], Floats]


def _score(formula: Formula, predictions: ArrayLike, labels: ArrayLike) -> Floats:
    x, y, shape = _pair(predictions, labels)
    sums, reference = _sums(x, y)
    return formula(sums.sum(axis=0), reference).reshape(shape)[()]


def _variances(sums: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Means (about the whole sample's), variances and covariance from summed sums (7, target)."""
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


_FORMULAS: Final[dict[Statistic, Formula]] = {pearson: _pearson, ccc: _ccc, mse: _mse}
