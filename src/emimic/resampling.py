"""Bootstrap resampling of scores: checked pairs, units that are drawn together, intervals. NumPy only."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emimic.task import EmimicError

Floats: TypeAlias = NDArray[np.float64]

Units: TypeAlias = NDArray[np.intp]
"""The index of each clip's unit (clip,); a draw takes all clips of a unit."""
Weighted: TypeAlias = Callable[[Floats | None], Floats]
"""Scores (draw, target) of clips weighted by their units' counts (draw, unit); None: each clip once."""
Prepare: TypeAlias = Callable[[Floats, Floats, Units, int], Weighted]
"""A weighted score, made from predictions and labels (clip, target), each clip's unit, and the number of units."""
Column: TypeAlias = Callable[[Floats, Floats, Units, int], Callable[[Floats], Floats]]
"""The same for one target's labeled clips (clip,): weights (draw, unit) -> scores (draw,)."""

CHUNK = 128
"""Draws that are scored together: enough to be fast, few enough for the memory."""


class ScoreError(EmimicError, ValueError):
    """Predictions and labels that can't be compared."""


def check_pair(predictions: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats, tuple[int, ...]]:
    """Return predictions and labels as float64 (clip, target), and the shape of a score: (target,) or ()."""
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.shape != y.shape or x.ndim not in (1, 2):
        raise ScoreError(
            f"predictions have shape {x.shape} and labels {y.shape}; "
            "expected the same (clip, target) or (clip,)"
        )
    if bad := int(np.count_nonzero(~np.isfinite(x))):
        raise ScoreError(f"{bad} of {x.size} predictions are NaN or infinite; leave those clips out")
    if bad := int(np.count_nonzero(np.isinf(y))):
        raise ScoreError(f"{bad} of {y.size} labels are infinite; expected numbers, or NaN where unknown")
    shape = x.shape[1:]
    return (x, y, shape) if x.ndim == 2 else (x[:, None], y[:, None], shape)


def find_units(groups: Sequence[object] | None, clips: int) -> tuple[NDArray[np.intp], int]:
    """Return each clip's unit (clip,), its group or the clip itself, and the number of units."""
    if groups is None:
        return np.arange(clips), clips
    if len(groups) != clips:
        raise ScoreError(f"found {len(groups)} group names for {clips} clips, expected one for each clip")
    codes: dict[object, int] = {}
    return np.array([codes.setdefault(name, len(codes)) for name in groups], dtype=np.intp), len(codes)


def resample(prepare: Prepare, x: Floats, y: Floats, unit: Units, units: int, n: int, seed: int) -> Floats:
    """Return the scores (n, target) of `n` resamples of the units."""
    values = np.full((n, x.shape[1]), np.nan)
    if units >= 2:
        weighted = prepare(x, y, unit, units)
        rng = np.random.default_rng(seed)
        for start in range(0, n, CHUNK):
            rows = slice(start, min(start + CHUNK, n))
            values[rows] = weighted(_draw_units(rng, units, rows.stop - start))
    single = [len(np.unique(unit[~np.isnan(column)])) < 2 for column in y.T]
    values[:, np.array(single, dtype=np.bool_)] = np.nan  # all draws of a single unit are the same
    return values


def _draw_units(rng: np.random.Generator, units: int, draws: int) -> Floats:
    """Return how often each unit is drawn (draw, unit)."""
    drawn = rng.integers(units, size=(draws, units)) + units * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * units)
    return counts.reshape(draws, units).astype(np.float64)


def score_columns(score_column: Column) -> Prepare:
    """Return a score that treats each target's labeled clips separately."""

    def prepare(x: Floats, y: Floats, unit: Units, units: int) -> Weighted:
        labeled = [np.flatnonzero(~np.isnan(column)) for column in y.T]
        columns = [score_column(x[rows, i], y[rows, i], unit[rows], units) for i, rows in enumerate(labeled)]

        def score(times: Floats | None) -> Floats:
            weights = np.ones((1, units)) if times is None else times
            values = np.full((len(weights), len(columns)), np.nan)
            for i, column in enumerate(columns):
                values[:, i] = column(weights)
            return values

        return score

    return prepare


def compute_interval(values: ArrayLike, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the percentile interval of resampled scores, without NaN resamples.

    Args:
        values: (n, ...) as from `resample_statistic`.
        level: the fraction of resamples inside, in (0, 1).

    Returns:
        (low, high), each (...); NaN where every resample is NaN.

    Raises:
        ScoreError: level is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ScoreError(
            f"found the level {level} for an interval, expected one between 0 and 1, such as 0.95"
        )
    array = np.asarray(values, dtype=np.float64)
    low, high = np.full(array.shape[1:], np.nan), np.full(array.shape[1:], np.nan)
    for index in np.ndindex(array.shape[1:]):
        column = array[(slice(None), *index)]
        column = column[~np.isnan(column)]
        if column.size:
            low[index], high[index] = np.quantile(column, [(1 - level) / 2, (1 + level) / 2])
    return low[()], high[()]


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient; NaN where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1.0), np.nan)
