"""Every first voice of a study with every second voice: real pairs, and pseudo-dyads of different sessions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry.influence import compute_influence
from emimic.mimicry.lag_profile import append_mean
from emimic.mimicry.measures import measure, name_influences
from emimic.mimicry.results import Series, Settings
from emimic.mimicry.susy import Susy, compute_susy
from emimic.mimicry.windows import WindowGrid, correlate_windows, make_stack


@dataclass(frozen=True, slots=True)
class Crosswise:
    """The measures of all pairs of a first and a second voice, of n sessions; real pairs on the diagonal.

    Attributes:
        values: (n, n, dimension + 1) by measure: first voice, second voice.
        lags: (n, dimension + 1) seconds of the real pairs' similarity.
        profiles: (n, n, lag) mean correlation, overall, at each lag.
        windows: (n,) valid windows of the real pairs.
        heat_maps: n of (window, lag): correlation of the real pair's windows, overall; NaN in windows without voice.
        susy: SUSY's measures of the real pairs.
    """

    values: dict[str, Floats]
    lags: Floats
    profiles: Floats
    windows: Floats
    heat_maps: tuple[Floats, ...]
    susy: tuple[Susy, ...]


def compare_crosswise(
    firsts: Sequence[Series],
    seconds: Sequence[Series],
    settings: Settings,
    *,
    segment: float,
    on_progress: Callable[[], object] = lambda: None,
) -> Crosswise:
    """Return the measures of each first voice with each second one.

    Args:
        firsts: n voices of one role.
        seconds: The n other voices of the same sessions.
        settings: Of the comparison.
        segment: Seconds of SUSY's segments.
        on_progress: Called after each second voice.
    """
    hop, n = firsts[0].hop, len(firsts)
    x, y = make_stack(firsts), make_stack(seconds)
    grid = WindowGrid.from_settings(settings, hop)
    columns: dict[str, list[Floats]] = {}
    forward, backward = [], []
    lags, windows, profiles = [], [], []
    for j in range(n):
        own = slice(j, j + 1)
        measured = measure(x, y.pick(own), settings, hop)
        for name, column in measured.values.items():
            columns.setdefault(name, []).append(column)
        lags.append(measured.lags[j] * hop)
        windows.append(measured.profile.windows[j])
        profiles.append(measured.profile.correlation[..., -1])
        forward.append(compute_influence(x, y.pick(own), grid, settings.coupling))
        backward.append(compute_influence(y, x.pick(own), grid, settings.coupling))
        on_progress()
    values = {name: np.stack(parts, axis=1) for name, parts in columns.items()}
    values |= name_influences(np.stack(forward, axis=1), np.stack(backward, axis=0))
    return Crosswise(
        values=values,
        lags=np.stack(lags),
        profiles=np.stack(profiles, axis=1),
        windows=np.array(windows),
        heat_maps=tuple(_make_heat_map(*pair, grid) for pair in zip(firsts, seconds, strict=True)),
        susy=tuple(
            compute_susy(*pair, segment=segment, lag=settings.lag)
            for pair in zip(firsts, seconds, strict=True)
        ),
    )


def _make_heat_map(first: Series, second: Series, grid: WindowGrid) -> Floats:
    """Return the correlation (window, lag), overall, of every window of a pair."""
    steps = min(len(first.times), len(second.times))
    starts = grid.place(steps)
    rows = np.full((len(starts), 2 * grid.reach + 1), np.nan)
    for chunk in correlate_windows(make_stack([first]), make_stack([second]), grid):
        rows[np.searchsorted(starts, chunk.starts)] = append_mean(chunk.values[:, 0])[..., -1]
    return rows
