"""A recording heard as it comes: chunks in, the steps of its curves out. A timeline is the same, pushed in one go.

The paper's model results per clip (section 4). So the curve's value at time t is the model's result for the window
centerd on t, cut out, normalized and heard as a clip of its own, every `hop` seconds; at a recording's two ends the
window is what there is of it. VAD is per frame: the frames of each hop are those of the window centerd on it, read off
every 20 ms (linear in between). A step whose hop lies in silence is a gap: NaN, and nothing is computed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from emimic.inference.results import VoiceSegment
from emimic.inference.stream_thread import StreamThread
from emimic.inference.voice_activity import Detector
from emimic.media.source import to_floats
from emimic.media.waveform import Mono, check_format, is_number, prepare
from emimic.prediction import Prediction
from emimic.task import SAMPLE_RATE, VAD, EmimicError, add_note

if TYPE_CHECKING:
    from emimic.inference.engine import Engine

WINDOW: Final = 2.5
"""Seconds of one window; enough for a burst or a short sentence."""

HOP: Final = 0.2
"""Seconds from a window's center to the next."""

FRAME: Final = SAMPLE_RATE // 50
"""Samples from a VAD frame of the curve to the next: 50 a second."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the curves, final.

    time: the window's center in seconds; start, end: the stretch that was heard. intensities (target,), about [0, 1].
    vad_times (frame,): the centers, 50 a second, of the frames of this hop; vad (frame, 3): arousal, dominance,
    valence; both None when the model has not learned VAD. In silence (voiced is False) all values are NaN.
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
    """Where windows lie, in samples from the recording's start.

    window, hop: seconds. Raises EmimicError unless a hop is at least a frame (0.02 s) and at most a window.
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
                "than the window, so that nothing goes unheard"
            )

    def center(self, step: int) -> int:
        return round((step + 0.5) * self.hop * SAMPLE_RATE)

    def edge(self, step: int) -> int:
        """Where the stretch begins that a step stands for; it ends where the next one's begins."""
        return round(step * self.hop * SAMPLE_RATE)

    def stretch(self, step: int) -> tuple[int, int]:
        """A window's start and end, before what the recording's ends take off."""
        half = round(self.window * SAMPLE_RATE / 2)
        return self.center(step) - half, self.center(step) + half

    def count(self, total: int) -> int:
        """Steps of a recording of `total` samples: those whose center lies in it, but at least one."""
        steps = int(total / (self.hop * SAMPLE_RATE)) + 2
        while steps > 1 and self.center(steps - 1) > total:
            steps -= 1
        return steps


class Stream:
    """A recording that arrives in chunks; however it is cut, the steps are those of the whole.

    sample_rate: of the chunks, in Hz. voice_segments: look for silence; without, every step has a value. A step comes
    out once its whole window has been heard and its silence is decided, half a window or 1.1 s after its time.

    Raises EmimicError for a senseless window, hop or rate, or a window longer than the model hears.
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
        self.grid = Grid(window, hop)
        if window > engine.spec.max_seconds:
            raise EmimicError(
                f"window is {window:g} s; this model hears {engine.spec.max_seconds:g} s at most: give a shorter one"
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
        """Forget what was heard: the next chunk begins another recording."""
        self._mono = Mono()
        self._heard = np.empty(0, np.float32)  # the end of the recording, as far back as a window may reach
        self._first = 0  # the sample that `_heard` begins with
        self._next = 0
        self._ended = self._wide = self._warned = False
        if self._detector is not None:
            self._detector.reset()

    @property
    def seconds(self) -> float:
        """How much has been heard so far (at another rate than 16 kHz the resampler is some ms behind)."""
        return (self._first + len(self._heard)) / SAMPLE_RATE

    @property
    def voice_segments(self) -> tuple[VoiceSegment, ...]:
        """Where a voice is heard, as far as it is decided; without detection the whole recording."""
        if self._detector is None:
            return (VoiceSegment(0.0, self.seconds),) if self.seconds else ()
        return self._detector.voice_segments()

    def push(self, chunk: NDArray[Any]) -> list[Step]:
        """Hear a chunk, (sample,) or (sample, channel), floating point in [-1, 1] or integers -> steps now final.

        Samples that are NaN or infinite count as 0. Raises AudioError for an array that is no sound or goes far beyond
        [-1, 1], and EmimicError after `flush`. Warns (EmimicWarning), once, of int32 that holds 16-bit values.
        """
        if self._ended:
            raise EmimicError("this stream was flushed: its recording has ended; reset() it to hear another")
        self._take(self._mono.put(to_floats(chunk, "the chunk", is_chunk=True), self._rate))
        self._wide = self._wide or getattr(chunk, "dtype", None) == np.int32
        if self._mono.length >= SAMPLE_RATE:
            self._warn()
        return self._hear(self._ready(), last=False)

    def flush(self) -> list[Step]:
        """The recording ends here -> the steps left; only `reset` goes on from here."""
        if self._ended:
            return []
        self._ended = True
        self._take(self._mono.finish())
        if self._detector is not None:
            self._detector.flush()
        total = self._first + len(self._heard)
        steps = self._hear(range(self._next, self.grid.count(total) if total else 0), last=True)
        self._warn()
        return steps

    def _warn(self) -> None:
        """Once, of integers wider than their sound; what decodes a file has a note of its own."""
        if self._wide and not self._warned and (note := self._mono.narrow):
            self._warned = True
            add_note(f"the stream: {note}", None, stacklevel=3)

    def in_thread(self, on_step: Callable[[Step], object] | None = None) -> StreamThread[Step]:
        """Feed this stream from a thread of its own, so that an audio callback only queues its chunks.

        on_step: called with each step in that thread; without, iterate over what is returned.
        """
        return StreamThread(self, on_step)

    def _take(self, samples: NDArray[np.float32]) -> None:
        self._heard = np.concatenate([self._heard, samples])
        if self._detector is not None:
            self._detector.push(samples)

    def _ready(self) -> range:
        """The next steps that nothing to come can change."""
        heard = self._first + len(self._heard)
        decided = heard if self._detector is None else self._detector.decided
        step = self._next
        # Half a hop later a recording may end with this step, which then stands for the rest too.
        while max(self.grid.stretch(step)[1], self.grid.edge(step + 2)) <= heard:
            if self.grid.edge(step + 1) > decided:
                break
            step += 1
        return range(self._next, step)

    def _hear(self, steps: range, *, last: bool) -> list[Step]:
        """The next steps; `last`: the recording ends with them."""
        if not steps:
            return []
        total = self._first + len(self._heard)
        edges = [*map(self.grid.edge, steps), total if last else self.grid.edge(steps.stop)]
        stretches = [(max(0, start), min(total, end)) for start, end in map(self.grid.stretch, steps)]
        voiced = [
            self._detector is None or self._detector.voiced(edge, until) for edge, until in pairwise(edges)
        ]
        clips = [self._cut(*stretch) for stretch, voice in zip(stretches, voiced, strict=True) if voice]
        results = iter(self._engine.predict(clips, batch_seconds=self._batch_seconds) if clips else [])
        out = []
        for step, (start, end), voice, since, until in zip(
            steps, stretches, voiced, edges[:-1], edges[1:], strict=True
        ):
            center = (step + 0.5) * self.grid.hop
            vad_times = (np.arange(_frames(since), _frames(until)) + 0.5) * FRAME / SAMPLE_RATE
            intensities, vad = self._values(next(results) if voice else None, start, vad_times)
            out.append(
                Step(
                    time=center if self.grid.center(step) <= total else (start + end) / 2 / SAMPLE_RATE,
                    start=start / SAMPLE_RATE,
                    end=end / SAMPLE_RATE,
                    voiced=voice,
                    intensities=intensities,
                    vad_times=None if vad is None else vad_times,
                    vad=vad,
                )
            )
        self._next = steps.stop
        forget = min(max(0, self.grid.stretch(self._next)[0] - self._first), len(self._heard))
        self._heard = self._heard[forget:].copy()
        self._first += forget
        return out

    def _cut(self, start: int, end: int) -> NDArray[np.float32]:
        """A window as a clip of its own."""
        wave = self._heard[start - self._first : end - self._first]
        spec = self._engine.spec
        return prepare(
            wave, max_seconds=None, normalize=spec.do_normalize, min_samples=spec.min_samples
        ).samples

    def _values(
        self, result: Prediction | None, start: int, vad_times: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """A window's intensities and, where the model results VAD, its values at `vad_times`; NaN without a result."""
        spec = self._engine.spec
        silence = np.full((len(vad_times), len(VAD)), np.nan, np.float32) if spec.vad else None
        if result is None:
            return np.full(len(spec.targets), np.nan, np.float32), silence
        if result.vad is None:
            return result.intensities, silence
        known = start / SAMPLE_RATE + result.times
        vad = np.stack([np.interp(vad_times, known, curve) for curve in result.vad.T], axis=1)
        return result.intensities, vad.astype(np.float32)


def _frames(samples: int) -> int:
    """VAD frames of the curve whose center lies before a sample."""
    return -(-(samples - FRAME // 2) // FRAME) if samples > 0 else 0
