"""Where a voice is heard: silero-vad finds speech, a level above the recording's own noise finds bursts.

silero-vad is a detector of speech: it finds 93 % of it and more, but less than a quarter of laughs, sighs and cheers in
a room with noise. So whatever stands out of the background counts as voice too, which finds 99 % of both at 20 dB above
steady noise and calls none of the pauses voice (docs/results/regions.json). What is not steady (music, traffic, a door)
is taken for a voice. Every decision looks at most PAST back and AHEAD forward, so that a stream decides as the whole
recording does.
"""

from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from emimic.inference.results import VoiceSegment
from emimic.media.silero_vad import CHUNK, GROUP, SPEECH, Listener
from emimic.task import SAMPLE_RATE

ABOVE_NOISE: Final = 10.0
"""Decibels above the noise floor that count as voice."""

QUIETEST: Final = -65.0
"""Decibels (0 is full scale) below which no noise floor is believed: digital silence would make a voice of anything."""

LOUDEST_NOISE: Final = -40.0
"""Decibels above which nothing between stretches of digital silence is taken for the noise of a room."""

SHORTEST: Final = 3
"""Chunks: what lasts less than 0.1 s is a click."""

MARGIN: Final = 6
"""Chunks (0.19 s) added on both sides; so pauses of up to 0.38 s are bridged."""

PAST: Final = 250  # chunks (8 s) in which the noise floor is looked for, and 0.64 s to come
_FLOOR_AHEAD: Final = 20
_SMOOTH: Final = 1  # chunks on either side whose power is averaged
AHEAD: Final = _SMOOTH + _FLOOR_AHEAD + (SHORTEST - 1) + MARGIN
"""Chunks (0.93 s) that must have been heard after a chunk before it is decided."""

_BEHIND: Final = _SMOOTH + PAST + (SHORTEST - 1) + MARGIN
_DIGITAL: Final = -99.0  # dB; zeros have -100
_BAND: Final = slice(6, 161)  # of the 257 bins of a chunk: 190 to 5,000 Hz
_TAPER: Final = np.hanning(CHUNK)


class Detector:
    """Hears a recording at 16 kHz piece by piece; the pieces' sizes change nothing.

    Chunks begin with the first sample that is not 0, so that digital silence in front moves what is found.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the recording."""
        self._rest = np.empty(0, np.float32)
        self._listener = Listener()
        self._evidence = np.empty((2, 0))  # (speech and level, chunk) of the last chunks
        self._first = 0  # the chunk that `_evidence` begins with
        self._voiced: list[NDArray[np.bool_]] = []
        self._samples = 0
        # The chunk with the first sound, and how many zeros before it lie in no chunk.
        self._begun: tuple[int, int] | None = None
        self._done = 0  # chunks
        self.decided = 0
        """Samples from the recording's start about which is decided."""

    def push(self, samples: NDArray[np.float32]) -> None:
        """Hear (sample,) more."""
        self._samples += len(samples)
        rest = np.concatenate([self._rest, samples])
        if self._begun is None and (sound := np.flatnonzero(rest)).size:
            chunks, odd = divmod(int(sound[0]), CHUNK)
            self._begun = (self._first + self._evidence.shape[1] + chunks, odd)
            rest = rest[odd:]
        for start in range(0, len(rest) - GROUP + 1, GROUP):
            self._hear(rest[start : start + GROUP])
        self._rest = rest[len(rest) // GROUP * GROUP :].copy()
        self._decide(self._first + self._evidence.shape[1] - AHEAD)

    def flush(self) -> None:
        """The recording ends here: decide about the rest."""
        if len(self._rest):
            chunks = -(-len(self._rest) // CHUNK)
            self._hear(np.pad(self._rest, (0, GROUP - len(self._rest))))
            self._evidence = self._evidence[:, : self._evidence.shape[1] - GROUP // CHUNK + chunks]
            self._rest = self._rest[:0]
        self._decide(self._first + self._evidence.shape[1])
        self.decided = self._samples

    def _edge(self, chunk: Any) -> Any:
        """Where chunks begin, in samples."""
        first, odd = self._begun or (0, 0)
        return chunk * CHUNK + odd * (np.asarray(chunk) >= first)

    def _chunk(self, sample: int) -> int:
        """The chunk that a sample lies in."""
        first, odd = self._begun or (0, 0)
        return max(min(sample // CHUNK, first), (sample - odd) // CHUNK)

    def voiced(self, start: int, end: int) -> bool:
        """Whether a voice is heard anywhere in the samples start to end, which must be decided."""
        return bool(self._chunks()[self._chunk(start) : self._chunk(end - 1) + 1].any())

    def voice_segments(self) -> tuple[VoiceSegment, ...]:
        """The stretches of voice in what is decided, in seconds."""
        steps = np.flatnonzero(np.diff(np.concatenate([[False], self._chunks(), [False]])))
        ends = np.minimum(self._edge(steps), self.decided) / SAMPLE_RATE
        return tuple(VoiceSegment(float(a), float(b)) for a, b in ends.reshape(-1, 2))

    def _chunks(self) -> NDArray[np.bool_]:
        if len(self._voiced) != 1:
            self._voiced = [np.concatenate([np.empty(0, np.bool_), *self._voiced])]
        return self._voiced[0]

    def _hear(self, group: NDArray[np.float32]) -> None:
        """(GROUP,) samples -> their evidence."""
        evidence = np.stack([self._listener.hear(group), _levels(group.reshape(-1, CHUNK))])
        self._evidence = np.concatenate([self._evidence, evidence], axis=1)

    def _decide(self, until: int) -> None:
        """Decide about the chunks before `until`, and forget what later ones don't look back on."""
        done = self._done
        if until <= done:
            return
        voiced = decide(*self._evidence)
        self._voiced.append(voiced[done - self._first : until - self._first])
        self._done = until
        self.decided = int(self._edge(until))
        forget = max(0, until - _BEHIND - self._first)
        self._evidence = self._evidence[:, forget:]
        self._first += forget


def decide(speech: NDArray[np.floating[Any]], levels: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Probability of speech and level in dB of each (chunk,) -> whether a voice is heard in it."""
    power = 10.0 ** (levels / 10.0)
    beside = _near(np.ones_like(power), _SMOOTH, _SMOOTH, 0.0).sum(axis=1)
    smooth = 10.0 * np.log10(_near(power, _SMOOTH, _SMOOTH, 0.0).sum(axis=1) / beside)
    # Digital silence (of a gate, or of a gap in the recording) says nothing of the room, where its noise is known.
    digital = _near(levels <= _DIGITAL, _SMOOTH, _SMOOTH, False).any(axis=1)
    own, lowest = (
        _near(values, PAST, _FLOOR_AHEAD, np.inf).min(axis=1)
        for values in (np.where(digital, np.inf, smooth), smooth)
    )
    floor = np.maximum(np.where(own <= LOUDEST_NOISE, own, lowest), QUIETEST)
    voice: NDArray[np.bool_] = np.logical_or(speech >= SPEECH, smooth >= floor + ABOVE_NOISE)
    # From here on; a recording's end cuts nothing short.
    lasts = _near(voice, 0, SHORTEST - 1, True).all(axis=1)
    long = _near(lasts, SHORTEST - 1, 0, False).any(axis=1)
    wide: NDArray[np.bool_] = _near(long, MARGIN, MARGIN, False).any(axis=1)
    return wide


def find(samples: NDArray[np.float32]) -> tuple[VoiceSegment, ...]:
    """(sample,) at 16 kHz -> where a voice is heard."""
    detector = Detector()
    detector.push(samples)
    detector.flush()
    return detector.voice_segments()


def _levels(chunks: NDArray[np.float32]) -> NDArray[np.float64]:
    """(chunk, sample) -> levels (chunk,) in dB between 190 and 5,000 Hz, where hum and rumble have little."""
    power = np.square(np.abs(np.fft.rfft(chunks * _TAPER, axis=1)))[:, _BAND].sum(axis=1)
    levels: NDArray[np.float64] = 10.0 * np.log10(power * 2.0 / (CHUNK * np.square(_TAPER).sum()) + 1e-10)
    return levels


def _near(values: Any, before: int, after: int, beyond: Any) -> Any:
    """(chunk,) -> (chunk, before + 1 + after); `beyond` stands where the recording has nothing."""
    padded = np.concatenate(
        [np.full(before, beyond, values.dtype), values, np.full(after, beyond, values.dtype)]
    )
    return sliding_window_view(padded, before + 1 + after)
