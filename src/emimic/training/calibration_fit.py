"""Fits of a calibration: isotonic maps, and the novelty score (NumPy only)."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic.calibration import Array, HalfWidth, Intervals, Map, Novelty, Single

COMPONENTS: Final = 64
"""Maximum number of principal components of the novelty score."""

ARRAY_BYTES: Final = 390_000
"""Maximum size of the novelty score's arrays; several groups of a wide encoder get fewer components."""

QUANTILE: Final = 0.99
"""Quantile of held-out clips' distances that is scaled to 1."""

LEVEL: Final = 0.9
"""Fraction of labels within a prediction interval."""

FEWEST: Final = 50
"""Minimum number of clips of a knot of an interval's width."""

_KNOTS: Final = 20
_POINTS: Final = 200  # of a fitted map, each the mean of neighbors with an equal part of the weight


def fit_isotonic(values: Array, weights: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return the nondecreasing sequence nearest to `values` (point,) in weighted squares, and the block of each point.

    Pool adjacent violators (Ayer et al. 1955). weights (point,): above 0.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, points
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, count = value, weight, 1
        while blocks and blocks[-1][0] >= mean:
            before, other, more = blocks.pop()
            mean = (mean * total + before * other) / (total + other)
            total, count = total + other, count + more
        blocks.append((mean, total, count))
    block = np.repeat(np.arange(len(blocks)), [count for _, _, count in blocks])
    return np.array([mean for mean, _, _ in blocks])[block], block


def fit_map(raw: Array, labels: Array, weights: Array) -> Map:
    """Fit a map to raw values, labels in [0, 1] and weights, (clip,) each; NaN labels and weights of 0 are left out.

    Centered isotonic regression (Oron & Flournoy 2017) is isotonic regression whose flat parts are points at their
    weighted mean, joined by lines. Without steps it preserves ranks and has a smaller error. Equal raw values are one
    point, and so are neighbors up to 1/200 of all weight, so that a single clip at an end has little influence.
    """
    labeled = np.isfinite(labels) & (weights > 0)
    order = np.argsort(raw[labeled], kind="stable")
    x, y, w = (
        column[labeled][order].astype(np.float64) for column in (raw.astype(np.float32), labels, weights)
    )
    before = (np.cumsum(w) - w)[np.searchsorted(x, x, side="left")]  # of equal values, the first one's
    point = np.unique(np.floor(before / w.sum() * _POINTS), return_inverse=True)[1]
    x, y, w = _average_groups(point, x, y, w)
    fitted, block = fit_isotonic(y, w)
    x, _, _ = _average_groups(block, x, y, w)
    y = fitted[np.unique(block, return_index=True)[1]]
    return Map(tuple(x.tolist()), tuple(y.clip(0.0, 1.0).tolist()))


def _average_groups(group: NDArray[np.intp], x: Array, y: Array, w: Array) -> tuple[Array, Array, Array]:
    """Return weighted means of x and y in each group, and the groups' weights."""
    total = np.bincount(group, w)
    x, y = (np.bincount(group, w * column) / total for column in (x, y))
    return x, y, total.astype(np.float64)


def fit_intervals(
    predictions: Mapping[str, Array], labels: Mapping[str, Array], folds: NDArray[np.intp]
) -> Intervals | None:
    """Fit prediction intervals to predictions that their own clips' labels didn't influence.

    Half the width is a quantile of the absolute errors of clips with similar predictions, with the correction for their
    number of split conformal prediction (Lei et al. 2018). Coverage of a fold is that of intervals of the others.

    Args:
        predictions: by name, (clip,).
        labels: by name, (clip,), NaN where unknown.
        folds: (clip,), number of the clip's part; a speaker is in one.

    Returns:
        None if no name has FEWEST labeled clips in every fold.
    """
    widths, coverage = {}, {}
    for name, values in predictions.items():
        known = np.isfinite(labels[name]) & np.isfinite(values)
        x, y, fold = values[known], labels[name][known], folds[known]
        counts = np.bincount(fold, minlength=2)
        if counts.min() < FEWEST:
            continue
        inside = np.zeros(len(x), dtype=bool)
        for part in range(len(counts)):
            others = fold != part
            interval = _fit_half_width(x[others], np.abs(y - x)[others])(x[~others])
            truth = y[~others]
            inside[~others] = (interval[:, 0] <= truth) & (truth <= interval[:, 1])
        widths[name] = _fit_half_width(x, np.abs(y - x))
        coverage[name] = float(inside.mean())
    return Intervals(LEVEL, widths, coverage) if widths else None


def map_across(raw: Array, labels: Array, folds: NDArray[np.intp]) -> Array:
    """Return calibrated values (clip,) of raw ones, by maps of the other folds; NaN if nothing is labeled there."""
    mapped = np.full(len(raw), np.nan)
    for fold in np.unique(folds):
        others = (folds != fold) & np.isfinite(labels)
        if others.any():
            mapped[folds == fold] = fit_map(raw[others], labels[others], np.ones(others.sum()))(
                raw[folds == fold]
            )
    return mapped


def _fit_half_width(values: Array, errors: Array) -> HalfWidth:
    """Return the half-width of intervals for values (clip,) with these absolute errors (clip,)."""
    order = np.argsort(values, kind="stable")
    knots: dict[float, float] = {}
    for rows in np.array_split(order, max(1, min(_KNOTS, len(values) // FEWEST))):
        rank = min(1.0, np.ceil((len(rows) + 1) * LEVEL) / len(rows))
        knots[float(values[rows].mean())] = float(np.quantile(errors[rows], rank, method="higher"))
    return HalfWidth(tuple(knots), tuple(knots.values()))


def compute_calibration_error(predictions: Array, labels: Array, weights: Array, bins: int = 10) -> float:
    """Return the weighted mean over bins of equal weight of |mean prediction - mean label|; (clip,) each."""
    labeled = np.isfinite(labels) & (weights > 0)
    order = np.argsort(predictions[labeled], kind="stable")
    x, y, w = (column[labeled][order] for column in (predictions, labels, weights))
    bin_of = np.minimum((np.cumsum(w) - w / 2) / w.sum() * bins, bins - 1).astype(np.intp)
    _, group = np.unique(bin_of, return_inverse=True)
    means, truths, total = _average_groups(group, x, y, w)
    return float(np.average(np.abs(means - truths), weights=total))


def fit_novelty(reference: Mapping[str, Single], held: Mapping[str, Single]) -> Novelty:
    """Fit the novelty score to pooled frames.

    Groups count equally in the components. A group's covariance is shrunk towards the mean one of all groups, with the
    weight of as many further clips as there are coordinates.

    Args:
        reference: group -> (clip, feature).
        held: group -> (clip, feature), clips that scale the group's distances.
    """
    groups = [np.asarray(rows, dtype=np.float64) for rows in reference.values()]
    features = groups[0].shape[1]
    shift = np.mean([rows.mean(axis=0) for rows in groups], axis=0)
    scale = np.sqrt(np.mean([np.square(rows - shift).mean(axis=0) for rows in groups], axis=0)) + 1e-6
    total = np.zeros((features, features))
    for rows in groups:
        normed = (rows - shift) / scale
        total += normed.T @ normed / len(rows)
    _, vectors = np.linalg.eigh(total)
    size = _count_components(features, len(groups), sum(map(len, groups)))
    base = Novelty(
        tuple(reference),
        shift.astype(np.float32),
        scale.astype(np.float32),
        vectors[:, ::-1][:, :size].astype(np.float32),
        np.zeros((len(groups), size + 1), np.float32),
        np.zeros((len(groups), size + 1, size + 1), np.float32),
    )
    coordinates = [base.compute_coordinates(rows) for rows in groups]
    means = np.stack([rows.mean(axis=0) for rows in coordinates]).astype(np.float32)
    centered = [rows - mean for rows, mean in zip(coordinates, means, strict=True)]
    average = np.mean([rows.T @ rows / len(rows) for rows in centered], axis=0)
    average += np.diag(0.01 * average.diagonal() + 1e-6)
    factors = []
    for name, rows, mean in zip(reference, centered, means, strict=True):
        covariance = (rows.T @ rows + (size + 1) * average) / (len(rows) + size + 1)
        factor = np.linalg.inv(np.linalg.cholesky(covariance))
        distances = np.linalg.norm((base.compute_coordinates(held[name]) - mean) @ factor.T, axis=1)
        factors.append(factor / max(float(np.quantile(distances, QUANTILE)), 1e-6))
    return Novelty(
        base.names, base.shift, base.scale, base.basis, means, np.stack(factors).astype(np.float32)
    )


def _count_components(features: int, groups: int, clips: int) -> int:
    """Return the largest number of components for these clips (a quarter of their number) and the file."""
    size = max(1, min(COMPONENTS, features, clips // 4))
    while size > 1 and 4 * (features * (size + 2) + groups * (size + 1) * (size + 2)) > ARRAY_BYTES:
        size -= 1
    return size
