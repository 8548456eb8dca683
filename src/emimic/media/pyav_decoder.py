"""The decoder for what FFmpeg reads through PyAV (m4a, mp4, webm, mov, mpg, ...), and the tracks of such files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from emimic.media.chunks import Chunks, DamagedError, UndecodableError, mask_absurd
from emimic.media.claims import find_track_end, find_transport_end
from emimic.media.input_file import InputFile, open_input
from emimic.media.source import name_source
from emimic.media.timestamps import STAMPED, STARTED, find_zero, is_stray
from emimic.media.waveform import Wave, check_format
from emimic.task import AudioError

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, VideoStream
    from av.container import InputContainer

# What PyAV may open. Playlists (hls, dash, concat, sdp) are excluded: they name other files and hosts.
_FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegts,mpegvideo,avi,asf,flv,aac,mp3,ogg,flac,wav,w64,aiff,au,caf,"
    "amr,ac3,eac3,ape,wv,tta,voc,gsm,dv,mxf,rm"
)
_OPTIONS: Final = {"format_whitelist": _FORMATS, "protocol_whitelist": ""}
# Formats in which FFmpeg finds frames by their first bytes. What it takes for a broken frame at the end may be a tag
# or zeros, so nothing is known to be missing unless sound follows.
_SELF_SYNCHRONIZED: Final = frozenset({"mp3", "aac", "ac3", "eac3", "mpegts", "mpeg"})
_SCALE: Final = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31}
_TO_NUMPY: Final = frozenset({*_SCALE, "flt", "dbl"})  # PyAV's formats with an array; s64 has none
_TOLERANCE: Final = 0.15  # seconds by which a track may end before its header says so


@contextmanager
def open_container(
    source: str | os.PathLike[str] | bytes, *, name: str | None = None
) -> "Iterator[InputContainer]":
    """Open a file with PyAV by its content alone, to read its tracks; no other file can be opened through it.

    Args:
        source: a path, or a file's content.
        name: name for error messages; default the path.

    Raises:
        AudioError: the source is missing, not a file, a URL, or empty. Errors of PyAV pass through.
    """
    source, label = name_source(source, name)
    with open_input(source, label) as file:
        end = find_transport_end(file)
        file.seek(0)
        with _demux(InputFile(file, end)) as opened:
            yield opened


def list_audio_streams(opened: "InputContainer") -> "list[AudioStream]":
    """Return the audio tracks that have a decoder."""
    return [stream for stream in opened.streams.audio if stream.codec_context is not None]


def list_video_streams(opened: "InputContainer") -> "list[VideoStream]":
    """Return the video tracks that have a decoder, without cover images."""
    return [stream for stream in _list_without_covers(opened) if stream.codec_context is not None]


def find_video_start(opened: "InputContainer") -> float | None:
    """Return when the first video track starts, in seconds of the container's timestamps; None without one.

    A track without a decoder counts too.
    """
    for stream in _list_without_covers(opened)[:1]:
        if stream.start_time is not None and stream.time_base:
            return float(stream.start_time * stream.time_base)
    return None


def decode_pyav(file: InputFile, label: str) -> Chunks:
    """Yield the sound of a file's first audio track, by FFmpeg.

    Raises:
        UndecodableError: FFmpeg can't read the content, or PyAV can't be imported.
        DamagedError: after the last chunk, when frames are missing or broken.
        AudioError: there is no audio track with a decoder, or its sample rate or number of channels is absurd.
    """
    try:
        import av  # takes 0.1 s, and most files don't need it
    except ImportError as error:
        raise UndecodableError(f"PyAV can't be imported: {error}") from None

    progress = _Progress()
    try:
        with _demux(file) as opened:
            stream = _choose_stream(opened, label)
            codec, formats = stream.codec_context.name, opened.format.name.split(",")
            has_any_scale = codec.startswith("pcm_") or codec == "wavpack"
            start: float | None = None
            for frame, stamp in _drop_strays(_decode_frames(opened, stream, file, progress)):
                check_format(frame.sample_rate, frame.layout.nb_channels, label)
                time = stamp if (STARTED if start is None else STAMPED).intersection(formats) else None
                if time is not None:
                    if start is None:
                        video_start = find_video_start(opened)
                        start = find_zero(opened.format.name, video_start, time, frame.sample_rate)
                    progress.end = max(progress.end, time + frame.samples / frame.sample_rate)
                    time -= start
                values = _to_floats(frame)
                yield values if has_any_scale else mask_absurd(values), frame.sample_rate, time
            is_short = progress.end < find_track_end(opened, stream, file) - _TOLERANCE
    except av.error.FFmpegError as error:
        raise UndecodableError(f"PyAV: {error.strerror}") from None
    if progress.is_broken or is_short:
        raise DamagedError


@dataclass(slots=True)
class _Progress:
    """State of a track while its frames are decoded.

    Attributes:
        is_broken: some frames are broken or missing.
        end: end of the last frame so far, in seconds of the container's timestamps.
    """

    is_broken: bool = False
    end: float = 0.0


def _choose_stream(opened: "InputContainer", label: str) -> "AudioStream":
    """Return the first audio track with a decoder.

    Raises:
        AudioError: there is none.
    """
    if streams := list_audio_streams(opened):
        return streams[0]
    reason = "none of its audio tracks can be decoded" if opened.streams.audio else "has no audio track"
    raise AudioError(f"{label}: {reason}; give a recording with sound.")


def _decode_frames(
    opened: "InputContainer", stream: "AudioStream", file: InputFile, progress: _Progress
) -> "Iterator[AudioFrame]":
    """Yield the frames of an audio track that can be decoded."""
    import av

    is_searched = opened.format.name in _SELF_SYNCHRONIZED
    position, is_tail_broken, is_empty = -1, False, True
    packets = opened.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.EOFError):
            break
        except (av.error.InvalidDataError, IndexError) as error:  # IndexError: PyAV met a new stream midway
            progress.is_broken = progress.is_broken or isinstance(error, IndexError) or not is_searched
            if file.tell() == position:
                break
            position, is_tail_broken, packets = file.tell(), True, opened.demux(stream)  # continue behind it
            continue
        try:
            frames = packet.decode()
        except (av.error.InvalidDataError, av.error.EOFError):
            progress.is_broken, is_tail_broken = progress.is_broken or not is_searched, True
            continue
        if frames:
            progress.is_broken = progress.is_broken or is_tail_broken
            is_tail_broken = is_empty = False
        if packet.pts is not None and packet.time_base:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            progress.end = max(progress.end, end)
        yield from frames
    progress.is_broken = progress.is_broken or (is_tail_broken and is_empty)


def _drop_strays(frames: "Iterator[AudioFrame]") -> "Iterator[tuple[AudioFrame, float | None]]":
    """Yield frames with their times in seconds; None for a missing time and for a stray one.

    The time of a frame after a gap is not a stray one, so each frame is yielded when the next is known.
    """
    import av

    frame: AudioFrame | None = None
    end: float | None = None
    failure: av.error.FFmpegError | None = None
    while True:
        try:
            following = next(frames, None)
        except av.error.FFmpegError as error:  # raised after the frame that waits
            failure, following = error, None
        if frame is not None:
            seconds, time = frame.samples / frame.sample_rate, frame.time
            next_time = None if following is None else following.time
            if (
                time is not None
                and next_time is not None
                and end is not None
                and is_stray(time, end, seconds, next_time)
            ):
                time = None
            yield frame, time
            start = end if time is None else time
            end = None if start is None else start + seconds
        if following is None:
            break
        frame = following
    if failure is not None:
        raise failure


def _list_without_covers(opened: "InputContainer") -> "list[VideoStream]":
    """Return the video tracks that are not cover images; PyAV gives those without a decoder no context."""
    import av

    cover = av.stream.Disposition.attached_pic
    return [stream for stream in opened.streams.video if not stream.disposition & cover]


def _demux(file: InputFile) -> "InputContainer":
    """Open a file's container."""
    import av

    return av.open(file, "r", metadata_errors="replace", options=dict(_OPTIONS))


def _to_floats(frame: "AudioFrame") -> Wave:
    """Return a decoded frame as (sample, channel) float32 in [-1, 1]."""
    import av

    channels = frame.layout.nb_channels
    kind = frame.format.name.rstrip("p")  # s16p is planar s16
    is_supported = kind in _TO_NUMPY
    if not is_supported or (frame.format.is_planar and channels >= 8):
        # PyAV counts planes up to a null pointer, which FFmpeg sets for fewer than 8 only: a crash.
        kind = kind if is_supported else "dbl"
        (frame,) = av.AudioResampler(kind, frame.layout, frame.sample_rate).resample(frame)
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, channels)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, and is then replaced
        values: Wave = array.astype(np.float32, copy=False)
    if kind in _SCALE:
        values = (values - (128 if kind == "u8" else 0)) / np.float32(_SCALE[kind])
    return values
