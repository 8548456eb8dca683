"""Predictions over time while a recording arrives: chunks in, steps out. A timeline is a stream of all its blocks.

The value at time t is the model's prediction of the window centered on t, every `hop` seconds; at a recording's two
ends the window is shorter. The encoder runs once over the recording, or over each window as a clip (`passes`). A step
whose hop is silent is NaN and is not computed.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from emimic.inference.grid import FRAME, Grid, TimelineOptions, Window
from emimic.inference.grid import HOP as HOP
from emimic.inference.grid import WINDOW as WINDOW
from emimic.inference.passes import FILE, LIVE, Blocks, ExactPass, OnePass, Pass, Values, is_one_pass
from emimic.inference.stream_thread import StreamThread
from emimic.inference.timeline import Method, Timeline, VoiceSegment
from emimic.inference.voice_activity import AHEAD, Detector
from emimic.media.silero_vad import CHUNK
from emimic.media.source import to_floats
from emimic.media.waveform import Mono, check_format, compute_delay
from emimic.task import SAMPLE_RATE, VAD, EmimicError, add_note

if TYPE_CHECKING:
    from emimic.inference.engine import Engine

DEFAULTS: Final = TimelineOptions()


@dataclass(frozen=True, slots=True)
class Step:
    """One final step of a timeline. In silence (voiced is False) all values are NaN.

    Attributes:
        time: Center of the window in seconds.
        start: Start of the window in seconds.
        end: End of the window in seconds.
        voiced: The hop contains a voice.
        intensities: (target,), about [0, 1].
        vad_times: (frame,) times of V/A/D in seconds: the window's center or, on request, the centers of this hop's
            frames, 50 per second; None if not learned.
        vad: (frame, 3) arousal, dominance, valence, of the window or its frames; None if not learned.
    """

    time: float
    start: float
    end: float
    voiced: bool
    intensities: NDArray[np.float32]
    vad_times: NDArray[np.float64] | None
    vad: NDArray[np.float32] | None


class Stream:
    """A recording that arrives in chunks; the sizes of the chunks don't change the steps.

    A step comes out once its window has arrived and its silence is decided and, in one pass, once the steps are
    complete whose windows end in the same block of the encoder: at most `latency` seconds after its time.
    """

    def __init__(
        self,
        engine: "Engine",
        options: TimelineOptions = DEFAULTS,
        *,
        blocks: Blocks = LIVE,
        sample_rate: float = SAMPLE_RATE,
        voice_segments: bool = True,
        batch_seconds: float = 30.0,
    ) -> None:
        """Start a recording.

        Args:
            engine: The model.
            options: Windows, and what is predicted of them. A model that can't predict in one pass predicts exactly.
            blocks: Of the encoder, in one pass, and of voice detection.
            sample_rate: Of the chunks, in Hz.
            voice_segments: Detect silence; otherwise every step has values.
            batch_seconds: Maximum seconds of audio per forward pass, where windows are clips.

        Raises:
            EmimicError: The window, hop or rate is invalid, or the window is longer than the model's max_seconds.
        """
        self.options = options
        self.grid = Grid(options.window, options.hop)
        if options.window > engine.spec.max_seconds:
            raise EmimicError(
                f"window is {options.window:g} s; this model takes at most {engine.spec.max_seconds:g} s: give a "
                "shorter one"
            )
        check_format(sample_rate, 1, "the stream")
        self._engine = engine
        self._rate = sample_rate
        self._pass: Pass = (
            ExactPass(engine, self.grid, batch_seconds=batch_seconds)
            if options.exact or not is_one_pass(engine)
            else OnePass(engine, self.grid, blocks)
        )
        self._detector = Detector(blocks.voice) if voice_segments else None
        self._lock = threading.Lock()  # of `_recent` and `_first`
        self.reset()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream can't be pickled: give the Predictor, and make the stream where it arrives")

    def reset(self) -> None:
        """Forget the recording: the next chunk starts another one."""
        self._mono = Mono()
        self._recent = np.empty(0, np.float32)  # the end of the recording, as far back as a window may reach
        self._first = 0  # the sample that `_recent` begins with
        self._next = 0
        self._pass.reset()
        self._ended = self._wide = self._warned = False
        if self._detector is not None:
            self._detector.reset()

    @property
    def seconds(self) -> float:
        """Seconds of audio received so far; at a rate other than 16 kHz, of which the resampler has made samples."""
        return self._total / SAMPLE_RATE

    @property
    def method(self) -> Method:
        """How windows are predicted: in one pass, or exactly, each as a clip."""
        return "exact" if isinstance(self._pass, ExactPass) else "one pass"

    @property
    def latency(self) -> float:
        """Seconds after its time at which a step comes out at the latest, without computing time and the last chunk."""
        hop, decided = self.grid.hop, 0.0
        behind = compute_delay(self._rate) + self._pass.delay / SAMPLE_RATE
        if self._detector is not None:
            decided = hop / 2 + (AHEAD * CHUNK + self._detector.group) / SAMPLE_RATE
        return max(self.grid.window / 2, 1.5 * hop, decided) + behind

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
        self._add(chunk)
        if self._mono.length >= SAMPLE_RATE:
            self._warn()
        return self._predict(self._list_ready(), self._total, last=False)

    def push_ahead(self, chunk: NDArray[Any], pool: ThreadPoolExecutor) -> list[Step]:
        """Add a chunk in a thread of `pool` while the steps are predicted that were final before; return those.

        So voice activity is detected beside the encoder. Otherwise as `push`, one chunk later, without its warning.
        """
        ready, total = self._list_ready(), self._total
        added = pool.submit(self._add, chunk)
        try:
            return self._predict(ready, total, last=False)
        finally:
            added.result()

    def _add(self, chunk: NDArray[Any]) -> None:
        if self._ended:
            raise EmimicError("this stream was flushed: its recording has ended; reset() it to start another")
        self._take(self._mono.put(to_floats(chunk, "the chunk", is_chunk=True), self._rate))
        self._wide = self._wide or getattr(chunk, "dtype", None) == np.int32

    def flush(self) -> list[Step]:
        """End the recording and return its last steps; afterwards only `reset` continues."""
        if self._ended:
            return []
        self._ended = True
        self._take(self._mono.finish())
        if self._detector is not None:
            self._detector.flush()
        steps = range(self._next, self.grid.count_steps(self._total) if self._total else 0)
        predicted = self._predict(steps, self._total, last=True)
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
        with self._lock:
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

    def _predict(self, steps: range, total: int, *, last: bool) -> list[Step]:
        """Return the next steps that can be predicted.

        Args:
            steps: The next ones that later samples can't change.
            total: Samples that have arrived.
            last: The recording ends with them.
        """
        groups = self._pass.group(steps, total, last=last)
        if not groups:
            return []
        edges = [*map(self.grid.get_edge, steps), total if last else self.grid.get_edge(steps.stop)]
        intervals = dict(zip(steps, pairwise(edges), strict=True))
        windows = [[self._make_window(step, intervals[step], total) for step in group] for group in groups]
        values = self._pass.predict(windows, self._cut, total)
        ready = range(groups[0].start, groups[-1].stop)
        flat = [window for group in windows for window in group]
        predicted = [
            self._make_step(step, intervals[step], window, value, total)
            for step, window, value in zip(ready, flat, values, strict=True)
        ]
        self._next = ready.stop
        needed = self._pass.get_needed(self._next)
        with self._lock:
            forget = min(max(0, needed - self._first), len(self._recent))
            self._recent = self._recent[forget:].copy()
            self._first += forget
        return predicted

    def _make_window(self, step: int, interval: tuple[int, int], total: int) -> Window:
        start, end = self.grid.get_window(step)
        voiced = self._detector is None or self._detector.is_voiced(*interval)
        return Window(max(0, start), min(total, end), voiced)

    def _cut(self, start: int, end: int) -> NDArray[np.float32]:
        """Return samples of the recording."""
        with self._lock:
            return self._recent[start - self._first : end - self._first]

    def _make_step(
        self, step: int, interval: tuple[int, int], window: Window, values: Values | None, total: int
    ) -> Step:
        """Return a step; without values it is NaN."""
        spec, start, end = self._engine.spec, window.start / SAMPLE_RATE, window.end / SAMPLE_RATE
        time = (step + 0.5) * self.grid.hop if self.grid.get_center(step) <= total else (start + end) / 2
        vad_times, vad = None, None
        if spec.vad:
            vad_times = np.array([time])
            if self.options.vad_frames:
                vad_times = (np.arange(*map(_count_frames, interval)) + 0.5) * FRAME / SAMPLE_RATE
            vad = np.full((len(vad_times), len(VAD)), np.nan, np.float32)
        if values is not None and vad is not None and vad_times is not None:
            if not self.options.vad_frames and values.vad is not None:
                vad[0] = values.vad
            elif values.frame_vad is not None:
                vad[:] = np.stack(
                    [np.interp(vad_times, values.times, column) for column in values.frame_vad.T], axis=1
                )
        silence = np.full(len(spec.targets), np.nan, np.float32)
        intensities = silence if values is None else values.intensities
        return Step(time, start, end, window.voiced, intensities, vad_times, vad)


def _count_frames(samples: int) -> int:
    """Return the number of V/A/D frames whose center lies before a sample."""
    return -(-(samples - FRAME // 2) // FRAME) if samples > 0 else 0


def compute_timeline(
    engine: "Engine",
    blocks: Iterable[NDArray[np.float32]],
    options: TimelineOptions = DEFAULTS,
    *,
    name: str,
    voice_segments: bool = True,
    batch_seconds: float = 30.0,
    on_progress: Callable[[float], object] = lambda seconds: None,
) -> Timeline:
    """Return the timeline of a recording of any length; memory grows with the timeline alone.

    Args:
        engine: The model.
        blocks: (sample,) each at 16 kHz.
        options: See `Stream`.
        name: Name of the recording.
        voice_segments: Detect silence.
        batch_seconds: Maximum seconds of audio per forward pass, where windows are clips.
        on_progress: Called after each block with the seconds done.

    Raises:
        EmimicError: See `Stream`.
    """
    stream = Stream(engine, options, blocks=FILE, voice_segments=voice_segments, batch_seconds=batch_seconds)
    steps: list[Step] = []
    with ThreadPoolExecutor(1) as pool:
        for block in blocks:
            steps += stream.push_ahead(block, pool)
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
        method=stream.method,
    )
