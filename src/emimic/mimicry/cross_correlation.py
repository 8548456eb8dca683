"""Windowed cross-correlation of two simultaneous recordings, such as both sides of a conversation."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry import alignment
from emimic.mimicry.alignment import average
from emimic.mimicry.influence import compute_influence
from emimic.mimicry.lag_profile import append_mean, find_extreme, make_profile
from emimic.mimicry.measures import Measured, measure, name_influences
from emimic.mimicry.results import Alignment, Coupling, Lead, MimicryError, Series, Settings, Windows
from emimic.mimicry.windows import (
    Correlations,
    Stack,
    WindowGrid,
    correlate_windows,
    fill_silence,
    make_stack,
)

_WHOLE: Final = (
    0.1  # minimum fraction of a recording that is voiced on both sides, to correlate it as one window
)


def align(
    first: Series, second: Series, settings: Settings, stand_ins: Sequence[Series], stop: Callable[[], object]
) -> Alignment:
    """Return the peak, over lags, of the windows' mean correlation, and that of every surrogate or stand-in.

    Surrogates are voiced at the seed's own times: who speaks when is not tested, and every draw has as many windows.
    `stop` is called between batches of draws.

    Raises:
        MimicryError: The recordings are too short, or no window has enough voice on both sides.
    """
    steps = min(len(first.times), len(second.times))
    grid = WindowGrid.from_settings(settings, first.hop)
    if steps < grid.width + 2 * grid.reach or grid.width < 3:
        raise MimicryError(
            f"{first.name}, {second.name}: {steps * first.hop:.1f} s in common are too short for a window of "
            f"{settings.window:g} s with lags of {settings.lag:g} s on both sides (hop {first.hop:g} s); "
            "give longer recordings or a shorter window"
        )
    first, second = first.cut(steps), second.cut(steps)
    x, y = make_stack([first]), make_stack([second])
    windows = list(correlate_windows(x, y, grid))
    if not windows:
        raise MimicryError(
            f"{first.name}, {second.name}: in none of {len(grid.place(steps))} windows of {settings.window:g} s both "
            f"have a voice {settings.voice:.0%} of the time at enough lags; try a longer window, or a lower fraction "
            "of voice"
        )
    observed = measure(x, y, settings, first.hop)
    drawn = [measure(batch, y, settings, first.hop) for batch in _draw(first, settings, stand_ins, stop)]
    influences = name_influences(
        compute_influence(x, y, grid, settings.coupling), compute_influence(y, x, grid, settings.coupling)
    )
    drawn_influences = _draw_influences(first, second, grid, settings, stand_ins, stop)
    return Alignment(
        observed=observed.values["similarity"][0],
        draws=_join(drawn, "similarity"),
        windows=(summary := _make_windows(first, grid, windows, settings.coupling)),
        leads=_make_leads(observed, _correlate_whole(x, y, grid, settings), summary, first.hop),
        measures={
            **{name: (values[0], _join(drawn, name)) for name, values in observed.values.items()},
            **{name: (values[0], drawn_influences[name]) for name, values in influences.items()},
        },
        profile=(
            observed.profile.correlation[0, :, -1],
            np.concatenate([one.profile.correlation[..., -1] for one in drawn]),
        ),
    )


def _join(drawn: Sequence[Measured], name: str) -> Floats:
    return np.concatenate([one.values[name] for one in drawn])


def _draw_influences(
    first: Series,
    second: Series,
    grid: WindowGrid,
    settings: Settings,
    stand_ins: Sequence[Series],
    stop: Callable[[], object],
) -> dict[str, Floats]:
    """Return the influences by chance: surrogates or stand-ins are the source of one, and of the other.

    Surrogates of the mimic influence the seed, stand-ins of the seed are influenced by the mimic.
    """
    x, y = make_stack([first]), make_stack([second])
    forward = [
        compute_influence(batch, y, grid, settings.coupling)
        for batch in _draw(first, settings, stand_ins, stop)
    ]
    if stand_ins:
        backward = [
            compute_influence(y, batch, grid, settings.coupling)
            for batch in _draw(first, settings, stand_ins, stop)
        ]
    else:
        backward = [
            compute_influence(batch, x, grid, settings.coupling)
            for batch in _draw(second, settings, (), stop)
        ]
    return name_influences(np.concatenate(forward), np.concatenate(backward))


def _draw(
    first: Series, settings: Settings, stand_ins: Sequence[Series], stop: Callable[[], object]
) -> Iterator[Stack]:
    """Yield batches of surrogates of the seed, or of recordings in its place; `stop` is called before each."""
    if stand_ins:
        for series in stand_ins:
            stop()
            yield make_stack([series.cut(len(first.times))])
        return
    filled, on = fill_silence(first), first.voiced
    rng = np.random.default_rng(settings.seed)
    turn = max(1, round(alignment.TURN / first.hop))
    orders = alignment.draw_walks(len(first.times), settings.draws, turn, rng)
    voiced, lengths = on[None].astype(np.float64), np.array([len(first.times)])
    for batch in alignment.read_batches(orders, filled):
        stop()
        yield Stack(batch * on[:, None], voiced, lengths)


def _correlate_whole(
    first: Stack, second: Stack, grid: WindowGrid, settings: Settings
) -> tuple[Floats, Floats]:
    """Return the peak (1, dimension + 1) of the recording as one window, and its lag in steps."""
    steps = first.values.shape[1]
    whole = WindowGrid(steps - 2 * grid.reach, grid.reach, 1, min(grid.voice, _WHOLE))
    shape = (1, 2 * grid.reach + 1, first.values.shape[2])
    profile = make_profile(correlate_windows(first, second, whole), shape, settings.coupling)
    return find_extreme(profile.correlation, settings.coupling)


def _make_windows(
    first: Series, grid: WindowGrid, chunks: Sequence[Correlations], coupling: Coupling
) -> Windows:
    starts = np.concatenate([chunk.starts for chunk in chunks])
    correlations = append_mean(np.concatenate([chunk.values[:, 0] for chunk in chunks]))
    peaks, lags = find_extreme(correlations, coupling)
    return Windows(
        times=(first.times[starts] + first.times[starts + grid.width - 1]) / 2,
        peaks=peaks,
        lags=lags * first.hop,
        by_lag=correlations[..., -1],
        without_voice=len(grid.place(len(first.times))) - len(starts),
        without_variance=tuple(int(count) for count in np.isnan(peaks[:, :-1]).sum(axis=0)),
    )


def _make_leads(
    observed: Measured, whole: tuple[Floats, Floats], windows: Windows, hop: float
) -> tuple[Lead, ...]:
    """Return a Lead for each dimension and, last, overall.

    Args:
        observed: The pair's measures.
        whole: Of `_correlate_whole`.
        windows: The windows' peaks.
        hop: Seconds per step.
    """
    lags = observed.lags[0] * hop
    whole_peaks, whole_lags = whole
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
