"""A video -> its frames, each with the time at which it is shown, on the clock that the sound is on too.

Times come from the container (time stamp x time base), never from a frame rate: recorders state rates that aren't true,
leave frames out, and start picture and sound apart. Second 0 is time 0 of the container, which is the first sample that
`audio.load` gives too, so that a face and a sound of the same time belong together.
"""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.media import decode
from emimic.media.source import named
from emimic.media.timestamps import zero
from emimic.task import AudioError, add_note

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

PIXELS: Final = 1 << 26
"""Larger pictures are refused: 8k has half as many."""

_Timed = tuple[float, "VideoFrame"]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture, (height, width, 3) uint8 in RGB, upright; and its time in seconds."""

    time: float
    image: NDArray[np.uint8]


def frames(
    source: str | os.PathLike[str] | bytes,
    *,
    fps: float | None = None,
    max_seconds: float | None = None,
    name: str | None = None,
    notes: list[str] | None = None,
) -> Iterator[Frame]:
    """The frames of a video's first track in order, one decoded at a time.

    fps: only those nearest to 0, 1 / fps, 2 / fps, ...; each once and with its own time, so a slower video gives all it
    has. max_seconds: only those up to that time. name: what messages call the source. notes: gets what is warned of
    without it.

    Raises:
        AudioError: not there, no video, without a picture that can be decoded, with pictures of an absurd size.

    Warns:
        EmimicWarning: after the last frame, when the file is damaged or cut short.
    """
    import av

    source, label = named(source, name)
    if fps is not None and not 0 < fps < math.inf:
        raise AudioError(f"{label}: {fps} frames a second are asked for; give a number above 0")
    state = _State()
    try:
        start = _start(source, label)
        with decode.container(source, name=label) as opened:
            timed = _decoded(opened, label, start, state, from_nought=decode.fragmented(source, label))
            for time, frame in timed if fps is None else _nearest(timed, fps):
                if max_seconds is not None and time > max_seconds:
                    return
                yield Frame(time, _picture(frame))
    except (av.error.FFmpegError, ValueError, OSError, MemoryError) as error:
        what = getattr(error, "strerror", None) or error
        raise AudioError(f"{label}: is no video that can be decoded ({what}). Check the file.") from error
    if state.last is None:
        raise AudioError(f"{label}: holds no picture that can be decoded. Check the file.")
    if state.damaged:
        note = f"damaged or cut short; only pictures up to {state.last:.4g} s were readable and are used."
        add_note(f"{label}: {note}", notes)


@dataclass(slots=True)
class _State:
    last: float | None = None
    damaged: bool = False


def _start(source: str | os.PathLike[str] | bytes, label: str) -> float:
    """Time 0 of the file on the container's clock, as `audio.load` has it."""
    import av

    sound, rate = None, 1
    with decode.container(source, name=label) as opened:
        streams = decode.sounds(opened)
        packets = opened.demux(streams[0]) if streams else iter(())
        while sound is None:
            try:
                # Decoded, since what an encoder puts in front is only left out then.
                for frame in next(packets).decode():
                    if sound is None and frame.time is not None:
                        sound, rate = frame.time, frame.sample_rate
            except (StopIteration, av.error.EOFError):
                break  # without sound, or with a track that nobody can hear, which sets no clock
            except (av.error.InvalidDataError, IndexError):
                continue
            except av.error.FFmpegError:  # of no codec that can be decoded
                break
        return zero(opened.format.name, decode.picture_start(opened), sound, rate)


def _decoded(
    opened: "InputContainer", label: str, start: float, state: _State, *, from_nought: bool
) -> Iterator[_Timed]:
    """Frames with times that rise; what is broken is left out. from_nought: see `_promised_end`."""
    import av

    tracks = decode.pictures(opened)
    if not tracks:
        raise AudioError(f"{label}: has no video track that can be decoded; give a file with pictures.")
    stream = tracks[0]
    if stream.codec_context.width * stream.codec_context.height > PIXELS:
        size = f"{stream.codec_context.width} x {stream.codec_context.height}"
        raise AudioError(
            f"{label}: has pictures of {size}, expected at most {PIXELS:,} pixels. Check the file."
        )
    packets = opened.demux(stream)
    end = 0.0
    while True:
        try:
            packet = next(packets)
            end = max(end, _end(packet))
            found = packet.decode()
        except (StopIteration, av.error.EOFError):
            break
        except (av.error.InvalidDataError, IndexError):
            state.damaged = True
            continue
        state.damaged = state.damaged or packet.is_corrupt
        for frame in found:
            if frame.time is None or frame.width * frame.height > PIXELS:
                state.damaged = True
                continue
            time = frame.time - start
            if state.last is None or time > state.last:
                state.last = time
                yield time, frame
    if "mp4" in opened.format.name and state.last is not None:
        state.damaged = state.damaged or end < _promised_end(stream, from_nought=from_nought) - 0.15


def _end(packet: "Packet[Any]") -> float:
    """When a packet's frame stops being shown, on the container's clock."""
    if packet.pts is None or not packet.time_base:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


def _promised_end(stream: "VideoStream", *, from_nought: bool) -> float:
    """When the pictures end by an mp4's header, on the container's clock; 0 if it doesn't say.

    from_nought: its durations count from time 0 of that clock, as those of fragments do.
    """
    if not stream.duration or not stream.time_base:
        return 0.0
    start = 0 if from_nought else stream.start_time or 0
    return float((start + stream.duration) * stream.time_base)


def _nearest(timed: Iterable[_Timed], fps: float) -> Iterator[_Timed]:
    """Those nearest to a multiple of 1 / fps, each once."""
    waiting: _Timed | None = None
    wanted = -math.inf
    for one in timed:
        if waiting is None:
            wanted = round(one[0] * fps)
        else:
            halfway = (waiting[0] + one[0]) / 2 * fps
            if wanted <= halfway:
                yield waiting
                wanted = math.floor(halfway) + 1
        waiting = one
    if waiting is not None and wanted <= waiting[0] * fps + 0.5:
        yield waiting


def _picture(frame: "VideoFrame") -> NDArray[np.uint8]:
    """RGB, turned as the recorder says that it is to be seen (phones film lying)."""
    image: NDArray[Any] = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4))
