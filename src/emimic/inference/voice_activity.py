"""Voice activity: silero-vad detects speech, and a level above the recording's own noise detects bursts.

silero-vad finds 93 % of speech and more, but less than a quarter of laughs, sighs and cheers in a room with noise. So
everything that stands out of the background counts as voice too. This finds 99 % of both at 20 dB above steady noise
and counts no pause as voice (docs/results/voice_segments.json). Sounds that are not steady (music, traffic, a door)
count as voice. Every decision looks at most PAST back and AHEAD forward, so that a stream decides as for
the entire recording.
"""

import threading
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from emimic.inference.timeline import VoiceSegment
from emimic.media.silero_vad import CHUNK, LIVE, SPEECH, SpeechDetector, pad
from emimic.task import SAMPLE_RATE

ABOVE_NOISE: Final = 10.0
"""Decibels above the noise floor that count as voice."""

QUIETEST: Final = -65.0
"""Lowest noise floor in decibels (0 is full scale); with digital silence as the floor anything would be a voice."""

LOUDEST_NOISE: Final = -40.0
"""Highest noise floor in decibels of a room between parts of digital silence."""

SHORTEST: Final = 3
"""Chunks: a sound shorter than 0.1 s is a click."""

MARGIN: Final = 6
"""Chunks (0.19 s) added on both sides; so pauses of up to 0.38 s are bridged."""

PAST: Final = 250  # chunks (8 s) back in which the noise floor is searched
_FLOOR_AHEAD: Final = 20  # chunks (0.64 s) forward
_SMOOTH: Final = 1  # chunks on either side whose power is averaged
AHEAD: Final = _SMOOTH + _FLOOR_AHEAD + (SHORTEST - 1) + MARGIN
"""Chunks (0.93 s) that must follow a chunk before it is decided."""

_BEHIND: Final = _SMOOTH + PAST + (SHORTEST - 1) + MARGIN
_DIGITAL: Final = -99.0  # dB; zeros have -100
_BAND: Final = slice(6, 161)  # of the 257 bins of a chunk: 190 to 5,000 Hz
_TAPER: Final = np.hanning(CHUNK)


class Detector:
    """A voice detector for a recording at 16 kHz that arrives in pieces of any size.

    Chunks begin with the first sample that is not 0, so that leading digital silence only shifts the segments.

    Attributes:
        group: Samples processed in one call.
        decided: Samples from the recording's start that are decided.
    """

    def __init__(self, group: int = LIVE) -> None:
        self.group = group
        self._lock = threading.Lock()  # of `_voiced`, which is read while the next samples are added
        self.reset()

    def reset(self) -> None:
        """Forget the recording."""
        self._rest = np.empty(0, np.float32)
        self._detector = SpeechDetector()
        self._evidence = np.empty((2, 0))  # (speech and level, chunk) of the last chunks
        self._first = 0  # the chunk that `_evidence` begins with
        self._voiced: list[NDArray[np.bool_]] = []
        self._samples = 0
        # The chunk with the first sound, and the number of zeros before it that lie in no chunk.
        self._begun: tuple[int, int] | None = None
        self._done = 0  # chunks
        self.decided = 0

    def push(self, samples: NDArray[np.float32]) -> None:
        """Add samples (sample,)."""
        self._samples += len(samples)
        rest = np.concatenate([self._rest, samples])
        if self._begun is None and (sound := np.flatnonzero(rest)).size:
            chunks, odd = divmod(int(sound[0]), CHUNK)
            self._begun = (self._first + self._evidence.shape[1] + chunks, odd)
            rest = rest[odd:]
        for start in range(0, len(rest) - self.group + 1, self.group):
            self._add_evidence(rest[start : start + self.group])
        self._rest = rest[len(rest) // self.group * self.group :].copy()
        self._decide(self._first + self._evidence.shape[1] - AHEAD)

    def flush(self) -> None:
        """End the recording and decide the rest."""
        if len(self._rest):
            self._add_evidence(pad(self._rest))
            self._rest = self._rest[:0]
        self._decide(self._first + self._evidence.shape[1])
        self.decided = self._samples

    def _get_edge(self, chunk: Any) -> Any:
        """Return the first sample of chunks."""
        first, odd = self._begun or (0, 0)
        return chunk * CHUNK + odd * (np.asarray(chunk) >= first)

    def _get_chunk(self, sample: int) -> int:
        """Return the chunk that a sample lies in."""
        first, odd = self._begun or (0, 0)
        return max(min(sample // CHUNK, first), (sample - odd) // CHUNK)

    def is_voiced(self, start: int, end: int) -> bool:
        """Return True if the samples start to end, which must be decided, contain a voice."""
        return bool(self._join_voiced()[self._get_chunk(start) : self._get_chunk(end - 1) + 1].any())

    def get_voice_segments(self) -> tuple[VoiceSegment, ...]:
        """Return the decided segments with a voice."""
        steps = np.flatnonzero(np.diff(np.concatenate([[False], self._join_voiced(), [False]])))
        ends = np.minimum(self._get_edge(steps), self.decided) / SAMPLE_RATE
        return tuple(VoiceSegment(float(a), float(b)) for a, b in ends.reshape(-1, 2))

    def _join_voiced(self) -> NDArray[np.bool_]:
        with self._lock:
            if len(self._voiced) != 1:
                self._voiced = [np.concatenate([np.empty(0, np.bool_), *self._voiced])]
            return self._voiced[0]

    def _add_evidence(self, group: NDArray[np.float32]) -> None:
        """Add the evidence of the chunks of samples (chunk * CHUNK,)."""
        evidence = np.stack([self._detector.detect(group), _compute_levels(group.reshape(-1, CHUNK))])
        self._evidence = np.concatenate([self._evidence, evidence], axis=1)

    def _decide(self, until: int) -> None:
        """Decide the chunks before `until`, and forget the evidence that later ones don't need."""
        done = self._done
        if until <= done:
            return
        speech, levels = self._evidence
        voiced = decide(speech, levels, since=done - self._first)
        with self._lock:
            self._voiced.append(voiced[done - self._first : until - self._first])
        self._done = until
        self.decided = int(self._get_edge(until))
        forget = max(0, until - _BEHIND - self._first)
        self._evidence = self._evidence[:, forget:]
        self._first += forget


def decide(
    speech: NDArray[np.floating[Any]], levels: NDArray[np.floating[Any]], since: int = 0
) -> NDArray[np.bool_]:
    """Return the chunks (chunk,) with a voice.

    Args:
        speech: (chunk,) probability of speech.
        levels: (chunk,) in dB.
        since: Chunks before it are False: they were decided earlier.
    """
    start = max(0, since - MARGIN - (SHORTEST - 1))
    power = 10.0 ** (levels / 10.0)
    counts = _slide(np.ones_like(power), _SMOOTH, _SMOOTH, 0.0).sum(axis=1)
    smooth = 10.0 * np.log10(_slide(power, _SMOOTH, _SMOOTH, 0.0).sum(axis=1) / counts)
    # Digital silence (of a gate, or of a gap in the recording) is not the noise of the room.
    digital = _slide(levels <= _DIGITAL, _SMOOTH, _SMOOTH, False).any(axis=1)
    room, lowest = (
        _slide(values, PAST, _FLOOR_AHEAD, np.inf)[start:].min(axis=1)
        for values in (np.where(digital, np.inf, smooth), smooth)
    )
    floor = np.maximum(np.where(room <= LOUDEST_NOISE, room, lowest), QUIETEST)
    voice = np.zeros(len(speech), np.bool_)
    voice[start:] = (speech[start:] >= SPEECH) | (smooth[start:] >= floor + ABOVE_NOISE)
    # From here on; a voice at the recording's end counts as long enough.
    lasts = _slide(voice, 0, SHORTEST - 1, True).all(axis=1)
    long = _slide(lasts, SHORTEST - 1, 0, False).any(axis=1)
    wide: NDArray[np.bool_] = _slide(long, MARGIN, MARGIN, False).any(axis=1)
    wide[:since] = False
    return wide


def find(samples: NDArray[np.float32]) -> tuple[VoiceSegment, ...]:
    """Return the segments with a voice of samples (sample,) at 16 kHz."""
    detector = Detector()
    detector.push(samples)
    detector.flush()
    return detector.get_voice_segments()


def _compute_levels(chunks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return levels (chunk,) in dB of (chunk, sample) between 190 and 5,000 Hz, without most hum and rumble."""
    power = np.square(np.abs(np.fft.rfft(chunks * _TAPER, axis=1)))[:, _BAND].sum(axis=1)
    levels: NDArray[np.float64] = 10.0 * np.log10(power * 2.0 / (CHUNK * np.square(_TAPER).sum()) + 1e-10)
    return levels


def _slide(values: Any, before: int, after: int, beyond: Any) -> Any:
    """Return sliding windows (chunk, before + 1 + after) of (chunk,), padded with `beyond`."""
    padded = np.concatenate(
        [np.full(before, beyond, values.dtype), values, np.full(after, beyond, values.dtype)]
    )
    return sliding_window_view(padded, before + 1 + after)
