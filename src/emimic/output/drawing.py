"""Common parts of plots and HTML pages: a waveform's envelope, thinned lines, silences, texts."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.inference.results import Result, Timeline, VoiceSegment
from emimic.task import SAMPLE_RATE, AudioError

COLORS: Final = ("#0072B2", "#B84F00", "#00805E", "#A64D79", "#806300", "#555555")
"""Okabe and Ito's colors, darkened to a contrast of at least 4 on white; a seventh target reuses the first."""

_MAX_POINTS: Final = 1000  # of a line, about one per pixel
_THINNED: Final = 450  # means with their range, for a line with more values, which would be unreadable


@dataclass(frozen=True, slots=True)
class Envelope:
    """Minimum and maximum of a waveform in bins, small enough to draw hours.

    seconds: the recording's length. width: seconds of a bin; the last may be shorter. lows, highs (bin,): lowest and
    highest sample of each.
    """

    seconds: float
    width: float
    lows: NDArray[np.float32]
    highs: NDArray[np.float32]


def compute_envelope(
    samples: NDArray[np.float32] | Iterable[NDArray[np.float32]], *, width: float = 0.002
) -> Envelope:
    """Compute the envelope of a recording; chunking does not change it.

    Args:
        samples: (sample,) at 16 kHz, or consecutive chunks of it.
        width: seconds of a bin, rounded to samples.

    Raises:
        AudioError: there are no samples.
    """
    size = max(1, round(width * SAMPLE_RATE))
    lows, highs, total = [], [], 0
    rest = np.empty(0, np.float32)
    for chunk in [samples] if isinstance(samples, np.ndarray) else samples:
        total += len(chunk)
        joined = np.concatenate([rest, chunk]) if len(rest) else chunk
        end = len(joined) // size * size
        bins = joined[:end].reshape(-1, size)
        lows.append(bins.min(axis=1))
        highs.append(bins.max(axis=1))
        rest = joined[end:].copy()  # the caller may use the chunk's memory again
    if not total:
        raise AudioError("the waveform has no samples to draw; give at least one.")
    if len(rest):
        lows.append(rest.min(keepdims=True))
        highs.append(rest.max(keepdims=True))
    return Envelope(total / SAMPLE_RATE, size / SAMPLE_RATE, np.concatenate(lows), np.concatenate(highs))


def coarsen(wave: NDArray[np.float32] | Envelope, max_bins: int, *, until: float = math.inf) -> Envelope:
    """Return an envelope of at most `max_bins` bins, of the recording's first `until` seconds."""
    if isinstance(wave, np.ndarray):
        wave = wave[: round(min(until, len(wave)) * SAMPLE_RATE)]
        return compute_envelope(wave, width=math.ceil(len(wave) / max_bins) / SAMPLE_RATE)
    count = max(1, math.ceil(min(until, wave.seconds) / wave.width - 1e-6))
    lows, highs = wave.lows[:count], wave.highs[:count]
    every = math.ceil(len(lows) / max_bins)
    starts = np.arange(0, len(lows), every)
    lows, highs = np.minimum.reduceat(lows, starts), np.maximum.reduceat(highs, starts)
    return Envelope(min(wave.seconds, until), wave.width * every, lows, highs)


@dataclass(frozen=True, slots=True)
class Line:
    """A line to draw; each point is the mean of `each` values.

    times, mean, low, high (point,): the last two are the range of the values. NaN is a gap.
    """

    each: int
    times: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def thin(times: NDArray[np.float64], values: NDArray[np.floating[Any]], max_points: int) -> Line:
    """Return a line of at most `max_points` points for times and values (value,); a point of NaN alone is NaN."""
    every = max(1, math.ceil(len(times) / max_points))
    starts = np.arange(0, len(times), every)
    finite = np.isfinite(values)
    count = np.add.reduceat(finite.astype(float), starts)
    total = np.add.reduceat(np.where(finite, values, 0.0).astype(float), starts)
    mean = np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0)
    middle = np.add.reduceat(times, starts) / np.diff(np.append(starts, len(times)))
    low, high = (f.reduceat(values.astype(float), starts) for f in (np.fmin, np.fmax))
    return Line(every, middle, mean, low, high)


def fit_width(times: NDArray[np.float64], values: NDArray[np.floating[Any]]) -> Line:
    """Return a line that fits a page's width: all values up to 1000, else means with ranges."""
    return thin(times, values, _MAX_POINTS if len(times) <= _MAX_POINTS else _THINNED)


def find_range(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Return the axis limits for values: [0, 1], or wider, rounded to a tenth."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    return min(0.0, math.floor(10 * finite.min()) / 10), max(1.0, math.ceil(10 * finite.max()) / 10)


def find_silences(timeline: Timeline) -> list[VoiceSegment]:
    """Return the segments between the voice segments; none if voice activity was not detected but values exist."""
    if not timeline.voice_segments and np.isfinite(timeline.intensities).any():
        return []
    edges = [0.0, *(t for s in timeline.voice_segments for t in (s.start, s.end)), timeline.seconds]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [VoiceSegment(start, end) for start, end in pairs if end > start]


def shorten(name: str, max_length: int = 48) -> str:
    """Return a file's name for a title, without control characters and shortened in the middle."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return (
        clean if len(clean) <= max_length else f"{clean[: max_length // 2 - 1]}…{clean[-max_length // 2 :]}"
    )


def format_time(seconds: float, total: float) -> str:
    """Return a time in a recording of `total` seconds as text: 7.5, 1:07 or 1:02:07."""
    if total < 90:
        return f"{seconds:.10g}" if seconds >= 0.005 else "0"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if total >= 3600 else f"{minutes}:{rest:02}"


def format_length(seconds: float) -> str:
    """Return a recording's length as text."""
    return format_time(round(seconds, 2), seconds) + (" s" if seconds < 90 else "")


def _is_thinned(timeline: Timeline) -> bool:
    """Return True if `fit_width` draws any line of a timeline as mean and range."""
    return any(
        times is not None and len(times) > _MAX_POINTS for times in (timeline.times, timeline.vad_times)
    )


def describe(result: Result) -> str:
    """Return a subtitle: the part of the recording that the values are about, and how they are drawn."""
    t = result.timeline
    if t is not None:
        return (
            f"{format_length(t.seconds)}; each value: the prediction for the {t.window:g} s around it, every "
            f"{t.hop:g} s; gray: no voice"
            + (
                ""
                if t.intervals is None
                else f"; pale band: {100 * t.intervals.level:.0f} % prediction interval"
            )
            + ("; a line in a band: mean and range" if _is_thinned(t) else "")
        )
    text = format_length(result.seconds)
    if result.was_cut:
        text += f"; predicted from the first {round(result.covered, 1):g} s"
    return text + ("; padded with silence to the model's minimum input" if result.was_padded else "")
