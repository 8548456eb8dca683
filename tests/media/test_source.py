"""What may be a recording, and at what scale: each input gives its sound or a clear error, and none another sound."""

import array
import io
from pathlib import Path
from typing import Any

import fake_engine
import media_files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emimic.inference.predictor import Predictor
from emimic.media import decode, pyav_decoder
from emimic.media.source import get_label, to_floats
from emimic.task import AudioError, EmimicWarning

SOUND = media_files.noise(0.5) * 0.3
AT = {"sample_rate": 16_000}


@pytest.fixture(scope="module")
def content() -> bytes:
    return media_files.encode(SOUND, "wavf")


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(fake_engine.Fake())


def test_bytes_like_objects_and_open_files_are_the_file(
    predictor: Predictor, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    want = predictor(path).prediction.intensities
    with path.open("rb") as file, path.open("rb", buffering=0) as raw:
        behind = io.BytesIO(b"head" + content)
        behind.seek(4)
        sources = [
            file, raw, bytearray(content), memoryview(content), io.BytesIO(content), behind,
            array.array("B", content), np.bytes_(content),
        ]  # fmt: skip
        assert get_label(file) == str(path)
        for source in sources:
            np.testing.assert_array_equal(predictor(source).prediction.intensities, want)
    assert len(predictor.predict_timeline(io.BytesIO(content)).times) == 3
    np.testing.assert_array_equal(decode.load(bytearray(content)), SOUND)


@pytest.mark.parametrize("scale", [1.0, 2.0**7, 2.0**15, 2.0**31])
def test_samples_of_any_kind_have_one_scale(scale: float) -> None:
    wave = np.array([0.5, -0.25, 0.0])
    kinds = {2.0**7: np.int8, 2.0**15: np.int16, 2.0**31: np.int32, 1.0: np.float16}
    np.testing.assert_allclose(to_floats((wave * scale).astype(kinds[scale])), wave, atol=1e-6)
    np.testing.assert_allclose(to_floats((wave * 128 + 128).astype(np.uint8)), wave)
    np.testing.assert_allclose(to_floats(array.array("h", [16384, -8192])), wave[:2])
    np.testing.assert_allclose(to_floats(wave.tolist()), wave)
    assert to_floats(wave).dtype == np.float32


class Tensor:
    """As torch's with gradients."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def detach(self) -> None: ...


NARROW = (SOUND * 32767).astype(np.int16)
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "16 bits as float": (NARROW.astype(float), AT, r"peak at \d+, expected .*\[-1, 1\]. Divide by 32768"),
    "24 bits as float": (SOUND * 2.0**23, AT, "Divide by 8388608"),
    "32 bits as float": (SOUND * 2.0**31, AT, "Divide by 2147483648"),
    "64 bits as float": (SOUND.astype(float) * 2.0**63, AT, "the samples peak at"),
    "8 bits as float": (SOUND * 128, AT, "or by 128"),
    "one channel of two": (np.stack([SOUND, SOUND * 32767], axis=1), AT, "Divide by 32768"),
    "int64": (NARROW.astype(np.int64), AT, "int64.*astype"),
    "a list of integers": (NARROW.tolist(), AT, "int64.*divide by 32768"),
    "int32 of 16 bits": (NARROW.astype(np.int32), AT, "int32 samples peak at .*astype"),
    "uint16": (NARROW.astype(np.uint16), AT, "uint16"),
    "truth values": (SOUND > 0, AT, "bool"),
    "complex": (SOUND + 0j, AT, "complex"),
    "a file's bytes as an array": (
        np.frombuffer(media_files.encode(SOUND), np.uint8),
        AT,
        "a media file's bytes",
    ),
    "an mp4's bytes as an array": (np.frombuffer(b"\0\0\0 ftypisom", np.uint8), AT, "a media file's bytes"),
    "bytes with a rate": (bytearray(media_files.encode(SOUND)), AT, "leave sample_rate out"),
    "an open file with a rate": (io.BytesIO(media_files.encode(SOUND)), AT, "leave sample_rate out"),
    "text": (io.StringIO("RIFF"), {}, "gives str, expected bytes"),
    "read to its end": (io.BytesIO(b""), {}, "seek"),
    "nothing": (None, {}, "found None"),
    "a number": (3, AT, "found int"),
    "a pair": ((SOUND, 16_000), {}, "found tuple"),
    "a mapping": ({"array": SOUND}, AT, "found dict"),
    "paths": (["a.wav"], {}, "found list of <U5"),
    "a generator": ((x for x in SOUND), AT, "found generator"),
    "ragged": ([[0.1], [0.1, 0.2]], AT, "can't be taken as an array"),
    "masked": (np.ma.masked_greater(SOUND, 0.0), AT, "masked"),
    "gradients": (Tensor(), AT, r"requires grad.*detach\(\)"),
    "a rate in words": (SOUND, {"sample_rate": "16000"}, "'16000', of type str"),
    "a rate of True": (SOUND, {"sample_rate": True}, "True, of type bool"),
    "three dimensions": (SOUND[None, None], AT, r"shape \(1, 1, 8000\)"),
    "lying on its side": (np.zeros((2, 800)), AT, "transposed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_recording_is_refused_by_its_kind(predictor: Predictor, name: str) -> None:
    source, options, message = REFUSED[name]
    with pytest.raises(AudioError, match=message):
        predictor(source, **options)


def test_a_closed_file_is_named(predictor: Predictor, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with (tmp_path / "a.wav").open("rb") as file:
        pass
    with pytest.raises(AudioError, match=r"a\.wav: the file can't be read .*closed"):
        predictor(file)


@pytest.mark.parametrize("paths", [b"a.wav", io.BytesIO(b"RIFF"), None, 3, SOUND, [SOUND], [b"a.wav"]])
def test_files_takes_paths_alone(predictor: Predictor, paths: Any) -> None:
    with pytest.raises(AudioError, match="in place of a path"):
        predictor.predict_files(paths)


def test_a_list_of_paths_may_be_any_iterable(predictor: Predictor, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert len(predictor.predict_files(iter([tmp_path])).clips) == 1


@settings(max_examples=20)
@given(st.sampled_from(["wavf", "wavd"]), st.floats(11, 2.0**30))
def test_a_file_far_beyond_full_scale_is_refused(kind: str, peak: float) -> None:
    sound = SOUND / np.abs(SOUND).max() * peak
    with pytest.raises(AudioError, match=r"the clip: the samples peak at .*Divide by"):
        decode.load(media_files.encode(sound, kind), name="the clip")


def test_a_mix_a_little_beyond_full_scale_is_decoded() -> None:
    loud = SOUND / np.abs(SOUND).max() * 8
    np.testing.assert_allclose(decode.load(media_files.encode(loud, "wavf")), loud, rtol=1e-6)


def test_a_32_bit_file_of_16_bit_values_is_noted(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "a.wav", NARROW.astype(np.int32), 44_100, subtype="PCM_32")
    with pytest.warns(EmimicWarning, match=r"a\.wav: its samples peak at \d+ of 2147483648.*int16"):
        decode.load(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", NARROW.astype(np.int32) << 16, 44_100, subtype="PCM_32")
    soundfile.write(tmp_path / "c.wav", np.zeros(900, np.int32), 44_100, subtype="PCM_32")
    soundfile.write(tmp_path / "d.mp3", SOUND * 1e-6, 44_100, format="MP3")  # decoded: no integers
    for name in ("b.wav", "c.wav", "d.mp3"):
        notes: list[str] = []
        decode.load(tmp_path / name, notes=notes)
        assert notes == []


def test_notes_are_values(predictor: Predictor, tmp_path: Path) -> None:
    """With warnings as errors, as here, a damaged file costs nothing, and is noted."""
    whole = media_files.encode(media_files.noise(1.0), "mp3")
    (tmp_path / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.mp3").write_bytes(whole)
    results = predictor.predict_files(tmp_path, timeline=True)
    assert [len(clip.notes) for clip in results.clips] == [1, 0]
    assert "cut.mp3: damaged or cut short" in results.clips[0].notes[0]
    notes: list[str] = []
    predictor.predict_timeline(tmp_path / "cut.mp3", notes=notes)
    assert notes == list(results.clips[0].notes)
    with pytest.warns(EmimicWarning, match="damaged or cut short"):
        predictor(tmp_path / "cut.mp3")
    with pytest.warns(EmimicWarning, match="damaged or cut short"):
        predictor.predict_timeline(tmp_path / "cut.mp3")


@pytest.mark.parametrize("kind", ["m4a", "webm"])
def test_what_damage_makes_of_a_lossy_codec_is_no_scale(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    floats = pyav_decoder._to_floats

    def damaged(frame: Any) -> np.ndarray:
        values = floats(frame).copy()
        values[:5] = 40.0
        return values

    monkeypatch.setattr(pyav_decoder, "_to_floats", damaged)
    notes: list[str] = []
    samples = decode.load(media_files.encode(media_files.noise(0.5, 48_000), kind, 48_000), notes=notes)
    assert np.abs(samples).max() < 10
    assert any("NaN, infinite or absurd" in note for note in notes)
