"""Recordings that hold a voice on each channel: found by their levels, and taken apart on request."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic.inference.inputs import content
from emimic.inference.results import Channel, Failure, Recording
from emimic.media import decode
from emimic.media.waveform import Wave
from emimic.task import AudioError

SECONDS: Final = 60.0
"""How much of a recording is looked at for a voice in both channels."""

_LOUDER: Final = 10 ** (6 / 20)
"""A channel is the louder one from 6 dB on: a microphone also picks up the other voice."""

_FLOOR: Final = 10 ** (-55 / 20)
_FRACTION: Final = 0.1
"""Each channel must be the louder one in this fraction of the frames with sound."""

NOTE: Final = "its two channels hold different voices, averaged here; --channels takes each by itself"


@dataclass
class Turns:
    """How often either channel of a two-channel recording is the louder one, in frames of 0.1 s.

    active: frames with sound. louder (channel,): those of them in which a channel is the louder one.
    """

    active: int = 0
    louder: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    _rest: Wave = field(default_factory=lambda: np.empty((0, 2), np.float32))

    def put(self, chunk: Wave, rate: int) -> None:
        """Take the next chunk (sample, channel); nothing is known of other numbers of channels than two."""
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
        """Whether the channels take turns being the louder one: they hold a voice each, and not one scene."""
        return self.active > 0 and bool(self.louder.min() >= _FRACTION * self.active)


def blocks(
    source: str | os.PathLike[str] | bytes,
    *,
    seconds: float,
    name: str,
    channel: int | None = None,
    notes: list[str],
) -> Iterator[Wave]:
    """Yield what `audio.blocks` does, and note where channels are averaged though they hold a voice each."""
    turns = Turns()
    yield from decode.blocks(
        source, seconds=seconds, name=name, channel=channel, notes=notes, watch=turns.put
    )
    if channel is None and turns.are_taken:
        notes.append(f"{name}: {NOTE}")


def split(found: Sequence[Path | Failure]) -> Iterator[Recording | Failure]:
    """Yield each channel of each recording with several; a mono recording, also in two channels, as it is."""
    for one in found:
        count = 0 if isinstance(one, Failure) else _count(one)
        if isinstance(one, Failure) or count < 2 or (count == 2 and _is_mono(one)):
            yield one
        else:
            yield from (Channel(one, number) for number in range(1, count + 1))


def _count(path: Path) -> int:
    try:
        return decode.channels(content(path), name=str(path))
    except AudioError:
        return 0


def _is_mono(path: Path) -> bool:
    """False for what can't be read, which the prediction itself reports."""
    try:
        first, second = (decode.load(content(path), max_seconds=SECONDS, channel=i, notes=[]) for i in (0, 1))
    except AudioError:
        return False
    return np.array_equal(first, second)
