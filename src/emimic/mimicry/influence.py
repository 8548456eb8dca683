"""Cross-lagged regression in windows: does the past of one voice predict the other beyond the other's own past?"""

from typing import Final

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry.results import Coupling
from emimic.mimicry.windows import Stack, Steps, WindowGrid

_EVERY: Final = 2  # steps between the lags that are tried, and between the two steps of the own past
_VALUES: Final = 2_000_000  # values of one array that are held at once: 16 MB
_RIDGE: Final = 1e-4  # added to each variance, so that nearly equal values of the own past can be inverted
_FREEDOM: Final = 8  # minimum degrees of freedom


def compute_influence(sources: Stack, target: Stack, grid: WindowGrid, coupling: Coupling) -> Floats:
    """Return the influence (source, dimension) of each of several recordings on one, in [-1, 1].

    The regression y(s + k) = a_w + b1 y(s) + b2 y(s - 2) + c x(s), with an intercept a_w for each window w, is fitted
    over all steps s of all windows at which the four values have a voice. The influence is the partial correlation of
    y(s + k) and x(s), given the own past of y: that of the sign and largest magnitude, over lags k of 2, 4, ... steps,
    which `coupling` asks for. Its square is the fraction of the remaining variance that x explains (Granger 1969,
    Econometrica 37, 424-438; cross-lagged correlation: Kenny 1975, Psychological Bulletin 82, 887-903). The windows
    follow each other without overlap. NaN without enough steps or variance.

    Timelines are smooth, so two steps of the own past don't describe all that y inherits from its past: a voice that
    only follows may seem to influence a little. Surrogates and pseudo-dyads bound chance, not this; compare directions.

    Args:
        sources: Recordings or surrogates, x.
        target: One recording, y.
        grid: Windows and lags.
        coupling: The sign of the influence.
    """
    lags = _EVERY * np.arange(1, max(1, grid.reach // _EVERY - 1) + 1)
    steps = min(sources.values.shape[1], target.values.shape[1])
    starts = np.arange(_EVERY, steps - grid.width - int(lags[-1]) + 1, grid.width)
    count, products = _sum_products(sources, target, starts, lags, grid.width)
    by_lag = _compute_partial(products, count)
    ranked = {"positive": by_lag, "negative": -by_lag, "both": np.abs(by_lag)}[coupling]
    best = np.where(np.isfinite(by_lag), ranked, -np.inf).argmax(axis=0)
    return np.asarray(np.take_along_axis(by_lag, best[None], axis=0)[0])


def _sum_products(
    sources: Stack, target: Stack, starts: Steps, lags: Steps, width: int
) -> tuple[Floats, Floats]:
    """Return degrees of freedom (lag, source, 1) and sums of products (lag, source, dimension, 4, 4).

    The four are y(s + k), y(s), y(s - 2) and x(s), each centered on its mean in the window.
    """
    sizes = len(lags), len(sources), sources.values.shape[2]
    products, count = np.zeros((*sizes, 4, 4)), np.zeros((*sizes[:2], 1))
    at_once = max(1, _VALUES // (sizes[1] * sizes[2] * max(width, 25 * sizes[0])))
    for begin in range(0, len(starts), at_once):
        inside = starts[begin : begin + at_once, None] + np.arange(width)
        x_on = sources.voiced[:, inside].transpose(1, 0, 2)[:, None]  # (window, 1, source or 1, step)
        x = sources.values[:, inside].transpose(1, 3, 0, 2)  # (window, dimension, source, step)
        columns = _make_columns(target, inside, lags)  # (4, window, dimension, step, lag)
        n = x_on @ columns[0][:, :1]  # (window, 1, source or 1, lag)
        sums = np.zeros((4, 4, len(inside), sizes[2], sizes[1], sizes[0]))
        means = np.zeros((4, *sums.shape[2:]))
        for i in range(1, 4):
            means[i - 1] = x_on @ columns[i]
            sums[i - 1, 3] = sums[3, i - 1] = x @ columns[i]
            for j in range(i, 4):
                sums[i - 1, j - 1] = sums[j - 1, i - 1] = x_on @ (columns[i] * columns[j])
        means[3] = x @ columns[0]
        sums[3, 3] = np.square(x) @ columns[0]
        sums -= means[:, None] * means[None] / np.maximum(n, 1.0)
        enough = n >= 3
        products += np.where(enough, sums, 0.0).sum(axis=2).transpose(4, 3, 2, 0, 1)
        count += np.where(enough, n - 1, 0.0).sum(axis=0)[0].T[..., None]
    return count, products


def _make_columns(target: Stack, inside: Steps, lags: Steps) -> list[Floats]:
    """Return 1, y(s + k), y(s) and y(s - 2), each (window, dimension, step, lag), 0 unless the three have a voice."""
    own = [inside[..., None] + lags, inside[..., None], inside[..., None] - _EVERY]
    on = np.prod(np.broadcast_arrays(*(target.voiced[0, steps] for steps in own)), axis=0)[:, None]
    values = [target.values[0, steps].transpose(0, 3, 1, 2) * on for steps in own]
    return [np.broadcast_to(on, values[0].shape), *values]


def _compute_partial(products: Floats, count: Floats) -> Floats:
    """Return the partial correlation of the first and last of four variables, given the other two.

    It is S[0, 3] / sqrt(S[0, 0] S[3, 3]), with S the correlations of both that remain after the regression on the other
    two, written out, as a general inverse takes five times as long.

    Args:
        products: (..., dimension, 4, 4) sums of centered products.
        count: (..., 1) degrees of freedom.
    """
    power = np.einsum("...ii->...i", products)
    defined = (count >= _FREEDOM) & (power > 1e-6 * np.maximum(count, 1.0)[..., None]).all(axis=-1)
    scale = np.sqrt(np.where(defined[..., None], power, 1.0))

    def correlate(i: int, j: int) -> Floats:
        return np.where(defined, products[..., i, j] / (scale[..., i] * scale[..., j]), 0.0)

    own, variance = correlate(1, 2), 1.0 + _RIDGE
    first, last = ((correlate(i, 1), correlate(i, 2)) for i in (0, 3))

    def explain(u: tuple[Floats, Floats], v: tuple[Floats, Floats]) -> Floats:
        both = variance * (u[0] * v[0] + u[1] * v[1]) - own * (u[0] * v[1] + u[1] * v[0])
        return np.asarray(both / (variance**2 - np.square(own)))

    remaining = (variance - explain(first, first)) * (variance - explain(last, last))
    partial = (correlate(0, 3) - explain(first, last)) / np.sqrt(remaining)
    return np.asarray(np.where(defined, np.clip(partial, -1.0, 1.0), np.nan))
