"""Recordings that hold a voice on each channel: found by their levels, and taken apart on request."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from emimic.inference.inputs import content
from emimic.inference.results import Answer, Channel, Failure, Recording
from emimic.media import decode
from emimic.media.waveform import Wave
from emimic.task import SAMPLE_RATE, AudioError

SECONDS: Final = 60.0
"""How much of a recording is looked at."""

MOST_FILES: Final = 50
"""How many of the recordings named are looked at for a voice on each channel."""

_FRAME: Final = SAMPLE_RATE // 10
_LOUDER: Final = 10 ** (6 / 20)
"""A channel is the louder one from 6 dB on: a microphone also picks up the other voice."""

_FLOOR: Final = 10 ** (-55 / 20)
_FRACTION: Final = 0.1
"""Each channel must be the louder one in this fraction of the frames with sound."""


def relation(first: Wave, second: Wave) -> Literal["same", "voices", "mixed"]:
    """Compare two channels (sample,) at 16 kHz: the same sound, a voice each (they take turns being the louder one),
    or one scene in both."""
    count = min(len(first), len(second)) // _FRAME
    if np.array_equal(first, second):
        return "same"
    levels = [
        np.sqrt(np.mean(wave[: count * _FRAME].reshape(count, _FRAME).astype(np.float64) ** 2, axis=1))
        for wave in (first, second)
    ]
    active = np.maximum(*levels) > _FLOOR
    if not active.any():
        return "mixed"
    a, b = (level[active] for level in levels)
    turns = min(float(np.mean(a > _LOUDER * b)), float(np.mean(b > _LOUDER * a)))
    return "voices" if turns >= _FRACTION else "mixed"


def split(found: Sequence[Path | Failure]) -> Iterator[Recording | Failure]:
    """Yield each channel of each recording with several; a mono recording, also in two channels, as it is."""
    for one in found:
        count = 0 if isinstance(one, Failure) else _count(one)
        if isinstance(one, Failure) or count < 2 or (count == 2 and _relation(one) == "same"):
            yield one
        else:
            yield from (Channel(one, number) for number in range(1, count + 1))


def with_voices(paths: Sequence[Path]) -> list[Path]:
    """Return the two-channel recordings among the first MOST_FILES that hold a voice on each channel."""
    return [path for path in paths[:MOST_FILES] if _count(path) == 2 and _relation(path) == "voices"]


def noted(answers: Sequence[Answer]) -> list[Answer]:
    """Return the answers, with a note where the channels of a recording were averaged though they hold a voice each."""
    averaged = [one.path for one in answers if one.channel is None]
    found = {str(path): note(path) for path in with_voices(averaged)}
    return [
        replace(one, notes=(*one.notes, found[str(one.path)]))
        if one.channel is None and str(one.path) in found
        else one
        for one in answers
    ]


def note(path: Path) -> str:
    """Return the sentence about such a recording."""
    return f"{path}: its two channels hold different voices, averaged here; --channels predicts each"


def _count(path: Path) -> int:
    try:
        return decode.channels(content(path), name=str(path))
    except AudioError:
        return 0


def _relation(path: Path) -> str | None:
    """None for what can't be read, which the prediction itself reports."""
    try:
        return relation(
            *(decode.load(content(path), max_seconds=SECONDS, channel=i, notes=[]) for i in (0, 1))
        )
    except AudioError:
        return None
