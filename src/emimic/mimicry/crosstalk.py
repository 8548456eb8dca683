"""Crosstalk between two recordings, and the drift of their times, from the samples (NumPy only)."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.metrics import Floats
from emimic.task import SAMPLE_RATE

Wave = NDArray[np.floating[Any]]

WINDOW: Final = 2.0
"""Seconds of a window."""

MAX_DELAY: Final = 0.5
"""Longest delay in seconds that is looked for between two recordings."""

SHARP: Final = 10.5
"""Height of the peak of the whitened cross-correlation, in its standard deviations, from which one sound is in both.

Unrelated bursts reach it in 2 % of the windows, each with another delay, so a second window must have the same one."""

TOLERANCE: Final = 0.01
"""Seconds by which the delays of two windows may differ."""

MAX_DRIFT: Final = 3e-4
"""Seconds per second by which they may differ more, the further apart they are."""

SIMILAR: Final = 0.9
"""Correlation of the levels (dB, every 20 ms) of two recordings from which they sound like one."""

WINDOWS: Final = 300
"""Windows that are examined, evenly spaced in a longer recording."""

_FLOOR: Final = 10 ** (-60 / 20)  # of full scale: below, a window is silent
_BAND: Final = (300.0, 3400.0)  # Hz
_DRIFT_WINDOWS: Final = 5
_DRIFT_SECONDS: Final = 20.0  # minimum time between the first and last window with a delay
_FRAME: Final = 320  # samples of a level: 20 ms


@dataclass(frozen=True, slots=True)
class Crosstalk:
    """Crosstalk of two simultaneous recordings.

    Attributes:
        windows: Number of windows with sound in both.
        same_sound: Fraction of them in which the whitened waveforms correlate at one delay.
        same_level: Fraction in which the levels rise and fall together.
        delay: Median delay of the second recording in seconds; NaN without crosstalk.
        drift: Change of the delay in seconds per second; NaN without enough crosstalk.
        seconds: Common length.
    """

    windows: int
    same_sound: float
    same_level: float
    delay: float
    drift: float
    seconds: float

    def describe(self, limit: float = 0.05) -> list[str]:
        """Return sentences on crosstalk in more than a fraction `limit` of the time, on a delay and on drift."""
        notes = []
        if self.same_sound > limit:
            notes.append(
                f"crosstalk: in {self.same_sound:.0%} of the time with sound in both, the same sound is in both "
                "recordings"
            )
        if self.same_level > limit:
            notes.append(
                f"crosstalk: in {self.same_level:.0%} of the time with sound in both, their levels rise and fall as one"
            )
        if self.same_sound > limit and abs(self.delay) >= 0.1:
            notes.append(
                f"the second recording is {abs(self.delay):.2f} s {'late' if self.delay > 0 else 'early'}"
            )
        if self.same_sound > limit and abs(self.drift * self.seconds) >= 0.05:
            notes.append(
                f"the recordings drift apart by {1000 * abs(self.drift) * 60:.0f} ms a minute, "
                f"{abs(self.drift) * self.seconds:.2f} s in all"
            )
        return notes


def find_crosstalk(windows: Iterable[tuple[float, Wave, Wave]], seconds: float) -> Crosstalk:
    """Return how much of one recording is in the other.

    The delay of a window is the highest value of the generalized cross-correlation with phase transform (Knapp and
    Carter 1976, IEEE Transactions on Acoustics, Speech, and Signal Processing 24, 320-327) from 300 to 3400 Hz, which
    counts from `SHARP` standard deviations, if another window has about the same delay. Drift is the median slope of
    the windows' delays (Theil-Sen), so it needs crosstalk.

    Args:
        windows: Start in seconds, and the samples (sample,) of either recording at 16 kHz, see `split_windows`.
        seconds: Common length of the recordings.
    """
    times, delays, levels = [], [], []
    for time, first, second in windows:
        x, y = first.astype(np.float64), second.astype(np.float64)
        if min(np.sqrt(np.mean(np.square(x))), np.sqrt(np.mean(np.square(y)))) <= _FLOOR:
            continue
        times.append(time)
        delays.append(_find_delay(x, y))
        levels.append(_correlate_levels(x, y))
    at, delay = np.array(times), np.array(delays)
    found = _find_agreeing(at, delay)
    count = max(1, len(at))
    return Crosstalk(
        windows=len(at),
        same_sound=float(found.sum() / count),
        same_level=float((np.array(levels) >= SIMILAR).sum() / count),
        delay=float(np.median(delay[found])) if found.any() else math.nan,
        drift=_find_drift(at[found], delay[found]),
        seconds=seconds,
    )


def split_windows(
    first: Iterable[Wave], second: Iterable[Wave], seconds: float
) -> Iterator[tuple[float, Wave, Wave]]:
    """Yield the start and the samples of windows, evenly spaced in long recordings.

    Args:
        first: Blocks of `WINDOW` seconds at 16 kHz; the last may be shorter.
        second: The same of the other recording.
        seconds: Length of the recordings.
    """
    every = max(1, math.ceil(seconds / WINDOW / WINDOWS))
    size = round(WINDOW * SAMPLE_RATE)
    for number, (x, y) in enumerate(zip(first, second, strict=False)):
        if number % every == 0 and len(x) == len(y) == size:
            yield number * WINDOW, x, y


def _find_delay(x: Floats, y: Floats) -> float:
    """Return the delay of y in seconds, NaN without a sharp peak."""
    size = 2 * len(x)
    cross = np.conj(np.fft.rfft(x, size)) * np.fft.rfft(y, size)
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    keep = (frequencies >= _BAND[0]) & (frequencies <= _BAND[1])
    magnitude = np.abs(cross)
    white = np.where(keep & (magnitude > 0), cross / np.where(magnitude > 0, magnitude, 1.0), 0.0)
    reach = round(MAX_DELAY * SAMPLE_RATE)
    values = np.fft.irfft(white, size)
    values = np.concatenate([values[-reach:], values[: reach + 1]])
    best = int(np.argmax(values))
    return (best - reach) / SAMPLE_RATE if values[best] >= SHARP * values.std() else math.nan


def _find_agreeing(times: Floats, delays: Floats) -> NDArray[np.bool_]:
    """Return the windows (window,) whose delay is that of another window, but for drift."""
    difference = np.abs(delays[:, None] - delays)
    allowed = TOLERANCE + MAX_DRIFT * np.abs(times[:, None] - times)
    agrees = np.isfinite(difference) & (np.nan_to_num(difference) <= allowed)
    np.fill_diagonal(agrees, False)
    return np.asarray(agrees.any(axis=1))


def _correlate_levels(x: Floats, y: Floats) -> float:
    """Return the correlation of the levels in dB of two windows; 0 if one is constant."""
    levels = [
        20 * np.log10(np.sqrt(np.mean(np.square(wave.reshape(-1, _FRAME)), axis=1)) + 1e-5) for wave in (x, y)
    ]
    if min(level.std() for level in levels) < 1.0:  # dB
        return 0.0
    return float(np.corrcoef(levels[0], levels[1])[0, 1])


def _find_drift(times: Floats, delays: Floats) -> float:
    """Return the median slope of the delays over time; NaN with too few of them."""
    if len(times) < _DRIFT_WINDOWS or times[-1] - times[0] < _DRIFT_SECONDS:
        return math.nan
    rise = delays[:, None] - delays
    run = times[:, None] - times
    return float(np.median(rise[run > 0] / run[run > 0]))
