"""Late sound, gaps and both, in seven containers: every time in every format is the container's."""

import csv
import io
import warnings
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import media_files
import numpy as np
import pytest
import textgrid
from fake_engine import Fake
from hypothesis import given, settings
from hypothesis import strategies as st
from late_sound import BURSTS, ID3V1, TRUTH, first_loud, load, onsets, talk

from emimic.inference.predictor import Predictor
from emimic.inference.voice_activity import find
from emimic.media import decode, video
from emimic.media.timestamps import LATEST_START, LONGEST, MOST, PRIMING, SLACK, Timestamps, find_zero
from emimic.output import formats
from emimic.task import EmimicWarning

KINDS = {
    # suffix: (format, sound, image, form and rate of the sound's frames)
    "mp4": ("mp4", "aac", "mpeg4", "fltp", 16_000),
    "mkv": ("matroska", "flac", "mpeg4", "s16", 16_000),
    "webm": ("webm", "libopus", "libvpx", "flt", 48_000),
    "mpg": ("mpeg", "mp2", "mpeg1video", "s16", 16_000),
    "ts": ("mpegts", "aac", "mpeg2video", "fltp", 16_000),
    "mov": ("mov", "alac", "mpeg4", "s16p", 16_000),
    "flv": ("flv", "aac", "flv1", "fltp", 44_100),
}


def movie(
    kind: str,
    *,
    late: float = 0.0,
    gap: tuple[float, float] = (0.0, 0.0),
    start: float = 0.0,
    image: bool = True,
    jump: float = 0.0,
    wave: np.ndarray[Any, Any] | None = None,
) -> bytes:
    """An image from `start` on, white while a burst sounds; and the sound `late` seconds later, without the packets
    between the two seconds of `gap` of it. jump: seconds more on the stamps behind the gap."""
    form, codec, image_codec, kind_of, rate = KINDS[kind]
    wave = talk(rate) if wave is None else wave
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        seen = container.add_stream(image_codec, rate=25) if image else None
        if seen is not None:
            seen.width, seen.height, seen.pix_fmt = 64, 48, "yuv420p"
        track = container.add_stream(codec, rate=rate, layout="mono")
        packets = []
        for k in range(round(25 * (4 + late)) if seen is not None else 0):
            time = k / 25 - late
            white = any(one <= time < one + 0.6 for one in BURSTS)
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 255 * white, np.uint8), format="rgb24")
            frame.pts, frame.time_base = k + round(25 * start), Fraction(1, 25)
            packets += seen.encode(frame)
        packets += seen.encode() if seen is not None else []
        audio_packets = []
        for at in range(0, len(wave), 1024):
            part = wave[None, at : at + 1024]
            part = (part * 32_767).astype(np.int16) if kind_of.startswith("s16") else part
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format=kind_of, layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = at + round((late + start) * rate)
            audio_packets += track.encode(frame)
        for packet in [*audio_packets, *track.encode()]:
            if gap[0] <= float(packet.pts * packet.time_base) - late - start < gap[1]:
                continue
            if jump and float(packet.pts * packet.time_base) - late - start >= gap[1]:
                packet.pts = packet.dts = packet.pts + round(jump / packet.time_base)
            packets.append(packet)
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            container.mux(packet)
    return file.getvalue()


CASES = {
    "whole": (0.0, (0.0, 0.0)),
    "late": (1.5, (0.0, 0.0)),
    "gapped": (0.0, (1.9, 2.5)),
    "both": (1.5, (1.9, 2.5)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_time_is_the_containers(kind: str, case: str) -> None:
    late, gap = CASES[case]
    content = movie(kind, late=late, gap=gap)
    samples, notes = load(content)
    expected = [late + one + first_loud() for one in BURSTS]
    np.testing.assert_allclose(onsets(samples), expected, atol=TRUTH)
    assert _seconds(notes, "starts") == pytest.approx([late] if late else [], abs=0.07)  # a codec's priming
    assert _seconds(notes, "gap") == pytest.approx(
        [0.6] if gap[1] else [], abs=0.26 if kind == "mov" else 0.08
    )  # whole packets
    assert not any("damaged" in note for note in notes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmimicWarning)
        parts = list(decode.load_blocks(content, seconds=0.37))
    np.testing.assert_array_equal(np.concatenate(parts), samples)
    white = [frame.time for frame in video.read_frames(content) if frame.image.mean() > 128]
    begins = [white[0], *(b for a, b in pairwise(white) if b - a > 0.5)]
    np.testing.assert_allclose(begins, [late + one for one in BURSTS], atol=0.04 + 1e-3)  # a frame


def _seconds(notes: Sequence[str], word: str) -> list[float]:
    """What the notes with this word say."""
    return [float(part) for note in notes if word in note for part in note.split() if part[0].isdigit()][:1]


def in_formats(result: Any, folder: Path) -> dict[str, list[float]]:
    """Where each format puts the starts of voice (or of its first values after a gap), in seconds."""
    formats.write(result, folder, ["csv", "eaf", "textgrid", "vtt", "nova"], name="clip")
    tree = ElementTree.parse(folder / "clip.eaf").getroot()
    slots = {s.get("TIME_SLOT_ID"): int(s.get("TIME_VALUE") or 0) / 1000 for s in tree.iter("TIME_SLOT")}
    assert [m.get("TIME_ORIGIN") for m in tree.iter("MEDIA_DESCRIPTOR")] == ["0"]
    (tier,) = [t for t in tree.iter("TIER") if t.get("TIER_ID") == "voice segments"]
    praat = textgrid.TextGrid.fromFile(str(folder / "clip.TextGrid"))
    rows = list(csv.DictReader((folder / "clip.csv").read_text().splitlines()))
    with_value = [row for row in rows if row["Joy"]]
    lines = (folder / "clip.joy.annotation~").read_text().split()
    captions = [line for line in (folder / "clip.vtt").read_text().splitlines() if "-->" in line]
    digits = captions[0].split(" ")[0].split(":")
    return {
        "eaf": [slots[a.get("TIME_SLOT_REF1")] for a in tier.iter("ALIGNABLE_ANNOTATION")],
        "textgrid": [one.minTime for one in praat.getFirst("voice segments") if one.mark],
        "csv": [float(with_value[0]["Seconds"]) - 0.1],
        "nova": [next(k for k, line in enumerate(lines) if not line.startswith("NaN")) * 0.2],
        "vtt": [60 * float(digits[-2]) + float(digits[-1])],
    }


@pytest.mark.parametrize("case", CASES)
def test_all_formats_have_the_times_of_the_file(case: str, tmp_path: Path) -> None:
    """What a wave with silence where the file has none gives is the truth, made without a container."""
    late, gap = CASES[case]
    path = tmp_path / "clip.mkv"
    path.write_bytes(movie("mkv", late=late, gap=gap))
    truth = np.concatenate([np.zeros(round(late * 16_000), np.float32), talk(16_000)])
    predictor = Predictor(Fake())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmimicWarning)
        result = predictor.predict_files([path], timeline=True).clips[0]
    assert result.timeline is not None
    voice_segments = find(truth)
    assert len(voice_segments) == 2
    actual = in_formats(result, tmp_path / "out")
    for kind in ("eaf", "textgrid"):
        np.testing.assert_allclose(actual[kind], [segment.start for segment in voice_segments], atol=TRUTH)
    step = 0.2 * int(voice_segments[0].start / 0.2)  # with a voice in any part of it
    for kind in ("csv", "nova", "vtt"):
        assert actual[kind] == pytest.approx([step], abs=TRUTH)


def test_timestamps_that_start_late_count_from_zero() -> None:
    """In mkv both tracks start at 2 s: so they do in players; an hour of nothing is a cut-out of something longer."""
    np.testing.assert_allclose(onsets(load(movie("mkv", start=2.0))[0])[0], 3 + first_loud(), atol=TRUTH)
    samples, notes = load(movie("mkv", start=3_000.0, late=0.5))
    np.testing.assert_allclose(onsets(samples)[0], 1.5 + first_loud(), atol=TRUTH)
    assert _seconds(notes, "starts") == [0.5]


def test_sound_alone_starts_when_it_says() -> None:
    samples, notes = load(movie("mkv", late=1.5, image=False))
    np.testing.assert_allclose(onsets(samples)[0], 2.5 + first_loud(), atol=TRUTH)
    assert len(notes) == 1


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_absurd_stamps_are_not_believed(kind: str) -> None:
    samples, notes = load(movie(kind, gap=(2.0, 2.0), jump=9_999.0))
    np.testing.assert_allclose(onsets(samples), [one + first_loud() for one in BURSTS], atol=TRUTH)
    assert len(notes) == 1
    assert "a timestamp jumps by 9999 s; it was ignored" in notes[0]


def test_a_limit_may_lie_in_the_silence() -> None:
    content = movie("mkv", late=1.5)
    with pytest.warns(EmimicWarning, match=r"the sound starts 1\.5 s after time 0 of the file"):
        samples = decode.load(content, max_seconds=0.7)
    assert len(samples) == 11_200
    assert not samples.any()


def test_one_channel_is_late_too() -> None:
    with pytest.warns(EmimicWarning, match=r"starts 1\.5 s"):
        samples = decode.load(movie("mkv", late=1.5), channel=0)
    np.testing.assert_array_equal(samples, load(movie("mkv", late=1.5))[0])


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 4_000)), min_size=1, max_size=20),
    st.floats(-0.005, 0.005),
)
def test_positions_never_leave_the_stamps(chunks: list[tuple[float, int]], jitter: float) -> None:
    """Chunks with pauses between them, stamps off by `jitter` now and then: each lands within SLACK."""
    stamps, time, position = Timestamps(), 0.0, 0.0
    for number, (pause, samples) in enumerate(chunks):
        time += pause
        silence = stamps.add(time + jitter * (number % 2), samples, 16_000)
        position += silence / 16_000
        assert abs(position - time) <= SLACK + abs(jitter) + 1e-3
        position += samples / 16_000
        time += samples / 16_000


def test_which_timestamps_count() -> None:
    stamps = Timestamps()
    assert stamps.add(-0.05, 1_600, 16_000) == -800  # priming: its first half lies before time 0
    assert stamps.add(0.05, 1_600, 16_000) == 0
    assert stamps.add(None, 1_600, 16_000) == 0  # follows
    assert stamps.add(0.25 + SLACK / 2, 1_600, 16_000) == 0  # jitter
    assert stamps.add(1.35, 1_600, 16_000) == 16_000
    assert stamps.add(1.45 + 2 * LONGEST, 1_600, 16_000) == 0
    assert stamps.add(1.55 + 2 * LONGEST, 1_600, 16_000) == 0  # the new timestamps go on
    assert stamps.add(0.0, 1_600, 16_000) == 0  # and begins again
    assert stamps.add(0.6, 1_600, 16_000) == 8_000
    assert (stamps.gaps, round(stamps.lost, 3), round(stamps.absurd)) == (2, 1.5, round(2 * LONGEST))
    stamps, time = Timestamps(), 0.0
    for _ in range(10):
        time += LONGEST
        stamps.add(time, 16, 16_000)
    assert stamps.late + stamps.lost <= MOST
    assert stamps.absurd


def test_where_time_zero_is() -> None:
    assert find_zero("matroska,webm", 0.0, 1.5, 48_000) == 0.0
    assert find_zero("matroska,webm", 2.0, 1.5, 48_000) == 0.0
    assert find_zero("matroska,webm", LATEST_START + 1, LATEST_START + 3, 48_000) == LATEST_START + 1
    assert find_zero("matroska,webm", 7.0, None, 1) == 0.0
    assert find_zero("mpegts", 1.4, 1.4 - (PRIMING - 1) / 48_000, 48_000) == 1.4
    assert find_zero("mpegts", 1.4, 1.0, 48_000) == 1.0
    assert find_zero("mpegts", None, 1.0, 48_000) == 1.0
    assert find_zero("mpegts", 1.4, None, 1) == 1.4
    assert find_zero("mpegts", None, None, 1) == 0.0


# Claims of length ------------------------------------------------------------------------------------


def unknown_flac() -> bytes:
    content = bytearray(media_files.encode(media_files.noise(1.0), "flac"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def mp3_in_wav() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        track = container.add_stream("libmp3lame", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(media_files.noise(1.0)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux([*track.encode(frame), *track.encode()])
    return file.getvalue()


LYRICS = b"LYRICSBEGINLYR00040[00:01]la la la.000050LYRICS200"
APE = b"APETAGEX" + bytes.fromhex("d0070000 20000000 00000000 000000a0") + bytes(8)
ID3V2 = b"ID3\4\0\0\0\0\0\x0a" + bytes(10)
MP3 = media_files.encode(media_files.noise(1.0), "mp3")
WHOLE = {
    "flac from a pipe": (unknown_flac, 16_000, 0),
    "mp3 in wav": (mp3_in_wav, 16_000, 2_304),
    **{
        f"mp3 and {name}": (lambda tail=tail: MP3 + tail, 16_000, 0)
        for name, tail in {
            "lyrics": LYRICS + ID3V1,
            "zeros": bytes(5_000),
            "id3v1 twice": ID3V1 + ID3V1,
            "id3v1, zeros": ID3V1 + bytes(300),
            "id3v2": ID3V2,
            "ape": APE,
            "words": b"no tag at all" * 9,
        }.items()
    },
    "headless mp3 and lyrics": (lambda: media_files.headless_mp3(MP3) + LYRICS + ID3V1, 16_000, 2_304),
    "headless mp3 and zeros": (lambda: media_files.headless_mp3(MP3) + bytes(5_000), 16_000, 2_304),
    "opus and zeros": (
        lambda: media_files.encode(media_files.noise(1.0), "opus") + bytes(200_000),
        16_000,
        0,
    ),
    "aac and a tag": (lambda: media_files.encode(media_files.noise(1.0), "aac") + ID3V1, 16_000, 2_400),
}


@pytest.mark.parametrize("case", WHOLE)
def test_nothing_is_missing_from_a_whole_file(case: str) -> None:
    make, length, more = WHOLE[case]
    samples, notes = load(make())
    assert not notes
    assert length <= len(samples) <= length + more


def test_two_mp3s_joined_are_both_read() -> None:
    """Tags between them are no end."""
    samples, _ = load(MP3 + ID3V1 + ID3V2 + MP3)
    assert len(samples) > 31_000


def test_a_cut_mp3_in_wav_is_noted() -> None:
    content = mp3_in_wav()
    assert any("cut short" in note for note in load(content[: len(content) // 2])[1])


def test_what_is_missing_from_the_end_of_a_late_track_is_noted() -> None:
    content = movie("mkv", late=1.5, wave=media_files.noise(4.0))
    assert any("cut short" in note for note in load(content[: len(content) * 2 // 3])[1])
