"""Curves over a whole recording of any length: a stream, pushed block by block."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emimic.inference.results import Timeline
from emimic.inference.stream import HOP, WINDOW, Step, Stream

if TYPE_CHECKING:
    from emimic.inference.engine import Engine


def timeline(
    engine: "Engine",
    blocks: Iterable[NDArray[np.float32]],
    *,
    name: str,
    window: float = WINDOW,
    hop: float = HOP,
    voice_segments: bool = True,
    batch_seconds: float = 30.0,
    heard: Callable[[float], object] = lambda seconds: None,
) -> Timeline:
    """Blocks of a recording, (sample,) each at 16 kHz -> its curves; memory grows with the curves alone.

    See `Stream` for the options and errors. heard: is told after each block how many seconds are done.
    """
    stream = Stream(
        engine, window=window, hop=hop, voice_segments=voice_segments, batch_seconds=batch_seconds
    )
    steps: list[Step] = []
    for block in blocks:
        steps += stream.push(block)
        heard(stream.seconds)
    steps += stream.flush()
    return assemble(stream, steps, name=name, targets=engine.spec.targets)


def assemble(stream: Stream, steps: Sequence[Step], *, name: str, targets: tuple[str, ...]) -> Timeline:
    """All steps of a stream that was flushed, at least one -> its timeline."""
    vad_times = [step.vad_times for step in steps if step.vad_times is not None]
    vad = [step.vad for step in steps if step.vad is not None]
    return Timeline(
        name=name,
        seconds=stream.seconds,
        targets=targets,
        window=stream.grid.window,
        hop=stream.grid.hop,
        times=np.array([step.time for step in steps]),
        starts=np.array([step.start for step in steps]),
        ends=np.array([step.end for step in steps]),
        intensities=np.stack([step.intensities for step in steps]),
        vad_times=np.concatenate(vad_times) if vad_times else None,
        vad=np.concatenate(vad) if vad else None,
        voice_segments=stream.voice_segments,
    )
