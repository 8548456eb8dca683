"""Facts of a media file's container, measured on its packets: nothing is decoded, and header lengths are ignored."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from emimic.media.pyav_decoder import list_audio_streams, list_video_streams, open_container
from emimic.media.source import name_source
from emimic.task import AudioError

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer

_Packet = tuple[int | None, int, int]
"""Time and duration in ticks, size in bytes."""


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """The first video track."""

    codec: str
    width: int
    height: int
    """In pixels."""
    fps: float
    """Frames per second as the container states them, which may be wrong: some recorders state 1000.

    MP4 states none: there it is the rate of the frames between gaps."""
    frames: int
    """Number of frames in the file."""
    expected: int
    """Number of frames without the gaps in their timestamps."""
    seconds: float
    """Length from the first frame's time to the last one's end."""
    promised: int
    """Number of frames by the container's header; 0 when it has none."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The first audio track."""

    codec: str
    rate: int
    """Sample rate in Hz."""
    channels: int
    bit_rate: int | None
    """Bits per second of the packets in the file; None for fewer than two."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A file's first video and audio tracks; cover images and tracks without a decoder are ignored."""

    video: VideoTrack | None
    sound: Sound | None
    broken: bool
    """Reading stopped at damage; the packets before it are counted."""


def probe(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> Facts:
    """Read all packets of a file once.

    Args:
        source: a path, or a file's content.
        name: name for error messages; default the path.

    Raises:
        AudioError: the file is missing, empty, no container that PyAV reads, or without a track.
    """
    import av

    source, label = name_source(source, name)
    try:
        with open_container(source, name=label) as opened:
            return _measure(opened, label)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(
            f"{label}: is no audio or video that can be read ({reason}). Check the file."
        ) from None


def has_video(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> bool:
    """Return whether the header has a video track that is no cover image; False when it can't be read."""
    import av

    label = name or ("<bytes>" if isinstance(source, bytes) else os.fsdecode(source))
    try:
        with open_container(source, name=label) as opened:
            return bool(list_video_streams(opened))
    except (AudioError, av.error.FFmpegError, ValueError, OSError):
        return False


def _measure(opened: "InputContainer", label: str) -> Facts:
    """Read all packets of the first tracks and return their facts.

    Raises:
        AudioError: there is no track with a decoder.
    """
    import av

    tracks: list[Any] = [*list_video_streams(opened)[:1], *list_audio_streams(opened)[:1]]
    if not tracks:
        raise AudioError(f"{label}: has no video and no audio track that can be decoded. Check the file.")
    packets: dict[int, list[_Packet]] = {track.index: [] for track in tracks}
    is_broken, n_hidden = False, 0
    try:
        for packet in opened.demux(tracks):
            is_broken = is_broken or packet.is_corrupt
            if packet.is_discard:  # an edit list leaves it out
                n_hidden += packet.stream.type == "video"
            elif packet.size and not packet.is_corrupt:  # the last packet is empty
                packets[packet.stream_index].append((packet.pts, packet.duration or 0, packet.size))
    except (av.error.FFmpegError, IndexError):  # IndexError: PyAV met a new stream midway
        is_broken = True
    video, sound = None, None
    for track in tracks:
        if track.type == "video":
            states_fps = "mp4" not in opened.format.name
            video = _measure_video(track, packets[track.index], n_hidden, states_fps=states_fps)
        else:
            sound = _measure_audio(track, packets[track.index])
    return Facts(video, sound, is_broken)


def _measure_video(
    track: "VideoStream", packets: list[_Packet], n_hidden: int, *, states_fps: bool
) -> VideoTrack:
    """Return the facts of a video track.

    Args:
        track: the track.
        packets: those in the file.
        n_hidden: number of packets that an edit list leaves out.
        states_fps: the format has a field for fps; without one, FFmpeg's value is a mean that gaps lower.
    """
    timed = [(time, length) for time, length, _ in packets if time is not None]
    n_lost = _count_lost(time for time, _ in timed)
    seconds = _measure_span(timed, n_lost) * (track.time_base or 0)
    fps = track.average_rate or track.guessed_rate or 0
    if seconds and not states_fps:
        fps = (len(timed) + n_lost) / seconds
    return VideoTrack(
        codec=track.codec_context.codec.canonical_name,
        width=track.codec_context.width,
        height=track.codec_context.height,
        fps=float(fps),
        frames=len(packets),
        expected=len(packets) + n_lost,
        seconds=float(seconds),
        promised=max(0, track.frames - n_hidden),
    )


def _measure_span(timed: Iterable[tuple[int, int]], n_lost: int) -> Fraction:
    """Return the ticks from the first frame's time to the last one's end.

    Some recorders store a duration of one tick: the last frame then lasts as long as the mean of the others.

    Args:
        timed: time and duration of each frame in ticks.
        n_lost: number of frames missing between them.
    """
    times = sorted(timed)
    if not times:
        return Fraction(0)
    (first, _), (last, length) = times[0], times[-1]
    step = Fraction(last - first, len(times) - 1 + n_lost) if len(times) > 1 else Fraction(0)
    return last - first + max(step, Fraction(length))


def _count_lost(times: Iterable[int]) -> int:
    """Return how many frames would fit into the gaps between frames with these times in ticks.

    A gap is at least 1.75 times the usual interval: a webcam's frames are late by a part of one. Timestamps in
    milliseconds have intervals of 33 and 34 for 30 fps, so the usual one is a mean.
    """
    steps = [after - before for before, after in pairwise(sorted(times))]
    middle = median(steps) if steps else 0
    short = [step for step in steps if 0 < step <= 1.5 * middle]
    if not short:
        return 0
    usual = Fraction(sum(short), len(short))
    return sum(round(step / usual) - 1 for step in steps if step >= 1.75 * usual)


def _measure_audio(track: Any, packets: list[_Packet]) -> Sound:
    """Return the facts of an audio track."""
    timed = [(time, size) for time, _, size in packets if time is not None]
    # Without the packets' durations, of which the last may be wrong (vorbis).
    ticks = timed[-1][0] - timed[0][0] if timed else 0
    bits = 8 * sum(size for _, size in timed[:-1])
    return Sound(
        codec=track.codec_context.codec.canonical_name,
        rate=track.codec_context.sample_rate or 0,
        channels=track.codec_context.channels,
        bit_rate=round(bits / (ticks * track.time_base)) if ticks > 0 else None,
    )
