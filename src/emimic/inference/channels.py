"""Recordings with a voice on each channel: detected by their levels, and split on request."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic.inference.inputs import read_content
from emimic.inference.recording import Channel, Recording
from emimic.inference.results import Failure
from emimic.media import decode
from emimic.media.waveform import Wave
from emimic.task import AudioError

SECONDS: Final = 60.0
"""Length of the part of a recording that is compared between the two channels."""

_LOUDER: Final = 10 ** (6 / 20)
"""Ratio (6 dB) from which one channel is louder: a microphone also picks up the other voice."""

_FLOOR: Final = 10 ** (-55 / 20)
_FRACTION: Final = 0.1
"""Minimum fraction of the frames with sound in which each channel must be louder."""

NOTE: Final = "its two channels hold different voices, averaged here; --channels takes each by itself"


@dataclass
class Turns:
    """Counts of the frames of 0.1 s in which either channel of a two-channel recording is louder.

    Attributes:
        active: Frames with sound.
        louder: (channel,) those of them in which a channel is louder.
    """

    active: int = 0
    louder: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    _rest: Wave = field(default_factory=lambda: np.empty((0, 2), np.float32))

    def put(self, chunk: Wave, rate: int) -> None:
        """Count the next chunk (sample, channel); ignored unless it has two channels."""
        if chunk.shape[1] != 2:
            return
        wave, size = np.concatenate([self._rest, chunk]), rate // 10
        count = len(wave) // size
        self._rest = wave[count * size :]
        frames = wave[: count * size].reshape(count, size, 2).astype(np.float64)
        levels = np.sqrt(np.mean(frames**2, axis=1))
        levels = levels[levels.max(axis=1) > _FLOOR]
        self.active += len(levels)
        self.louder += (levels > _LOUDER * levels[:, ::-1]).sum(axis=0)

    @property
    def are_taken(self) -> bool:
        """True if the channels alternate in loudness: each holds a voice, not the same scene."""
        return self.active > 0 and bool(self.louder.min() >= _FRACTION * self.active)


def read_blocks(
    source: str | os.PathLike[str] | bytes,
    *,
    seconds: float,
    name: str,
    channel: int | None = None,
    notes: list[str],
) -> Iterator[Wave]:
    """Yield the blocks of `decode.load_blocks`, and note if averaged channels hold a voice each."""
    turns = Turns()
    yield from decode.load_blocks(
        source, seconds=seconds, name=name, channel=channel, notes=notes, watch=turns.put
    )
    if channel is None and turns.are_taken:
        notes.append(f"{name}: {NOTE}")


def split_channels(recordings: Sequence[Path | Failure]) -> Iterator[Recording | Failure]:
    """Yield each channel of recordings with several; mono recordings, also in two channels, stay as they are."""
    for recording in recordings:
        count = 0 if isinstance(recording, Failure) else _count_channels(recording)
        if isinstance(recording, Failure) or count < 2 or (count == 2 and _is_mono(recording)):
            yield recording
        else:
            yield from (Channel(recording, number) for number in range(1, count + 1))


def _count_channels(path: Path) -> int:
    try:
        return decode.count_channels(read_content(path), name=str(path))
    except AudioError:
        return 0


def _is_mono(path: Path) -> bool:
    """Return True if two channels are equal; False for an unreadable file, which prediction reports."""
    try:
        first, second = (
            decode.load(read_content(path), max_seconds=SECONDS, channel=i, notes=[]) for i in (0, 1)
        )
    except AudioError:
        return False
    return np.array_equal(first, second)
