"""Facts of containers are those they were made with, and what a file only promises is not counted."""

import io
import struct
from fractions import Fraction
from typing import Any

import av
import media_files
import numpy as np
import pytest
from synth_video import video

from emimic.media import decode
from emimic.media.container import Facts, VideoTrack, has_video, probe
from emimic.media.decode import count_channels
from emimic.media.video import read_frames
from emimic.task import AudioError


def video_track(facts: Facts) -> VideoTrack:
    assert facts.video is not None
    return facts.video


@pytest.mark.parametrize(
    ("fps", "frames"),
    [(25, 40), (30, 196), (Fraction(2983, 100), 60), (Fraction(125, 2), 7), (1000, 500), (30, 1)],
)
@pytest.mark.parametrize("form", ["mp4", "matroska", "mov"])
def test_fps_frames_and_length(form: str, fps: Fraction | int, frames: int) -> None:
    facts = probe(video(fps, frames, form))
    actual = video_track(facts)
    assert (actual.codec, actual.width, actual.height, actual.frames) == ("mpeg4", 48, 32, frames)
    assert actual.fps == float(fps)
    assert actual.expected == frames
    # Matroska's timestamps are whole milliseconds.
    assert actual.seconds == pytest.approx(frames / float(fps), abs=1e-9 if form != "matroska" else 1.5e-3)
    assert facts.sound is None
    assert not facts.broken


def test_a_recorders_timestamps_are_no_frame_rate() -> None:
    """30 frames a second, stamped in milliseconds: the container states 1000, and the frames have the true rate."""
    actual = video_track(probe(video(30, 60, "matroska", tick=Fraction(1, 1000))))
    assert actual.fps == 1000
    assert actual.expected == 60
    assert actual.frames / actual.seconds == pytest.approx(30, rel=1e-3)


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        ("mp4", "mpeg4"),
        ("mov", "h264"),
        ("matroska", "mpeg4"),
        ("webm", "vp8"),
        ("avi", "mpeg4"),
        ("mpeg", "mpeg2video"),
    ],
)
def test_frames_left_out_are_expected(form: str, codec: str) -> None:
    """The paper's clip 11437: 6.54 s at 30 fps are 196 frames, however many of them are there."""
    actual = video_track(probe(video(30, 196, form, codec=codec, skip=(100, 150))))
    assert (actual.fps, actual.frames, actual.expected) == (30.0, 146, 196)
    assert actual.seconds == pytest.approx(196 / 30, abs=1e-3)
    one = video_track(probe(video(30, 60, form, codec=codec, skip=(31, 32))))
    assert (one.fps, one.frames, one.expected) == (30.0, 59, 60)


@pytest.mark.parametrize("form", ["mp4", "matroska"])
@pytest.mark.parametrize("fps", [Fraction(2983, 100), Fraction(125, 2)])
def test_odd_rates_stay_what_they_are_with_frames_left_out(form: str, fps: Fraction) -> None:
    actual = video_track(probe(video(fps, 90, form, skip=(20, 30))))
    assert (actual.fps, actual.frames, actual.expected) == (float(fps), 80, 90)


@pytest.mark.parametrize("form", ["mp4", "matroska"])
def test_frames_that_come_late_leave_no_gap(form: str) -> None:
    """Intervals of 20 to 46 ms, as webcams give them; the means of any tenth of a second are alike."""
    late = [0, 13, 3, 9]  # ms
    times = [round(number * 100 / 3) + late[number % 4] for number in range(120)]
    whole, part = (video_track(probe(video(30, 120, form, skip=s, times=times))) for s in ((0, 0), (40, 60)))
    assert (whole.frames, whole.expected) == (120, 120)
    assert (part.frames, part.expected) == (100, 120)


def test_sound_beside_and_alone() -> None:
    facts = probe(video(25, 10, "mov", sound=media_files.sine(seconds=0.5)))
    assert video_track(facts).frames == 10
    assert facts.sound is not None
    assert (facts.sound.codec, facts.sound.rate, facts.sound.channels) == ("pcm_s16le", 16_000, 1)
    assert facts.sound.bit_rate == 256_000
    stereo = np.stack([media_files.sine(rate=44_100)] * 2, axis=1)
    facts = probe(media_files.encode(stereo, "flac", 44_100))
    assert facts.video is None
    assert facts.sound is not None
    assert (facts.sound.codec, facts.sound.rate, facts.sound.channels) == ("flac", 44_100, 2)


@pytest.mark.parametrize("kind", ["ogg", "opus", "mp3vbr", "aac", "m4a", "webm"])
def test_bit_rates_are_those_of_the_bytes(kind: str) -> None:
    content = media_files.encode(media_files.noise(seconds=20), kind)
    sound = probe(content).sound
    assert sound is not None
    assert sound.bit_rate == pytest.approx(8 * len(content) / 20, rel=0.1)


def test_the_papers_mp3_has_64_kilobits(tmp_path: Any) -> None:
    decode.save(tmp_path / "1.mp3", media_files.noise(seconds=3), codec="mp3")
    sound = probe(tmp_path / "1.mp3").sound
    assert sound is not None
    assert (sound.codec, sound.rate, sound.channels, sound.bit_rate) == ("mp3", 16_000, 1, 64_000)


def test_a_cover_is_no_video() -> None:
    flac = media_files.encode(media_files.sine(), "flac")
    assert flac[:4] == b"fLaC"
    end = 8 + int.from_bytes(flac[5:8], "big")  # of the block STREAMINFO
    image = _png()
    fields = struct.pack(">II9sIIIIII", 3, 9, b"image/png", 0, 4, 4, 24, 0, len(image)) + image
    block = bytes([6]) + len(fields).to_bytes(3, "big") + fields
    facts = probe(flac[:4] + bytes([0]) + flac[5:end] + block + flac[end:])
    assert facts.video is None
    assert facts.sound is not None


def _png() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = 4
        stream.pix_fmt = "rgb24"
        frame = av.VideoFrame.from_ndarray(np.zeros((4, 4, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def test_what_is_cut_off_is_not_counted() -> None:
    whole = video(30, 300, "avi")
    actual = video_track(probe(whole[: len(whole) // 2]))
    assert actual.promised == 300
    assert 50 < actual.frames < 200
    assert actual.seconds == pytest.approx(actual.frames / 30)


def test_damage_in_the_middle_is_reported() -> None:
    whole = bytearray(video(30, 90, "mpegts", codec="mpeg2video", sound=None))
    facts = probe(bytes(whole))
    assert (video_track(facts).frames, facts.broken) == (90, False)
    whole[len(whole) // 3 // 188 * 188 : len(whole) // 2 // 188 * 188] = (
        b""  # packets of the stream lost on the way
    )
    facts = probe(bytes(whole))
    assert facts.broken
    assert video_track(facts).frames < 90


def test_a_file_without_tracks_is_refused() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("ass")
        packet = av.Packet(b"0,0,Default,,0,0,0,,words")
        packet.stream, packet.pts, packet.dts, packet.duration = stream, 0, 0, 1000
        packet.time_base = Fraction(1, 1000)
        container.mux(packet)
    with pytest.raises(AudioError, match="has no video and no audio track"):
        probe(file.getvalue())


@pytest.mark.parametrize("lost", ["video", "sound", "both"])
def test_a_track_without_a_decoder_is_none(lost: str) -> None:
    content = video(25, 10, "matroska", sound=media_files.sine(seconds=0.4))
    unknown = {"video": b"V_MPEG4/ISO/ASP", "sound": b"A_PCM/INT/LIT"}
    for kind, codec in unknown.items():
        assert content.count(codec) == 1
        if lost in (kind, "both"):
            content = content.replace(
                codec, codec[:2] + b"NOBODY'S-OWN"[: len(codec) - 2].ljust(len(codec) - 2, b"X")
            )
    if lost == "both":
        with pytest.raises(AudioError, match=r"a\.mkv: has no video and no audio track that can be decoded"):
            probe(content, name="a.mkv")
    else:
        facts = probe(content)
        assert (facts.video is None, facts.sound is None) == (lost == "video", lost == "sound")
    assert has_video(content) == (lost == "sound")
    assert count_channels(content) == (lost == "video")
    if lost == "video":
        assert len(decode.load(content)) == pytest.approx(0.4 * 16_000, abs=1)
        with pytest.raises(AudioError, match=r"a\.mkv: has no video track that can be decoded"):
            list(read_frames(content, name="a.mkv"))
    else:
        with pytest.raises(AudioError, match=r"a\.mkv: none of its audio tracks can be decoded"):
            decode.load(content, name="a.mkv")
    if lost == "sound":
        assert len(list(read_frames(content))) == 10


def test_refusals_name_the_file(tmp_path: Any) -> None:
    whole = video(30, 60)  # its index stands at the end
    for content, message in (
        (whole[: len(whole) // 2], "can be read"),
        (b"no video" * 99, "can be read"),
        (b"", "empty"),
    ):
        (tmp_path / "1.mp4").write_bytes(content)
        with pytest.raises(AudioError, match=rf"raw/1\.mp4: .*{message}"):
            probe(tmp_path / "1.mp4", name="raw/1.mp4")
    with pytest.raises(AudioError, match=r"nowhere\.mp4: does not exist"):
        probe(tmp_path / "nowhere.mp4")
    with pytest.raises(AudioError, match="is a URL"):
        probe("https://localhost/1.mp4")
