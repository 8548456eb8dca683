"""Two sets of curves side by side: dynamic time warping, windowed cross-correlation, surrogates. NumPy only.

Warping is written here: the libraries take no batch of series against one, and dtw-python brings scipy and the GPL.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emimic.metrics import Floats
from emimic.mimicry.results import Bools, Curves, Settings

Steps: TypeAlias = NDArray[np.intp]

FLAT: Final = 1e-3
"""A stretch of a z-scored curve whose standard deviation is below this has no variance to correlate."""

TURN: Final = 60.0
"""Seconds after which a surrogate turns back, on average. Around a turn it is a mirror image of itself, which likens it
to nothing: with a turn every 5 s three times the stated share of unrelated pairs is found similar, with one every 20 s
6 % instead of 5 %. Without any, too few surrogates differ from the seed in a short recording."""

_CELLS: Final = 2_000_000  # of the cost matrices held at once while warping: 8 MB
_VALUES: Final = 4_000_000  # of the surrogate curves held at once


def standardize(curves: Floats) -> Floats:
    """Curves (..., step, dimension) to zero mean and unit variance over their steps; a constant one to zeros."""
    centerd = curves - curves.mean(axis=-2, keepdims=True)
    spread = centerd.std(axis=-2, keepdims=True)
    flat = spread <= 1e-9 * np.maximum(1e-3, np.abs(curves).max(axis=-2, keepdims=True))
    return np.asarray(np.where(flat, 0.0, centerd / np.where(flat, 1.0, spread)))


def walks(steps: int, draws: int, turn: int, rng: np.random.Generator) -> Steps:
    """Orders (draw, step) in which to read a curve of `steps` again: surrogates that keep its autocorrelation.

    Each starts anywhere, in either direction, turns back at the ends and at about one random place every `turn` steps
    (once at least). Neighbours stay neighbours, so there is no jump that the curve does not have. Circular shifts
    jump where end and start meet, and too few differ: kept away from the observed order they find too much (one in
    five unrelated pairs of 15 s at a level of 5 %), not kept away they find too little.
    """
    direction = np.broadcast_to(rng.choice((-1, 1), size=(draws, 1)), (draws, steps)).copy()
    for _ in range(max(1, round(steps / turn))):
        place = rng.integers(1, max(2, steps), size=(draws, 1))
        direction[np.arange(steps) >= place] *= -1
    place = (rng.integers(2 * steps, size=(draws, 1)) + direction.cumsum(axis=1)) % (2 * steps)
    return np.asarray(np.minimum(place, 2 * steps - 1 - place))


def orders(seed: Curves, settings: Settings) -> Steps:
    """The surrogates of a seed, as orders (draw, voiced step) in which to read what is heard of it."""
    rng = np.random.default_rng(settings.seed)
    return walks(int(seed.heard.sum()), settings.draws, max(1, round(TURN / seed.hop)), rng)


def mean(values: Floats | Bools, axis: int) -> Floats:
    """The mean of what is there along an axis; NaN where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=axis)
    total = np.where(there, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


@dataclass(frozen=True, slots=True)
class Warped:
    """A batch of recordings warped onto one: total cost (draw,), similarity (draw, dimension), and the paths.

    seed, mimic (place, draw): the steps that lie on each other, from the last to the first; on (place, draw): False
    beyond a path's beginning. A dimension without variance along the path has the similarity NaN.
    """

    cost: Floats
    similarity: Floats
    seed: Steps
    mimic: Steps
    on: Bools


def warp(seeds: Floats, mimic: Floats, *, band: float) -> Iterator[Warped]:
    """Warps each of seeds (draw, seed step, dimension) onto mimic (mimic step, dimension), all z-scored.

    Local cost: the squared distance, averaged over dimensions. Steps (1, 1), (1, 0), (0, 1) count 2, 1, 1 times, so
    the cost over the sum of both lengths is the normalized one. Start meets start, end meets end, and no step lies
    further than `band` (a share of the length) from the straight line. Yields batches, in order.
    """
    rows, columns = seeds.shape[1], len(mimic)
    size = max(1, _CELLS // (rows * columns))
    for start in range(0, len(seeds), size):
        batch = seeds[start : start + size]
        cost, choice = _accumulate(batch, mimic, band)
        i, j, on = _trace(choice)
        draw = np.arange(len(batch))
        yield Warped(cost, _correlation(batch[draw, i], mimic[j], on), i, j, on)


def _accumulate(seeds: Floats, mimic: Floats, band: float) -> tuple[Floats, NDArray[np.int8]]:
    """The least total cost (draw,), and the step that led to each cell (seed step, mimic step, draw)."""
    draws, rows, columns = *seeds.shape[:2], len(mimic)
    x, y = (
        seeds.transpose(1, 2, 0).astype(np.float32),
        mimic.astype(np.float32),
    )  # the draws last, side by side
    cells = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)[None, :, None] - 2 * (y @ x)
    # A diagonal of the matrix is every (columns - 1)th of its cells in a row: all below are views, not copies.
    local = np.maximum(cells / mimic.shape[1], 0).reshape(-1, draws)
    choice = np.zeros((rows * columns, draws), np.int8)
    stride = max(1, columns - 1)
    # Total costs of the last two diagonals, by seed step + 1; infinite beyond the matrix and beyond the band.
    before, last = (np.full((rows + 1, draws), np.inf, np.float32) for _ in range(2))
    before[0] = 0
    for diagonal, (top, bottom) in enumerate(_inside(rows, columns, band)):
        now = np.full((rows + 1, draws), np.inf, np.float32)
        if top < bottom:
            start = top * columns + diagonal - top
            place = slice(start, start + (bottom - top - 1) * stride + 1, stride)
            here = local[place]
            both = before[top:bottom] + 2 * here
            seed_only, mimic_only = last[top:bottom], last[top + 1 : bottom + 1]
            one = np.minimum(seed_only, mimic_only) + here
            now[top + 1 : bottom + 1] = np.minimum(both, one)
            choice[place] = np.where(both <= one, 0, np.where(seed_only <= mimic_only, 1, 2))
        before, last = last, now
    return last[rows].astype(np.float64), choice.reshape(rows, columns, draws)


def _inside(rows: int, columns: int, band: float) -> Iterator[tuple[int, int]]:
    """For each diagonal of a (rows, columns) matrix the rows, first and end, that lie within the band."""
    width = max(band, 1.5 / min(rows, columns))  # never so narrow that no path is left
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows - 1, diagonal) + 1)
        away = np.abs(i / max(1, rows - 1) - (diagonal - i) / max(1, columns - 1))
        near = i[away <= width]
        yield (int(near[0]), int(near[-1]) + 1) if len(near) else (0, 0)


def _trace(choice: NDArray[np.int8]) -> tuple[Steps, Steps, Bools]:
    """The paths back from the last cell to the first: steps (place, draw) of either, and which places count."""
    rows, columns, draws = choice.shape
    draw = np.arange(draws)
    i, j = np.full(draws, rows - 1), np.full(draws, columns - 1)
    seed, mimic, on = [i], [j], [np.ones(draws, np.bool_)]
    while (i + j).any():
        on.append(i + j > 0)
        step = choice[i, j, draw]
        # At an edge only one way is finite, so neither index passes 0 before the path has ended.
        i, j = np.maximum(i - (step != 2), 0), np.maximum(j - (step != 1), 0)
        seed.append(i)
        mimic.append(j)
    return np.stack(seed), np.stack(mimic), np.stack(on)


def _correlation(x: Floats, y: Floats, on: Bools) -> Floats:
    """Pearson's correlation (draw, dimension) of x and y (place, draw, dimension) over the places that are `on`."""
    weight = (on / on.sum(axis=0))[..., None]
    x = x - (weight * x).sum(axis=0)
    y = y - (weight * y).sum(axis=0)
    spread = np.sqrt((weight * x * x).sum(axis=0) * (weight * y * y).sum(axis=0))
    defined = spread > FLAT**2
    return np.asarray(
        np.where(defined, (weight * x * y).sum(axis=0) / np.where(defined, spread, 1.0), np.nan)
    )


@dataclass(frozen=True, slots=True)
class Grid:
    """Where windows lie on a common clock, and which lags each can tell.

    starts (window,): the first step of each; width, reach: steps of a window and of the longest lag. pairs (window,
    lag): steps heard on both sides at each lag, lags from -reach to +reach; usable (window, lag): enough of them, at
    the lag and at its mirror image (else who speaks second would seem to follow). kept (window,): at least half of
    the lags are usable.
    """

    starts: Steps
    width: int
    reach: int
    pairs: NDArray[np.intp]
    usable: Bools
    kept: Bools


def grid(seed_heard: Bools, mimic_heard: Bools, *, width: int, reach: int, hop: int, voice: float) -> Grid:
    """Windows of `width` steps every `hop` steps, whose lags stay within the recordings; heard (step,) on each side.

    voice: the share of a window's steps that both must be heard in.
    """
    starts = np.arange(reach, len(seed_heard) - width - reach + 1, hop)
    inside = starts[:, None] + np.arange(width)
    lags = np.arange(-reach, reach + 1)
    pairs = (seed_heard[inside][..., None] & mimic_heard[inside[..., None] + lags]).sum(axis=1)
    enough = pairs >= max(3, voice * width)
    usable = enough & enough[:, ::-1]
    kept = usable.mean(axis=1) >= 0.5
    return Grid(starts, width, reach, pairs, usable & kept[:, None], kept)


def windowed(
    seeds: Floats, mimic: Floats, seed_heard: Bools, mimic_heard: Bools, windows: Grid
) -> Iterator[Floats]:
    """Correlation of each kept window with the other side a lag later, for seeds that are heard at the same steps.

    seeds (draw, step, dimension) and mimic (step, dimension): z-scored, 0 in gaps. Yields (draw, lag, dimension) for
    each kept window in turn: NaN at lags that are not usable, and where a side has no variance.
    """
    lags = np.arange(-windows.reach, windows.reach + 1)
    for start, usable in zip(windows.starts[windows.kept], windows.usable[windows.kept], strict=True):
        inside = start + np.arange(windows.width)
        behind = inside[:, None] + lags
        both = (seed_heard[inside][:, None] & mimic_heard[behind]).astype(np.float64)
        count = np.maximum(both.sum(axis=0), 1.0)
        y = mimic[behind].transpose(2, 0, 1)  # (dimension, step, lag)
        y = both * (y - (both * y).sum(axis=1, keepdims=True) / count)
        y_var = np.square(y).sum(axis=1) / count
        x = seeds[:, inside].transpose(2, 0, 1)  # (dimension, draw, step)
        x_mean = x @ both / count
        x_var = np.maximum(np.square(x) @ both / count - np.square(x_mean), 0.0)
        defined = usable & (x_var > FLAT**2) & (y_var > FLAT**2)[:, None]
        spread = np.sqrt(np.where(defined, x_var * y_var[:, None], 1.0))
        yield np.where(defined, x @ y / count / spread, np.nan).transpose(1, 2, 0)


def batches(orders: Steps, curves: Floats) -> Iterator[Floats]:
    """The curves (step, dimension) read in each of the orders (draw, step), as many draws at a time as are light."""
    size = max(1, _VALUES // curves.size)
    for start in range(0, len(orders), size):
        yield curves[orders[start : start + size]]
