"""Answers made by hand, for the tests of pictures and pages."""

from pathlib import Path
from typing import Any

import numpy as np

from emimic import EMOTIONS
from emimic.inference.results import Answer, Region, Timeline
from emimic.prediction import Prediction


def answer(
    name: str = "clip.wav",
    *,
    seconds: float = 6.0,
    targets: tuple[str, ...] = EMOTIONS,
    curves: Any = None,
    regions: tuple[tuple[float, float], ...] = ((0.0, 2.0), (4.0, 6.0)),
    timeline: bool = True,
    vad: bool = True,
    was_cut: bool = False,
) -> Answer:
    """An answer; with a timeline every 0.2 s and VAD every 20 ms, NaN between the regions.

    curves: values of each target, (step, target); random when None.
    """
    random = np.random.default_rng(3)
    times = np.arange(0.0, max(seconds, 0.1), 0.2)
    frames = np.arange(0.0125, max(seconds, 0.02), 0.02)
    heard = frames[frames < 12]
    prediction = Prediction(
        random.uniform(size=len(targets)).astype(np.float32),
        random.uniform(size=(len(heard), 3)).astype(np.float32) if vad else None,
        heard,
    )
    whole = None
    if timeline:
        values = random.uniform(size=(len(times), len(targets))) if curves is None else np.array(curves)
        whole = Timeline(
            name=Path(name).stem,
            seconds=seconds,
            targets=targets,
            window=2.5,
            hop=0.2,
            times=times,
            starts=np.maximum(0, times - 1.25),
            ends=np.minimum(seconds, times + 1.25),
            intensities=gaps(times, values, regions).astype(np.float32),
            vad_times=frames if vad else None,
            vad=gaps(frames, random.uniform(size=(len(frames), 3)), regions).astype(np.float32)
            if vad
            else None,
            regions=tuple(Region(start, end) for start, end in regions),
        )
    return Answer(Path(name), targets, seconds, was_cut, False, prediction, whole)


def gaps(times: Any, values: Any, regions: Any) -> Any:
    """values with NaN where no region is."""
    inside = np.zeros(len(times), bool)
    for start, end in regions:
        inside |= (times >= start) & (times < end)
    return np.where(inside[:, None], values, np.nan)


def words(count: int, every: float = 3.5, each: float = 2.0) -> tuple[tuple[float, float], ...]:
    """`count` regions of `each` seconds, `every` seconds apart."""
    return tuple((i * every, i * every + each) for i in range(count))
