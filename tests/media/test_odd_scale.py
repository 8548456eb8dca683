"""Sound at odd scales, of odd kinds and in odd containers: exact, marked, or refused with what to do."""

import array
import collections
import ctypes
import decimal
import fractions
import gzip
import io
import mmap
import os
import struct
import tempfile
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_engine
import make_corpora
import media_files
import numpy as np
import pytest
import soundfile
from late_sound import load

from emimic.data.corpus import load_corpus
from emimic.inference.predictor import Predictor
from emimic.media import decode
from emimic.media.source import to_floats
from emimic.task import AudioError, EmimicError, EmimicWarning

SOUND = media_files.noise(0.3) * 0.3
INT16 = (SOUND * 32_767).astype(np.int16)
INT24 = (SOUND * 2.0**23).astype(np.int32)
WAV = media_files.encode(SOUND, "wavf")
RATE: dict[str, Any] = {"sample_rate": 16_000}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(fake_engine.Fake())


SAME: dict[str, Callable[[], Any]] = {
    # what is SOUND to 16 bits
    "big-endian int16": lambda: INT16.astype(">i2"),
    "big-endian int32": lambda: (SOUND * 2.0**31).astype(">i4"),
    "big-endian float32": lambda: SOUND.astype(">f4"),
    "big-endian float64": lambda: SOUND.astype(">f8"),
    "long double": lambda: SOUND.astype(np.longdouble),
    "int16 backwards in memory": lambda: INT16[::-1].copy()[::-1],
    "every second of int16": lambda: np.repeat(INT16, 2)[::2],
    "a column of Fortran order": lambda: np.asfortranarray(np.stack([INT16, INT16], axis=1)),
    "read-only": lambda: np.frombuffer(INT16.tobytes(), np.int16),
    "C's short[]": lambda: (ctypes.c_short * len(INT16))(*INT16.tolist()),
    "a view of int16": lambda: memoryview(INT16),
    "an array of float": lambda: array.array("f", SOUND.tolist()),
    "a deque": lambda: collections.deque(SOUND.tolist()),
    "a list of NumPy's int16": lambda: list(INT16),
    "unmasked": lambda: np.ma.masked_array(INT16, False),
    "24 bits moved up": lambda: INT24 << 8,
    "quiet int32 of 24 bits": lambda: ((SOUND / 512 * 2.0**23).astype(np.int32) << 8) * 512,
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_the_same_sound(name: str) -> None:
    actual = to_floats(SAME[name]())
    actual = actual if actual.ndim == 1 else actual[:, 0]
    np.testing.assert_allclose(actual, SOUND, atol=2.0**-14 * (1 if name[:5] != "quiet" else 512))


class Refuses:
    """As an array on a GPU."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def detach(self) -> None: ...


STEREO = np.zeros(8, [("left", "<i2"), ("right", "<i2")])
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "near-silent int16 as float": (np.round(INT16 / 800.0), RATE, "whole numbers up to .*Divide 16-bit"),
    "int16 as float16": (INT16.astype(np.float16), RATE, "Divide by 32768"),
    "int16 as long double": (INT16.astype(np.longdouble), RATE, "Divide by 32768"),
    "24 bits in int32": (INT24, RATE, "Divide 24-bit values by 8388608"),
    "big-endian int64": (INT16.astype(">i8"), RATE, "int64|>i8"),
    "uint32": (INT16.astype(np.uint32), RATE, "uint32, which has no full scale"),
    "two fields": (STEREO, RATE, "found ndarray of"),
    "objects": (SOUND.astype(object), RATE, "found ndarray of object"),
    "texts": (np.array(["0.1", "0.2"]), RATE, "found ndarray of"),
    "times": (np.arange(9).astype("datetime64[s]"), RATE, "datetime64"),
    "a single number": (np.array(0.5, np.float32), RATE, r"shape \(\)"),
    "nothing": (np.zeros(0, np.float32), RATE, "no samples"),
    "nothing in two channels": (np.zeros((0, 2), np.float32), RATE, "no samples|0 samples"),
    "two samples on their side": (np.zeros((2, 40), np.float32), RATE, "transposed"),
    "one row": (SOUND[None, :60], RATE, "transposed"),
    "an infinite sample": (np.append(SOUND, np.inf), RATE, "NaN or infinite"),
    "beyond float32": (SOUND.astype(float) * 1e300, RATE, "the samples peak at"),
    "a WAV as int16": (np.frombuffer(media_files.encode(SOUND), np.int16), RATE, "a media file's bytes"),
    "a WAV as int8": (np.frombuffer(media_files.encode(SOUND), np.int8), RATE, "a media file's bytes"),
    "a WAV as float32": (np.frombuffer(WAV, np.float32, len(WAV) // 4), RATE, "a media file's bytes"),
    "an AAC as uint8": (
        np.frombuffer(media_files.encode(SOUND, "aac"), np.uint8),
        RATE,
        "a media file's bytes",
    ),
    "a TS as uint8": (np.frombuffer(media_files.encode(SOUND, "ts"), np.uint8), RATE, "a media file's bytes"),
    "on a GPU": (Refuses(), RATE, r"cuda.*detach\(\)\.cpu\(\)"),
    "an empty name": ("", {}, "empty name"),
    "a range": (range(900), RATE, "int64"),
    "an opened sound file": (soundfile.SoundFile(io.BytesIO(WAV)), {}, "gives ndarray, expected bytes"),
    "an opened wave file": (wave.open(io.BytesIO(media_files.encode(SOUND))), RATE, "Wave_read"),  # noqa: SIM115
    "a file that is not ready": (type("Socket", (), {"read": lambda _: None})(), {}, "gives None"),
    "a rate that is a Decimal": (SOUND, {"sample_rate": decimal.Decimal(16_000)}, "of type Decimal"),
    "a rate in a list": (SOUND, {"sample_rate": [16_000]}, "of type list"),
    "a rate that is NaN": (SOUND, {"sample_rate": float("nan")}, "sample rate nan Hz"),
    "a rate in kHz": (SOUND, {"sample_rate": 16}, "sample rate 16 Hz; expected 1000"),
    "a negative rate": (SOUND, {"sample_rate": -16_000}, "sample rate -16000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(predictor: Predictor, name: str) -> None:
    source, options, message = REFUSED[name]
    with pytest.raises(AudioError, match=message):
        predictor(source, **options)


@pytest.mark.parametrize("rate", [np.float32(16_000), np.int64(16_000), fractions.Fraction(16_000)])
def test_any_number_is_a_rate(predictor: Predictor, rate: Any) -> None:
    want = predictor(SOUND, sample_rate=16_000).prediction.intensities
    np.testing.assert_array_equal(predictor(SOUND, sample_rate=rate).prediction.intensities, want)


@pytest.mark.parametrize(
    "samples",
    [np.full(4_800, 0.1, np.float32), np.zeros(4_800, np.uint8), SOUND * 1e-40, SOUND / 32_768],
    ids=["a constant", "8 bits of 0", "subnormal", "divided twice"],
)
def test_what_holds_no_sound_is_silent(predictor: Predictor, samples: Any) -> None:
    result = predictor(samples, **RATE)
    assert result.was_silent
    assert "silent" in result.marks
    assert np.isnan(result.prediction.intensities).all()


def test_open_files_of_any_kind(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(WAV)
    (tmp_path / "a.gz").write_bytes(gzip.compress(WAV))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.wav", WAV)
    want = predictor(WAV).prediction.intensities
    with (
        (tmp_path / "a.wav").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        gzip.open(tmp_path / "a.gz") as packed,
        zipfile.ZipFile(tmp_path / "a.zip").open("a.wav") as inside,
        tempfile.SpooledTemporaryFile() as spooled,
    ):
        spooled.write(WAV)
        spooled.seek(0)
        for source in (mapped, packed, inside, spooled):
            np.testing.assert_array_equal(predictor(source).prediction.intensities, want)
    path = np.str_(tmp_path / "a.wav")
    np.testing.assert_array_equal(predictor(path).prediction.intensities, want)


CHUNKS: dict[str, tuple[Any, str]] = {
    "bytes": (INT16.tobytes(), "np.frombuffer"),
    "a bytearray": (bytearray(INT16.tobytes()), "np.frombuffer"),
    "a view of bytes": (memoryview(INT16.tobytes()), "np.frombuffer"),
    "int64": (INT16.astype(np.int64), "int64"),
    "16 bits as float": (INT16.astype(float), "Divide by 32768"),
    "near-silent 16 bits as float": (np.round(INT16 / 800.0), "whole numbers"),
    "64 samples on their side": (np.zeros((2, 64), np.float32), "transposed"),
    "16 of 32 channels": (np.zeros((16, 32), np.float32), "transposed"),
    "a text": ("abc", "found str"),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_that_are_refused(predictor: Predictor, name: str) -> None:
    chunk, message = CHUNKS[name]
    with pytest.raises(AudioError, match=message):
        predictor.stream().push(chunk)
    live = predictor.stream().start_thread()
    with pytest.raises(EmimicError, match=message):  # noqa: PT012 - now, or in the thread
        live.put(chunk)
        live.close()


def test_a_single_sample_of_two_channels_is_a_chunk(predictor: Predictor) -> None:
    stream = predictor.stream()
    for pair in np.stack([SOUND, SOUND], axis=1)[:50, None]:
        stream.push(pair)
    assert stream.seconds == 50 / 16_000


def test_a_stream_of_24_bits_in_32_is_reported(predictor: Predictor) -> None:
    stream = predictor.stream()
    stream.push(INT24)
    with pytest.warns(EmimicWarning, match=r"24-bit values, multiply them by 256"):
        stream.flush()


def in_file(samples: Any, form: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format=form, subtype=subtype)
    return file.getvalue()


FLOATS = INT16.astype(np.float32)
TOO_LOUD: dict[str, Callable[[], bytes]] = {
    **{
        form: lambda form=form, subtype=subtype: in_file(FLOATS, form, subtype)
        for form, subtype in [
            ("AIFF", "FLOAT"), ("AU", "DOUBLE"), ("CAF", "FLOAT"), ("W64", "FLOAT"), ("RF64", "DOUBLE"),
            ("WAVEX", "FLOAT"), ("IRCAM", "FLOAT"), ("MAT5", "DOUBLE"),
        ]
    },
    "near-silent": lambda: in_file(np.round(FLOATS / 800), "WAV", "FLOAT"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_LOUD)
def test_files_of_whole_numbers_are_refused(name: str) -> None:
    with pytest.raises(AudioError, match=r"x: the samples (peak at|are whole numbers)"):
        decode.load(TOO_LOUD[name](), name="x")


def test_files_of_24_bits_in_32_are_reported() -> None:
    for form in ("WAV", "AIFF", "CAF"):
        assert "24-bit values" in load(in_file(INT24, form, "PCM_32"))[1][0]
        assert not load(in_file(INT24 << 8, form, "PCM_32"))[1]
        assert not load(in_file(SOUND / 512, form, "PCM_24"))[1]  # quiet, as it is


def test_a_corpus_leaves_out_a_clip_of_whole_numbers(tmp_path: Path) -> None:
    folder = make_corpora.make(tmp_path, train=[make_corpora.row("1"), make_corpora.row("3")])
    (folder / "audio" / "1.wav").write_bytes(in_file(FLOATS, "WAV", "FLOAT"))
    (left_out,) = load_corpus(folder).splits["train"].left_out
    assert "1.wav: the samples peak at" in left_out.reason
    assert "Divide by 32768" in left_out.reason


def test_an_empty_name_is_not_this_folder(predictor: Predictor, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.wav").write_bytes(WAV)
    results = predictor.predict_files([""])
    assert not results.clips
    assert "empty name" in results.failed[0].reason
    assert os.fspath(results.failed[0].path) == "."


def test_16_bits_in_the_upper_half_of_24() -> None:
    """What some recorders write: a width of 32 of which 24 bits hold the sound."""
    data = (INT24 << 8).astype("<i4").tobytes()
    fields = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 16_000, 64_000, 4, 32, 22, 24, 4)
    fields += b"\1\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    body = (
        b"WAVEfmt " + struct.pack("<I", len(fields)) + fields + b"data" + struct.pack("<I", len(data)) + data
    )
    samples, notes = load(b"RIFF" + struct.pack("<I", len(body)) + body)
    np.testing.assert_allclose(samples, SOUND, atol=1e-6)
    assert not notes
