"""The sound of an HTML page, in a format that every browser plays."""

import os
from pathlib import Path
from typing import Final

from emimic.media import decode
from emimic.media.waveform import Wave
from emimic.task import SAMPLE_RATE, add_note

_MAX_UNCHANGED: Final = 5_000_000  # bytes of a recording that a page embeds unchanged, if browsers play it
_RATE: Final = 8_000  # bytes per second of the mp3 that decode.encode makes
_MAX_FIREFOX: Final = 32 * 2**20  # the longest data URI that Firefox plays


def make_playable(
    source: str | os.PathLike[str] | bytes,
    samples: Wave | None = None,
    *,
    channel: int | None = None,
    notes: list[str] | None = None,
) -> tuple[bytes, str]:
    """Return a recording as bytes that every browser plays, and their media type.

    mp3, flac and PCM wav of at most 5 MB (or at most 64 kb/s) stay unchanged; all else becomes an mp3 of the model's
    input. Beyond 32 MB in the page, about 50 minutes, there is a note: Firefox does not play it.

    Args:
        source: a file or its bytes.
        samples: (sample,) at 16 kHz; decoded here if None.
        channel: use this channel alone, counted from 0.
        notes: gets the notes; None: they are warnings (EmimicWarning).

    Raises:
        AudioError: the recording can't be decoded.
    """
    data = source if isinstance(source, bytes) else Path(os.fsdecode(source)).read_bytes()
    media_type = _detect_media_type(data) if channel is None else None
    if media_type and len(data) <= _MAX_UNCHANGED:
        return data, media_type
    if samples is None:
        samples = decode.load(source, channel=channel, notes=notes)
    if not media_type or len(data) > len(samples) / SAMPLE_RATE * _RATE:
        data, media_type = decode.encode(samples, codec="mp3"), "audio/mpeg"
    if len(data) * 4 / 3 > _MAX_FIREFOX:
        name = "<bytes>" if isinstance(source, bytes) else os.fsdecode(source)
        note = (
            f"{name}: its sound takes {len(data) * 4 / 3 / 2**20:.0f} MB in the page; Firefox plays at most 32. Use "
            "another browser, or split the recording."
        )
        add_note(note, notes)
    return data, media_type


def _detect_media_type(data: bytes) -> str | None:
    """Return the media type of content that every browser plays; None for all else."""
    if data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] and data[1] & 0xE6 == 0xE2):  # MPEG layer III
        return "audio/mpeg"
    if data[:4] == b"fLaC":
        return "audio/flac"
    start = data.find(b"fmt ", 12, 4096) + 8
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE" and start > 8:
        # 1 is PCM, 3 floating point, of which 64 bits are not played; a wav may contain many other codecs.
        codec, bits = data[start : start + 2], data[start + 14 : start + 16]
        return "audio/wav" if codec in (b"\1\0", b"\3\0") and bits != b"\x40\0" else None
    return None
