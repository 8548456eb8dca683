"""Two ways from a recording's windows to predictions: one pass of the encoder, or each window as a clip.

In one pass the encoder runs over overlapping blocks, so that every frame has context on both sides. A window's values
are the head's outputs on the frames in it. Models learn from clips of a few seconds, hence in each layer of Whisper's
encoder a frame attends to half a window on either side: attention over the whole block costs a fifth of the correlation
with labels (docs/log.md). What an encoder derives from a whole clip (the loudest value of Whisper's log-mel, zero mean
and unit variance) it derives from a block. `emimic adapt` trains a model so that both ways agree.

Steps are predicted in groups that depend on the recording alone: those whose windows end in the same block. So all
values are the same however the recording arrives.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from emimic.inference.grid import Grid, Window
from emimic.media import silero_vad
from emimic.task import SAMPLE_RATE

if TYPE_CHECKING:
    from emimic.inference.engine import Engine, OnePassEngine
    from emimic.inference.graph_engine import WindowPredictions

Cut = Callable[[int, int], NDArray[np.float32]]
"""From start and end to these samples of the recording."""

_MARGIN: Final = SAMPLE_RATE // 2
"""Samples on either side of a group's windows that are given to the head, which smooths V/A/D over time."""

_GROUPS: Final = 16
"""Groups of windows that are predicted at once, so that an hour that arrives in one piece takes no more memory."""

_CLIPS: Final = 128
"""Windows that are cut out as clips at once; overlapping ones take several times the memory of the recording."""


@dataclass(frozen=True, slots=True)
class Values:
    """Predictions of a window.

    Attributes:
        intensities: (target,).
        vad: (3,), of the window; None if not learned.
        times: (frame,), centers of its frames in seconds.
        frame_vad: (frame, 3), of its frames; None if not learned.
    """

    intensities: NDArray[np.float32]
    vad: NDArray[np.float32] | None
    times: NDArray[np.float64]
    frame_vad: NDArray[np.float32] | None


class Pass(Protocol):
    """A way from windows to predictions."""

    delay: int
    """Samples after the end of a step's window that must have arrived at most, for the step to come out."""

    def reset(self) -> None:
        """Forget the recording."""

    def group(self, ready: range, total: int, *, last: bool) -> list[range]:
        """Return the steps to predict now, in groups.

        Args:
            ready: Steps whose windows have arrived and whose silence is decided.
            total: Samples that have arrived.
            last: The recording ends with them.
        """
        ...

    def predict(self, groups: Sequence[Sequence[Window]], cut: Cut, total: int) -> list[Values | None]:
        """Return the predictions of the groups' windows in order; None for those without a voice."""
        ...

    def get_needed(self, step: int) -> int:
        """Return the first sample that this step or a later one may need."""
        ...


def is_one_pass(engine: "Engine") -> "TypeGuard[OnePassEngine]":
    """Return True if an engine can run its encoder and its head apart."""
    return bool(getattr(engine, "one_pass", False))


class ExactPass:
    """Each window is cut out, prepared and predicted as a clip of its own."""

    delay = 0

    def __init__(self, engine: "Engine", grid: Grid, *, batch_seconds: float) -> None:
        self._engine, self._grid, self._batch_seconds = engine, grid, batch_seconds

    def reset(self) -> None:
        """Forget nothing: windows don't depend on each other."""

    def group(self, ready: range, total: int, *, last: bool) -> list[range]:
        """Return all steps as one group."""
        return [ready] if ready else []

    def predict(self, groups: Sequence[Sequence[Window]], cut: Cut, total: int) -> list[Values | None]:
        """Return the predictions, see `Pass.predict`."""
        windows = [window for group in groups for window in group]
        values: list[Values | None] = []
        for first in range(0, len(windows), _CLIPS):
            values += self._predict_some(windows[first : first + _CLIPS], cut)
        return values

    def _predict_some(self, windows: Sequence[Window], cut: Cut) -> list[Values | None]:
        spec = self._engine.spec
        clips = [
            spec.clip_format.prepare(cut(window.start, window.end)).samples
            for window in windows
            if window.voiced
        ]
        results = iter(self._engine.predict(clips, batch_seconds=self._batch_seconds) if clips else [])
        values: list[Values | None] = []
        for window in windows:
            if not window.voiced:
                values.append(None)
                continue
            result = next(results)
            vad = None if result.vad is None else result.vad.mean(axis=0)
            times = window.start / SAMPLE_RATE + result.times
            values.append(Values(result.intensities, vad, times, result.vad))
        return values

    def get_needed(self, step: int) -> int:
        """Return the start of the step's window."""
        return self._grid.get_window(step)[0]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks over which the encoder runs, in seconds.

    Attributes:
        advance: From one block to the next: its own frames.
        before: Context before them.
        after: Context after them.
        voice: Samples in which voice is detected at a time.
    """

    advance: float
    before: float
    after: float
    voice: int = silero_vad.LIVE

    @property
    def seconds(self) -> float:
        """Length of a block."""
        return self.before + self.advance + self.after

    def count_frames(self, hop: int, max_seconds: float) -> tuple[int, int, int]:
        """Return the frames of a block's advance, before it, and after it.

        Args:
            hop: Samples per frame.
            max_seconds: The longest clip that the model takes; longer blocks shrink to it.
        """
        scale = min(1.0, max_seconds / self.seconds) * SAMPLE_RATE / hop
        return max(1, int(self.advance * scale)), int(self.before * scale), int(self.after * scale)

    def split(self, length: int, hop: int, max_seconds: float) -> Iterator[tuple[slice, slice]]:
        """Yield each block of a recording: its samples, and which of its frames are its own.

        Args:
            length: Samples of the recording.
            hop: Samples per frame.
            max_seconds: See `count_frames`.
        """
        advance, before, after = self.count_frames(hop, max_seconds)
        for start in range(0, length, advance * hop):
            first, end = max(0, start - before * hop), start + (advance + after) * hop
            skipped = (start - first) // hop
            is_last = start + advance * hop >= length
            yield slice(first, min(length, end)), slice(skipped, None if is_last else skipped + advance)


FILE: Final = Blocks(advance=5.0, before=0.5, after=0.5, voice=silero_vad.FILE)
"""Of a file: 1.2 s of encoder per second of sound."""

LIVE: Final = Blocks(advance=1.0, before=1.0, after=0.5)
"""Of a stream, which should not lag far behind: 2.5 s of encoder per second of sound."""


class OnePass:
    """The encoder runs once over blocks, the head on windows of their frames."""

    def __init__(self, engine: "OnePassEngine", grid: Grid, blocks: Blocks) -> None:
        self._engine, self._grid = engine, grid
        self._hop = engine.spec.hop
        frames = blocks.count_frames(self._hop, engine.spec.max_seconds)
        self._frames = frames[0]  # of a block's own
        self._advance, self._before, self._after = (count * self._hop for count in frames)
        self._reach = max(1, round(grid.window / 2 * SAMPLE_RATE / self._hop))
        self.delay = self._advance + self._after
        self.reset()

    def reset(self) -> None:
        """Forget the recording."""
        self._encoded: dict[int, NDArray[np.float32]] = {}  # by block, its own frames and those after

    def group(self, ready: range, total: int, *, last: bool) -> list[range]:
        """Return the steps whose windows end in the same block, see `Pass.group`."""
        groups, first = [], ready.start
        while first < ready.stop:
            edge = -(-self._grid.get_window(first)[1] // self._advance) * self._advance
            stop = first + 1
            while self._grid.get_window(stop)[1] <= edge:
                stop += 1
            if last:
                stop = min(stop, ready.stop)
            elif stop > ready.stop or edge + self._after > total:
                break
            groups.append(range(first, stop))
            first = stop
        return groups

    def predict(self, groups: Sequence[Sequence[Window]], cut: Cut, total: int) -> list[Values | None]:
        """Return the predictions, see `Pass.predict`."""
        values: list[Values | None] = []
        for first in range(0, len(groups), _GROUPS):
            values += self._predict_some(groups[first : first + _GROUPS], cut, total)
        return values

    def _predict_some(self, groups: Sequence[Sequence[Window]], cut: Cut, total: int) -> list[Values | None]:
        voiced = [[window for window in group if window.voiced] for group in groups]
        spans = [self._find_blocks(group) for group in voiced]
        missing = sorted({block for span in spans for block in span} - set(self._encoded))
        self._encode(missing, cut, total)
        parts = [self._cut_group(group, span) for group, span in zip(voiced, spans, strict=True) if group]
        outputs = self._engine.predict_windows([(hidden, frames) for _, hidden, frames in parts])
        predicted = (
            v for part, output in zip(parts, outputs, strict=True) for v in self._read(*part, output)
        )
        needed = max((span.start for span in spans), default=0)
        self._encoded = {block: hidden for block, hidden in self._encoded.items() if block >= needed}
        return [next(predicted) if window.voiced else None for group in groups for window in group]

    def get_needed(self, step: int) -> int:
        """Return the first sample of the block with the step's first frame, see `Pass.get_needed`."""
        return self._find_block(self._grid.get_window(step)[0]) * self._advance - self._before

    def _find_block(self, start: int) -> int:
        """Return the first block that a window from `start` on needs."""
        return max(0, start - _MARGIN) // self._advance

    def _find_blocks(self, windows: Sequence[Window]) -> range:
        """Return the blocks with the frames of windows, in order."""
        if not windows:
            return range(0)
        return range(self._find_block(windows[0].start), -(-windows[-1].end // self._advance))

    def _encode(self, blocks: Sequence[int], cut: Cut, total: int) -> None:
        spec, clips, contexts = self._engine.spec, [], []
        for block in blocks:
            start = max(0, block * self._advance - self._before)
            wave = cut(start, min(total, (block + 1) * self._advance + self._after))
            clips.append(spec.clip_format.prepare(wave).samples)
            contexts.append(block * self._frames - start // self._hop)
        encoded = self._engine.encode(clips, reach=self._reach) if clips else []
        for block, context, hidden in zip(blocks, contexts, encoded, strict=True):
            self._encoded[block] = hidden[context:]

    def _cut_group(
        self, windows: Sequence[Window], blocks: range
    ) -> tuple[int, NDArray[np.float32], NDArray[np.int64]]:
        """Return the first frame of windows in encoded blocks, their frames, and in these each one's first and end."""
        parts = [*(self._encoded[block][: self._frames] for block in blocks[:-1]), self._encoded[blocks[-1]]]
        first = max(0, windows[0].start - _MARGIN) // self._hop
        parts[0] = parts[0][first - blocks.start * self._frames :]
        hidden = np.concatenate(parts)[: -(-(windows[-1].end + _MARGIN) // self._hop) - first]
        edges = np.array([(window.start, window.end) for window in windows])
        frames = -((self._engine.spec.first - edges) // self._hop).astype(np.int64) - first
        frames[:, 1] = frames[:, 1].clip(1, len(hidden))
        frames[:, 0] = np.minimum(frames[:, 0], frames[:, 1] - 1)
        return first, hidden, frames

    def _read(
        self,
        first: int,
        hidden: NDArray[np.float32],
        frames: NDArray[np.int64],
        output: "WindowPredictions",
    ) -> Iterator[Values]:
        """Yield the values of each window of `_cut_group`."""
        times = (self._engine.spec.first + self._hop * (first + np.arange(len(hidden)))) / SAMPLE_RATE
        for row, (start, end) in enumerate(frames):
            yield Values(
                intensities=output.intensities[row],
                vad=None if output.vad is None else output.vad[row],
                times=times[start:end],
                frame_vad=None if output.frame_vad is None else output.frame_vad[start:end],
            )
