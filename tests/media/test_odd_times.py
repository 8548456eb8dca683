"""Odd stamps, joined and cut files: each gives the times of its container, or a note that says what is wrong."""

import io
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial
from typing import Any

import av
import media_files
import numpy as np
import pytest
from late_sound import ID3V1, TRUTH, first_loud, load, onsets, talk

from emimic.media import video
from emimic.media.timestamps import OVERLAP, Timestamps, is_stray
from emimic.task import AudioError

Edit = Callable[[float], float | None]
"""A packet's time in seconds -> the one it gets; None loses it."""

TALK = talk(16_000)


@cache
def made(kind: str, rate: int = 16_000) -> bytes:
    return media_files.encode(talk(rate), kind, rate)


def alone(
    form: str, codec: str, kind: str, rate: int = 16_000, edit: Edit = lambda time: time, **options: str
) -> bytes:
    """A file with the talk alone, whose packets have other times."""
    wave, file = talk(rate), io.BytesIO()
    with av.open(file, "w", format=form, options=options) as container:
        track: Any = container.add_stream(codec, rate=rate, layout="mono")
        packets: list[Any] = []
        for at in range(0, len(wave), 1024):
            part = wave[None, at : at + 1024]
            part = (part * 32_767).astype(np.int16) if kind == "s16" else part
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format=kind, layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at
            packets += track.encode(frame)
        for packet in [*packets, *track.encode()]:
            time = edit(float(packet.pts * packet.time_base))
            if time is not None:
                packet.pts = packet.dts = round(time / packet.time_base)
                container.mux(packet)
    return file.getvalue()


def flv(edit: Edit = lambda time: time) -> bytes:
    """As `alone`, with times that no muxer writes."""
    content = bytearray(alone("flv", "pcm_s16le", "s16", 22_050))
    at, out = 13, content[:13]
    while at < len(content):
        size = int.from_bytes(content[at + 1 : at + 4], "big")
        tag = content[at : at + 11 + size]
        if tag[0] == 8:
            time = edit((int.from_bytes(tag[4:7], "big") + (tag[7] << 24)) / 1000)
            stamp = round((time or 0) * 1000)
            tag[4:7], tag[7] = (stamp & 0xFFFFFF).to_bytes(3, "big"), stamp >> 24
        out += tag + content[at + 11 + size : at + 15 + size]
        at += 15 + size
    return bytes(out)


def flv_twice() -> bytes:
    """Half a second in the middle of the track twice."""
    content = flv()
    tags, at = [], 13
    while at < len(content):
        end = at + 15 + int.from_bytes(content[at + 1 : at + 4], "big")
        tags.append(content[at:end])
        at = end
    return content[:13] + b"".join(tags[:50] + tags[39:])


def pages(content: bytes) -> list[bytes]:
    """Of an Ogg file."""
    collected, at = [], 0
    while at < len(content):
        end = at + 27 + content[at + 26] + sum(content[at + 27 : at + 27 + content[at + 26]])
        collected.append(content[at:end])
        at = end
    return collected


def without(kind: str, *lost: int) -> bytes:
    return b"".join(page for number, page in enumerate(pages(made(kind))) if number not in lost)


def patched(content: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    """With other bytes behind a mark."""
    at = content.index(mark) + offset
    return content[:at] + value + content[at + len(value) :]


def ogv(late: float) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        video: Any = container.add_stream("libvpx", rate=5)
        video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
        track: Any = container.add_stream("libopus", rate=48_000, layout="mono")
        packets: list[Any] = []
        for number in range(20):
            frame: Any = av.VideoFrame.from_ndarray(
                np.full((16, 16, 3), 9 * number, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = number, Fraction(1, 5)
            packets += video.encode(frame)
        packets += video.encode()
        frame = av.AudioFrame.from_ndarray(talk(48_000)[None], format="flt", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = 48_000, Fraction(1, 48_000), round(late * 48_000)
        packets += [*track.encode(frame), *track.encode()]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return file.getvalue()


def avi_later() -> bytes:
    content = alone("avi", "pcm_s16le", "s16")
    return patched(content, b"auds", 28, struct.pack("<I", 24_000))


def edited() -> bytes:
    """An mp4 whose edit list leaves out half a second more."""
    content = alone("mp4", "aac", "fltp")
    at = content.index(b"elst") + 12
    length, start = struct.unpack(">Ii", content[at : at + 8])
    return content[:at] + struct.pack(">Ii", length - 500, start + 8_000) + content[at + 8 :]


def fragments(seconds: int) -> bytes:
    """Of an mp4 that is a part of a longer stream."""
    parts = alone("mp4", "aac", "fltp", movflags="frag_keyframe+empty_moov").split(b"tfdt\x01\0\0\0")
    times = [struct.pack(">Q", struct.unpack(">Q", part[:8])[0] + seconds * 16_000) for part in parts[1:]]
    return b"tfdt\x01\0\0\0".join([parts[0], *(t + p[8:] for t, p in zip(times, parts[1:], strict=True))])


def two_tracks() -> bytes:
    """The first one late."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        tracks: list[Any] = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        packets: list[Any] = []
        for number, track in enumerate(tracks):
            wave = (TALK[None] * (32_767 if number == 0 else 9_999)).astype(np.int16)
            frame: Any = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), 24_000 * (1 - number)
            packets += [*track.encode(frame), *track.encode()]
        for packet in reversed(packets):
            container.mux(packet)
    return file.getvalue()


def vorbis_in_mkv() -> bytes:
    file = io.BytesIO()
    with av.open(io.BytesIO(made("ogg"))) as source, av.open(file, "w", format="matroska") as container:
        track = container.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = track
                container.mux(packet)
    return file.getvalue()


def lost(time: float) -> float | None:
    return None if 1.9 <= time < 2.5 else time


def later(time: float) -> float:
    return time + 1.5


SCALE = b"\x2a\xd7\xb1\x83"
WHOLE, LATE = [1.0, 3.0], [2.5, 4.5]
STARTS, GAP, DAMAGED = "starts 1.[45]", "a gap of 0.[5-6]", "damaged or cut short"
flac_mkv = partial(alone, "matroska", "flac", "s16")
INPUTS: dict[str, tuple[Callable[[], bytes], list[float] | None, str]] = {
    # what is odd: content, when the bursts begin, the notes
    "two vorbis files joined": (lambda: made("ogg") * 2, [1.0, 3.0, 5.0, 7.0], ""),
    "two opus files joined": (lambda: made("opus") * 2, [1.0, 3.0, 5.0, 7.0], ""),
    "vorbis of two rates": (lambda: made("ogg") + made("ogg", 44_100), [1.0, 3.0, 5.0, 7.0], ""),
    "vorbis, then opus": (lambda: made("ogg") + made("opus", 48_000), [1.0, 3.0, 5.0, 7.0], ""),
    "the second of two cut": (lambda: made("opus") + made("opus")[:-9], None, DAMAGED),
    "opus without a page": (lambda: without("opus", 3), [3.0], f"{DAMAGED}.*|gap of 1 s"),
    "opus without its first page": (lambda: without("opus", 2), None, DAMAGED),
    "images and a late opus": (lambda: ogv(1.5), LATE, STARTS),
    "images and an opus": (lambda: ogv(0.0), WHOLE, ""),
    "flac with too small a total": (lambda: patched(made("flac"), b"fLaC", 22, b"\0\0\x3e\x80"), None, DAMAGED),
    "two flacs joined": (lambda: made("flac") * 2, WHOLE, DAMAGED),
    "two wavs joined": (lambda: made("wav") * 2, WHOLE, DAMAGED),
    "flac and a tag": (lambda: made("flac") + ID3V1, WHOLE, ""),
    "wav and a list": (lambda: made("wav") + b"LIST\4\0\0\0INFO", WHOLE, ""),
    "au from a pipe": (lambda: patched(made("au"), b".snd", 8, b"\xff" * 4), WHOLE, ""),
    "caf from a pipe": (lambda: patched(made("caf"), b"data", 4, b"\xff" * 8), WHOLE, ""),
    "aiff without a total": (lambda: patched(made("aiff"), b"COMM", 10, bytes(4)), WHOLE, ""),
    "one stamp ahead": (lambda: flv(lambda t: t + 5 * (1.85 < t < 1.89)), WHOLE, ""),
    "one stamp behind": (lambda: flv(lambda t: t - 1.8 * (1.85 < t < 1.89)), WHOLE, ""),
    "timestamps that begin again": (lambda: flv(lambda t: t - 2 * (t >= 2)), WHOLE, ""),
    "all stamps 0": (lambda: flv(lambda t: 0.0), WHOLE, ""),
    "stamps of 33 days": (lambda: flv(lambda t: t + 2_000_000), WHOLE, ""),
    "sound twice": (flv_twice, WHOLE, "0.5.* s of the sound have the times of other sound"),
    "asf alone": (lambda: alone("asf", "ac3", "fltp", 48_000, later), WHOLE, ""),
    "asf with a gap": (lambda: alone("asf", "ac3", "fltp", 48_000, lost), WHOLE, GAP),
    "opus in mp4, late": (lambda: alone("mp4", "libopus", "flt", 48_000, later), LATE, STARTS),
    "pcm in mov, late": (lambda: alone("mov", "pcm_s16le", "s16", edit=later), LATE, STARTS),
    "an edit list": (edited, [0.5, 2.5], ""),
    "fragments from 30 s on": (lambda: fragments(30), [31.064, 33.064], "starts 30"),
    "fragments from 3000 s on": (lambda: fragments(3_000), [1.064, 3.064], ""),
    "vorbis in mkv": (vorbis_in_mkv, WHOLE, ""),
    "mp3 in mkv, a gap": (lambda: alone("matroska", "libmp3lame", "fltp", edit=lost), WHOLE, GAP),
    "pcm in mkv, a gap": (lambda: alone("matroska", "pcm_s16le", "s16", edit=lost), WHOLE, GAP),
    "stamps that wrap": (
        lambda: alone("mpegts", "mp2", "s16", edit=lambda t: t + 2**33 / 90_000 - 2.0), [1.03, 3.03], "",
    ),
    "packets of 192 bytes": (lambda: alone("mpegts", "mp2", "s16", mpegts_m2ts_mode="1"), [1.03, 3.03], ""),
    "stamps twice as far apart": (
        lambda: patched(flac_mkv(), SCALE, 4, (2_000_000).to_bytes(3, "big")), None, "gaps of",
    ),
    "stamps a thousandth": (lambda: patched(flac_mkv(), SCALE, 4, (1_000).to_bytes(3, "big")), WHOLE, ""),
    "no length, no index": (lambda: alone("matroska", "flac", "s16", live="1"), WHOLE, ""),
    "avi that starts later": (avi_later, LATE, STARTS),
    "two tracks": (two_tracks, LATE, STARTS),
    "jitter of 8 ms": (lambda: flac_mkv(edit=lambda t: t + 0.008 * (round(t * 16) % 2)), WHOLE, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_every_time_is_the_files_or_noted(name: str) -> None:
    make, expected, note = INPUTS[name]
    samples, notes = load(make())
    if expected is not None:
        actual = [time - first_loud() for time in onsets(samples)]
        np.testing.assert_allclose(actual, expected, atol=TRUTH)
    assert bool(notes) == bool(note), notes
    assert re.search(note, " ".join(notes)), notes
    assert note.startswith(DAMAGED) or not any("damaged" in one for one in notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: patched(made("rf64"), b"ds64", 8, bytes(24)), "x: holds no samples"),
        (
            lambda: patched(made("opus"), b"OpusHead", 10, b"\x80\xbb"),
            "x: is no audio or video",
        ),  # its checksum
    ],
)
def test_what_gives_no_times_is_named(content: Callable[[], bytes], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        load(content())


@pytest.mark.parametrize("speed", [0.98, 0.999, 1.001, 1.02])
def test_a_recorders_drift_is_made_up_for(speed: float) -> None:
    """Samples a second that are more or fewer than its timestamps imply."""
    stamps, position = Timestamps(), 0.0
    for number in range(6_000):  # six minutes
        position += (0.06 * 16_000 + stamps.add(0.06 * number * speed, 960, 16_000)) / 16_000
        assert abs(position - 0.06 * (number * speed + 1)) < OVERLAP + 0.01


def test_a_file_of_a_recorder_that_is_slow() -> None:
    samples, _ = load(flac_mkv(edit=lambda time: time * 0.98))
    actual = [time - first_loud() for time in onsets(samples)]
    np.testing.assert_allclose(actual, [0.98, 2.94], atol=OVERLAP)


def test_frames_of_an_ogg_have_the_times_of_the_sound() -> None:
    assert [frame.time for frame in video.read_frames(ogv(1.5))][:2] == [0.0, 0.2]


def test_which_stamps_are_strays() -> None:
    assert is_stray(7.0, 2.0, 0.1, 2.1)
    assert is_stray(0.0, 2.0, 0.1, 2.1)
    assert not is_stray(7.0, 2.0, 0.1, 7.1)  # a gap
    assert not is_stray(2.0, 2.0, 0.1, 2.1)
