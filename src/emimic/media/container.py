"""Facts of a media file's container, from its packets: nothing is decoded, and no length it claims is believed."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from emimic.media import decode
from emimic.media.source import named
from emimic.task import AudioError

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer

_Packet = tuple[int | None, int, int]
"""Time and duration in ticks, size in bytes."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The first video track."""

    codec: str
    width: int
    height: int
    """In pixels."""
    fps: float
    """Frames a second as the container states them, which need not be true: 1000 is the clock of some recorders.

    MP4 states none: there it is the rate of the frames between gaps."""
    frames: int
    """Frames that are there."""
    expected: int
    """Frames that would be there without gaps in the times of those that are."""
    seconds: float
    """From the first frame's time to the last one's end."""
    promised: int
    """Frames that the container promises; 0 when it promises none."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The first audio track."""

    codec: str
    rate: int
    """Samples a second of one channel."""
    channels: int
    bit_rate: int | None
    """Bits a second of the packets that are there; None of fewer than two."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A file's first tracks; a cover picture is no video, and a track without a decoder is none."""

    picture: Picture | None
    sound: Sound | None
    broken: bool
    """Whether reading stopped at damage; what came before is counted."""


def probe(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> Facts:
    """Read all packets of a file once. `name` is what messages call it.

    Raises:
        AudioError: not there, empty, or no container that PyAV reads, or one without a track.
    """
    import av

    source, label = named(source, name)
    try:
        with decode.container(source, name=label) as opened:
            return _facts(opened, label)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        what = getattr(error, "strerror", None) or error
        raise AudioError(
            f"{label}: is no audio or video that can be read ({what}). Check the file."
        ) from None


def has_picture(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> bool:
    """Return whether there is a video track by the header (a cover is none); False where it can't be read."""
    import av

    label = name or ("<bytes>" if isinstance(source, bytes) else os.fsdecode(source))
    try:
        with decode.container(source, name=label) as opened:
            return bool(decode.pictures(opened))
    except (AudioError, av.error.FFmpegError, ValueError, OSError):
        return False


def _facts(opened: "InputContainer", label: str) -> Facts:
    import av

    tracks: list[Any] = [*decode.pictures(opened)[:1], *decode.sounds(opened)[:1]]
    if not tracks:
        raise AudioError(f"{label}: has no video and no audio track that can be decoded. Check the file.")
    packets: dict[int, list[_Packet]] = {track.index: [] for track in tracks}
    broken, hidden = False, 0
    try:
        for packet in opened.demux(tracks):
            broken = broken or packet.is_corrupt
            if packet.is_discard:  # an edit list leaves it out
                hidden += packet.stream.type == "video"
            elif packet.size and not packet.is_corrupt:  # the last packet is empty
                packets[packet.stream_index].append((packet.pts, packet.duration or 0, packet.size))
    except (av.error.FFmpegError, IndexError):  # IndexError: PyAV met a new stream midway
        broken = True
    picture, sound = None, None
    for track in tracks:
        if track.type == "video":
            picture = _picture(track, packets[track.index], hidden, stated="mp4" not in opened.format.name)
        else:
            sound = _sound(track, packets[track.index])
    return Facts(picture, sound, broken)


def _picture(track: "VideoStream", packets: list[_Packet], hidden: int, *, stated: bool) -> Picture:
    """`stated`: whether the format has a field for fps; where not, FFmpeg's is a mean that gaps lower."""
    timed = [(time, length) for time, length, _ in packets if time is not None]
    lost = _lost(time for time, _ in timed)
    seconds = _span(timed, lost) * (track.time_base or 0)
    fps = track.average_rate or track.guessed_rate or 0
    if seconds and not stated:
        fps = (len(timed) + lost) / seconds
    return Picture(
        codec=track.codec_context.codec.canonical_name,
        width=track.codec_context.width,
        height=track.codec_context.height,
        fps=float(fps),
        frames=len(packets),
        expected=len(packets) + lost,
        seconds=float(seconds),
        promised=max(0, track.frames - hidden),
    )


def _span(timed: Iterable[tuple[int, int]], lost: int) -> Fraction:
    """(time, duration) of frames, those lost between them -> ticks from the first to the last one's end.

    Some recorders give a frame a tick for its duration: the last one then lasts as long as the mean of the others.
    """
    times = sorted(timed)
    if not times:
        return Fraction(0)
    (first, _), (last, length) = times[0], times[-1]
    step = Fraction(last - first, len(times) - 1 + lost) if len(times) > 1 else Fraction(0)
    return last - first + max(step, Fraction(length))


def _lost(times: Iterable[int]) -> int:
    """Times of frames in ticks -> how many more would fit into the gaps between them.

    A gap is at least 1.75 times the usual interval: a webcam's frames come late by a part of one. A millisecond's clock
    has intervals of 33 and 34 for 30 fps, so the usual one is a mean.
    """
    steps = [after - before for before, after in pairwise(sorted(times))]
    middle = median(steps) if steps else 0
    short = [step for step in steps if 0 < step <= 1.5 * middle]
    if not short:
        return 0
    usual = Fraction(sum(short), len(short))
    return sum(round(step / usual) - 1 for step in steps if step >= 1.75 * usual)


def _sound(track: Any, packets: list[_Packet]) -> Sound:
    timed = [(time, size) for time, _, size in packets if time is not None]
    # Not by the packets' durations, of which the last may be nonsense (vorbis).
    ticks = timed[-1][0] - timed[0][0] if timed else 0
    bits = 8 * sum(size for _, size in timed[:-1])
    return Sound(
        codec=track.codec_context.codec.canonical_name,
        rate=track.codec_context.sample_rate or 0,
        channels=track.codec_context.channels,
        bit_rate=round(bits / (ticks * track.time_base)) if ticks > 0 else None,
    )
