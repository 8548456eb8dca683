"""Chunks of decoded sound: the interface of the decoders, and the two ways in which a decoder fails."""

from collections.abc import Callable, Generator
from typing import Final

import numpy as np

from emimic.media.input_file import InputFile
from emimic.media.waveform import LOUDEST, Wave

CHUNK: Final = 1 << 18
"""Values decoded at a time: a 12 s clip at once, and never the length that a header claims."""

Chunks = Generator[tuple[Wave, int, float | None], None, None]
"""Tuples of samples (sample, channel), rate in Hz, and time in seconds where the container gives one."""

Decoder = Callable[[InputFile, str], Chunks]
"""Takes a file and its name for error messages."""


class UndecodableError(Exception):
    """A decoder doesn't support the content."""


class DamagedError(Exception):
    """Raised after the last chunk: a part of the sound was missing or broken."""


def mask_absurd(samples: Wave) -> Wave:
    """Return the samples of a lossy codec with NaN beyond LOUDEST, which only damage causes."""
    if samples.size and not (samples.max() <= LOUDEST and samples.min() >= -LOUDEST):
        return np.where(np.abs(samples) <= LOUDEST, samples, np.float32(np.nan))
    return samples
