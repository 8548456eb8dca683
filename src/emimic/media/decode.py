"""Any media file or bytes -> (sample,) float32 mono at 16 kHz -> a clip as the encoder wants it.

soundfile reads what it can (wav, mp3, flac, ogg, opus, ...), PyAV the rest (m4a, mp4, webm, mov, mpg, ...).
The content decides, never the suffix. Both get a Python file object and no name, so neither can follow a URL.
Second 0 of the samples is time 0 of the container: a sound that starts later, and gaps in its time stamps, are silence.
"""

import io
import os
import re
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, cast

import numpy as np
import soundfile

from emimic.files import naming
from emimic.media.source import named
from emimic.media.timestamps import STAMPED, STARTED, Clock, is_stray, zero
from emimic.media.waveform import (
    LOUDEST,
    Clip,
    Mono,
    Wave,
    check_format,
    check_scale,
    count,
    cut,
    normalize,
    prepare,
    resample,
)
from emimic.task import SAMPLE_RATE, AudioError, add_note

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, VideoStream
    from av.container import InputContainer

__all__ = [
    "CEILING_SECONDS",
    "MEDIA_SUFFIXES",
    "Clip",
    "Wave",
    "blocks",
    "container",
    "cut",
    "encode",
    "load",
    "normalize",
    "prepare",
    "resample",
    "save",
    "through_mp3",
]

_AUDIO = "wav mp3 flac ogg oga opus aif aiff aifc au caf w64 rf64 m4a aac amr wma mka ac3"
_VIDEO = "mp4 m4v webm mov mkv mpg mpeg avi wmv 3gp ts mts flv ogv"
MEDIA_SUFFIXES: Final = frozenset(f".{suffix}" for suffix in f"{_AUDIO} {_VIDEO}".split())
"""Suffixes (lower case, with the dot) of the files a folder scan tries."""

CEILING_SECONDS: Final = 4 * 3600.0
"""No file gives more than this; four hours are 0.92 GB of samples."""

_MP3_DELAY = 576 + 529  # samples: LAME's encoder and the decoder
_CHUNK = 1 << 18  # values decoded at a time: a 12 s clip in one go, and never what a header claims
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:")  # two letters at least: C: is a drive
# What PyAV may open. Playlists (hls, dash, concat, sdp) are not among them: they name other files and hosts.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegts,mpegvideo,avi,asf,flv,aac,mp3,ogg,flac,wav,w64,aiff,au,caf,"
    "amr,ac3,eac3,ape,wv,tta,voc,gsm,dv,mxf,rm"
)
_GUARD = {"format_whitelist": _FORMATS, "protocol_whitelist": ""}
_UNKNOWN = 2**62  # frames
# Formats in which FFmpeg looks for frames by their first bytes. What it takes for a broken one behind the last may be a
# tag, or zeros: nothing says that something is missing, unless sound follows.
_SELF_SYNCHRONIZED = frozenset({"mp3", "aac", "ac3", "eac3", "mpegts", "mpeg"})
_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31}
_OWN_SCALE = ("FLOAT", "DOUBLE")  # libsndfile's kinds of samples that may be written at any scale
_TO_NUMPY = frozenset({*_SCALE, "flt", "dbl"})  # what PyAV has an array for; s64 it has not

Watch = Callable[[Wave, int], object]
"""Takes a chunk (sample, channel) and its rate in Hz."""


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    max_seconds: float | None = None,
    name: str | None = None,
    channel: int | None = None,
    notes: list[str] | None = None,
) -> Wave:
    """Decodes any media file, or one in memory, to (sample,) float32 mono at 16 kHz, nominally in [-1, 1].

    Channels are averaged (or `channel` alone is taken, counted from 0), the first audio track counts, other rates go
    through soxr's HQ resampler. Decoding stops at `max_seconds`; the result equals the whole file's first
    `round(max_seconds * 16000)` samples. `name` is what messages call the source. Times are the container's (mp4, mov,
    mkv, webm, mpg, ts, flv, wmv, ogg): a late start and gaps are silence, what is stamped twice is left out, as far as
    `clock` believes the stamps. Ogg files joined to one are read one after the other.
    `notes` gets what is warned of without it; whoever reads files in threads gives it, since warnings belong to the
    process.

    Raises:
        AudioError: not there, not a file, a URL, empty, not audio, without an audio track, without samples,
            without finite samples, far beyond full scale, with an absurd rate or channel count, or without that
            channel.

    Warns:
        EmimicWarning: the file is damaged or cut short and only a part was readable; non-finite samples were
            set to 0; the channels cancel each other out; integers are wider than their sound; silence of 0.1 s or
            more was put before the sound or into its gaps; time stamps were absurd; the file is longer than
            CEILING_SECONDS.
    """
    ceiling = count(CEILING_SECONDS)
    wanted = ceiling + 1 if max_seconds is None else count(max_seconds)
    pieces = _pieces(source, name, channel, notes, keep=min(wanted, ceiling), beyond=wanted > ceiling)
    return np.concatenate(list(pieces))


def blocks(
    source: str | os.PathLike[str] | bytes,
    *,
    seconds: float = 10.0,
    name: str | None = None,
    channel: int | None = None,
    notes: list[str] | None = None,
    watch: Watch = lambda chunk, rate: None,
) -> Iterator[Wave]:
    """What `load` gives, in blocks of `seconds` (the last may be shorter); holds one at a time and knows no ceiling.

    watch: is given all channels of what is decoded, before they become one.

    Raises and warns as `load`, but of what only the end tells (damage, no finite sample) after the last block.
    """
    size = count(seconds)
    waiting: list[Wave] = []
    for piece in _pieces(source, name, channel, notes, keep=None, beyond=False, watch=watch):
        waiting.append(piece)
        if sum(map(len, waiting)) >= size:
            whole = np.concatenate(waiting)
            full = len(whole) // size * size
            yield from whole[:full].reshape(-1, size)
            waiting = [whole[full:].copy()]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)


def channels(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> int:
    """Return the number of channels of the first audio track; 0 without one, or where it can't be read.

    Decodes the first chunk with the decoder that `load` takes, so that most files need no import of PyAV.
    """
    source, label = named(source, name)
    try:
        with _open(source, label) as file:
            decoders, end, _ = _inspect(file)
            for decoder in decoders:
                file.seek(0)
                with (
                    suppress(_DamagedError, _UndecodableError),
                    closing(decoder(_Nameless(file, end), label)) as chunks,
                ):
                    for chunk, _, _ in chunks:
                        return int(chunk.shape[1])
    except (AudioError, ValueError, OSError, MemoryError):
        pass
    return 0


def _pieces(
    source: str | os.PathLike[str] | bytes,
    name: str | None,
    channel: int | None,
    notes: list[str] | None,
    *,
    keep: int | None,
    beyond: bool,
    watch: Watch = lambda chunk, rate: None,
) -> Iterator[Wave]:
    """The first `keep` samples as they are decoded. beyond: tell of more. notes: see `load`; watch: see `blocks`."""
    source, label = named(source, name)
    mono, clock = Mono(keep, label), Clock()
    with _open(source, label) as file:
        try:
            # One sample more tells a file that ends there from a file that goes on.
            enough = None if keep is None else keep + beyond
            damaged = yield from _decode(file, mono, clock, label, enough, channel, watch)
            yield mono.finish()
        except (ValueError, OSError, MemoryError) as error:  # one file must not cost the folder
            what = f"{type(error).__name__}: {error}".rstrip(": ")
            raise AudioError(f"{label}: can't be decoded ({what}). Check the file, or convert it.") from error
    if not mono.length:
        what = "is damaged or cut short before its first sample" if damaged else "holds no samples"
        raise AudioError(f"{label}: {what}. Record, export or download it again.")
    if mono.bad and mono.bad == mono.total:
        raise AudioError(f"{label}: all samples are NaN or infinite. Export it again.")
    longer = beyond and keep is not None and mono.length > keep
    for remark in [*clock.notes(), *_remarks(mono, damaged, beyond=longer)]:
        add_note(f"{label}: {remark}", notes, stacklevel=3)  # whoever called load or blocks


def _remarks(mono: Mono, damaged: bool, *, beyond: bool) -> list[str]:
    """What the user should know of a recording that was read."""
    found = []
    if mono.bad:
        found.append(f"{mono.bad} of {mono.total} values were NaN, infinite or absurd; they are set to 0.")
    if mono.cancelled:
        found.append("its channels cancel each other out (opposite phase); export one of them alone.")
    if damaged:
        seconds = mono.length / SAMPLE_RATE
        found.append(f"damaged or cut short; only {seconds:.4g} s were readable and are used.")
    if beyond:
        found.append(f"longer than {CEILING_SECONDS:g} s; the rest is left out. Split the file.")
    if mono.narrow:
        found.append(mono.narrow)
    return found


def save(path: str | os.PathLike[str], samples: Wave, *, codec: Literal["mp3", "flac"]) -> None:
    """Writes (sample,) float32 at 16 kHz as mono mp3 with 64 kb/s (paper section 3.2) or as 16-bit flac.

    The length is kept to the sample; flac clips at [-1, 1]. The codec decides, not the suffix.

    Raises:
        AudioError: not (sample,), empty, not finite or far beyond [-1, 1]; or no codec of that name.
        OutputError: the file can't be written.
    """
    data = encode(samples, codec=codec)
    with naming(path):
        Path(path).write_bytes(data)


def encode(samples: Wave, *, codec: Literal["mp3", "flac"]) -> bytes:
    """Return the content of the file that `save` writes.

    Raises:
        AudioError: see `save`.
    """
    wave = resample(samples, SAMPLE_RATE)  # checks the array
    check_scale(wave, "samples")
    options: dict[str, Any] = {"format": "FLAC", "subtype": "PCM_16"}
    if codec == "mp3":
        # At 16 kHz libsndfile maps level 0-1 onto 160-0 kb/s: 0.6 is 64.
        options = {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.6}
    elif codec != "flac":
        raise AudioError(f"codec is {codec!r}; give mp3 or flac.")
    file = io.BytesIO()
    try:
        soundfile.write(file, wave, SAMPLE_RATE, **options)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{codec} can't be written: {error.error_string}") from None
    return file.getvalue()


def through_mp3(samples: Wave, kilobits: int) -> Wave:
    """Encode (sample,) float32 at 16 kHz as mono mp3 in memory, and decode it.

    Args:
        samples: in [-1, 1].
        kilobits: a second; 8 to 160 in MPEG-2's steps.

    Returns:
        As many samples.

    Raises:
        AudioError: not (sample,), empty or not finite; or it can't be encoded.
    """
    wave = resample(samples, SAMPLE_RATE)
    file = io.BytesIO()
    level = 1 - kilobits / 160
    try:
        soundfile.write(
            file, wave, SAMPLE_RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=level
        )
    except soundfile.LibsndfileError as error:
        raise AudioError(f"mp3 at {kilobits} kb/s can't be written: {error.error_string}") from None
    decoded = load(file.getvalue())
    # Frames below 32 kb/s have no room for the tag that says how much silence encoder and decoder put in front.
    return decoded if len(decoded) == len(wave) else decoded[_MP3_DELAY:][: len(wave)]


@contextmanager
def container(
    source: str | os.PathLike[str] | bytes, *, name: str | None = None
) -> "Iterator[InputContainer]":
    """The file opened by PyAV, for those who look at its tracks; by content alone, and it can open nothing else.

    Raises:
        AudioError: not there, not a file, a URL, or empty. What PyAV raises passes through.
    """
    source, label = named(source, name)
    with _open(source, label) as file:
        end = _transport_end(file)
        file.seek(0)
        with _demuxer(_Nameless(file, end)) as opened:
            yield opened


class _Forward(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile seeks after every read, at which the mp3 decoder loses its memory and prints to stderr."""

    def seekable(self) -> bool:
        return False


class _Nameless:
    """What decoders need of a file, without its name: they must judge by content and open nothing else.

    Bytes from `end` on, if given, don't exist for them.
    """

    def __init__(self, file: BinaryIO, end: int | None = None) -> None:
        self._file, self._end = file, end

    def read(self, size: int = -1) -> bytes:
        return self._file.read(self._within(size))

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        return cast(int, self._file.readinto(view[: self._within(len(view))]))  # type: ignore[attr-defined]

    def until(self, end: int | None) -> "_Nameless":
        """Return the same without what lies behind `end`."""
        return self if end is None else _Nameless(self._file, end)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self._end is not None:
            offset, whence = self._end + offset, io.SEEK_SET
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):  # a broken header sends decoders before the start: in C that is a -1
            return -1

    def _within(self, size: int) -> int:
        if self._end is None:
            return size
        left = max(0, self._end - self._file.tell())
        return left if size < 0 else min(size, left)


class _Behind:
    """A file from `start` on, as if it began there: libsndfile's mp3 decoder prints what it dislikes about a tag."""

    def __init__(self, file: _Nameless, start: int) -> None:
        self.read, self.readinto = file.read, file.readinto
        self._file, self._start = file, start
        file.seek(start)

    def tell(self) -> int:
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset + (self._start if whence == io.SEEK_SET else 0), whence) - self._start


class _UndecodableError(Exception):
    """This decoder can make nothing of the content."""


class _DamagedError(Exception):
    """After the last chunk: something was missing or broken on the way."""


def _open(source: str | os.PathLike[str] | bytes, label: str) -> BinaryIO:
    """A readable, seekable binary file with something in it."""
    if isinstance(source, bytes):
        size, file = len(source), cast(BinaryIO, io.BytesIO(source))
    else:
        path = Path(os.fsdecode(source))
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise AudioError(f"{label}: is a folder; give a media file.")
            if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever
                raise AudioError(f"{label}: is a pipe or a device; give a media file or its bytes.")
            size, file = status.st_size, path.open("rb")
        except FileNotFoundError:
            if _URL.match(os.fsdecode(source)):
                raise AudioError(f"{label}: is a URL; download it first and give the file.") from None
            raise AudioError(f"{label}: does not exist. Check the path.") from None
        except (OSError, ValueError) as error:  # no permission; a NUL in the name
            raise AudioError(f"{label}: can't be opened ({error}). Check path and permissions.") from None
    if not size:
        file.close()
        raise AudioError(f"{label}: is empty (0 bytes). Record or download it again.")
    return file


_Chunks = Generator[tuple[Wave, int, float | None], None, None]
"""((sample, channel), rate in Hz, time in seconds where the container gives one), ..."""
_Decoder = Callable[[_Nameless, str], _Chunks]


def _decode(
    file: BinaryIO,
    mono: Mono,
    clock: Clock,
    label: str,
    enough: int | None,
    channel: int | None,
    watch: Watch,
) -> Generator[Wave, None, bool]:
    """What `mono` makes of the file until it has seen `enough`; returns whether the file is damaged or cut short."""
    decoders, end, short = _inspect(file)
    reasons = []
    for decoder in decoders:
        file.seek(0)
        try:
            with closing(decoder(_Nameless(file, end), label)) as chunks:
                for chunk, rate, time in chunks:
                    silence = clock.before(time, len(chunk), rate)
                    for start in range(0, silence, _CHUNK):
                        yield mono.rest(min(_CHUNK, silence - start), rate)
                        if enough is not None and mono.length >= enough:
                            return False
                    heard = chunk[max(0, -silence) :]
                    watch(heard, rate)
                    yield mono.put(heard if channel is None else _one(heard, channel, label), rate)
                    if enough is not None and mono.length >= enough:
                        return False
        except _DamagedError:
            short = True
        except _UndecodableError as error:
            reasons.append(str(error))
            short = short or mono.total > 0
        if mono.total:
            return short
    if len(reasons) == len(decoders):
        raise AudioError(
            f"{label}: is no audio or video that can be decoded ({'; '.join(reasons)}). Check the file."
        )
    return short


def _one(chunk: Wave, channel: int, label: str) -> Wave:
    """(sample, channel) -> (sample, 1)."""
    found = chunk.shape[1]
    if not 0 <= channel < found:
        raise AudioError(
            f"{label}: has {found} channel{'s' * (found > 1)}, so there is no channel {channel + 1}. "
            "Give a recording with one voice a channel, or a file for each voice."
        )
    return chunk[:, channel : channel + 1]


def _inspect(file: BinaryIO) -> tuple[tuple[_Decoder, ...], int | None, bool]:
    """Which decoders to try, where the sound ends if not with the file, and whether the content is cut short where
    libsndfile would not tell."""
    head = file.read(4096)
    size = file.seek(0, io.SEEK_END)
    both = (_soundfile_chunks, _pyav_chunks)
    if head[:4] == b"OggS":
        last, short = _ogg_end(file, size)
        decoders, gapped = _ogg_decoders(file, last)
        return decoders, last, short or gapped
    if (end := _transport_end(file)) is not None:
        return both, end, False
    start = 0
    while head[:3] == b"ID3" and len(head) >= 10:
        start += _id3_length(head)
        file.seek(start)
        head = file.read(4096)
    if not start and not _is_mpeg(head):
        return both, None, _goes_on(file, head, size)
    # MPEG audio, or AAC that looks like it. libsndfile guesses the length of an mp3 whose first frame does
    # not say it (and stops there), and prints to stderr when one is cut off: it gets those that are whole.
    tag = re.search(rb"(?:Xing|Info)\0\0\0[\x02\x03\x06\x07\x0a\x0b\x0e\x0f](.{8})", head[:200], re.DOTALL)
    if not tag:
        return (_pyav_chunks,), _padded_end(file, start, size), False
    end = start + int.from_bytes(tag[1][4:] if tag[0][7] & 1 else tag[1][:4], "big")
    untagged = (partial(_soundfile_chunks, start=start), _pyav_chunks)
    if size > end and _only_tags(file, end, size):
        return untagged, end, False
    return untagged if size == end else (_pyav_chunks,), None, size < end


def _ogg_end(file: BinaryIO, size: int) -> tuple[int, bool]:
    """Where an Ogg file's last page ends, and whether it is not whole or not marked as the last."""
    tail, at = b"", size
    while at and b"OggS" not in tail:
        at = max(0, at - (1 << 16))
        file.seek(at)
        # The mark may lie across two parts, and its page's head goes on for 282 bytes.
        tail = file.read((1 << 16) + 1024)
    page = tail[tail.rfind(b"OggS") :].ljust(28, b"\xff")
    length = 27 + page[26] + sum(page[27 : 27 + page[26]])
    end = at + tail.rfind(b"OggS") + length
    return min(end, size), end > size or not page[5] & 4


def _transport_end(file: BinaryIO) -> int | None:
    """Where the last packet ends of an MPEG transport stream (TS, M2TS) that other bytes follow, such as zeros.

    A packet has the letter G at a fixed place; three in a row count. None of other files, and where nothing follows.
    """
    file.seek(0)
    head = file.read(3 * 192)
    forms = (form for form in ((188, 0), (192, 4)) if head[form[1] : 3 * form[0] : form[0]] == b"GGG")
    length, first = next(forms, (0, 0))
    size = file.seek(0, io.SEEK_END)
    start = size if length else 0
    while start:
        end, start = min(size, start + 3 * length), max(0, start - (1 << 20))
        file.seek(start)
        part = file.read(end - start)
        place = len(part)
        while (place := part.rfind(b"G", 0, place)) >= 2 * length:
            if part[place - 2 * length : place + 1 : length] == b"GGG":
                found = start + place - first + length
                file.seek(found + first)
                torn = size - found < length and file.read(1) == b"G"  # a last packet that isn't whole
                return None if torn or found >= size else found
    return None


def _ogg_decoders(file: BinaryIO, end: int) -> tuple[tuple[_Decoder, ...], bool]:
    """Which decoders to try for the Ogg file up to `end`, and whether pages of it are lost.

    libsndfile reads the first of several streams that follow each other (chained), and joins what is left of one with
    lost pages; it doesn't know when another track starts.
    """
    starts: list[int] = []
    numbers: dict[bytes, int] = {}  # of each track's last page
    at, in_head, single, gapped = 0, False, True, False
    while at < end:
        file.seek(at)
        page = file.read(282)
        if page[:4] != b"OggS" or len(page) < 27:
            break
        track, number = page[14:18], int.from_bytes(page[18:22], "little")
        if page[5] & 2:
            if in_head:
                single = False
            else:
                starts.append(at)
        else:
            gapped = gapped or number != numbers.get(track, number - 1) + 1
        in_head, numbers[track] = bool(page[5] & 2), number
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])
    if gapped or not single:
        return (_pyav_chunks, _soundfile_chunks), gapped
    one_by_one = partial(_chained_chunks, starts=starts) if len(starts) > 1 else _soundfile_chunks
    return (one_by_one, _pyav_chunks), False


def _goes_on(file: BinaryIO, head: bytes, size: int) -> bool:
    """Whether another WAV file begins where one ends by its header: only the first is decoded."""
    length = int.from_bytes(head[4:8], "little")
    end = 8 + length + length % 2
    if head[:4] != b"RIFF" or end >= size:
        return False
    file.seek(end)
    return file.read(4) == b"RIFF"


def _is_mpeg(head: bytes) -> bool:
    """Whether a frame of MPEG audio may begin here."""
    return head[:1] == b"\xff" and head[1:2] >= b"\xe0"


def _id3_length(head: bytes) -> int:
    """Bytes of the ID3v2 tag that begins here."""
    size = sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if head[5] & 16 else 0)


def _padded_end(file: BinaryIO, start: int, size: int) -> int | None:
    """Where the last frame of AAC (ADTS) ends if ones fill the file up, which FFmpeg takes for broken frames."""
    file.seek(size - 1)
    at = start if file.read(1) in (b"\0", b"\xff") else size  # else no need to read all of it
    while at < size:
        file.seek(at)
        head = file.read(6)
        if len(head) < 6 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
            break
        at += max(6, (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5)
    return at if start < at < size and _only_tags(file, at, size) else None


def _only_tags(file: BinaryIO, start: int, size: int) -> bool:
    """Whether a file of `size` bytes holds nothing but tags (ID3, APE, Lyrics3), zeros and ones from `start` on."""
    while start < size:
        file.seek(start)
        head = file.read(1 << 16)
        if head[:3] == b"TAG":
            start += 227 if head[3:4] == b"+" else 128
        elif head[:3] == b"ID3" and len(head) >= 10:
            start += _id3_length(head)
        elif head[:8] == b"APETAGEX" and len(head) >= 32:
            # The size leaves out the header, but not the footer of the same form.
            start += 32 + int.from_bytes(head[12:16], "little") * bool(head[23] & 32)
        elif head[:11] == b"LYRICSBEGIN" and (end := re.search(rb"LYRICS(?:END|200)", head)):
            start += end.end()
        elif head[:1] in (b"\0", b"\xff"):
            start += len(head) - len(head.lstrip(b"\0\xff"))
        else:
            return False
    return True


def _chained_chunks(file: _Nameless, label: str, *, starts: Sequence[int]) -> _Chunks:
    """One Ogg stream after the other, from their first bytes."""
    damaged = False
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        try:
            yield from _soundfile_chunks(file.until(end), label, start=start)
        except _DamagedError:
            damaged = True
    if damaged:
        raise _DamagedError


def _soundfile_chunks(file: _Nameless, label: str, *, start: int = 0) -> _Chunks:
    try:
        sound = _Forward(_Behind(file, start) if start else file)
    except soundfile.LibsndfileError as error:
        raise _UndecodableError(f"soundfile: {error.error_string}") from None
    with sound:
        check_format(sound.samplerate, sound.channels, label)
        claimed, read = sound.frames, 0
        while True:
            size = max(1, min(claimed - read, _CHUNK // sound.channels))
            chunk = np.empty((size, sound.channels), np.float32)
            try:
                got = sound.read(out=chunk)
            except soundfile.LibsndfileError:
                # Broken flac: what came before the break is in `chunk`, and tell() says how much.
                yield chunk[: max(0, sound.tell() - read)], sound.samplerate, None
                raise _DamagedError from None
            if not len(got):
                break
            read += len(got)
            yield got if sound.subtype in _OWN_SCALE else _bounded(got), sound.samplerate, None
        # RIFF and AIFF: libsndfile quietly corrects the header. Streams leave 2 or 4 GiB there for "unknown".
        log = re.search(r"^ ?(?:data|SSND) : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
        if sound.format == "FLAC" and _more_frames(file, start):
            raise _DamagedError
        if (_is_claim(sound) and read < claimed) or (log and int(log[2]) < int(log[1]) < 0x7FFF0000):
            raise _DamagedError


def _more_frames(file: _Nameless, start: int) -> bool:
    """Whether more FLAC frames follow what was decoded: the header's total is too small, or another file was joined.

    Frames of one kind begin with the same four bytes.
    """
    at, place = file.tell(), start + 4
    last = False
    while not last:
        file.seek(place)
        block = file.read(4)
        last = len(block) < 4 or bool(block[0] & 128)
        place += 4 + int.from_bytes(block[1:], "big")
    file.seek(place)
    sync = file.read(4)
    file.seek(at)
    return sync[:1] == b"\xff" and sync in file.read(1 << 20)


def _is_claim(sound: soundfile.SoundFile) -> bool:
    """Whether libsndfile's number of frames was counted by who wrote the file.

    A flac made into a pipe has none (RFC 9639: 0 is unknown), for which libsndfile gives the largest number there is.
    That of an mp3 in a WAV is made of whole blocks.
    """
    return bool(sound.frames < _UNKNOWN and (sound.format == "MP3" or sound.subtype != "MPEG_LAYER_III"))


def _pyav_chunks(file: _Nameless, label: str) -> _Chunks:
    try:
        import av  # costs 0.1 s, and most files don't need it
    except ImportError as error:
        raise _UndecodableError(f"PyAV can't be imported: {error}") from None

    track = _Track()
    try:
        with _demuxer(file) as opened:
            streams = sounds(opened)
            if not streams:
                found = (
                    "none of its audio tracks can be decoded"
                    if opened.streams.audio
                    else "has no audio track"
                )
                raise AudioError(f"{label}: {found}; give a recording with sound.")
            codec = streams[0].codec_context.name
            own_scale = codec.startswith("pcm_") or codec == "wavpack"
            form = opened.format.name.split(",")
            start: float | None = None
            for frame, stamp in _steady(_frames(opened, streams[0], file, track)):
                check_format(frame.sample_rate, frame.layout.nb_channels, label)
                time = stamp if (STARTED if start is None else STAMPED).intersection(form) else None
                if time is not None:
                    start = _zero(opened, time, frame.sample_rate) if start is None else start
                    track.end = max(track.end, time + frame.samples / frame.sample_rate)
                    time -= start
                values = _floats(frame)
                yield values if own_scale else _bounded(values), frame.sample_rate, time
            broken = track.broken or track.end < _claimed(opened, streams[0], file) - 0.15
    except av.error.FFmpegError as error:
        raise _UndecodableError(f"PyAV: {error.strerror}") from None
    if broken:
        raise _DamagedError


def _bounded(values: Wave) -> Wave:
    """What a lossy codec gave; beyond LOUDEST, which only damage makes, NaN."""
    if values.size and not (values.max() <= LOUDEST and values.min() >= -LOUDEST):
        return np.where(np.abs(values) <= LOUDEST, values, np.float32(np.nan))
    return values


@dataclass(slots=True)
class _Track:
    """What is known of a track after its frames: whether some are broken, and when it ends on the container's clock."""

    broken: bool = False
    end: float = 0.0


def _frames(
    opened: "InputContainer", stream: "AudioStream", file: _Nameless, track: _Track
) -> "Iterator[AudioFrame]":
    """The frames of an audio track, without those that can't be decoded."""
    import av

    searched = opened.format.name in _SELF_SYNCHRONIZED
    reached, tail, nothing = -1, False, True
    packets = opened.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.EOFError):
            break
        except (av.error.InvalidDataError, IndexError) as error:  # IndexError: PyAV met a new stream midway
            track.broken = track.broken or isinstance(error, IndexError) or not searched
            if file.tell() == reached:
                break
            reached, tail, packets = file.tell(), True, opened.demux(stream)  # go on behind it
            continue
        try:
            frames = packet.decode()
        except (av.error.InvalidDataError, av.error.EOFError):
            track.broken, tail = track.broken or not searched, True
            continue
        if frames:
            track.broken, tail, nothing = track.broken or tail, False, False
        if packet.pts is not None and packet.time_base:
            track.end = max(track.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        yield from frames
    track.broken = track.broken or (tail and nothing)


def _steady(frames: "Iterator[AudioFrame]") -> "Iterator[tuple[AudioFrame, float | None]]":
    """Frames with their times; None for one that has none, or a stray one (a frame behind a gap is none)."""
    import av

    held: AudioFrame | None = None
    end: float | None = None
    failure: av.error.FFmpegError | None = None
    while True:
        try:
            following = next(frames, None)
        except av.error.FFmpegError as error:  # after what was held
            failure, following = error, None
        if held is not None:
            seconds, time = held.samples / held.sample_rate, held.time
            later = None if following is None else following.time
            if (
                time is not None
                and later is not None
                and end is not None
                and is_stray(time, end, seconds, later)
            ):
                time = None
            yield held, time
            begins = end if time is None else time
            end = None if begins is None else begins + seconds
        if following is None:
            break
        held = following
    if failure is not None:
        raise failure


def _zero(opened: "InputContainer", sound: float, rate: int) -> float:
    """Time 0 of a file whose sound starts at `sound`, on the container's clock."""
    return zero(opened.format.name, picture_start(opened), sound, rate)


def pictures(opened: "InputContainer") -> "list[VideoStream]":
    """The video tracks, without covers and those that have no decoder (PyAV gives these no context)."""
    return [stream for stream in _uncovered(opened) if stream.codec_context is not None]


def sounds(opened: "InputContainer") -> "list[AudioStream]":
    """The audio tracks, without those that have no decoder."""
    return [stream for stream in opened.streams.audio if stream.codec_context is not None]


def _uncovered(opened: "InputContainer") -> "list[VideoStream]":
    import av

    cover = av.stream.Disposition.attached_pic
    return [stream for stream in opened.streams.video if not stream.disposition & cover]


def picture_start(opened: "InputContainer") -> float | None:
    """When the first video track starts, decodable or not, in seconds on the container's clock; None without one."""
    for stream in _uncovered(opened)[:1]:
        if stream.start_time is not None and stream.time_base:
            return float(stream.start_time * stream.time_base)
    return None


def _demuxer(file: _Nameless) -> "InputContainer":
    import av

    return av.open(file, "r", metadata_errors="replace", options=dict(_GUARD))


def _floats(frame: "AudioFrame") -> Wave:
    """A decoded frame -> (sample, channel) float32 in [-1, 1]."""
    import av

    channels = frame.layout.nb_channels
    kind = frame.format.name.rstrip("p")  # s16p is planar s16
    known = kind in _TO_NUMPY
    if not known or (frame.format.is_planar and channels >= 8):
        # PyAV counts planes up to a null pointer, which FFmpeg puts there for fewer than 8 only: a crash.
        kind = kind if known else "dbl"
        (frame,) = av.AudioResampler(kind, frame.layout, frame.sample_rate).resample(frame)
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, channels)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, and is then replaced
        values: Wave = array.astype(np.float32, copy=False)
    if kind in _SCALE:
        values = (values - (128 if kind == "u8" else 0)) / np.float32(_SCALE[kind])
    return values


def fragmented(source: str | os.PathLike[str] | bytes, label: str) -> bool:
    """Return whether an mp4 is made of fragments, of which each track's duration is its end and not its length."""
    with _open(source, label) as file:
        return _is_fragmented(file)


def _is_fragmented(file: "BinaryIO | _Nameless") -> bool:
    file.seek(0)
    return b"mvex" in file.read(1 << 16)


def _claimed(opened: "InputContainer", stream: "AudioStream", file: _Nameless) -> float:
    """When the track ends by the header, in seconds on the container's clock; 0 if it doesn't say (PyAV may guess)."""
    form = opened.format.name.split(",")
    if "mp4" in form and stream.duration and stream.time_base:
        start = 0 if _is_fragmented(file) else stream.start_time or 0
        return float((start + stream.duration) * stream.time_base)
    # FFmpeg's tag is the track's end, mkvmerge's its length, which is less; either may be of another file.
    clock = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if "matroska" not in form or not clock:
        return 0.0
    end = int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3])
    return min(end, opened.duration / 1e6) if opened.duration else end
