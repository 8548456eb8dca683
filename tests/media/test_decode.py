"""Any media file gives the known sine, the same samples whatever the limit, or an error that names it."""

import faulthandler
import io
import os
import re
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import media_files
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import HOSTILE, PCM

from emimic.media import chunks, decode
from emimic.media.decode import MEDIA_SUFFIXES, load
from emimic.media.input_file import InputFile
from emimic.media.pyav_decoder import open_container
from emimic.task import AudioError, EmimicWarning

LOSSLESS = ["wav", "wav24", "wavf", "wavd", "aiff", "au", "caf", "w64", "rf64", "flac", "mov", "mkv"]
LOSSY = ["ulaw", "ogg", "opus", "mp3", "m4a", "aac", "mp4", "webm", "mpg", "ts", "avi"]
SECONDS = 0.7


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """No file may hang the decoder: 8 s of work at most, and the process ends after 60 s whatever happens."""
    faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)
    start = time.process_time()
    yield
    faulthandler.cancel_dump_traceback_later()
    assert time.process_time() - start < 8


def read(source: str | os.PathLike[str] | bytes, **options: float | None) -> tuple[np.ndarray, str]:
    """Samples and the text of the warnings, all of which must be EmimicWarnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples = load(source, name="the clip", **options)
    assert all(warning.category is EmimicWarning for warning in caught)
    assert all(str(warning.message).startswith("the clip: ") for warning in caught)
    assert {warning.filename for warning in caught} <= {__file__}
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert np.isfinite(samples).all()
    return samples, " ".join(str(warning.message) for warning in caught)


def distance(samples: np.ndarray, level: float) -> float:
    """Largest distance of the middle from the best-fitting 440 Hz sine of that level (codecs shift the phase)."""
    middle = samples[2_000 : len(samples) - 2_000].astype(float)
    turn = 2 * np.pi * 440 * np.arange(len(middle)) / 16_000
    a, b = 2 * (middle @ np.sin(turn)) / len(middle), 2 * (middle @ np.cos(turn)) / len(middle)
    fitted = (a * np.sin(turn) + b * np.cos(turn)) * level / np.hypot(a, b)
    return float(np.abs(middle - fitted).max())


# Every format ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOSSLESS + LOSSY)
def test_every_format_gives_the_known_sine(kind: str, tmp_path: Path) -> None:
    left = media_files.sine(440, 1.0, 48_000, 0.4)
    content = media_files.encode(np.stack([left, left / 2], axis=1), kind, 48_000)
    path = tmp_path / "clip.bin"  # the content decides
    path.write_bytes(content)
    samples = load(path)
    assert distance(samples, 0.3) < (1e-3 if kind in LOSSLESS else 0.06)
    slack = 0 if kind in LOSSLESS else 700  # AAC and MP2 fill their last frame
    lost = 40 if kind == "mpg" else 0  # FFmpeg's MP2 encoder keeps its last samples
    assert 16_000 - lost <= len(samples) <= 16_000 + slack
    np.testing.assert_array_equal(load(content), samples)
    np.testing.assert_array_equal(load(str(path)), samples)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("kind", LOSSLESS + LOSSY)
def test_a_limit_gives_exactly_the_first_samples(kind: str, rate: int) -> None:
    if (kind, rate) == ("opus", 44_100):
        rate = 24_000  # libsndfile writes no other
    codec = {"codec": "aac"} if kind == "mp4" else {}
    sound = media_files.noise(SECONDS, rate)
    if kind == "webm":
        rate, sound = 48_000, media_files.noise(SECONDS, 48_000)
    content = (
        media_files.contain(sound, kind, rate, **codec)
        if kind in media_files.CONTAINERS
        else media_files.encode(sound, kind, rate)
    )
    whole = load(content)
    for seconds in (1 / 16_000, 0.01, 0.1, 0.35, SECONDS - 0.001, SECONDS, 5.0):
        part = load(content, max_seconds=seconds)
        np.testing.assert_array_equal(part, whole[: round(seconds * 16_000)])


@settings(max_examples=25)
@given(
    st.sampled_from([8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000]),
    st.integers(1, 40_000),
    st.integers(0, 99),
    st.sampled_from([100, 999, 1 << 18]),
)
def test_the_stream_equals_resampling_at_once(rate: int, size: int, seed: int, chunk: int) -> None:
    sound = media_files.noise(size / rate, rate, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK", chunk)
        expected = soxr.resample(sound, rate, 16_000, quality="HQ")
        content = media_files.encode(sound, "wavf", rate)
        if len(expected):
            np.testing.assert_array_equal(load(content), expected)
        else:
            with pytest.raises(AudioError, match="no samples"):
                load(content)


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 64])
def test_channels_are_averaged(channels: int) -> None:
    sound = np.stack([media_files.noise(0.1, seed=seed) for seed in range(channels)], axis=1)
    np.testing.assert_allclose(
        load(media_files.encode(sound, "wavf")), sound.astype(float).mean(axis=1), atol=1e-7
    )


@pytest.mark.parametrize("kind", ["u8", "s16", "s32", "flt", "dbl"])
def test_every_sample_format_of_a_container_has_the_same_scale(kind: str) -> None:
    codec = {"u8": "pcm_u8", "s16": "pcm_s16le", "s32": "pcm_s32le", "flt": "pcm_f32le", "dbl": "pcm_f64le"}[
        kind
    ]
    sound = np.stack([media_files.sine(level=1.0), media_files.sine(level=0.5)], axis=1)
    samples = load(media_files.contain(sound, "mkv", codec=codec))
    np.testing.assert_allclose(samples, sound.mean(axis=1), atol=1 / 64 if kind == "u8" else 1e-4)


@pytest.mark.parametrize("layout", ["5.1", "7.1", "hexadecagonal"])
def test_surround_sound(layout: str) -> None:
    """Eight planes and more made PyAV read memory that is not there."""
    content, levels = media_files.surround(layout)
    samples = load(content)
    assert distance(samples, float(np.mean(levels))) < 2e-3


def test_the_rate_may_change_midway() -> None:
    """Two mp3 streams one after the other, as radios do; without a length in front, so PyAV reads them."""
    one, two = (media_files.encode(media_files.sine(440, 1, rate), "mp3", rate) for rate in (16_000, 24_000))
    samples, _ = read(media_files.headless_mp3(one) + media_files.headless_mp3(two))
    assert abs(len(samples) - 32_000) < 4_000
    for part in (samples[2_000:14_000], samples[-14_000:-2_000]):
        crossings = np.count_nonzero(np.diff(np.signbit(part)))
        assert abs(crossings / 2 / (len(part) / 16_000) - 440) < 4


def test_a_plain_mp3_needs_no_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    content = media_files.encode(media_files.noise(1.0), "mp3")
    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    monkeypatch.setitem(sys.modules, "av", None)
    samples = load(content)
    np.testing.assert_allclose(samples, expected, atol=1e-6)
    np.testing.assert_array_equal(load(content + b"TAG" + bytes(125)), samples)  # ID3v1
    with pytest.raises(AudioError, match=r"clip: is no audio.*PyAV can't be imported"):
        load(media_files.encode(media_files.noise(0.1), "m4a"), name="clip")


def test_an_mp3_in_pieces_is_the_mp3_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """soundfile's seek after every read disturbs the decoder, which says so on stderr."""
    content = media_files.encode(media_files.noise(4.0), "mp3")
    whole = load(content)
    monkeypatch.setattr(chunks, "CHUNK", 1_000)
    np.testing.assert_array_equal(load(content), whole)
    assert capfd.readouterr().err == ""


def test_an_mp3_without_its_length_is_read_to_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    """Loud first, then silent: libsndfile takes the first frame's bit rate for all and stops halfway."""
    sound = np.concatenate([media_files.noise(1, level=0.3), np.zeros(32_000, np.float32)])
    content = media_files.headless_mp3(media_files.encode(sound, "mp3vbr"))
    samples, warned = read(content)
    assert abs(len(samples) - 48_000) < 3_000
    assert not warned
    assert capfd.readouterr().err == ""


def test_an_id3_tag_in_front_is_skipped() -> None:
    content = media_files.encode(media_files.noise(0.5), "mp3")
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 10]) + b"\xff\xfb\x90\x00" + bytes(262)  # 2 * 128 + 10 bytes
    np.testing.assert_array_equal(load(tag + content), load(content))


# What is wrong with it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["wav", "aiff", "flac", "ogg", "opus", "mp3", "m4a", "aac", "webm", "mkv", "mpg"]
)
@pytest.mark.parametrize("step", range(1, 10))
def test_cut_off_files_give_what_is_there(kind: str, step: int, capfd: pytest.CaptureFixture[str]) -> None:
    options = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "100000"} if kind == "m4a" else None
    sound = media_files.noise(2.0) if kind != "webm" else media_files.noise(2.0, 48_000)
    rate = len(sound) // 2
    content = (
        media_files.contain(sound, kind, rate, options=options)
        if options
        else media_files.encode(sound, kind, rate)
    )
    whole = load(content)
    stop = len(content) * step // 10
    try:
        samples, warned = read(content[:stop])
    except AudioError as error:
        reason = "is damaged or cut short|is no audio|has no audio track|holds no"
        assert re.match(f"the clip: ({reason})", str(error))  # noqa: PT017
        assert step <= 6 or kind == "ogg"  # all of a short Vorbis file is one page
        return
    # At least what was there, in proportion, less a codec's look-ahead and the container's page or cluster.
    slack = {"opus": 1.1, "ogg": 1.1, "flac": 0.3}.get(kind, 0.2)
    assert 2 * step / 10 - slack < len(samples) / 16_000 < 2 * step / 10 + 0.3
    np.testing.assert_allclose(samples[:-2_500], whole[: len(samples)][:-2_500], atol=2e-3)
    if kind not in {"mpg", "aac", "m4a"}:  # these say nowhere how long they are
        assert f"cut short; only {len(samples) / 16_000:.4g} s" in warned
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3"])
def test_cut_at_every_kib(kind: str) -> None:
    content = media_files.encode(media_files.sine(seconds=2), kind)
    whole, lengths = load(content), []
    for stop in range(1024, len(content), 1024):
        try:
            samples, warned = read(content[:stop])
        except AudioError as error:
            assert "the clip: is" in str(error)  # noqa: PT017
            lengths.append(0)
            continue
        assert "cut short" in warned
        if kind == "wav":
            assert len(samples) == (stop - 44) // 2
        np.testing.assert_allclose(samples[:-1_500], whole[: len(samples)][:-1_500], atol=1e-5)
        lengths.append(len(samples))
    assert lengths == sorted(lengths)
    assert len(lengths) == (len(content) - 1) // 1024
    assert lengths[-1] > 32_000 * (1 - 2 * 1024 / len(content)) - 4_096 - 1_152


def test_a_broken_flac_gives_all_before_the_break_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    content = media_files.encode(media_files.noise(2), "flac")
    whole, part = load(content), content[: len(content) * 3 // 4]
    lengths = set()
    for chunk in (1_000, 5_000, 20_000, 1 << 18):
        monkeypatch.setattr(chunks, "CHUNK", chunk)
        samples, _ = read(part)
        lengths.add(len(samples))
        np.testing.assert_array_equal(samples, whole[: len(samples)])
    assert len(lengths) == 1
    assert 24_000 - 2 * 4_096 < lengths.pop() < 24_000  # flac comes in blocks of 4,096


def test_an_ogg_without_its_last_page_is_cut_short() -> None:
    content = media_files.encode(media_files.noise(3), "opus")
    samples, warned = read(content[: content.rfind(b"OggS")])
    assert 1.5 < len(samples) / 16_000 < 3
    assert "cut short" in warned


def test_a_limit_before_the_break_is_not_worth_a_warning() -> None:
    content = media_files.encode(media_files.noise(2), "flac")
    samples, warned = read(content[: len(content) // 2], max_seconds=0.5)
    np.testing.assert_array_equal(samples, load(content)[:8_000])
    assert not warned


def test_damage_in_the_middle_keeps_what_comes_after() -> None:
    content = bytearray(media_files.encode(media_files.noise(1), "aac"))
    content[len(content) // 2 : len(content) // 2 + 300] = bytes(300)
    samples, warned = read(bytes(content))
    assert 0.8 < len(samples) / 16_000 < 1.1
    assert "damaged or cut short" in warned


def test_channels_that_cancel_each_other_are_noted() -> None:
    sound = media_files.noise(1.0)
    _, warned = read(media_files.encode(np.stack([sound, -0.99 * sound], axis=1), "wavf"))
    assert "its channels cancel each other out (opposite phase); export one of them alone" in warned
    for other in (sound, 0 * sound, -0.5 * sound, media_files.noise(1.0, seed=1)):
        assert not read(media_files.encode(np.stack([sound, other], axis=1), "wavf"))[1]
    assert not read(media_files.encode(np.zeros((16_000, 2), np.float32), "wavf"))[1]


def test_some_values_that_are_no_numbers_become_zero() -> None:
    sound = media_files.noise(1.0)
    sound[[5, 100, 9_000]] = [np.nan, np.inf, -np.inf]
    sound[200] = 3e38
    samples, warned = read(media_files.encode(sound, "wavf"))
    assert "4 of 16000 values were NaN, infinite or absurd; they are set to 0" in warned
    sound[[5, 100, 200, 9_000]] = 0
    np.testing.assert_array_equal(samples, sound)


def test_a_bad_value_does_not_propagate_when_resampling() -> None:
    sound = media_files.noise(1.0, 48_000)
    broken = np.stack([sound, sound], axis=1)
    broken[20_000, 1] = np.nan
    samples, _ = read(media_files.encode(broken, "wavf", 48_000))
    sound[20_000] /= 2  # the other channel still has it
    np.testing.assert_allclose(samples, soxr.resample(sound, 48_000, 16_000, quality="HQ"), atol=1e-6)


@pytest.mark.parametrize("max_seconds", [None, 99.0])
def test_the_ceiling(max_seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "CEILING_SECONDS", 0.5)
    sound = media_files.noise(0.6)
    samples, warned = read(media_files.encode(sound, "wavf"), max_seconds=max_seconds)
    np.testing.assert_array_equal(samples, sound[:8_000])
    assert "longer than 0.5 s" in warned
    assert not read(media_files.encode(sound[:8_000], "wavf"), max_seconds=max_seconds)[1]
    assert not read(media_files.encode(sound, "wavf"), max_seconds=0.5)[1]


def test_an_hour_of_silence(tmp_path: Path) -> None:
    path = tmp_path / "hour.flac"
    minute = np.zeros(60 * 8_000, np.int16)
    with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16") as file:
        for _ in range(60):
            file.write(minute)
    start = time.process_time()
    assert len(load(path, max_seconds=12)) == 192_000
    assert time.process_time() - start < 0.5
    samples = load(path)
    assert len(samples) == 3600 * 16_000
    assert not samples.any()


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "m4a", "webm"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("seconds", [0.013, 0.2, 5.0])
def test_blocks_joined_are_the_recording(kind: str, rate: int, seconds: float) -> None:
    content = media_files.encode(media_files.noise(1.3, rate), kind, 48_000 if kind == "webm" else rate)
    whole = load(content)
    parts = list(decode.load_blocks(content, seconds=seconds))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert {len(part) for part in parts[:-1]} <= {round(seconds * 16_000)}
    assert 0 < len(parts[-1]) <= round(seconds * 16_000)


def test_blocks_warn_and_fail_as_the_whole_does(monkeypatch: pytest.MonkeyPatch) -> None:
    content = media_files.encode(media_files.noise(0.5), "mp3")
    with pytest.warns(EmimicWarning, match="the clip: damaged or cut short") as caught:
        list(decode.load_blocks(content[: len(content) // 2], name="the clip"))
    assert {warning.filename for warning in caught} == {__file__}
    with pytest.raises(AudioError, match=r"nowhere\.wav: does not exist"):
        list(decode.load_blocks("nowhere.wav"))
    with pytest.raises(AudioError, match="all samples are NaN"):
        list(decode.load_blocks(media_files.encode(np.full(900, np.nan, np.float32), "wavf")))
    monkeypatch.setattr(decode, "CEILING_SECONDS", 0.1)  # which is for what must be held whole
    assert sum(map(len, decode.load_blocks(media_files.encode(media_files.noise(0.5))))) == 8_000


def test_blocks_hold_little(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(16_000 * 600, np.int16), 16_000)  # 38 MB as float32
    tracemalloc.start()
    assert sum(map(len, decode.load_blocks(path))) == 16_000 * 600
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6


def lying_mp3() -> bytes:
    content = bytearray(media_files.encode(media_files.noise(0.5), "mp3"))
    tag = max(content.find(b"Info"), content.find(b"Xing"))
    content[tag + 8 : tag + 12] = b"\x7f\xff\xff\xff"
    return bytes(content)


def lying_flac() -> bytes:
    content = bytearray(media_files.encode(media_files.noise(0.5), "flac"))
    content[21] |= 15  # the 36 bits of the sample count
    content[22:26] = b"\xff\xff\xff\xff"
    return bytes(content)


LIARS: dict[str, tuple[Callable[[], bytes], int, bool]] = {
    # what the header says: content, samples to expect, whether to warn
    "2 GB - 65 kB": (lambda: media_files.wav(PCM, claimed=0x7FFE_FFFF), 8_000, True),
    "2 GB, a stream": (lambda: media_files.wav(PCM, claimed=0x7FFF_FFFF), 8_000, False),
    "4 GB, a stream": (lambda: media_files.wav(PCM, claimed=0xFFFF_FFFF), 8_000, False),
    "twice as much": (lambda: media_files.wav(PCM, claimed=2 * len(PCM)), 8_000, True),
    "half as much": (lambda: media_files.wav(PCM, claimed=len(PCM) // 2), 4_000, False),
    "no data, a crashed recorder": (lambda: media_files.wav(PCM, claimed=0), 8_000, False),
    "37 hours of mp3": (lying_mp3, 8_000, True),
    "50 days of flac": (lying_flac, 8_000, True),
}


@pytest.mark.parametrize("case", LIARS)
def test_lying_headers_are_not_believed(case: str) -> None:
    make, expected, warns = LIARS[case]
    content = make()
    load(media_files.encode(media_files.noise(0.1), "m4a"))  # so that PyAV's own memory does not count
    tracemalloc.start()
    samples, warned = read(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(len(samples) - expected) <= (1_200 if case.endswith("mp3") else 0)
    assert ("damaged or cut short" in warned) == warns
    assert peak < 8e6


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_named_and_refused(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.wav").write_bytes(media_files.wav(PCM))  # what the playlists ask for
    make, message = HOSTILE[case]
    content = make()
    path = tmp_path / "Grüße 1.mp3"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=f"^{re.escape(str(path))}: .*(?:{message})"):
        load(path)
    with pytest.raises(AudioError, match=f"^<bytes>: .*(?:{message})"):
        load(content, max_seconds=12)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("rate", [1_000, 4_000, 8_000, 44_100, 192_000, 768_000])
def test_odd_rates_are_taken(rate: int) -> None:
    samples, warned = read(media_files.wav(np.zeros(rate // 2, "<i2").tobytes(), rate=rate))
    assert len(samples) == 8_000
    assert not warned


@pytest.mark.parametrize(
    "url",
    ["http://localhost:9/a.mp3", "https://a.b/c.wav", "rtsp://x/y", "rtsp:x", "file:///etc/hosts", "pipe:0"],
)
def test_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(AudioError, match=f"^{re.escape(url)}: is a URL; download it"):
        load(url)


def test_a_colon_in_a_name_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("take:1.wav").write_bytes(media_files.wav(PCM))
    assert len(load("take:1.wav")) == 8_000
    assert len(load(os.fsencode("take:1.wav").decode())) == 8_000


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: does not exist"):
        load(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(AudioError, match="can't be opened"):
        load("a\0b.wav")
    with pytest.raises(AudioError, match="can't be opened"):
        load("a" * 5_000 + ".wav")
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="pipe or a device"):
        load(tmp_path / "pipe.wav")


@pytest.mark.parametrize("channels", [1, 2])
def test_integers_of_64_bits(channels: int) -> None:
    wave = media_files.sine(440, SECONDS)
    values = np.repeat((wave.astype(float) * 2**62).astype("<i8"), channels)
    samples, warned = read(media_files.wav(values.tobytes(), bits=64, channels=channels))
    np.testing.assert_allclose(samples, wave / 2, atol=1e-6)
    assert not warned


@pytest.mark.parametrize("error", [ValueError("odd format"), OSError(5, "Input/output error"), MemoryError()])
@pytest.mark.parametrize("decoder", ["decode_soundfile", "decode_pyav"])
def test_whatever_a_decoder_raises_names_the_file(
    decoder: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Iterator[None]:
        raise error
        yield

    monkeypatch.setattr(decode, decoder, fail)
    path = tmp_path / "1.wav"
    path.write_bytes(media_files.encode(media_files.sine(), "m4a" if decoder == "decode_pyav" else "wav"))
    with pytest.raises(AudioError, match=rf"1\.wav: can't be decoded \({type(error).__name__}"):
        load(path)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_an_invalid_limit_is_refused(seconds: float) -> None:
    with pytest.raises(AudioError, match="max_seconds is"):
        load(media_files.wav(PCM), max_seconds=seconds)


def test_a_seek_before_the_start_fails_as_in_c(tmp_path: Path) -> None:
    """Broken headers ask for it; an exception in a decoder's callback would be printed to stderr."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    with path.open("rb") as real:
        for file in (io.BytesIO(b"abc"), real):
            input_file = InputFile(file)
            assert input_file.seek(2) == 2
            assert input_file.seek(-5, io.SEEK_CUR) == -1 or isinstance(
                file, io.BytesIO
            )  # BytesIO stops at 0
            assert input_file.seek(-5) == -1
            assert not hasattr(input_file, "name")


@settings(max_examples=60)
@given(
    st.sampled_from(["wavf", "flac", "opus", "m4a", "webm", "ts", "mkv"]),
    st.integers(0, 2**32),
    st.integers(1, 60),
)
def test_broken_bytes_give_samples_or_an_error_never_a_crash(kind: str, seed: int, many: int) -> None:
    content = bytearray(
        ORIGINALS.setdefault(kind, b"") or media_files.encode(media_files.noise(0.4, 48_000), kind, 48_000)
    )
    ORIGINALS[kind] = ORIGINALS[kind] or bytes(content)
    random = np.random.default_rng(seed)
    for position in random.integers(0, len(content), many):
        content[position] = random.integers(256)
    try:
        samples, _ = read(bytes(content), max_seconds=1.0)
    except AudioError as error:
        assert str(error).startswith("the clip: ")  # noqa: PT017
    else:
        assert 0 < len(samples) <= 16_000


ORIGINALS: dict[str, bytes] = {}


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert {".wav", ".mp3", ".m4a", ".mp4", ".webm", ".mov", ".mpg", ".opus"} <= MEDIA_SUFFIXES
    assert all(re.fullmatch(r"\.[a-z0-9]+", suffix) for suffix in MEDIA_SUFFIXES)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_one_channel_is_that_channel_alone(kind: str, rate: int) -> None:
    time_axis = np.arange(rate) / rate
    left, right = 0.5 * np.sin(2 * np.pi * 300 * time_axis), 0.25 * np.sin(2 * np.pi * 700 * time_axis)
    file = io.BytesIO()
    soundfile.write(file, np.stack([left, right], axis=1), rate, format=kind)
    both = [load(file.getvalue(), channel=channel) for channel in (0, 1)]
    assert np.allclose((both[0] + both[1]) / 2, load(file.getvalue()), atol=1e-6)
    for samples, hertz, level in ((both[0], 300, 0.5), (both[1], 700, 0.25)):
        middle = samples[2_000:-2_000].astype(float)
        turn = 2 * np.pi * hertz * np.arange(2_000, 2_000 + len(middle)) / 16_000
        assert np.abs(middle - level * np.sin(turn)).max() < (0.1 if kind == "OGG" else 2e-3)
    assert np.array_equal(np.concatenate(list(decode.load_blocks(file.getvalue(), channel=1))), both[1])


@pytest.mark.parametrize(("channels", "channel"), [(1, 1), (2, 2), (2, -1)])
def test_a_channel_that_is_not_there_is_named(channels: int, channel: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((800, channels)) + 0.1, 16_000, format="WAV")
    with pytest.raises(
        AudioError, match=rf"talk: has {channels} channels?, so there is no channel {channel + 1}"
    ):
        load(file.getvalue(), name="talk", channel=channel)


@pytest.mark.parametrize("kind", ["aac", "mp3"])
def test_what_fills_a_file_up_is_no_damage(kind: str) -> None:
    data = media_files.encode(media_files.noise(2), kind)
    sound, _ = read(data)
    for behind in (b"\xff", b"\xff" * 100, b"\xff" * 20_000, b"\xff" * 100 + bytes(100)):
        filled, warned = read(data + behind)
        assert warned == ""
        np.testing.assert_array_equal(filled, sound)


def test_ones_within_aac_are_damage() -> None:
    data = media_files.encode(media_files.noise(2), "aac")
    assert "damaged" in read(data[:3000] + b"\xff" * 3_000 + data[3000:])[1]


@pytest.mark.parametrize("behind", [bytes(188), bytes(1 << 20), b"\xff" * 5000, b"text " * 900], ids=len)
@pytest.mark.parametrize("wide", [False, True], ids=["ts", "m2ts"])
def test_what_lies_behind_a_transport_stream_is_no_damage(wide: bool, behind: bytes) -> None:
    stream = media_files.encode(media_files.noise(1), "ts")
    if wide:  # each packet with four bytes of its time in front
        stream = b"".join(b"\0\0\0\1" + stream[i : i + 188] for i in range(0, len(stream), 188))
    whole = decode.load(stream)
    notes: list[str] = []
    np.testing.assert_array_equal(decode.load(stream + behind, notes=notes), whole)
    assert notes == []
    with open_container(stream + behind) as opened:
        assert len([packet for packet in opened.demux(opened.streams.audio[0]) if packet.size]) > 0
