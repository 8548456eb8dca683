"""Windowed cross-correlation of two simultaneous recordings, such as both sides of a conversation."""

from collections.abc import Iterable, Sequence

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry import alignment
from emimic.mimicry.alignment import WindowGrid, average, standardize
from emimic.mimicry.results import Alignment, Bools, Lead, MimicryError, Series, Settings, Windows


def align(first: Series, second: Series, settings: Settings, stand_ins: Sequence[Series]) -> Alignment:
    """Return the peak, over lags, of the windows' mean correlation, and that of every surrogate or stand-in.

    Surrogates are voiced at the seed's own times: who speaks when is not tested, and every draw has as many windows.

    Raises:
        MimicryError: The recordings are too short, or no window has enough voice on both sides.
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
    grid = alignment.place_windows(
        first.voiced, second.voiced, width=width, reach=reach, hop=max(1, width // 2), voice=settings.voice
    )
    if not grid.valid.any():
        raise MimicryError(
            f"{first.name}, {second.name}: in none of {len(grid.valid)} windows of {settings.window:g} s both have "
            f"a voice {settings.voice:.0%} of the time at enough lags; try a longer window, or a lower fraction of "
            "voice"
        )
    x, y = _standardize_voiced(first), _standardize_voiced(second)
    correlations = alignment.correlate_windows(x[None], y, first.voiced, second.voiced, grid)
    by_window = np.stack([correlation[0] for correlation in correlations])
    mean = _average_windows(by_window[:, None], grid, 1)
    single_grid = alignment.place_windows(
        first.voiced,
        second.voiced,
        width=steps - 2 * reach,
        reach=reach,
        hop=1,
        voice=min(settings.voice, 0.1),
    )
    single = next(
        alignment.correlate_windows(x[None], y, first.voiced, second.voiced, single_grid),
        np.full_like(mean, np.nan),
    )
    windows = _make_windows(first, grid, by_window)
    return Alignment(
        observed=_find_peak(mean)[0][0],
        draws=_draw(first, second, grid, settings, stand_ins),
        windows=windows,
        leads=_make_leads(mean, _append_mean(single), windows, first.hop),
    )


def _standardize_voiced(series: Series) -> Floats:
    """Return values (step, dimension), z-scored over the voiced steps, 0 in silence."""
    values = np.zeros_like(series.values)
    values[series.voiced] = standardize(series.values[series.voiced])
    return values


def _draw(
    first: Series, second: Series, grid: WindowGrid, settings: Settings, stand_ins: Sequence[Series]
) -> Floats:
    """Return the similarities by chance: (draw, dimension + 1)."""
    y = _standardize_voiced(second)
    peaks = []
    if stand_ins:
        for series in (series.cut(len(first.times)) for series in stand_ins):
            windows = alignment.place_windows(
                series.voiced, second.voiced, width=grid.width, reach=grid.reach, hop=max(1, grid.width // 2),
                voice=settings.voice,
            )  # fmt: skip
            x = _standardize_voiced(series)[None]
            peaks.append(_compute_peaks(x, y, series.voiced, second.voiced, windows))
        return np.concatenate(peaks)
    voiced = _standardize_voiced(first)[first.voiced]
    for batch in alignment.read_batches(alignment.draw_orders(first, settings), voiced):
        seeds = np.zeros((len(batch), *first.values.shape))
        seeds[:, first.voiced] = batch
        peaks.append(_compute_peaks(seeds, y, first.voiced, second.voiced, grid))
    return np.concatenate(peaks)


def _compute_peaks(
    seeds: Floats, mimic: Floats, seed_voiced: Bools, mimic_voiced: Bools, grid: WindowGrid
) -> Floats:
    correlations = alignment.correlate_windows(seeds, mimic, seed_voiced, mimic_voiced, grid)
    return _find_peak(_average_windows(correlations, grid, len(seeds)))[0]


def _average_windows(correlations: Iterable[Floats], grid: WindowGrid, draws: int) -> Floats:
    """Return the mean over windows of (draw, lag, dimension), with the mean over dimensions last.

    A window's weight is its number of steps voiced on both sides. A lag with less than half the weight of the best
    one is NaN: its mean would vary most by chance.
    """
    total, count = np.zeros(()), np.zeros(())
    for correlation, pairs in zip(correlations, grid.pairs[grid.valid], strict=True):
        finite = np.isfinite(correlation)
        total = total + np.where(finite, pairs[:, None] * correlation, 0.0)
        count = count + finite * pairs[:, None]
    enough = (count > 0) & (2 * count >= np.max(count, axis=1, keepdims=True))
    return _append_mean(np.where(enough, total / np.maximum(count, 1.0), np.nan))


def _append_mean(values: Floats) -> Floats:
    """Return (..., dimension + 1) of (..., dimension), with the mean of the finite ones last."""
    return np.concatenate([values, average(values, -1)[..., None]], axis=-1)


def _find_peak(values: Floats) -> tuple[Floats, Floats]:
    """Return the maximum of (draw, lag, dimension) over lags, and its lag in steps: (draw, dimension) each.

    Of equal values the shortest lag counts. NaN if no value is finite.
    """
    reach = values.shape[1] // 2
    lags = np.arange(-reach, reach + 1)
    order = np.argsort(np.abs(lags), kind="stable")
    ordered = np.where(np.isfinite(values), values, -np.inf)[:, order]
    best = ordered.argmax(axis=1)
    peak = ordered.max(axis=1)
    finite = np.isfinite(peak)
    return np.where(finite, peak, np.nan), np.where(finite, lags[order][best], np.nan)


def _make_windows(first: Series, grid: WindowGrid, by_window: Floats) -> Windows:
    peaks, lags = _find_peak(_append_mean(by_window))
    starts = grid.starts[grid.valid]
    centers = (first.times[starts] + first.times[starts + grid.width - 1]) / 2
    return Windows(
        times=centers,
        peaks=peaks,
        lags=lags * first.hop,
        without_voice=int((~grid.valid).sum()),
        without_variance=tuple(int(count) for count in np.isnan(peaks[:, :-1]).sum(axis=0)),
    )


def _make_leads(mean: Floats, single: Floats, windows: Windows, hop: float) -> tuple[Lead, ...]:
    """Return a Lead for each dimension and, last, overall.

    Args:
        mean: (1, lag, dimension + 1) the windows' mean correlation.
        single: (1, lag, dimension + 1) the correlation of the recording as one window.
        windows: The windows' peaks.
        hop: Seconds per step.
    """
    lags = _find_peak(mean)[1][0] * hop
    whole_peaks, whole_lags = _find_peak(single)
    leads = []
    for column, lag in enumerate(lags):
        finite = windows.lags[np.isfinite(windows.lags[:, column]), column]
        leads.append(
            Lead(
                lag=float(lag),
                whole_lag=float(whole_lags[0, column]) * hop,
                whole_peak=float(whole_peaks[0, column]),
                median_lag=float(np.median(finite)) if len(finite) else float("nan"),
                mean_peak=float(average(windows.peaks[:, column], 0)),
                seed_leads=float(average(finite > 0, 0)),
                mimic_leads=float(average(finite < 0, 0)),
            )
        )
    return tuple(leads)
