"""Files of the verbs: written before printing, with any names; nothing is overwritten; a failure is named."""

import errno
import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import fake_engine
import numpy as np
import pytest
import soundfile
from fake_engine import constant_engine
from made_results import timeline, wandering
from typer.testing import CliRunner

from emimic import cli, progress
from emimic.cli import mimicry_request, predict_request
from emimic.files import OutputError, fold_case
from emimic.inference.results import Results, Timeline
from emimic.media import decode
from emimic.mimicry import Settings
from emimic.output import formats, terminal

ODD = [
    b"b\xe4r $x^$ \xf0\x9f\x98\x80",
    b"line\nbreak",
    "\u00e4".encode(),
    "a\u0308".encode(),
    "\u00c4".encode(),
]
"""Names that are not UTF-8, that a formula or a terminal would misread, and three that a Mac's disk takes for one."""


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recordings with odd names, and a fake engine in place of the model in the package."""
    fake = fake_engine.Fake()
    monkeypatch.setattr("emimic.inference.predictor.open_engine", lambda *_, **__: fake)
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ODD:
        path = folder / os.fsdecode(name + b".wav")
        soundfile.write(
            os.fspath(folder / "new.wav"), fake_engine.recording(("burst", 1.0), ("hush", 0.5)), 16_000
        )
        (folder / "new.wav").rename(path)
    return folder


def predict(clips: Path, out: Path, **options: Any) -> Results:
    asked = predict_request.Request(files=(str(clips),), out=out, threads=1, **options)
    return predict_request.run(asked, lambda line: line.encode("utf-8", "replace"))


def test_every_file_is_written_whatever_the_names(clips: Path, tmp_path: Path) -> None:
    results = predict(
        clips,
        tmp_path / "out",
        html=True,
        kinds=tuple(kind for kind in formats.FORMATS if kind != "intervals"),
    )
    assert len(results.clips) == len(ODD)
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert len({fold_case(name) for name in names}) == len(names) == 3 + len(ODD) * (12 + 2 * 9)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.suffix != ".stream~":  # float32
            path.read_bytes().decode("utf-8")
    stored = json.loads((tmp_path / "out" / "results.json").read_text("ascii"))
    assert {unicodedata.normalize("NFC", clip["Filename"]) for clip in stored["clips"]} == {
        "b\ufffdr $x^$ \U0001f600", "line\nbreak", "\u00e4", "\u00c4",
    }  # fmt: skip


@pytest.mark.parametrize("name", ODD[:2])
def test_any_name_can_be_drawn(name: bytes, clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    predict(clips / os.fsdecode(name + b".wav"), tmp_path / "out", plot=True)
    (svg,) = (tmp_path / "out").glob("*.svg")
    svg.read_text("utf-8")


def _fails(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failing_print_loses_no_file_of_predict(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "show", _fails)
    with pytest.raises(OSError, match="No space"):
        predict(clips, tmp_path / "out", kinds=("csv",))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"results.json", "intensities.csv"} < names
    assert len(names) == 3 + len(ODD)


def test_a_full_disk_loses_no_printed_line(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Path, "write_bytes", _fails)
    with pytest.raises(OutputError, match=r"out/intensities\.csv can't be written \(No space left"):
        predict(clips, tmp_path / "out", form="csv")
    assert len(capsys.readouterr().out.splitlines()) >= 1 + len(ODD)
    assert not list((tmp_path / "out").glob("*.csv"))


def test_a_journal_on_a_full_disk_is_named(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _fails)
    with pytest.raises(OutputError, match=r"journal\.jsonl can't be written .*Free space"):
        predict(clips, tmp_path / "out")


class Pencil:
    """A predictor that makes up a timeline for any recording."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def predict_timeline(self, source: Path, **_: Any) -> Timeline:
        return timeline(wandering(200, np.random.default_rng(0)), source.stem)


def test_mimicry_writes_first_and_draws_any_name(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mimicry_request, "Predictor", Pencil)
    monkeypatch.setattr(mimicry_request, "show", _fails)
    seed, *mimics = (clips / os.fsdecode(name + b".wav") for name in ODD[:3])
    settings = Settings(draws=19)
    asked = mimicry_request.Request(seed=seed, mimics=tuple(mimics), settings=settings, out=tmp_path / "out")
    with pytest.raises(OSError, match="No space"):
        mimicry_request.run(asked, lambda line: None)
    written = {path.name: path.read_bytes().decode("utf-8") for path in (tmp_path / "out").glob("*[!g]")}
    assert "mimicry.json" in written
    assert "b\ufffdr $x^$ \U0001f600" in written["mimicry.json"]
    assert len(list((tmp_path / "out").iterdir())) == 1 + 2 * 2


def test_an_impossible_folder_is_reported_before_the_work(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mimicry_request, "Predictor", _fails)
    monkeypatch.setattr("emimic.inference.batch.predict_files", _fails)
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    some = next(clips.iterdir())
    verbs: list[list[Any]] = [
        ["predict", some, "--out"],
        ["mimicry", some, some, "--out"],
    ]
    for words in verbs:
        done = CliRunner().invoke(cli.app, [str(word) for word in [*words, out]])
        assert isinstance(done.exception, OutputError), done.exception
        assert str(done.exception).startswith(f"{out} can't be written (Not a directory)")


def test_doctor_prints_json_whatever_the_folder(tmp_path: Path) -> None:
    folder = constant_engine(tmp_path / os.fsdecode(b"b\xe4r \xf0\x9f\x98\x80"))
    done = CliRunner().invoke(cli.app, ["doctor", "--json", "--model", str(folder)])
    assert done.stdout.isascii()
    report = json.loads(done.stdout)
    # ONNX Runtime takes no path that is not UTF-8: the trouble names it.
    shown = report["model"]["folder"] if report["model"] else report["troubles"][0]
    assert "b\ufffdr \U0001f600" in shown


def test_a_plain_terminal_has_plain_bars(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = predict(clips, tmp_path / "out", timeline=True)
    for encoding, bars in (("cp1252", ".:-=+*%#"), ("ascii", ".:-=+*%#"), ("utf-8", "▁▂▃▄▅▆▇█")):
        with (tmp_path / "shown").open("w", encoding=encoding, errors="replace") as shown:
            monkeypatch.setattr("sys.stdout", shown)
            terminal.show(results, "table")
        monkeypatch.undo()
        text = (tmp_path / "shown").read_text(encoding)
        assert any(letter in text for letter in bars)
        assert ("\u2581" in text) == (encoding == "utf-8")
    assert progress.draw_bar(0.5, ascii_only=True) == "####...."


def test_a_tag_that_a_library_dislikes_is_no_word_on_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """libmpg123 speaks of an ID3 frame that claims to be longer than its tag, or of an odd extended header."""
    sound = fake_engine.burst(1.0).astype("float32")
    decode.save(tmp_path / "a.mp3", sound, codec="mp3")
    plain = (tmp_path / "a.mp3").read_bytes()
    assert plain == decode.encode(sound, codec="mp3")
    frame = b"TIT2" + (900).to_bytes(4, "big") + b"\0\0\0hello"
    for tag in (
        b"ID3\3\0\0\0\0\0\x3c" + frame.ljust(60, b"\0"),
        b"ID3\4\0\x40\0\0\0\x3c" + b"\xff" * 60,
        b"ID3\3\0\0\0\0\x09\x3c" + (frame * 40).ljust(9 * 128 + 60, b"\0"),
    ):
        assert (decode.load(tag + plain) == decode.load(plain)).all()
    assert capfd.readouterr() == ("", "")
