"""Synthetic results for tests of plots and reports."""

from pathlib import Path
from typing import Any

import numpy as np

from emimic.inference.results import Result
from emimic.inference.timeline import Timeline, VoiceSegment
from emimic.prediction import Prediction
from emimic.task import EMOTIONS


def result(
    name: str = "clip.wav",
    *,
    seconds: float = 6.0,
    targets: tuple[str, ...] = EMOTIONS,
    intensities: Any = None,
    voice_segments: tuple[tuple[float, float], ...] = ((0.0, 2.0), (4.0, 6.0)),
    timeline: bool = True,
    vad: bool = True,
    was_cut: bool = False,
) -> Result:
    """Return a result; with a timeline every 0.2 s and V/A/D every 20 ms, NaN between the voice_segments.

    intensities: values of each target, (step, target); random when None.
    """
    random = np.random.default_rng(3)
    times = np.arange(0.0, max(seconds, 0.1), 0.2)
    frames = np.arange(0.0125, max(seconds, 0.02), 0.02)
    frame_times = frames[frames < 12]
    prediction = Prediction(
        random.uniform(size=len(targets)).astype(np.float32),
        random.uniform(size=(len(frame_times), 3)).astype(np.float32) if vad else None,
        frame_times,
    )
    whole = None
    if timeline:
        values = (
            random.uniform(size=(len(times), len(targets))) if intensities is None else np.array(intensities)
        )
        whole = Timeline(
            name=Path(name).stem,
            seconds=seconds,
            targets=targets,
            window=2.5,
            hop=0.2,
            times=times,
            starts=np.maximum(0, times - 1.25),
            ends=np.minimum(seconds, times + 1.25),
            intensities=gaps(times, values, voice_segments).astype(np.float32),
            vad_times=frames if vad else None,
            vad=gaps(frames, random.uniform(size=(len(frames), 3)), voice_segments).astype(np.float32)
            if vad
            else None,
            voice_segments=tuple(VoiceSegment(start, end) for start, end in voice_segments),
        )
    return Result(Path(name), targets, seconds, was_cut, False, prediction, whole)


def gaps(times: Any, values: Any, voice_segments: Any) -> Any:
    """Return the values with NaN outside the segments."""
    inside = np.zeros(len(times), bool)
    for start, end in voice_segments:
        inside |= (times >= start) & (times < end)
    return np.where(inside[:, None], values, np.nan)


def words(count: int, every: float = 3.5, each: float = 2.0) -> tuple[tuple[float, float], ...]:
    """Return `count` voice_segments of `each` seconds, `every` seconds apart."""
    return tuple((i * every, i * every + each) for i in range(count))


HOP = 0.2


def wandering(steps: int, rng: np.random.Generator, *, phi: float = 0.9, dimensions: int = 9) -> np.ndarray:
    """Return unrelated AR(1) series (step, dimension)."""
    values = rng.standard_normal((steps + 100, dimensions))
    for step in range(1, len(values)):
        values[step] += phi * values[step - 1]
    return values[100:]


def timeline(
    values: np.ndarray,
    name: str = "one",
    *,
    gaps: Any = None,
    targets: tuple[str, ...] = EMOTIONS,
    hop: float = HOP,
) -> Timeline:
    """Return (step, 6) or (step, 9) values as a recording's timeline; gaps: silent steps."""
    values = values.astype(np.float32)
    if gaps is not None:
        values[gaps] = np.nan
    times = hop * np.arange(len(values))
    vad = np.repeat(values[:, 6:], 10, axis=0) if values.shape[1] > 6 else None
    vad_times = None if vad is None else (np.arange(len(vad)) - 4.5) * hop / 10
    return Timeline(
        name,
        len(values) * hop,
        targets,
        2.5,
        hop,
        times,
        times - 1.25,
        times + 1.25,
        values[:, :6],
        vad_times,
        vad,
        (),
    )
