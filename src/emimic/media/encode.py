"""Waveforms at 16 kHz as mp3 or flac files."""

import io
import os
from pathlib import Path
from typing import Any, Literal

import soundfile

from emimic.files import name_errors
from emimic.media.waveform import Wave, check_scale, resample
from emimic.task import SAMPLE_RATE, AudioError


def save(path: str | os.PathLike[str], samples: Wave, *, codec: Literal["mp3", "flac"]) -> None:
    """Write a waveform as mono mp3 with 64 kb/s (paper section 3.2), or as 16-bit flac.

    The number of samples is kept; flac clips at [-1, 1]. The codec decides, not the suffix.

    Args:
        path: the file to write.
        samples: (sample,) float32 at 16 kHz.
        codec: mp3 or flac.

    Raises:
        AudioError: the samples are not (sample,), empty, not finite or far beyond [-1, 1]; or no codec has that name.
        OutputError: the file can't be written.
    """
    data = encode(samples, codec=codec)
    with name_errors(path):
        Path(path).write_bytes(data)


def encode(samples: Wave, *, codec: Literal["mp3", "flac"]) -> bytes:
    """Return the content of the file that `save` writes.

    Raises:
        AudioError: see `save`.
    """
    if codec not in ("mp3", "flac"):
        raise AudioError(f"codec is {codec!r}; give mp3 or flac.")
    wave = resample(samples, SAMPLE_RATE)  # checks the array
    check_scale(wave, "samples")
    if codec == "mp3":
        return encode_mp3(wave, 64)
    return _encode(wave, codec, format="FLAC", subtype="PCM_16")


def encode_mp3(samples: Wave, kilobits: float) -> bytes:
    """Return a waveform as mono mp3 of a constant bit rate.

    Args:
        samples: (sample,) float32 at 16 kHz, in [-1, 1].
        kilobits: kilobits per second; 8 to 160 in the steps of MPEG-2.

    Raises:
        AudioError: libsndfile can't encode it.
    """
    level = 1 - kilobits / 160  # libsndfile maps 0 to 1 onto 160 to 0 kb/s at 16 kHz
    return _encode(
        samples, f"mp3 at {kilobits} kb/s", format="MP3", bitrate_mode="CONSTANT", compression_level=level
    )


def _encode(wave: Wave, label: str, **options: Any) -> bytes:
    file = io.BytesIO()
    try:
        soundfile.write(file, wave, SAMPLE_RATE, **options)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{label} can't be written: {error.error_string}") from None
    return file.getvalue()
