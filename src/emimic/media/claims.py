"""Claims of a file's bytes about its end: where the sound stops, what follows it, and whether something is missing."""

import io
import re
from typing import TYPE_CHECKING, BinaryIO, Final

import soundfile

from emimic.media.input_file import InputFile

if TYPE_CHECKING:
    from av import AudioStream
    from av.container import InputContainer

_UNKNOWN: Final = 2**62  # frames
_LENGTH_TAG: Final = re.compile(rb"(?:Xing|Info)\0\0\0[\x02\x03\x06\x07\x0a\x0b\x0e\x0f](.{8})", re.DOTALL)
_PACKETS: Final = ((188, 0), (192, 4))  # length of TS and M2TS packets, and position of the sync byte in them
_SYNC: Final = b"G"


def is_mpeg_frame(head: bytes) -> bool:
    """Return whether a frame of MPEG audio may begin with these bytes."""
    return head[:1] == b"\xff" and head[1:2] >= b"\xe0"


def skip_id3(file: BinaryIO) -> tuple[int, bytes]:
    """Return the length in bytes of the ID3v2 tags in front, and the 4096 bytes that follow them."""
    start = 0
    file.seek(0)
    head = file.read(4096)
    while head[:3] == b"ID3" and len(head) >= 10:
        start += _measure_id3(head)
        file.seek(start)
        head = file.read(4096)
    return start, head


def find_mp3_end(head: bytes, start: int) -> int | None:
    """Return the byte at which an mp3 ends by the tag in its first frame, None without such a tag.

    Args:
        head: the first bytes of the frame.
        start: position of the frame in the file.
    """
    tag = _LENGTH_TAG.search(head[:200])
    if tag is None:
        return None
    return start + int.from_bytes(tag[1][4:] if tag[0][7] & 1 else tag[1][:4], "big")


def find_transport_end(file: BinaryIO) -> int | None:
    """Return the byte at which the last packet of an MPEG transport stream (TS, M2TS) ends, if other bytes follow it.

    Each packet has the sync byte G at a fixed position; three in a row count. None for other formats, and where
    nothing follows.
    """
    file.seek(0)
    head = file.read(3 * 192)
    forms = (form for form in _PACKETS if head[form[1] : 3 * form[0] : form[0]] == 3 * _SYNC)
    length, first = next(forms, (0, 0))
    size = file.seek(0, io.SEEK_END)
    start = size if length else 0
    while start:
        stop, start = min(size, start + 3 * length), max(0, start - (1 << 20))
        file.seek(start)
        part = file.read(stop - start)
        last = len(part)
        while (last := part.rfind(_SYNC, 0, last)) >= 2 * length:
            if part[last - 2 * length : last + 1 : length] == 3 * _SYNC:
                end = start + last - first + length
                file.seek(end + first)
                is_torn = size - end < length and file.read(1) == _SYNC  # an incomplete last packet
                return None if is_torn or end >= size else end
    return None


def has_second_wav(file: BinaryIO, size: int) -> bool:
    """Return whether another WAV file begins where the first one ends by its header; decoders ignore it."""
    file.seek(0)
    head = file.read(8)
    length = int.from_bytes(head[4:8], "little")
    end = 8 + length + length % 2
    if head[:4] != b"RIFF" or end >= size:
        return False
    file.seek(end)
    return file.read(4) == b"RIFF"


def find_adts_end(file: BinaryIO, start: int, size: int) -> int | None:
    """Return where the last frame of AAC (ADTS) ends if padding follows, which FFmpeg takes for broken frames."""
    file.seek(size - 1)
    position = start if file.read(1) in (b"\0", b"\xff") else size  # else no need to read all of it
    while position < size:
        file.seek(position)
        head = file.read(6)
        if len(head) < 6 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
            break
        position += max(6, (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5)
    return position if start < position < size and holds_only_tags(file, position, size) else None


def holds_only_tags(file: BinaryIO, start: int, size: int) -> bool:
    """Return whether a file of `size` bytes holds only tags (ID3, APE, Lyrics3) and padding from byte `start` on."""
    while start < size:
        file.seek(start)
        head = file.read(1 << 16)
        if head[:3] == b"TAG":
            start += 227 if head[3:4] == b"+" else 128
        elif head[:3] == b"ID3" and len(head) >= 10:
            start += _measure_id3(head)
        elif head[:8] == b"APETAGEX" and len(head) >= 32:
            # The size excludes the header, but not the footer of the same form.
            start += 32 + int.from_bytes(head[12:16], "little") * bool(head[23] & 32)
        elif head[:11] == b"LYRICSBEGIN" and (end := re.search(rb"LYRICS(?:END|200)", head)):
            start += end.end()
        elif head[:1] in (b"\0", b"\xff"):
            start += len(head) - len(head.lstrip(b"\0\xff"))
        else:
            return False
    return True


def has_more_flac(file: InputFile, start: int) -> bool:
    """Return whether FLAC frames follow those decoded: the header's total is too small, or another file was joined.

    Frames of one kind begin with the same four bytes.

    Args:
        file: positioned behind the decoded frames; the position changes.
        start: byte at which the FLAC data begins.
    """
    position, block_start = file.tell(), start + 4
    is_last = False
    while not is_last:
        file.seek(block_start)
        block = file.read(4)
        is_last = len(block) < 4 or bool(block[0] & 128)
        block_start += 4 + int.from_bytes(block[1:], "big")
    file.seek(block_start)
    sync = file.read(4)
    file.seek(position)
    return sync[:1] == b"\xff" and sync in file.read(1 << 20)


def is_cut_short(sound: soundfile.SoundFile, frames: int) -> bool:
    """Return whether libsndfile's header promises more frames than the `frames` that were read.

    A FLAC written to a pipe has no number (RFC 9639: 0 is unknown), for which libsndfile gives the largest possible.
    That of an mp3 in a WAV counts complete blocks.
    """
    is_counted = sound.frames < _UNKNOWN and (sound.format == "MP3" or sound.subtype != "MPEG_LAYER_III")
    # RIFF and AIFF: libsndfile silently corrects the header. Streams have 2 or 4 GiB there for "unknown".
    log = re.search(r"^ ?(?:data|SSND) : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    is_corrected = log is not None and int(log[2]) < int(log[1]) < 0x7FFF0000
    return bool(is_counted and frames < sound.frames) or is_corrected


def is_fragmented(file: "BinaryIO | InputFile") -> bool:
    """Return whether an mp4 consists of fragments, of which each track's duration is its end and not its length."""
    file.seek(0)
    return b"mvex" in file.read(1 << 16)


def find_track_end(opened: "InputContainer", stream: "AudioStream", file: InputFile) -> float:
    """Return when an audio track ends by the container's header, in seconds; 0 when the header doesn't say."""
    formats = opened.format.name.split(",")
    if "mp4" in formats and stream.duration and stream.time_base:
        start = 0 if is_fragmented(file) else stream.start_time or 0
        return float((start + stream.duration) * stream.time_base)
    # FFmpeg's tag is the track's end, mkvmerge's its length, which is less; either may be of another file.
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if "matroska" not in formats or not tag:
        return 0.0
    end = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    return min(end, opened.duration / 1e6) if opened.duration else end


def _measure_id3(head: bytes) -> int:
    """Return the length in bytes of the ID3v2 tag that begins with `head`."""
    size = sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if head[5] & 16 else 0)
