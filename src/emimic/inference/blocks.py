"""Blocks of samples from any source: a file, its content, or an array."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from emimic.inference.channels import read_blocks
from emimic.media.source import resolve, to_floats
from emimic.media.waveform import check_format, resample
from emimic.task import SAMPLE_RATE, AudioError

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | NDArray[Any] | Sequence[float]
"""A media file, its content, one opened with "rb", or an array (which needs its sample rate)."""


def read_source(
    source: Source, seconds: float, sample_rate: float | None, label: Path, notes: list[str]
) -> Iterator[NDArray[np.float32]]:
    """Yield a recording in blocks of `seconds`, (sample,) each at 16 kHz, at least one.

    Args:
        source: The recording.
        seconds: Length of all blocks but the last.
        sample_rate: Of an array, in Hz; None for a file.
        label: Name of the recording in messages.
        notes: Receives remarks about the file.

    Raises:
        AudioError: The source can't be used.
    """
    name = str(label)
    resolved = resolve(source, name)
    is_array = isinstance(resolved, np.ndarray)
    if is_array == (sample_rate is None):
        raise AudioError(
            f"{label}: found an array without a sample rate; give sample_rate=... in Hz"
            if is_array
            else f"{label}: a file has its own sample rate; leave sample_rate out"
        )
    if isinstance(resolved, np.ndarray):
        assert sample_rate is not None
        check_format(sample_rate, 1, name)
        wave = resample(to_floats(resolved, name), sample_rate)
        size = round(seconds * SAMPLE_RATE)
        yield from (wave[start : start + size] for start in range(0, len(wave), size))
    else:
        if isinstance(resolved, str | os.PathLike) and not Path(os.fsdecode(resolved)).exists():
            name = os.fsdecode(resolved)  # unchanged: in the message about a URL all slashes matter
        yield from read_blocks(resolved, seconds=seconds, name=name, notes=notes)
