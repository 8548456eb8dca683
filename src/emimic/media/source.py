"""Recordings as callers pass them: a path, a file's bytes or an array; all else is refused with its type."""

import os
from collections.abc import Iterable
from typing import Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from emimic.media.waveform import check_format, check_scale
from emimic.task import SAMPLE_RATE, AudioError

Resolved = str | os.PathLike[str] | bytes | NDArray[Any]
"""A media file's path, its content, or an array of samples."""

_FEW: Final = 2  # maximum number of channels for a chunk of a single sample
_EXPECTED: Final = "a path, a file's bytes, a file opened with 'rb', or an array of samples with sample_rate"
_HEADS: Final = (
    b"RIFF", b"RIFX", b"RF64", b"OggS", b"fLaC", b"ID3\2", b"ID3\3", b"ID3\4", b"FORM", b"caff", b"\x1aE\xdf\xa3",
    b"FLV\1", b".snd", b"#!AMR", b"wvpk", b"\x30\x26\xb2\x75",
)  # fmt: skip
_MPEG: Final = (b"\0\0\1\xba", *(bytes([255, second]) for second in (0xF1, 0xF2, 0xF3, 0xF9, 0xFA, 0xFB)))
"""First bytes of MPEG program streams, aac and mp3; as wider numbers these may be sound."""


def resolve(source: object, label: str) -> Resolved:
    """Return a path, bytes or an array as it is; a bytes-like object or the rest of an open file as bytes.

    Args:
        source: a recording as a caller passed it.
        label: name for error messages.

    Raises:
        AudioError: the source has another type, is a closed file or one opened as text, or a tensor without an array.
    """
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise AudioError("found an empty name, expected a path. Is a variable empty?")
        return source
    if isinstance(source, np.ndarray):
        return _to_array(source, label)
    if _is_bytes(source):
        return bytes(source)
    if callable(read := getattr(source, "read", None)):
        try:
            content = read()
        except (OSError, ValueError, TypeError) as error:
            raise AudioError(
                f"{label}: the file can't be read ({error}). Open it again with 'rb'."
            ) from error
        if not _is_bytes(content):
            raise AudioError(
                f"{label}: reading it gives {name_type(content)}, expected bytes. Open the file with 'rb', or give "
                "its path."
            )
        if not len(content):
            raise AudioError(f"{label}: the open file holds nothing from here on. Call its seek(0) first.")
        return bytes(content)
    if source is None or isinstance(source, bool | int | float | complex | tuple | dict | set | frozenset):
        raise AudioError(f"{label}: found {name_type(source)}, expected {_EXPECTED}.")
    return _to_array(source, label)


def name_source(source: object, name: str | None) -> tuple[str | os.PathLike[str] | bytes, str]:
    """Return a media file's path or content, and its name for messages.

    Raises:
        AudioError: see `resolve`; or the source is an array.
    """
    label = name or get_label(source)
    resolved = resolve(source, label)
    if isinstance(resolved, np.ndarray):
        raise AudioError(f"{label}: found {name_type(source)}, expected a media file's path or its bytes.")
    return resolved, label


def get_label(source: object) -> str:
    """Return the name of a recording for messages when the caller gave none."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    if isinstance(opened := getattr(source, "name", None), str) and hasattr(source, "read"):
        return opened
    return "<bytes>" if _is_bytes(source) or hasattr(source, "read") else "<array>"


def is_one(source: object) -> bool:
    """Return whether a source is a single recording or no recording at all, not several of them."""
    single = isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | np.ndarray)
    return single or not isinstance(source, Iterable) or hasattr(source, "read")


def name_type(value: object) -> str:
    """Return the name of a value's type, for messages."""
    return "None" if value is None else type(value).__name__


def _is_bytes(source: object) -> TypeGuard[bytes | bytearray | memoryview]:
    """Return whether a source is bytes-like and no NumPy array; a buffer of wider numbers is an array."""
    if isinstance(source, np.ndarray):
        return False
    try:
        with memoryview(source) as view:  # type: ignore[arg-type]
            return view.format in ("B", "b", "c")
    except (TypeError, ValueError, BufferError):
        return False


def _to_array(source: object, label: str) -> NDArray[Any]:
    """Convert a source to an array of numbers.

    Raises:
        AudioError: the source is bytes or a media file, has masked values, or is no array of numbers.
    """
    if _is_bytes(source):
        raise AudioError(
            f"{label}: found {name_type(source)} without a sample type, expected an array. For 16-bit samples use "
            "np.frombuffer(..., np.int16)."
        )
    try:
        array = np.asarray(source)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        hint = ".detach().cpu().float().numpy()" if hasattr(source, "detach") else "np.asarray(...)"
        raise AudioError(
            f"{label}: {name_type(source)} can't be taken as an array of samples ({error}). Convert it with {hint}."
        ) from error
    if array.dtype.kind not in "biufc":
        raise AudioError(f"{label}: found {name_type(source)} of {array.dtype}, expected {_EXPECTED}.")
    if isinstance(source, np.ma.MaskedArray) and np.ma.is_masked(source):
        raise AudioError(
            f"{label}: some samples are masked, expected a value for each. Fill them: .filled(0)."
        )
    if _is_file(array):
        raise AudioError(
            f"{label}: holds a media file's bytes, not samples. Give .tobytes() without sample_rate."
        )
    return array


def _is_file(array: NDArray[Any]) -> bool:
    """Return whether an array begins as media files do; in wider types only with bytes that are unlikely as sound."""
    if array.ndim != 1:
        return False
    head = array[:8].tobytes()
    if head.startswith(_HEADS) or head[4:8] == b"ftyp":
        return True
    is_bytes = array.dtype.itemsize == 1
    return is_bytes and (
        head.startswith(_MPEG) or (array.size > 564 and bool((array[:565:188] == 0x47).all()))
    )


def copy_samples(samples: object, label: str) -> NDArray[Any]:
    """Return a copy of samples as an array of the same type.

    Raises:
        AudioError: the samples are bytes, or no array of numbers.
    """
    return np.array(_to_array(samples, label))


def to_floats(samples: object, label: str = "the array", *, is_chunk: bool = False) -> NDArray[np.float32]:
    """Convert samples of any type to float32; integers are scaled to [-1, 1], unsigned 8-bit ones lie around 128.

    Args:
        samples: (sample,) or (sample, channel); floating point in [-1, 1], int8, int16, int32 or uint8.
        label: name for error messages.
        is_chunk: more samples follow, so that a very low peak is no error.

    Raises:
        AudioError: the samples have another shape or type, are floating point far beyond [-1, 1] or of whole numbers,
            or int32 with 16-bit or 24-bit values.
    """
    array = _to_array(samples, label)
    if array.ndim not in (1, 2):
        raise AudioError(
            f"{label}: the samples have shape {array.shape}; give (sample,) or (sample, channel)"
        )
    if array.ndim == 2:
        check_format(SAMPLE_RATE, array.shape[1], label)
        if array.shape[0] < array.shape[1] and (array.shape[1] > _FEW or not is_chunk):
            raise AudioError(
                f"{label}: {array.shape[0]} samples of {array.shape[1]} channels: a transposed array? Give (sample, "
                "channel)."
            )
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.uint8:
        array = (array - 128.0) / 128.0
    elif array.dtype in (np.int8, np.int16, np.int32):
        if array.dtype == np.int32 and not is_chunk:
            _check_filled(array, label)
        array = array / 2.0 ** (8 * array.dtype.itemsize - 1)
    elif array.dtype.kind != "f":
        raise AudioError(
            f"{label}: the samples are {array.dtype}, which has no full scale; expected floating point in [-1, 1], "
            "int16, int32 or uint8. Convert 16-bit values with .astype('int16'), or divide by 32768."
        )
    else:
        check_scale(array, label)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def _check_filled(array: NDArray[np.int32], label: str) -> None:
    """Refuse int32 samples that hold 16-bit or 24-bit values.

    Raises:
        AudioError: the peak is too low for 32-bit values.
    """
    peak = max(int(array.max(initial=0)), -int(array.min(initial=0)))
    if 0 < peak < 1 << 15:
        raise AudioError(
            f"{label}: the int32 samples peak at {peak}, expected up to 2147483648; they would count as silence. "
            "Convert 16-bit values with .astype('int16')."
        )
    if 0 < peak < 1 << 23 and (array & 255).any():
        raise AudioError(
            f"{label}: the int32 samples peak at {peak}, expected up to 2147483648. Divide 24-bit values by 8388608, "
            "or a very quiet recording of 32 bits by 2147483648."
        )
