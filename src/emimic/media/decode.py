"""Decoding of any media file, or of its bytes, to (sample,) float32 mono at 16 kHz.

soundfile reads what it can (wav, mp3, flac, ogg, opus, ...), PyAV the rest (m4a, mp4, webm, mov, mpg, ...). The content
decides, never the suffix. Both get a Python file object without a name, so neither can follow a URL. Second 0 of the
samples is time 0 of the container: a late start of the sound and gaps in its timestamps become silence.
"""

import io
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Final

import numpy as np

from emimic.media import chunks, ogg
from emimic.media.chunks import DamagedError, Decoder, UndecodableError
from emimic.media.claims import (
    find_adts_end,
    find_mp3_end,
    find_transport_end,
    has_second_wav,
    holds_only_tags,
    is_mpeg_frame,
    skip_id3,
)
from emimic.media.encode import encode, save
from emimic.media.input_file import InputFile, open_input
from emimic.media.pyav_decoder import decode_pyav
from emimic.media.soundfile_decoder import decode_chained, decode_soundfile
from emimic.media.source import name_source
from emimic.media.timestamps import Timestamps
from emimic.media.waveform import Clip, Mono, Wave, count, cut, normalize, resample
from emimic.task import SAMPLE_RATE, AudioError, add_note

__all__ = [
    "CEILING_SECONDS",
    "MEDIA_SUFFIXES",
    "Clip",
    "Wave",
    "count_channels",
    "cut",
    "encode",
    "load",
    "load_blocks",
    "normalize",
    "resample",
    "save",
]

_AUDIO: Final = "wav mp3 flac ogg oga opus aif aiff aifc au caf w64 rf64 m4a aac amr wma mka ac3"
_VIDEO: Final = "mp4 m4v webm mov mkv mpg mpeg avi wmv 3gp ts mts flv ogv"
MEDIA_SUFFIXES: Final = frozenset(f".{suffix}" for suffix in f"{_AUDIO} {_VIDEO}".split())
"""Suffixes (lower case, with the dot) of the files that a scan of folders takes for recordings."""

CEILING_SECONDS: Final = 4 * 3600.0
"""Maximum length that `load` returns; four hours are 0.92 GB of samples."""

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
    """Decode a media file, or the content of one, to (sample,) float32 mono at 16 kHz, nominally in [-1, 1].

    The first audio track is decoded, channels are averaged, and other rates are resampled by soxr's HQ quality. Times
    are the container's (mp4, mov, mkv, webm, mpg, ts, flv, wmv, ogg): a late start and gaps become silence, sound with
    the timestamps of other sound is left out, and absurd timestamps are ignored. Joined Ogg files are read one after
    the other.

    Args:
        source: a path, or a file's content.
        max_seconds: where decoding stops; the result equals the first `round(max_seconds * 16000)` samples.
        name: name for messages; default the path.
        channel: the channel to decode, counted from 0; None averages all.
        notes: gets the warnings as text. Give it where files are decoded in threads: warnings belong to the process.

    Raises:
        AudioError: the source is missing, not a file, a URL, empty, not audio, without an audio track, without
            samples, without finite samples, or far beyond full scale; its rate or number of channels is absurd; or it
            has no such channel.

    Warns:
        EmimicWarning: the file is damaged or cut short, and only a part was readable; non-finite samples were set to
            0; the channels cancel each other out; integers are wider than their sound; silence of 0.1 s or more was
            put before the sound or into its gaps; timestamps were absurd; the file is longer than CEILING_SECONDS.
    """
    ceiling = count(CEILING_SECONDS)
    limit = ceiling + 1 if max_seconds is None else count(max_seconds)
    pieces = _decode_pieces(
        source, name, channel, notes, keep=min(limit, ceiling), reports_more=limit > ceiling
    )
    return np.concatenate(list(pieces))


def load_blocks(
    source: str | os.PathLike[str] | bytes,
    *,
    seconds: float = 10.0,
    name: str | None = None,
    channel: int | None = None,
    notes: list[str] | None = None,
    watch: Watch = lambda chunk, rate: None,
) -> Iterator[Wave]:
    """Yield the samples of `load` in blocks, holding one at a time; without a maximum length.

    Args:
        source: a path, or a file's content.
        seconds: length of a block; the last may be shorter.
        name: name for messages; default the path.
        channel: the channel to decode, counted from 0; None averages all.
        notes: gets the warnings as text.
        watch: called with all channels of each decoded chunk.

    Raises:
        AudioError: see `load`; for what only the end shows (no finite sample) after the last block.

    Warns:
        EmimicWarning: see `load`; after the last block.
    """
    size = count(seconds)
    pending: list[Wave] = []
    for piece in _decode_pieces(source, name, channel, notes, keep=None, reports_more=False, watch=watch):
        pending.append(piece)
        if sum(map(len, pending)) >= size:
            joined = np.concatenate(pending)
            complete = len(joined) // size * size
            yield from joined[:complete].reshape(-1, size)
            pending = [joined[complete:].copy()]
    if sum(map(len, pending)):
        yield np.concatenate(pending)


def count_channels(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> int:
    """Return the number of channels of the first audio track; 0 without one, or when it can't be read.

    Decodes the first chunk with the decoder that `load` takes, so that most files need no import of PyAV.
    """
    source, label = name_source(source, name)
    try:
        with open_input(source, label) as file:
            plan = _plan_decoding(file)
            for decoder in plan.decoders:
                file.seek(0)
                with (
                    suppress(DamagedError, UndecodableError),
                    closing(decoder(InputFile(file, plan.end), label)) as decoded,
                ):
                    for chunk, _, _ in decoded:
                        return int(chunk.shape[1])
    except (AudioError, ValueError, OSError, MemoryError):
        pass
    return 0


def _decode_pieces(
    source: str | os.PathLike[str] | bytes,
    name: str | None,
    channel: int | None,
    notes: list[str] | None,
    *,
    keep: int | None,
    reports_more: bool,
    watch: Watch = lambda chunk, rate: None,
) -> Iterator[Wave]:
    """Yield the first `keep` samples as they are decoded.

    Args:
        source: see `load`.
        name: see `load`.
        channel: see `load`.
        notes: see `load`.
        keep: number of samples; None for all.
        reports_more: note a longer file.
        watch: see `load_blocks`.
    """
    source, label = name_source(source, name)
    mono, stamps = Mono(keep, label), Timestamps()
    with open_input(source, label) as file:
        try:
            # One more sample distinguishes a file that ends there from a longer one.
            enough = None if keep is None else keep + reports_more
            is_damaged = yield from _decode(file, mono, stamps, label, enough, channel, watch)
            yield mono.finish()
        except (ValueError, OSError, MemoryError) as error:  # one file must not stop a folder
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise AudioError(
                f"{label}: can't be decoded ({reason}). Check the file, or convert it."
            ) from error
    if not mono.length:
        reason = "is damaged or cut short before its first sample" if is_damaged else "holds no samples"
        raise AudioError(f"{label}: {reason}. Record, export or download it again.")
    if mono.bad and mono.bad == mono.total:
        raise AudioError(f"{label}: all samples are NaN or infinite. Export it again.")
    is_longer = reports_more and keep is not None and mono.length > keep
    for note in [*stamps.list_notes(), *_list_notes(mono, is_damaged, is_longer)]:
        add_note(f"{label}: {note}", notes, stacklevel=3)  # the caller of load or load_blocks


def _list_notes(mono: Mono, is_damaged: bool, is_longer: bool) -> list[str]:
    """Return what the user should know of a recording that was decoded."""
    notes = []
    if mono.bad:
        notes.append(f"{mono.bad} of {mono.total} values were NaN, infinite or absurd; they are set to 0.")
    if mono.is_canceled:
        notes.append("its channels cancel each other out (opposite phase); export one of them alone.")
    if is_damaged:
        seconds = mono.length / SAMPLE_RATE
        notes.append(f"damaged or cut short; only {seconds:.4g} s were readable and are used.")
    if is_longer:
        notes.append(f"longer than {CEILING_SECONDS:g} s; the rest is left out. Split the file.")
    if mono.narrow:
        notes.append(mono.narrow)
    return notes


def _decode(
    file: BinaryIO,
    mono: Mono,
    stamps: Timestamps,
    label: str,
    enough: int | None,
    channel: int | None,
    watch: Watch,
) -> Generator[Wave, None, bool]:
    """Yield what `mono` returns until it has `enough` samples; return whether the file is damaged or cut short.

    The first decoder that yields a value decodes the file.
    """
    plan = _plan_decoding(file)
    is_damaged, reasons = plan.is_cut, []
    for decoder in plan.decoders:
        file.seek(0)
        try:
            with closing(decoder(InputFile(file, plan.end), label)) as decoded:
                for chunk, rate, time in decoded:
                    silence = stamps.add(time, len(chunk), rate)
                    for start in range(0, silence, chunks.CHUNK):
                        yield mono.put_silence(min(chunks.CHUNK, silence - start), rate)
                        if enough is not None and mono.length >= enough:
                            return False
                    chunk = chunk[max(0, -silence) :]
                    watch(chunk, rate)
                    yield mono.put(chunk if channel is None else _select(chunk, channel, label), rate)
                    if enough is not None and mono.length >= enough:
                        return False
        except DamagedError:
            is_damaged = True
        except UndecodableError as error:
            reasons.append(str(error))
            is_damaged = is_damaged or mono.total > 0
        if mono.total:
            return is_damaged
    if len(reasons) == len(plan.decoders):
        raise AudioError(
            f"{label}: is no audio or video that can be decoded ({'; '.join(reasons)}). Check the file."
        )
    return is_damaged


def _select(chunk: Wave, channel: int, label: str) -> Wave:
    """Return one channel of a chunk (sample, channel) as (sample, 1)."""
    n_channels = chunk.shape[1]
    if not 0 <= channel < n_channels:
        raise AudioError(
            f"{label}: has {n_channels} channel{'s' * (n_channels > 1)}, so there is no channel {channel + 1}. "
            "Give a recording with one voice per channel, or a file for each voice."
        )
    return chunk[:, channel : channel + 1]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The way to decode a file.

    Attributes:
        decoders: those to try, in this order.
        end: byte at which the sound ends; None for the file's end.
        is_cut: the content is cut short or incomplete, and libsndfile would not report it.
    """

    decoders: tuple[Decoder, ...]
    end: int | None = None
    is_cut: bool = False


def _plan_decoding(file: BinaryIO) -> _Plan:
    """Choose decoders by the first bytes of a file and by what they claim of its end."""
    file.seek(0)
    if file.read(4) == ogg.MAGIC:
        return _plan_ogg(file)
    if (end := find_transport_end(file)) is not None:
        return _Plan((decode_soundfile, decode_pyav), end)
    size = file.seek(0, io.SEEK_END)
    start, head = skip_id3(file)
    if not start and not is_mpeg_frame(head):
        return _Plan((decode_soundfile, decode_pyav), is_cut=has_second_wav(file, size))
    # MPEG audio, or AAC that looks like it. libsndfile guesses the length of an mp3 without a length tag (and stops
    # there), and prints to stderr when one is cut off: it gets only complete ones with a tag.
    end = find_mp3_end(head, start)
    if end is None:
        return _Plan((decode_pyav,), find_adts_end(file, start, size))
    untagged = (partial(decode_soundfile, start=start), decode_pyav)
    if size > end and holds_only_tags(file, end, size):
        return _Plan(untagged, end)
    return _Plan(untagged) if size == end else _Plan((decode_pyav,), is_cut=size < end)


def _plan_ogg(file: BinaryIO) -> _Plan:
    """Choose decoders for an Ogg file.

    libsndfile reads the first of several chained streams, joins what remains around missing pages, and doesn't know
    when another track starts.
    """
    end, is_cut = ogg.find_end(file)
    streams = ogg.read_streams(file, end)
    if streams.is_gapped or streams.is_multiplexed:
        return _Plan((decode_pyav, decode_soundfile), end, is_cut or streams.is_gapped)
    is_chained = len(streams.starts) > 1
    first = partial(decode_chained, starts=streams.starts) if is_chained else decode_soundfile
    return _Plan((first, decode_pyav), end, is_cut)
