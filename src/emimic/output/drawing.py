"""What pictures and pages have in common: a waveform's envelope, curves thinned for drawing, silences, words."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.inference.results import Result, Timeline, VoiceSegment
from emimic.task import SAMPLE_RATE, AudioError

COLORS: Final = ("#0072B2", "#B84F00", "#00805E", "#A64D79", "#806300", "#555555")
"""Okabe and Ito's, darkened to a contrast of at least 4 on white; of more targets each sixth shares one."""

_MOST_POINTS: Final = 1000  # of a curve, and as many pixels: of more values ...
_THINNED: Final = 450  # ... so many means with their range are drawn, else the line is a smear


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is drawn of a waveform, small enough for hours of it.

    seconds: the recording's length. stretch: seconds of one stretch; the last may be shorter. lows, highs (stretch,):
    lowest and highest sample in each.
    """

    seconds: float
    stretch: float
    lows: NDArray[np.float32]
    highs: NDArray[np.float32]


def envelope(
    samples: NDArray[np.float32] | Iterable[NDArray[np.float32]], *, stretch: float = 0.002
) -> Envelope:
    """(sample,) at 16 kHz, or such chunks of a recording one after the other -> its envelope, however it is chunked.

    stretch: seconds, taken to whole samples. Raises AudioError when there are no samples.
    """
    size = max(1, round(stretch * SAMPLE_RATE))
    lows, highs, total = [], [], 0
    rest = np.empty(0, np.float32)
    for chunk in [samples] if isinstance(samples, np.ndarray) else samples:
        total += len(chunk)
        joined = np.concatenate([rest, chunk]) if len(rest) else chunk
        whole = len(joined) // size * size
        parts = joined[:whole].reshape(-1, size)
        lows.append(parts.min(axis=1))
        highs.append(parts.max(axis=1))
        rest = joined[whole:].copy()  # the caller may use the chunk's memory again
    if not total:
        raise AudioError("the waveform has no samples to draw; give at least one.")
    if len(rest):
        lows.append(rest.min(keepdims=True))
        highs.append(rest.max(keepdims=True))
    return Envelope(total / SAMPLE_RATE, size / SAMPLE_RATE, np.concatenate(lows), np.concatenate(highs))


def coarser(wave: NDArray[np.float32] | Envelope, most: int, *, until: float = math.inf) -> Envelope:
    """A waveform or an envelope -> one of at most `most` stretches, of the recording's first `until` seconds."""
    if isinstance(wave, np.ndarray):
        wave = wave[: round(min(until, len(wave)) * SAMPLE_RATE)]
        return envelope(wave, stretch=math.ceil(len(wave) / most) / SAMPLE_RATE)
    wanted = max(1, math.ceil(min(until, wave.seconds) / wave.stretch - 1e-6))
    lows, highs = wave.lows[:wanted], wave.highs[:wanted]
    every = math.ceil(len(lows) / most)
    at = np.arange(0, len(lows), every)
    lows, highs = np.minimum.reduceat(lows, at), np.maximum.reduceat(highs, at)
    return Envelope(min(wave.seconds, until), wave.stretch * every, lows, highs)


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve as it is drawn: each point stands for `each` values. times, mean, low, high (point,); NaN is a gap."""

    each: int
    times: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def thin(times: NDArray[np.float64], values: NDArray[np.floating[Any]], most: int) -> Curve:
    """times, values (value,) -> at most `most` points; one whose values are all NaN stays NaN."""
    every = max(1, math.ceil(len(times) / most))
    at = np.arange(0, len(times), every)
    there = np.isfinite(values)
    count = np.add.reduceat(there.astype(float), at)
    total = np.add.reduceat(np.where(there, values, 0.0).astype(float), at)
    mean = np.divide(total, count, out=np.full(len(at), np.nan), where=count > 0)
    middle = np.add.reduceat(times, at) / np.diff(np.append(at, len(times)))
    low, high = (f.reduceat(values.astype(float), at) for f in (np.fmin, np.fmax))
    return Curve(every, middle, mean, low, high)


def overview(times: NDArray[np.float64], values: NDArray[np.floating[Any]]) -> Curve:
    """A curve as it is drawn on a page's width: whole up to 1000 values, else as mean and range of neighbours."""
    return thin(times, values, _MOST_POINTS if len(times) <= _MOST_POINTS else _THINNED)


def span(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """The range that panels of these values share: [0, 1], or beyond it to the next tenth."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    return min(0.0, math.floor(10 * known.min()) / 10), max(1.0, math.ceil(10 * known.max()) / 10)


def silences(timeline: Timeline) -> list[VoiceSegment]:
    """The stretches between the voice segments; none when none were looked for but there are values."""
    if not timeline.voice_segments and np.isfinite(timeline.intensities).any():
        return []
    edges = [0.0, *(t for r in timeline.voice_segments for t in (r.start, r.end)), timeline.seconds]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [VoiceSegment(start, end) for start, end in pairs if end > start]


def short(name: str, most: int = 48) -> str:
    """A file's name for a title: printable, and shortened in its middle."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return clean if len(clean) <= most else f"{clean[: most // 2 - 1]}…{clean[-most // 2 :]}"


def clock(seconds: float, whole: float) -> str:
    """A time within a recording of `whole` seconds: 7.5, 1:07, 1:02:07."""
    if whole < 90:
        return f"{seconds:.10g}" if seconds >= 0.005 else "0"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if whole >= 3600 else f"{minutes}:{rest:02}"


def length(seconds: float) -> str:
    """A recording's length, for people."""
    return clock(round(seconds, 2), seconds) + (" s" if seconds < 90 else "")


def _is_thinned(line: Timeline) -> bool:
    """Return whether `overview` draws any of its curves as mean and range."""
    return any(times is not None and len(times) > _MOST_POINTS for times in (line.times, line.vad_times))


def about(result: Result) -> str:
    """What a result's values rest on and how they are drawn, for a subtitle."""
    t = result.timeline
    if t is not None:
        return (
            f"{length(t.seconds)}; each value: the model's result for the {t.window:g} s around it, every {t.hop:g} s"
            "; grey: no voice heard" + ("; a line in a band: mean and range" if _is_thinned(t) else "")
        )
    told = length(result.seconds)
    if result.was_cut:
        told += f"; the first {round(result.covered, 1):g} s were heard"
    return told + ("; padded with silence to the model's shortest input" if result.was_padded else "")
