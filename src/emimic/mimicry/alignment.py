"""Numerics of aligning two series: dynamic time warping, surrogates (NumPy only).

Warping is implemented here: no library warps a batch of series onto one, and dtw-python needs scipy and has the GPL.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emimic.metrics import Floats
from emimic.mimicry.results import Bools, Series, Settings

Steps: TypeAlias = NDArray[np.intp]

FLAT: Final = 1e-3
"""Standard deviation below which a part of a z-scored series has no variance to correlate."""

TURN: Final = 60.0
"""Mean seconds between a surrogate's reversals. Around a reversal it is its own mirror image, which correlates with
nothing: with one every 5 s three times the stated fraction of unrelated pairs is significant, with one every 20 s 6 %
instead of 5 %. Without reversals, too few surrogates differ from the seed in a short recording."""

_COSTS: Final = 2_000_000  # values of the cost matrices held at once while warping: 8 MB
_VALUES: Final = 1_000_000  # values of the surrogates held at once


def standardize(values: Floats) -> Floats:
    """Return values (..., step, dimension) with zero mean and unit variance over their steps; constants become 0."""
    centered = values - values.mean(axis=-2, keepdims=True)
    std = centered.std(axis=-2, keepdims=True)
    constant = std <= 1e-9 * np.maximum(1e-3, np.abs(values).max(axis=-2, keepdims=True))
    return np.asarray(np.where(constant, 0.0, centered / np.where(constant, 1.0, std)))


def draw_walks(steps: int, draws: int, turn: int, rng: np.random.Generator) -> Steps:
    """Draw orders (draw, step) in which to read a series of `steps` steps: surrogates with the same autocorrelation.

    Each order starts at a random step, in either direction, and reverses at the ends and about once per `turn` steps
    (at least once). Neighbors stay neighbors, so the surrogate has no jump that the series does not have. Circular
    shifts jump from the end to the start, and too few differ: kept away from the observed order they find too much
    (one in five unrelated pairs of 15 s at a level of 5 %), not kept away they find too little.
    """
    direction = np.broadcast_to(rng.choice((-1, 1), size=(draws, 1)), (draws, steps)).copy()
    for _ in range(max(1, round(steps / turn))):
        reversal = rng.integers(1, max(2, steps), size=(draws, 1))
        direction[np.arange(steps) >= reversal] *= -1
    position = (rng.integers(2 * steps, size=(draws, 1)) + direction.cumsum(axis=1)) % (2 * steps)
    return np.asarray(np.minimum(position, 2 * steps - 1 - position))


def draw_orders(seed: Series, settings: Settings) -> Steps:
    """Draw the seed's surrogates, as orders (draw, voiced step) in which to read its voiced steps."""
    rng = np.random.default_rng(settings.seed)
    return draw_walks(int(seed.voiced.sum()), settings.draws, max(1, round(TURN / seed.hop)), rng)


def average(values: Floats | Bools, axis: int) -> Floats:
    """Return the mean of the finite values along an axis; NaN without any."""
    finite = np.isfinite(values)
    count = finite.sum(axis=axis)
    total = np.where(finite, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


@dataclass(frozen=True, slots=True)
class Warped:
    """A batch of recordings warped onto one.

    Attributes:
        cost: (draw,) total cost.
        similarity: (draw, dimension), NaN for a dimension without variance along the path.
        seed: (position, draw) steps of the paths, from the last to the first.
        mimic: (position, draw) the steps aligned with them.
        on: (position, draw) False beyond a path's beginning.
    """

    cost: Floats
    similarity: Floats
    seed: Steps
    mimic: Steps
    on: Bools


def warp(seeds: Floats, mimic: Floats, *, band: float) -> Iterator[Warped]:
    """Warp each of the seeds onto the mimic, and yield batches in order.

    The local cost is the squared distance, averaged over dimensions. Steps (1, 1), (1, 0), (0, 1) count 2, 1, 1 times,
    so the cost over the sum of both lengths is the normalized one. Starts and ends are aligned.

    Args:
        seeds: (draw, seed step, dimension), z-scored.
        mimic: (mimic step, dimension), z-scored.
        band: Maximum distance of a step from the straight line, as a fraction of the length.
    """
    rows, columns = seeds.shape[1], len(mimic)
    size = max(1, _COSTS // (rows * columns))
    for start in range(0, len(seeds), size):
        batch = seeds[start : start + size]
        cost, choice = _accumulate(batch, mimic, band)
        i, j, on = _trace(choice)
        draw = np.arange(len(batch))
        yield Warped(cost, _correlate(batch[draw, i], mimic[j], on), i, j, on)


def _accumulate(seeds: Floats, mimic: Floats, band: float) -> tuple[Floats, NDArray[np.int8]]:
    """Return the minimum total cost (draw,), and the step that led to each (seed step, mimic step, draw)."""
    draws, rows, columns = *seeds.shape[:2], len(mimic)
    x, y = seeds.transpose(1, 2, 0).astype(np.float32), mimic.astype(np.float32)  # draws last, contiguous
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)[None, :, None] - 2 * (y @ x)
    # A diagonal of the matrix is every (columns - 1)th of its values in a row: all below are views, not copies.
    local = np.maximum(squares / mimic.shape[1], 0).reshape(-1, draws)
    choice = np.zeros((rows * columns, draws), np.int8)
    stride = max(1, columns - 1)
    # Total costs of the last two diagonals, by seed step + 1; infinite outside the matrix and the band.
    before, last = (np.full((rows + 1, draws), np.inf, np.float32) for _ in range(2))
    before[0] = 0
    for diagonal, (top, bottom) in enumerate(_iterate_band(rows, columns, band)):
        current = np.full((rows + 1, draws), np.inf, np.float32)
        if top < bottom:
            start = top * columns + diagonal - top
            indices = slice(start, start + (bottom - top - 1) * stride + 1, stride)
            cost = local[indices]
            both = before[top:bottom] + 2 * cost
            seed_only, mimic_only = last[top:bottom], last[top + 1 : bottom + 1]
            single = np.minimum(seed_only, mimic_only) + cost
            current[top + 1 : bottom + 1] = np.minimum(both, single)
            choice[indices] = np.where(both <= single, 0, np.where(seed_only <= mimic_only, 1, 2))
        before, last = last, current
    return last[rows].astype(np.float64), choice.reshape(rows, columns, draws)


def _iterate_band(rows: int, columns: int, band: float) -> Iterator[tuple[int, int]]:
    """Yield the first and the end row within the band for each diagonal of a (rows, columns) matrix."""
    width = max(band, 1.5 / min(rows, columns))  # never so narrow that no path remains
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows - 1, diagonal) + 1)
        distance = np.abs(i / max(1, rows - 1) - (diagonal - i) / max(1, columns - 1))
        near = i[distance <= width]
        yield (int(near[0]), int(near[-1]) + 1) if len(near) else (0, 0)


def _trace(choice: NDArray[np.int8]) -> tuple[Steps, Steps, Bools]:
    """Return the paths from the last steps to the first: (position, draw) of either side, and the valid positions."""
    rows, columns, draws = choice.shape
    draw = np.arange(draws)
    i, j = np.full(draws, rows - 1), np.full(draws, columns - 1)
    seed, mimic, on = [i], [j], [np.ones(draws, np.bool_)]
    while (i + j).any():
        on.append(i + j > 0)
        step = choice[i, j, draw]
        # At an edge only one step is finite, so neither index passes 0 before the path has ended.
        i, j = np.maximum(i - (step != 2), 0), np.maximum(j - (step != 1), 0)
        seed.append(i)
        mimic.append(j)
    return np.stack(seed), np.stack(mimic), np.stack(on)


def _correlate(x: Floats, y: Floats, on: Bools) -> Floats:
    """Return Pearson's correlation (draw, dimension) of x and y (position, draw, dimension) over valid positions."""
    weight = (on / on.sum(axis=0))[..., None]
    x = x - (weight * x).sum(axis=0)
    y = y - (weight * y).sum(axis=0)
    std = np.sqrt((weight * x * x).sum(axis=0) * (weight * y * y).sum(axis=0))
    defined = std > FLAT**2
    return np.asarray(np.where(defined, (weight * x * y).sum(axis=0) / np.where(defined, std, 1.0), np.nan))


def read_batches(orders: Steps, values: Floats) -> Iterator[Floats]:
    """Yield values (step, dimension) read in the orders (draw, step), in batches of draws that fit the memory."""
    size = max(1, _VALUES // values.size)
    for start in range(0, len(orders), size):
        yield values[orders[start : start + size]]
