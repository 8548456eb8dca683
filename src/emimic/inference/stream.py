"""Predictions over time while a recording arrives: chunks in, steps out. A timeline is a stream of all its blocks.

The paper's model predicts clips (section 4). The value at time t is therefore the model's prediction of the window
centered on t, cut out, normalized and predicted as a clip, every `hop` seconds; at a recording's two ends the window
is shorter. V/A/D is per frame: the frames of each hop come from the window centered on it, interpolated every 20 ms.
A step whose hop is silent is NaN and is not computed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from emimic.inference.stream_thread import StreamThread
from emimic.inference.timeline import Timeline, VoiceSegment
from emimic.inference.voice_activity import Detector
from emimic.media.source import to_floats
from emimic.media.waveform import Mono, check_format, is_number
from emimic.prediction import Prediction
from emimic.task import SAMPLE_RATE, VAD, EmimicError, add_note

if TYPE_CHECKING:
    from emimic.inference.engine import Engine

WINDOW: Final = 2.5
"""Seconds of one window; enough for a burst or a short sentence."""

HOP: Final = 0.2
"""Seconds between the centers of two windows."""

FRAME: Final = SAMPLE_RATE // 50
"""Samples per V/A/D frame: 50 frames per second."""


@dataclass(frozen=True, slots=True)
class Step:
    """One final step of a timeline. In silence (voiced is False) all values are NaN.

    Attributes:
        time: Center of the window in seconds.
        start: Start of the window in seconds.
        end: End of the window in seconds.
        voiced: The hop contains a voice.
        intensities: (target,), about [0, 1].
        vad_times: (frame,) centers of this hop's V/A/D frames in seconds, 50 per second; None if not learned.
        vad: (frame, 3) arousal, dominance, valence; None if the model has not learned V/A/D.
    """

    time: float
    start: float
    end: float
    voiced: bool
    intensities: NDArray[np.float32]
    vad_times: NDArray[np.float64] | None
    vad: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Grid:
    """Positions of windows in samples from the recording's start.

    Attributes:
        window: Seconds of a window.
        hop: Seconds between windows.

    Raises:
        EmimicError: A hop is shorter than a frame (0.02 s) or longer than a window.
    """

    window: float
    hop: float

    def __post_init__(self) -> None:
        if not (is_number(self.window) and is_number(self.hop)):
            raise EmimicError(
                f"window is {self.window!r} and hop {self.hop!r}; expected numbers of seconds. Give such as 2.5 and 0.2"
            )
        if not (math.isfinite(self.window) and FRAME / SAMPLE_RATE <= self.hop <= self.window):
            raise EmimicError(
                f"window is {self.window:g} s and hop {self.hop:g} s; the hop must be at least 0.02 s and no longer "
                "than the window, so that every sample is used"
            )

    def get_center(self, step: int) -> int:
        """Return the center of a step's window."""
        return round((step + 0.5) * self.hop * SAMPLE_RATE)

    def get_edge(self, step: int) -> int:
        """Return the start of the interval that a step represents; it ends where the next one starts."""
        return round(step * self.hop * SAMPLE_RATE)

    def get_window(self, step: int) -> tuple[int, int]:
        """Return a window's start and end, which may lie outside the recording."""
        half = round(self.window * SAMPLE_RATE / 2)
        return self.get_center(step) - half, self.get_center(step) + half

    def count_steps(self, total: int) -> int:
        """Return the number of steps with a center within `total` samples, at least one."""
        steps = int(total / (self.hop * SAMPLE_RATE)) + 2
        while steps > 1 and self.get_center(steps - 1) > total:
            steps -= 1
        return steps


class Stream:
    """A recording that arrives in chunks; the sizes of the chunks don't change the steps.

    A step comes out once its window has arrived and its silence is decided, half a window or 1.1 s after its time.
    """

    def __init__(
        self,
        engine: "Engine",
        *,
        window: float = WINDOW,
        hop: float = HOP,
        sample_rate: float = SAMPLE_RATE,
        voice_segments: bool = True,
        batch_seconds: float = 30.0,
    ) -> None:
        """Start a recording.

        Args:
            engine: The model.
            window: Seconds of each window.
            hop: Seconds between windows.
            sample_rate: Of the chunks, in Hz.
            voice_segments: Detect silence; otherwise every step has values.
            batch_seconds: Maximum seconds of audio per forward pass.

        Raises:
            EmimicError: The window, hop or rate is invalid, or the window is longer than the model's max_seconds.
        """
        self.grid = Grid(window, hop)
        if window > engine.spec.max_seconds:
            raise EmimicError(
                f"window is {window:g} s; this model takes at most {engine.spec.max_seconds:g} s: give a shorter one"
            )
        check_format(sample_rate, 1, "the stream")
        self._engine = engine
        self._rate = sample_rate
        self._batch_seconds = batch_seconds
        self._detector = Detector() if voice_segments else None
        self.reset()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream can't be pickled: give the Predictor, and make the stream where it arrives")

    def reset(self) -> None:
        """Forget the recording: the next chunk starts another one."""
        self._mono = Mono()
        self._recent = np.empty(0, np.float32)  # the end of the recording, as far back as a window may reach
        self._first = 0  # the sample that `_recent` begins with
        self._next = 0
        self._ended = self._wide = self._warned = False
        if self._detector is not None:
            self._detector.reset()

    @property
    def seconds(self) -> float:
        """Seconds of audio received so far (at a rate other than 16 kHz the resampler is some ms behind)."""
        return self._total / SAMPLE_RATE

    @property
    def _total(self) -> int:
        return self._first + len(self._recent)

    @property
    def voice_segments(self) -> tuple[VoiceSegment, ...]:
        """Parts with a voice, as far as decided; without detection the entire recording."""
        if self._detector is None:
            return (VoiceSegment(0.0, self.seconds),) if self.seconds else ()
        return self._detector.get_voice_segments()

    def push(self, chunk: NDArray[Any]) -> list[Step]:
        """Add a chunk and return the steps that are final now.

        Args:
            chunk: (sample,) or (sample, channel), floating point in [-1, 1] or integers. NaN and infinity count as 0.

        Raises:
            AudioError: The array is not audio or goes far beyond [-1, 1].
            EmimicError: The stream was flushed.

        Warns:
            EmimicWarning: Once, for int32 that holds 16-bit values.
        """
        if self._ended:
            raise EmimicError("this stream was flushed: its recording has ended; reset() it to start another")
        self._take(self._mono.put(to_floats(chunk, "the chunk", is_chunk=True), self._rate))
        self._wide = self._wide or getattr(chunk, "dtype", None) == np.int32
        if self._mono.length >= SAMPLE_RATE:
            self._warn()
        return self._predict(self._list_ready(), last=False)

    def flush(self) -> list[Step]:
        """End the recording and return its last steps; afterwards only `reset` continues."""
        if self._ended:
            return []
        self._ended = True
        self._take(self._mono.finish())
        if self._detector is not None:
            self._detector.flush()
        steps = range(self._next, self.grid.count_steps(self._total) if self._total else 0)
        predicted = self._predict(steps, last=True)
        self._warn()
        return predicted

    def _warn(self) -> None:
        """Warn once of integers wider than their values; decoded files have notes of their own."""
        if self._wide and not self._warned and (note := self._mono.narrow):
            self._warned = True
            add_note(f"the stream: {note}", None, stacklevel=3)

    def start_thread(self, on_step: Callable[[Step], object] | None = None) -> StreamThread[Step]:
        """Feed this stream from a separate thread, so that an audio callback only queues its chunks.

        Args:
            on_step: Called with each step in that thread; without it, iterate over the returned object.
        """
        return StreamThread(self, on_step)

    def _take(self, samples: NDArray[np.float32]) -> None:
        self._recent = np.concatenate([self._recent, samples])
        if self._detector is not None:
            self._detector.push(samples)

    def _list_ready(self) -> range:
        """Return the next steps that later samples can't change."""
        total = self._total
        decided = total if self._detector is None else self._detector.decided
        step = self._next
        # Half a hop later a recording may end with this step, which then represents the remainder too.
        while max(self.grid.get_window(step)[1], self.grid.get_edge(step + 2)) <= total:
            if self.grid.get_edge(step + 1) > decided:
                break
            step += 1
        return range(self._next, step)

    def _predict(self, steps: range, *, last: bool) -> list[Step]:
        """Return the next steps. last: the recording ends with them."""
        if not steps:
            return []
        total = self._total
        edges = [*map(self.grid.get_edge, steps), total if last else self.grid.get_edge(steps.stop)]
        windows = [(max(0, start), min(total, end)) for start, end in map(self.grid.get_window, steps)]
        voiced = [
            self._detector is None or self._detector.is_voiced(since, until)
            for since, until in pairwise(edges)
        ]
        clips = [self._cut(*window) for window, voice in zip(windows, voiced, strict=True) if voice]
        results = iter(self._engine.predict(clips, batch_seconds=self._batch_seconds) if clips else [])
        predicted = []
        for step, (start, end), voice, (since, until) in zip(
            steps, windows, voiced, pairwise(edges), strict=True
        ):
            center = (step + 0.5) * self.grid.hop
            vad_times = (np.arange(_count_frames(since), _count_frames(until)) + 0.5) * FRAME / SAMPLE_RATE
            intensities, vad = self._get_values(next(results) if voice else None, start, vad_times)
            predicted.append(
                Step(
                    time=center if self.grid.get_center(step) <= total else (start + end) / 2 / SAMPLE_RATE,
                    start=start / SAMPLE_RATE,
                    end=end / SAMPLE_RATE,
                    voiced=voice,
                    intensities=intensities,
                    vad_times=None if vad is None else vad_times,
                    vad=vad,
                )
            )
        self._next = steps.stop
        forget = min(max(0, self.grid.get_window(self._next)[0] - self._first), len(self._recent))
        self._recent = self._recent[forget:].copy()
        self._first += forget
        return predicted

    def _cut(self, start: int, end: int) -> NDArray[np.float32]:
        """Return a window, prepared as a clip."""
        wave = self._recent[start - self._first : end - self._first]
        return self._engine.spec.clip_format.prepare(wave).samples

    def _get_values(
        self, result: Prediction | None, start: int, vad_times: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return a window's intensities and, if predicted, V/A/D at `vad_times`; NaN without a result."""
        spec = self._engine.spec
        silence = np.full((len(vad_times), len(VAD)), np.nan, np.float32) if spec.vad else None
        if result is None:
            return np.full(len(spec.targets), np.nan, np.float32), silence
        if result.vad is None:
            return result.intensities, silence
        times = start / SAMPLE_RATE + result.times
        vad = np.stack([np.interp(vad_times, times, values) for values in result.vad.T], axis=1)
        return result.intensities, vad.astype(np.float32)


def _count_frames(samples: int) -> int:
    """Return the number of V/A/D frames whose center lies before a sample."""
    return -(-(samples - FRAME // 2) // FRAME) if samples > 0 else 0


def compute_timeline(
    engine: "Engine",
    blocks: Iterable[NDArray[np.float32]],
    *,
    name: str,
    window: float = WINDOW,
    hop: float = HOP,
    voice_segments: bool = True,
    batch_seconds: float = 30.0,
    on_progress: Callable[[float], object] = lambda seconds: None,
) -> Timeline:
    """Return the timeline of a recording of any length; memory grows with the timeline alone.

    Args:
        engine: The model.
        blocks: (sample,) each at 16 kHz.
        name: Name of the recording.
        window: Seconds of each window, as the following options see `Stream`.
        hop: Seconds between windows.
        voice_segments: Detect silence.
        batch_seconds: Maximum seconds of audio per forward pass.
        on_progress: Called after each block with the seconds done.

    Raises:
        EmimicError: See `Stream`.
    """
    stream = Stream(
        engine, window=window, hop=hop, voice_segments=voice_segments, batch_seconds=batch_seconds
    )
    steps: list[Step] = []
    for block in blocks:
        steps += stream.push(block)
        on_progress(stream.seconds)
    steps += stream.flush()
    return assemble_timeline(stream, steps, name=name, targets=engine.spec.targets)


def assemble_timeline(
    stream: Stream, steps: Sequence[Step], *, name: str, targets: tuple[str, ...]
) -> Timeline:
    """Return the timeline of a flushed stream from all its steps, at least one."""
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
