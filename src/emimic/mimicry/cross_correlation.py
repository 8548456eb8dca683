"""Two recordings on a common clock, such as both sides of a conversation: windowed cross-correlation."""

from collections.abc import Iterable, Sequence

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry import alignment
from emimic.mimicry.alignment import Grid, mean, standardize
from emimic.mimicry.results import Bools, Curves, Found, Lead, MimicryError, Settings, Windows


def find(first: Curves, second: Curves, settings: Settings, stand_ins: Sequence[Curves]) -> Found:
    """The peak, over lags, of the mean of the windows' correlations; chance: the same of each surrogate.

    Surrogates speak at the seed's own times: who speaks when isn't what is tested, and every draw has as many windows.
    """
    steps = min(len(first.times), len(second.times))
    width, reach = round(settings.window / first.hop), int(settings.lag / first.hop + 1e-6)
    if steps < width + 2 * reach or width < 3:
        raise MimicryError(
            f"{first.name}, {second.name}: {steps * first.hop:.1f} s in common are too short for a window of "
            f"{settings.window:g} s with lags of {settings.lag:g} s on both sides (hop {first.hop:g} s); "
            "give longer recordings or a shorter window"
        )
    first, second = first.cut(steps), second.cut(steps)
    grid = alignment.grid(
        first.heard, second.heard, width=width, reach=reach, hop=max(1, width // 2), voice=settings.voice
    )
    if not grid.kept.any():
        raise MimicryError(
            f"{first.name}, {second.name}: in none of {len(grid.kept)} windows of {settings.window:g} s are both heard "
            f"{settings.voice:.0%} of the time at enough lags; try a longer window, or a lower share of voice"
        )
    x, y = _ready(first), _ready(second)
    each = np.stack([r[0] for r in alignment.windowed(x[None], y, first.heard, second.heard, grid)])
    together = _over_windows(each[:, None], grid, 1)
    whole = alignment.grid(
        first.heard, second.heard, width=steps - 2 * reach, reach=reach, hop=1, voice=min(settings.voice, 0.1)
    )
    as_one = next(
        alignment.windowed(x[None], y, first.heard, second.heard, whole), np.full_like(together, np.nan)
    )
    windows = _windows(first, grid, each)
    return Found(
        observed=_peak(together)[0][0],
        draws=_draws(first, second, grid, settings, stand_ins),
        windows=windows,
        leads=_leads(together, _with_mean(as_one), windows, first.hop),
    )


def _ready(one: Curves) -> Floats:
    """Curves (step, dimension), z-scored over what is heard, 0 in gaps."""
    values = np.zeros_like(one.values)
    values[one.heard] = standardize(one.values[one.heard])
    return values


def _draws(
    first: Curves, second: Curves, grid: Grid, settings: Settings, stand_ins: Sequence[Curves]
) -> Floats:
    """What chance reaches: (draw, dimension + 1)."""
    y = _ready(second)
    if stand_ins:
        found = []
        for one in (one.cut(len(first.times)) for one in stand_ins):
            windows = alignment.grid(
                one.heard, second.heard, width=grid.width, reach=grid.reach, hop=max(1, grid.width // 2),
                voice=settings.voice,
            )  # fmt: skip
            found.append(_reached(_ready(one)[None], y, one.heard, second.heard, windows))
        return np.concatenate(found)
    voiced = _ready(first)[first.heard]
    found = []
    for batch in alignment.batches(alignment.orders(first, settings), voiced):
        seeds = np.zeros((len(batch), *first.values.shape))
        seeds[:, first.heard] = batch
        found.append(_reached(seeds, y, first.heard, second.heard, grid))
    return np.concatenate(found)


def _reached(seeds: Floats, mimic: Floats, seed_heard: Bools, mimic_heard: Bools, grid: Grid) -> Floats:
    correlations = alignment.windowed(seeds, mimic, seed_heard, mimic_heard, grid)
    return _peak(_over_windows(correlations, grid, len(seeds)))[0]


def _over_windows(correlations: Iterable[Floats], grid: Grid, draws: int) -> Floats:
    """Mean over windows of (draw, lag, dimension), with the mean over dimensions as a last one.

    A window weighs as much as it has steps heard on both sides. A lag with less weight than half of the best one's is
    left out: its mean would be the wildest.
    """
    total, count = np.zeros(()), np.zeros(())
    for one, pairs in zip(correlations, grid.pairs[grid.kept], strict=True):
        there = np.isfinite(one)
        total = total + np.where(there, pairs[:, None] * one, 0.0)
        count = count + there * pairs[:, None]
    enough = (count > 0) & (2 * count >= np.max(count, axis=1, keepdims=True))
    return _with_mean(np.where(enough, total / np.maximum(count, 1.0), np.nan))


def _with_mean(values: Floats) -> Floats:
    """(..., dimension) -> (..., dimension + 1), the mean of those that are there at the end."""
    return np.concatenate([values, mean(values, -1)[..., None]], axis=-1)


def _peak(values: Floats) -> tuple[Floats, Floats]:
    """Highest of (draw, lag, dimension) over lags, and its lag in steps: (draw, dimension) each, NaN without any.

    Of equal ones the shortest lag counts.
    """
    reach = values.shape[1] // 2
    lags = np.arange(-reach, reach + 1)
    order = np.argsort(np.abs(lags), kind="stable")
    known = np.where(np.isfinite(values), values, -np.inf)[:, order]
    best = known.argmax(axis=1)
    top = known.max(axis=1)
    there = np.isfinite(top)
    return np.where(there, top, np.nan), np.where(there, lags[order][best], np.nan)


def _windows(first: Curves, grid: Grid, each: Floats) -> Windows:
    peaks, lags = _peak(_with_mean(each))
    starts = grid.starts[grid.kept]
    centers = (first.times[starts] + first.times[starts + grid.width - 1]) / 2
    return Windows(
        times=centers,
        peaks=peaks,
        lags=lags * first.hop,
        without_voice=int((~grid.kept).sum()),
        without_variance=tuple(int(n) for n in np.isnan(peaks[:, :-1]).sum(axis=0)),
    )


def _leads(together: Floats, whole: Floats, windows: Windows, hop: float) -> tuple[Lead, ...]:
    """A Lead for each dimension and, last, overall."""
    lags = _peak(together)[1][0] * hop
    whole_peaks, whole_lags = _peak(whole)
    leads = []
    for place, lag in enumerate(lags):
        there = windows.lags[np.isfinite(windows.lags[:, place]), place]
        leads.append(
            Lead(
                lag=float(lag),
                whole_lag=float(whole_lags[0, place]) * hop,
                whole_peak=float(whole_peaks[0, place]),
                median_lag=float(np.median(there)) if len(there) else float("nan"),
                mean_peak=float(mean(windows.peaks[:, place], 0)),
                seed_leads=float(mean(there > 0, 0)),
                mimic_leads=float(mean(there < 0, 0)),
            )
        )
    return tuple(leads)
