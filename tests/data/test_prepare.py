"""Audio from a corpus's videos: format, resuming, and files that give none."""

import json
import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from json_schema import keeps
from rich.console import Console

from emimic.data.corpus import load_corpus
from emimic.data.prepare import PrepareReport, prepare
from emimic.files import OutputError
from emimic.media import decode
from emimic.task import EMOTIONS, AudioError, CorpusError

SECONDS = 1.5


def video(path: Path, *, sound: bool = True, seconds: float = SECONDS) -> None:
    """A small mp4: gray at 10 frames a second and, with `sound`, 220 Hz in stereo at 44.1 kHz."""
    with av.open(str(path), "w", format="mp4") as container:
        images = container.add_stream("mpeg4", rate=10)
        images.width = images.height = 32
        images.pix_fmt = "yuv420p"
        track = container.add_stream("aac", rate=44_100, layout="stereo") if sound else None
        for _ in range(round(seconds * 10)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 128, np.uint8), format="rgb24")
            container.mux(images.encode(frame))
        container.mux(images.encode(None))
        if track is None:
            return
        tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * 44_100)) / 44_100)
        tones = np.tile(tone.astype(np.float32), (2, 1))
        for start in range(0, tones.shape[1], 1024):
            chunk = np.ascontiguousarray(tones[:, start : start + 1024])
            block = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="stereo")
            block.sample_rate, block.pts = 44_100, start
            container.mux(track.encode(block))
        container.mux(track.encode(None))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Five files: three videos, one without sound, one that is a text."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("00001.mp4", "00002.mp4", "00005.mp4"):
        video(folder / name)
    video(folder / "00003.mp4", sound=False)
    (folder / "00004.mp4").write_text("this is no video", encoding="utf-8")
    return folder


def test_mp3_as_in_the_paper(raw: Path) -> None:
    report = prepare(raw.parent, progress=False)
    assert report.made == ("00001.mp4", "00002.mp4", "00005.mp4")
    assert report.skipped == report.warnings == ()
    assert report.hours == pytest.approx(3 * SECONDS / 3600, rel=0.05)
    made = sorted((raw.parent / "audio").iterdir())
    assert [path.name for path in made] == ["00001.mp3", "00002.mp3", "00005.mp3", "prepare.json"]
    with av.open(str(made[0])) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate, stream.channels) == ("mp3float", 16_000, 1)
        assert stream.bit_rate == 64_000
    samples = decode.load(made[0])
    assert len(samples) == len(decode.load(raw / "00001.mp4"))
    spectrum = np.abs(np.fft.rfft(samples[4000:20_000]))
    assert np.argmax(spectrum) == 220


def test_flac_without_loss(raw: Path) -> None:
    report = prepare(raw.parent, codec="flac", workers=1, progress=False)
    assert report.codec == "flac"
    info = soundfile.info(raw.parent / "audio" / "00001.flac")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16_000, 1)
    written, original = decode.load(raw.parent / "audio" / "00001.flac"), decode.load(raw / "00001.mp4")
    np.testing.assert_allclose(written, original, atol=2**-15)


def test_what_gives_no_clip_is_named(
    raw: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emimic.progress.get_console", lambda: Console(stderr=True, force_terminal=True))
    video(raw / "1.mov")  # the clip of 00001.mp4 again
    (raw / "notes.txt").touch()
    (raw / ".DS_Store").touch()
    (raw / "faces").mkdir()
    report = prepare(raw.parent)
    assert list(report.failed) == ["00003.mp4", "00004.mp4", "1.mov"]
    assert report.ignored == ("faces", "notes.txt")
    for name in ("00003.mp4", "00004.mp4"):
        assert report.failed[name].startswith(f"raw/{name}: ")
        assert not (raw.parent / "audio" / name).with_suffix(".mp3").exists()
    assert report.failed["1.mov"] == "is the same clip as 00001.mp4, which was taken; keep one of them"
    text = report.to_text()
    assert text.startswith("3 clips made (0.00 hours, mp3), 0 were there, 3 failed, 2 ignored\nFailed (3):\n")
    assert "00003.mp4: " in text
    assert "  and 1 more" in report.to_text(limit=2)
    assert "Failed" not in PrepareReport("mp3", (), (), {}, (), 0.0).to_text()
    saved = json.loads((raw.parent / "audio" / "prepare.json").read_text(encoding="utf-8"))
    keeps("data/prepare_schema.json", saved)
    assert saved["failed"] == report.failed
    assert saved["ignored"] == ["faces", "notes.txt"]
    assert tuple(saved["made"]) == report.made
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Preparing clips" in captured.err


def test_damaged_recordings_are_made_and_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "7.wav"
    soundfile.write(path, np.full(16_000, 0.1, np.float32), 16_000)
    path.write_bytes(path.read_bytes()[:-8000])
    report = prepare(tmp_path, progress=False)
    assert report.made == ("7.wav",)
    assert len(report.warnings) == 1
    assert report.warnings[0].startswith("raw/7.wav: damaged")
    assert "Warnings (1)" in report.to_text()


def test_an_interrupted_run_is_resumed(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = decode.save

    def interrupt(path: Path, *args: Any, **options: Any) -> None:
        if "00002" in path.name:
            path.write_bytes(b"half a fi")
            raise KeyboardInterrupt
        save(path, *args, **options)

    target = raw.parent / "audio"
    with monkeypatch.context() as patch:
        patch.setattr(decode, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(raw.parent, workers=1, progress=False)
    left = {path.name for path in target.iterdir()}
    assert "00001.mp3" in left
    assert left <= {"00001.mp3", "00005.mp3"}, "nothing half-written, no temporary file"
    before = (target / "00001.mp3").stat()
    report = prepare(raw.parent, progress=False)
    assert "00002.mp4" in report.made
    assert "00001.mp4" in report.skipped
    assert set(report.made + report.skipped) == {"00001.mp4", "00002.mp4", "00005.mp4"}
    assert list(report.failed) == ["00003.mp4", "00004.mp4"]
    after = (target / "00001.mp3").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert prepare(raw.parent, progress=False).made == ()


def test_clips_there_in_another_format_are_left_alone(raw: Path) -> None:
    (raw.parent / "audio").mkdir()
    soundfile.write(raw.parent / "audio" / "1.wav", np.zeros(800, np.float32), 16_000)
    (raw.parent / "audio" / "00002.mp3").touch()  # empty: made again
    report = prepare(raw.parent, progress=False)
    assert report.skipped == ("00001.mp4",)
    assert report.made == ("00002.mp4", "00005.mp4")
    assert (raw.parent / "audio" / "00002.mp3").stat().st_size


def test_a_prepared_corpus_is_read_from_audio(raw: Path) -> None:
    prepare(raw.parent, progress=False)
    header = ",".join(["Filename", *EMOTIONS])
    for name, clips in (("train", (1, 2, 3)), ("valid", (5,))):
        rows = [f"{clip},0,0,0,0,0,1" for clip in clips]
        (raw.parent / f"{name}_split.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    split = load_corpus(raw.parent).splits["train"]
    assert [item.path.name for item in split.items] == ["00001.mp3", "00002.mp3"]
    assert split.left_out[0].reason.startswith("raw/00003.mp4: ")


def test_refusals_name_the_culprit(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="raw is not a folder"):
        prepare(tmp_path)
    with pytest.raises(CorpusError, match="'wma', expected one of mp3, flac"):
        prepare(tmp_path, codec="wma")  # type: ignore[arg-type]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").touch()
    with pytest.raises(CorpusError, match="raw holds no video"):
        prepare(tmp_path)


def test_an_unwritable_folder_stops_the_run(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (raw.parent / "audio").touch()
    with pytest.raises(CorpusError, match="audio can't be written"):
        prepare(raw.parent, progress=False)
    (raw.parent / "audio").unlink()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CorpusError, match=r"No space left.*rerun the command"):
            prepare(raw.parent, progress=False)
    assert not list((raw.parent / "audio").iterdir())
    assert len(prepare(raw.parent, progress=False).made) == 3


def test_save_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    wave = np.zeros(800, np.float32)
    with pytest.raises(OutputError, match=r"1\.mp3 can't be written \(No such file"):
        decode.save(tmp_path / "nowhere" / "1.mp3", wave, codec="mp3")
    with pytest.raises(AudioError, match="'wav'; give mp3 or flac"):
        decode.save(tmp_path / "1.wav", wave, codec="wav")  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="NaN"):
        decode.save(tmp_path / "1.mp3", wave * np.nan, codec="mp3")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", [1, 400, 1024, 16_001])
def test_save_keeps_the_length(tmp_path: Path, length: int) -> None:
    for codec in ("mp3", "flac"):
        decode.save(tmp_path / f"1.{codec}", np.full(length, 0.1, np.float32), codec=codec)
        assert len(decode.load(tmp_path / f"1.{codec}")) == length
