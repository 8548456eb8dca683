"""Windowed cross-correlation of many recordings with one, gaps left out (NumPy only)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emimic.metrics import Floats
from emimic.mimicry.alignment import FLAT, standardize
from emimic.mimicry.results import Bools, Series, Settings

Steps: TypeAlias = NDArray[np.intp]

_VALUES: Final = 2_000_000  # values of one array that are held at once: 16 MB


@dataclass(frozen=True, slots=True)
class Stack:
    """Recordings on one grid, each padded with silence to the longest.

    Attributes:
        values: (recording, step, dimension) z-scored over the steps with a voice, 0 in silence.
        voiced: (recording, step), or (1, step) if all are voiced at the same steps: 1 with a voice, 0 in silence.
        lengths: (recording,) or (1,), in steps, before padding.
    """

    values: Floats
    voiced: Floats
    lengths: Steps

    def __len__(self) -> int:
        return len(self.values)

    def pick(self, rows: slice) -> "Stack":
        """Return some of the recordings."""
        is_one = len(self.voiced) == 1
        return Stack(
            self.values[rows],
            self.voiced if is_one else self.voiced[rows],
            self.lengths if is_one else self.lengths[rows],
        )


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """Windows and their lags, in steps.

    Attributes:
        width: Steps of a window.
        reach: Steps of the longest lag.
        hop: Steps between windows.
        voice: Minimum fraction of a window's steps that are voiced on both sides.
    """

    width: int
    reach: int
    hop: int
    voice: float

    @classmethod
    def from_settings(cls, settings: Settings, hop: float) -> "WindowGrid":
        """Return the grid of settings, for timelines with a step every `hop` seconds; windows overlap by half."""
        width = round(settings.window / hop)
        return cls(width, int(settings.lag / hop + 1e-6), max(1, width // 2), settings.voice)

    @property
    def lags(self) -> Steps:
        """The lags (lag,) in steps, from -reach to +reach; positive: the second recording follows the first."""
        return np.arange(-self.reach, self.reach + 1)

    def place(self, steps: int) -> Steps:
        """Return the first steps (window,) of the windows whose lags stay within `steps`."""
        return np.arange(self.reach, steps - self.width - self.reach + 1, self.hop)


@dataclass(frozen=True, slots=True)
class Correlations:
    """Correlations of some windows of several pairs.

    A lag is usable with enough steps voiced on both sides, at the lag and at its mirror image (otherwise the second
    speaker would seem to follow). A window is valid if at least half of its lags are usable.

    Attributes:
        starts: (window,) first steps.
        values: (window, pair, lag, dimension) in [-1, 1]; NaN at lags that are not usable, in windows that are not
            valid, and without variance.
        pairs: (window, pair or 1, lag) steps voiced on both sides.
        valid: (window, pair or 1).
    """

    starts: Steps
    values: Floats
    pairs: Floats
    valid: Bools


def standardize_voiced(series: Series) -> Floats:
    """Return values (step, dimension), z-scored over the voiced steps, 0 in silence."""
    values = np.zeros_like(series.values)
    values[series.voiced] = standardize(series.values[series.voiced])
    return values


def fill_silence(series: Series) -> Floats:
    """Return values (step, dimension), z-scored over the voiced steps, interpolated linearly in silence.

    Surrogates are read from these: windows of a timeline reach over a pause, so its values before and after one are
    related. Read without the pauses, neighbors would be unrelated, as in no recording.
    """
    values, steps, on = standardize_voiced(series), np.arange(len(series.times)), series.voiced
    return np.stack([np.interp(steps, steps[on], column[on]) for column in values.T], axis=1)


def make_stack(recordings: Sequence[Series]) -> Stack:
    """Return recordings on one grid."""
    lengths = np.array([len(series.times) for series in recordings], dtype=np.intp)
    shape = (len(recordings), int(lengths.max(initial=0)))
    values = np.zeros((*shape, len(recordings[0].dimensions)))
    voiced = np.zeros(shape)
    for row, series in enumerate(recordings):
        values[row, : lengths[row]] = standardize_voiced(series)
        voiced[row, : lengths[row]] = series.voiced
    return Stack(values, voiced, lengths)


def correlate_windows(firsts: Stack, second: Stack, grid: WindowGrid) -> Iterator[Correlations]:
    """Yield the correlations of each first recording with the second one a lag later, some windows at a time.

    Pearson's correlation over the steps of a window that are voiced on both sides (Boker, Rotondo, Xu and King 2002,
    Psychological Methods 7, 338-355). Sums over windows are matrix products, so that hundreds of recordings or
    surrogates cost little more than one. Windows that are valid for no pair are left out.

    Args:
        firsts: Recordings or surrogates.
        second: One recording.
        grid: Windows and lags.
    """
    steps = min(firsts.values.shape[1], second.values.shape[1])
    lengths = np.minimum(firsts.lengths, second.lengths)
    starts = grid.place(steps)
    dimensions = firsts.values.shape[2]
    size = max(1, _VALUES // (len(firsts) * dimensions * max(grid.width, 2 * grid.reach + 1)))
    for begin in range(0, len(starts), size):
        chunk = starts[begin : begin + size]
        inside = chunk[:, None] + np.arange(grid.width)
        later = inside[:, :, None] + grid.lags
        first_voiced = firsts.voiced[:, inside].transpose(1, 0, 2)  # (window, pair or 1, step)
        second_voiced = second.voiced[0, later]  # (window, step, lag)
        pairs = first_voiced @ second_voiced
        ends = chunk[:, None] + grid.width + grid.reach
        enough = (pairs >= max(3, grid.voice * grid.width)) & (ends <= lengths)[..., None]
        usable = enough & enough[..., ::-1]
        valid = usable.mean(axis=2) >= 0.5
        any_valid = valid.any(axis=1)
        if not any_valid.any():
            continue
        x = firsts.values[:, inside[any_valid]].transpose(1, 3, 0, 2)  # (window, dimension, pair, step)
        y = second.values[0, later[any_valid]].transpose(0, 3, 1, 2)  # (window, dimension, step, lag)
        parts = first_voiced[any_valid], second_voiced[any_valid], pairs[any_valid]
        correlation = _correlate(x, y, *parts)
        usable &= valid[..., None]
        values = np.where(usable[any_valid][..., None], correlation, np.nan)
        yield Correlations(chunk[any_valid], values, pairs[any_valid], valid[any_valid])


def _correlate(x: Floats, y: Floats, x_voiced: Floats, y_voiced: Floats, pairs: Floats) -> Floats:
    """Return Pearson's correlation (window, pair, lag, dimension) over common steps; NaN without variance."""
    count = np.maximum(pairs, 1.0)[:, None]
    x_on, y_on = x_voiced[:, None], y_voiced[:, None]
    x_mean, y_mean = x @ y_on / count, x_on @ y / count
    x_var = np.square(x) @ y_on / count - np.square(x_mean)
    y_var = x_on @ np.square(y) / count - np.square(y_mean)
    defined = (x_var > FLAT**2) & (y_var > FLAT**2)
    std = np.sqrt(np.where(defined, x_var, 1.0) * np.where(defined, y_var, 1.0))
    values = np.where(defined, (x @ y / count - x_mean * y_mean) / std, np.nan)
    return np.asarray(np.clip(values, -1.0, 1.0).transpose(0, 2, 3, 1))
