"""Pages of Ogg files: where the last one ends, and how the file's logical streams follow each other."""

import io
from dataclasses import dataclass
from typing import BinaryIO, Final

MAGIC: Final = b"OggS"
"""The first bytes of every page."""

_HEAD: Final = 27  # bytes of a page's header before its segment table of up to 255 bytes
_FIRST, _LAST = 2, 4  # flags of a logical stream's first and last page


@dataclass(frozen=True, slots=True)
class OggStreams:
    """The logical streams of an Ogg file.

    Attributes:
        starts: bytes at which groups of streams begin; more than one in a chained file.
        is_multiplexed: a group has several tracks.
        is_gapped: pages are missing.
    """

    starts: tuple[int, ...]
    is_multiplexed: bool
    is_gapped: bool


def find_end(file: BinaryIO) -> tuple[int, bool]:
    """Return where the last page ends in bytes, and whether it is incomplete or not marked as the last."""
    size = file.seek(0, io.SEEK_END)
    tail, start = b"", size
    while start and MAGIC not in tail:
        start = max(0, start - (1 << 16))
        file.seek(start)
        # The magic bytes may lie across two parts, and the page's header is up to 282 bytes long.
        tail = file.read((1 << 16) + 1024)
    page = tail[tail.rfind(MAGIC) :].ljust(_HEAD + 1, b"\xff")
    end = start + tail.rfind(MAGIC) + _measure_page(page)
    return min(end, size), end > size or not page[5] & _LAST


def read_streams(file: BinaryIO, end: int) -> OggStreams:
    """Scan the headers of all pages before byte `end`."""
    starts: list[int] = []
    numbers: dict[bytes, int] = {}  # sequence number of each track's last page
    position, follows_first, is_multiplexed, is_gapped = 0, False, False, False
    while position < end:
        file.seek(position)
        page = file.read(_HEAD + 255)
        if page[:4] != MAGIC or len(page) < _HEAD:
            break
        track, number, is_first = page[14:18], int.from_bytes(page[18:22], "little"), bool(page[5] & _FIRST)
        if not is_first:
            is_gapped = is_gapped or number != numbers.get(track, number - 1) + 1
        elif follows_first:
            is_multiplexed = True
        else:
            starts.append(position)
        follows_first, numbers[track] = is_first, number
        position += _measure_page(page)
    return OggStreams(tuple(starts), is_multiplexed, is_gapped)


def _measure_page(page: bytes) -> int:
    """Return the length in bytes of the page that begins here."""
    return _HEAD + page[26] + sum(page[_HEAD : _HEAD + page[26]])
