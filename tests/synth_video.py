"""Short synthetic videos with a time for every frame, and a sound that may start later."""

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

Image = np.ndarray[Any, Any]
HEIGHT, WIDTH = 240, 320


def film(
    path: Path,
    times: Sequence[float],
    paint: Callable[[float], Image],
    *,
    sound: np.ndarray[Any, Any] | None = None,
    sound_start: float = 0.0,
    codec: str = "mpeg4",
    rotation: int | None = None,
) -> Path:
    """A video with frames at `times` (seconds by the container's timestamps) of what `paint` gives for a time; `sound`
    (sample,) float32 at 16 kHz begins at `sound_start`."""
    tick, rate = Fraction(1, 60_000), 16_000
    with av.open(str(path), "w") as container:
        height, width = paint(times[0]).shape[:2]
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = tick
        stream.bit_rate = 4_000_000
        if rotation is not None:
            stream.set_display_rotation(rotation)
        track = None
        if sound is not None:
            track = container.add_stream("mp2" if path.suffix == ".mpg" else "aac", rate=rate, layout="mono")
        for time in times:
            frame = av.VideoFrame.from_ndarray(paint(time), format="rgb24")
            frame.pts, frame.time_base = round(time / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None and track is not None:
            for start in range(0, len(sound), 1024):
                part = np.ascontiguousarray(sound[None, start : start + 1024])
                block = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
                block.sample_rate, block.time_base = rate, Fraction(1, rate)
                block.pts = round(sound_start * rate) + start
                container.mux(track.encode(block))
            container.mux(track.encode())
    return path


def even(fps: float, count: int) -> list[float]:
    """Times of frames at a steady rate."""
    return [k / fps for k in range(count)]


def square(
    left: int,
    top: int,
    side: int = 40,
    color: tuple[int, int, int] = (255, 255, 255),
    shape: tuple[int, int] = (HEIGHT, WIDTH),
) -> Image:
    """A square of one color on black."""
    image = np.zeros((*shape, 3), np.uint8)
    image[top : top + side, left : left + side] = color
    return image


def gray(level: int, shape: tuple[int, int] = (64, 64)) -> Image:
    return np.full((*shape, 3), level, np.uint8)


def video(
    fps: Fraction | int,
    frames: int,
    form: str = "mp4",
    *,
    codec: str = "mpeg4",
    skip: tuple[int, int] = (0, 0),
    tick: Fraction | None = None,
    times: Sequence[int] | None = None,
    sound: np.ndarray[Any, Any] | None = None,
) -> bytes:
    """Gray frames of 48 x 32, without those numbered skip[0] to skip[1], and PCM at 16 kHz if any.

    tick: seconds that times are rounded to. times: of the frames, in milliseconds.
    """
    tick = Fraction(1, 1000) if times else tick
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=1 / tick if tick else Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        track = None if sound is None else container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for number in range(frames):
            if skip[0] <= number < skip[1]:
                continue
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), number % 200, np.uint8), format="rgb24")
            frame.time_base = tick or 1 / Fraction(fps)
            frame.pts = number if tick is None else round(Fraction(number) / Fraction(fps) / tick)
            frame.pts = times[number] if times else frame.pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track is not None:
            whole = np.clip(np.round(sound * 32768.0), -32768, 32767).astype(np.int16)
            block = av.AudioFrame.from_ndarray(whole[None, :], format="s16", layout="mono")
            block.sample_rate, block.pts = 16_000, 0
            container.mux(track.encode(block))
            container.mux(track.encode())
    return file.getvalue()
