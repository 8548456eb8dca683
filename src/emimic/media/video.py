"""Frames of a video, each with the time at which it is shown, counted from the same time 0 as the sound.

Times come from the container (timestamp x time base), never from a frame rate: recorders state wrong rates, leave
frames out, and start video and sound at different times. Second 0 is time 0 of the container, which is also the first
sample of `decode.load`, so that a face and a sound of the same time belong together.
"""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.media.claims import is_fragmented
from emimic.media.input_file import open_input
from emimic.media.pyav_decoder import (
    find_video_start,
    list_audio_streams,
    list_video_streams,
    open_container,
)
from emimic.media.source import name_source
from emimic.media.timestamps import find_zero
from emimic.task import AudioError, add_note

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

PIXELS: Final = 1 << 26
"""Maximum size of a frame; 8k has half as many pixels."""

_Timed = tuple[float, "VideoFrame"]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """An upright image, (height, width, 3) uint8 in RGB, and its time in seconds."""

    time: float
    image: NDArray[np.uint8]


def read_frames(
    source: str | os.PathLike[str] | bytes,
    *,
    fps: float | None = None,
    max_seconds: float | None = None,
    name: str | None = None,
    notes: list[str] | None = None,
) -> Iterator[Frame]:
    """Yield the frames of a video's first track in order, one decoded at a time.

    Args:
        source: a path, or a file's content.
        fps: yield only the frames nearest to 0, 1 / fps, 2 / fps, ...; each once and with its own time, so a slower
            video yields all its frames.
        max_seconds: the latest time of a frame.
        name: name for messages; default the path.
        notes: gets the warnings as text.

    Raises:
        AudioError: the source is missing, no video, without a frame that can be decoded, or has frames of an absurd
            size.

    Warns:
        EmimicWarning: the file is damaged or cut short; after the last frame.
    """
    import av

    source, label = name_source(source, name)
    if fps is not None and not 0 < fps < math.inf:
        raise AudioError(f"{label}: found fps {fps}, expected frames per second. Give a number above 0.")
    state = _State()
    try:
        start = _find_start(source, label)
        with open_input(source, label) as file:
            ends_from_zero = is_fragmented(file)
        with open_container(source, name=label) as opened:
            timed = _decode(opened, label, start, state, ends_from_zero=ends_from_zero)
            for time, frame in timed if fps is None else _choose_nearest(timed, fps):
                if max_seconds is not None and time > max_seconds:
                    return
                yield Frame(time, _to_image(frame))
    except (av.error.FFmpegError, ValueError, OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{label}: is no video that can be decoded ({reason}). Check the file.") from error
    if state.last is None:
        raise AudioError(f"{label}: holds no frame that can be decoded. Check the file.")
    if state.is_damaged:
        note = f"damaged or cut short; only frames up to {state.last:.4g} s were readable and are used."
        add_note(f"{label}: {note}", notes)


@dataclass(slots=True)
class _State:
    """Time of the last frame in seconds, and whether frames are broken or missing."""

    last: float | None = None
    is_damaged: bool = False


def _find_start(source: str | os.PathLike[str] | bytes, label: str) -> float:
    """Return the container's timestamp of time 0 in seconds, as `decode.load` finds it."""
    import av

    sound, rate = None, 1
    with open_container(source, name=label) as opened:
        streams = list_audio_streams(opened)
        packets = opened.demux(streams[0]) if streams else iter(())
        while sound is None:
            try:
                # Decoded, since only then an encoder's priming is left out.
                for frame in next(packets).decode():
                    if sound is None and frame.time is not None:
                        sound, rate = frame.time, frame.sample_rate
            except (StopIteration, av.error.EOFError):
                break  # without sound, or with a track that can't be decoded, which doesn't define time 0
            except (av.error.InvalidDataError, IndexError):
                continue
            except av.error.FFmpegError:  # a codec that can't be decoded
                break
        return find_zero(opened.format.name, find_video_start(opened), sound, rate)


def _decode(
    opened: "InputContainer", label: str, start: float, state: _State, *, ends_from_zero: bool
) -> Iterator[_Timed]:
    """Yield frames in the order of their times, without broken ones.

    Args:
        opened: the container.
        label: name for error messages.
        start: the container's timestamp of time 0 in seconds.
        state: is updated with each frame.
        ends_from_zero: see `_find_end`.
    """
    import av

    tracks = list_video_streams(opened)
    if not tracks:
        raise AudioError(f"{label}: has no video track that can be decoded; give a video.")
    stream = tracks[0]
    if stream.codec_context.width * stream.codec_context.height > PIXELS:
        size = f"{stream.codec_context.width} x {stream.codec_context.height}"
        raise AudioError(
            f"{label}: has frames of {size}, expected at most {PIXELS:,} pixels. Check the file."
        )
    packets = opened.demux(stream)
    end = 0.0
    while True:
        try:
            packet = next(packets)
            end = max(end, _find_packet_end(packet))
            decoded = packet.decode()
        except (StopIteration, av.error.EOFError):
            break
        except (av.error.InvalidDataError, IndexError):
            state.is_damaged = True
            continue
        state.is_damaged = state.is_damaged or packet.is_corrupt
        for frame in decoded:
            if frame.time is None or frame.width * frame.height > PIXELS:
                state.is_damaged = True
                continue
            time = frame.time - start
            if state.last is None or time > state.last:
                state.last = time
                yield time, frame
    if "mp4" in opened.format.name and state.last is not None:
        expected = _find_end(stream, from_zero=ends_from_zero)
        state.is_damaged = state.is_damaged or end < expected - 0.15


def _find_packet_end(packet: "Packet[Any]") -> float:
    """Return the timestamp in seconds at which a packet's frame ends; 0 for a packet without one."""
    if packet.pts is None or not packet.time_base:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


def _find_end(stream: "VideoStream", *, from_zero: bool) -> float:
    """Return the timestamp in seconds at which a track ends by an mp4's header; 0 when the header doesn't say.

    Args:
        stream: the track.
        from_zero: its duration counts from timestamp 0, as in files of fragments.
    """
    if not stream.duration or not stream.time_base:
        return 0.0
    start = 0 if from_zero else stream.start_time or 0
    return float((start + stream.duration) * stream.time_base)


def _choose_nearest(timed: Iterable[_Timed], fps: float) -> Iterator[_Timed]:
    """Yield the frames nearest to a multiple of 1 / fps, each once."""
    last: _Timed | None = None
    step = -math.inf  # the next multiple that has no frame
    for timed_frame in timed:
        if last is None:
            step = round(timed_frame[0] * fps)
        else:
            halfway = (last[0] + timed_frame[0]) / 2 * fps
            if step <= halfway:
                yield last
                step = math.floor(halfway) + 1
        last = timed_frame
    if last is not None and step <= last[0] * fps + 0.5:
        yield last


def _to_image(frame: "VideoFrame") -> NDArray[np.uint8]:
    """Return a frame as RGB, rotated as its metadata says (phones film sideways)."""
    image: NDArray[Any] = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4))
