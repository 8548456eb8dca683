"""Odd names, targets, values, paths and terminals: complete files, or an error that names the path."""

import csv
import io
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import fake_engine
import made_results
import numpy as np
import pytest
import soundfile
import textgrid
import yaml
from made_results import timeline, wandering

from emimic import cli
from emimic.cli import mimicry_request, predict_request
from emimic.cli.standard_streams import safe_streams
from emimic.describe import measure as clips
from emimic.files import OutputError, fold_case, write_atomically
from emimic.inference.results import Failure, Result, Results
from emimic.media import decode
from emimic.mimicry import Report, Settings, compare_all
from emimic.output import formats, html_page, terminal
from emimic.output.drawing import compute_envelope
from emimic.task import EmimicError

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # audformat's own
KINDS = tuple(kind for kind in formats.FORMATS if kind != "intervals")

STEMS = [
    "-x", "con", "COM\u00b9", "LPT\u00b2.tar", "aux ", "conin$", "CONOUT$", "clock", " a ", "a..", "a.", "\u00e9" * 120,
    "\U0001f600" * 60, "b", "b-2", "B", "\u00df", "ss", "\u1e9e", "\ufb01", "fi", "\u212a", "k", "intensities",
    "RESULTS", "mimicry", "=1+1", "@SUM(A1)", "[bold]x[", "{x}%s$HOME", "<script>alert(1)<", "-->", "]]>",
    "&amp;", "'\"", "\\", "\u202egnp", "\u2028", "\ufffe", "\x1b[31m", "\r", "\x85", "a\tb", "\ud800x", "\udcff",
    "\u0130", "\u0131", "a\u0308", "\u00e4", "...", "~", "%41", "#;", "null", "1e5", "TRUE", "001", "\u200b", "x" * 251,
]  # fmt: skip
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d\u00b9\u00b2\u00b3])(\..*)?", re.I)


def windows_takes(name: str) -> bool:
    return not (
        re.search(r'[<>:"/\\|?*\x00-\x1f]', name) or name.endswith((".", " ")) or RESERVED.fullmatch(name)
    )


def read_back(folder: Path) -> None:
    """Open all files of a folder with readers of their own."""
    for path in folder.rglob("*"):
        assert windows_takes(path.name), path
        assert len(os.fsencode(path.name)) <= 255
        if path.is_dir() or path.suffix == ".stream~":  # float32
            continue
        text = path.read_bytes().decode("utf-8")
        if path.suffix in (".eaf", ".annotation"):
            ElementTree.fromstring(text)
        elif path.suffix == ".json":
            json.loads(text)
        elif path.suffix == ".csv":
            rows = list(csv.reader(io.StringIO(text, newline="")))
            assert {len(row) for row in rows} == {len(rows[0])}
            assert len(set(rows[0])) == len(rows[0])
        elif path.suffix == ".yaml":
            assert yaml.safe_load(text)
        elif path.suffix == ".TextGrid":
            actual = textgrid.TextGrid.fromFile(str(path))
            assert all(one.maxTime <= actual.maxTime for one in actual)
        elif path.suffix == ".vtt":
            assert text.startswith("WEBVTT")
            assert all(line.count("-->") <= 1 for line in text.splitlines())


@pytest.mark.parametrize("stem", STEMS, ids=ascii)
def test_files_of_any_name(stem: str, tmp_path: Path) -> None:
    result = made_results.result(stem + ".wav", seconds=0.6, voice_segments=((0.0, 0.6),))
    formats.write(result, tmp_path / "out", ("json", "csv", "nova", "textgrid", "eaf", "vtt"))
    read_back(tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 5 + 2 * 9


def test_all_names_together_stay_apart(tmp_path: Path) -> None:
    clips = tuple(made_results.result(f"{stem}.wav", seconds=0.4, voice_segments=()) for stem in STEMS)
    failed = tuple(Failure(Path(stem), f"{stem}: can't be read") for stem in STEMS)
    results = Results(clips[0].targets, clips, failed)
    written = formats.write_all(results, tmp_path, ["csv"])
    assert len({fold_case(path.name) for path in written}) == len(written) == 2 + len(STEMS)
    read_back(tmp_path)
    stored = json.loads((tmp_path / "results.json").read_text())
    assert len(stored["clips"]) == len(stored["failed"]) == len(STEMS)
    with (tmp_path / "intensities.csv").open(newline="", encoding="utf-8") as file:
        names = [row["Filename"] for row in csv.DictReader(file)]
    assert len(names) == len(STEMS)
    assert {one for one in STEMS if one.isascii() and one.isprintable()} < set(names)
    assert "\r" in names


@pytest.mark.parametrize("stem", ["=1+1", "[bold]", "\x1b[31m", "\r", "\udcff", "-->", "x" * 251], ids=ascii)
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_any_name_is_printed(stem: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = Results(made_results.result().targets, (made_results.result(stem, timeline=False),), ())
    terminal.show(results, form)
    shown = capsys.readouterr().out
    if form == "table":
        assert "\x1b" not in shown
        assert "\r" not in shown
        assert stem[:5] in shown or not stem.isprintable()
    elif form == "json":
        assert json.loads(shown)["clips"][0]["file"] == stem.replace("\udcff", "\ufffd").replace(
            "\x1b", "\ufffd"
        )
    else:
        assert len(list(csv.reader(io.StringIO(shown, newline="")))) == 2


@pytest.mark.parametrize(
    "stem", ["<script>alert(1)<", "-->", "]]>", "'\"", "\u2028", "\udcff", "\x1b"], ids=ascii
)
def test_a_page_of_any_name(stem: str) -> None:
    result = made_results.result(stem + ".wav", seconds=1.0, voice_segments=((0.0, 1.0),))
    plain = made_results.result("plain.wav", seconds=1.0, voice_segments=((0.0, 1.0),))
    wave = compute_envelope([np.zeros(16_000, np.float32)])
    one, other = (html_page.make_page(each, b"", "audio/wav", wave) for each in (result, plain))
    assert one.count("<script") == other.count("<script")
    assert one.count("</script") == other.count("</script")
    one.encode("utf-8")


TARGETS: dict[str, tuple[str, ...]] = {
    "paths": ("a/b", "..", ".", "a\\b"),
    "lines": ("A\nB", "A\rC", "A\tD", " A "),
    "columns of ours": ("Filename", "Seconds", "Start", "End"),
    "more of them": ("Basis", "Novelty", "Arousal", "Dominance (VAD)"),
    "devices": ("con", "nul", "COM1", "aux"),
    "marks": ('a"b', "<x>&", "-->", "]]>"),
    "one letter in two cases": ("joy", "Joy", "JOY", "J O Y"),
    "Unicode forms": ("\u00e4", "a\u0308", "\u00c4", "\ufb01"),
    "tiers of ours": ("voice segments", "default", "NaN", "1"),
    "control characters": ("a\x00", "\x1b[31m", "b\ufffe", "\udcff"),
    "mathematics": ("$x^$", "_", "^", "%"),
    "one": ("Joy",),
    "long": ("x" * 300, "x" * 299 + "y", "\U0001f600" * 90, "z"),
    "fifty": tuple(f"t{number}" for number in range(50)),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets_of_any_name(name: str, tmp_path: Path) -> None:
    result = made_results.result("clip.wav", targets=TARGETS[name], seconds=0.6, voice_segments=((0.0, 0.6),))
    formats.write(result, tmp_path, KINDS)
    read_back(tmp_path)
    formats.to_csv(Results(result.targets, (result,), ()))
    terminal.make_table(Results(result.targets, (result,), ()))


def with_values(value: float) -> Result:
    return made_results.result(
        "clip.wav", seconds=1.0, intensities=np.full((5, 6), value), voice_segments=((0.0, 1.0),)
    )


VALUES: dict[str, Callable[[], Result]] = {
    "NaN": lambda: with_values(np.nan),
    "infinite": lambda: with_values(np.inf),
    "minus zero": lambda: with_values(-0.0),
    "beyond 1": lambda: with_values(1e6),
    "below 0": lambda: with_values(-3.0),
    "subnormal": lambda: with_values(1e-40),
    "no length": lambda: made_results.result("clip.wav", seconds=0.0, voice_segments=()),
    "a sample": lambda: made_results.result(
        "clip.wav", seconds=1 / 16_000, voice_segments=((0.0, 1 / 16_000),)
    ),
    "ten minutes, no timeline": lambda: made_results.result("clip.wav", seconds=600.0, timeline=False),
    "overlapping voice_segments": lambda: made_results.result(
        voice_segments=((0.0, 3.0), (2.0, 4.0), (2.5, 2.6))
    ),
    "voice_segments beyond the end": lambda: made_results.result(voice_segments=((5.0, 9.0), (8.0, 12.0))),
    "voice_segments of no length": lambda: made_results.result(voice_segments=((1.0, 1.0), (2.0, 2.0004))),
    "no voice_segments": lambda: made_results.result(voice_segments=()),
    "no VAD": lambda: made_results.result(vad=False),
}


@pytest.mark.parametrize("name", VALUES)
def test_any_values(name: str, tmp_path: Path) -> None:
    result = VALUES[name]()
    formats.write(result, tmp_path, KINDS)
    read_back(tmp_path)
    assert "NaN" not in (next(tmp_path.glob("*.json"))).read_text()
    terminal.make_table(Results(result.targets, (result,), ()))


def _blocked(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "x").touch()
    return folder


def _file(folder: Path, name: str) -> Path:
    (folder / name).touch()
    return folder


def _link(folder: Path, target: Path) -> Path:
    (folder / "link").symlink_to(target)
    return folder / "link"


PLACES: dict[str, Callable[[Path], Path]] = {
    "intensities.csv is a folder": lambda f: _blocked(f, "intensities.csv"),
    "results.json is a folder": lambda f: _blocked(f, "results.json"),
    "an .eaf is a folder": lambda f: _blocked(f, "clip.eaf"),
    "a TextGrid is a folder": lambda f: _blocked(f, "clip.TextGrid"),
    "an annotation is a folder": lambda f: _blocked(f, "clip.joy.annotation~"),
    "audformat is a file": lambda f: _file(f, "clip.audformat"),
    "a file": lambda f: _file(f, "a") / "a",
    "in a file": lambda f: _file(f, "a") / "a" / "b",
    "a link to nothing": lambda f: _link(f, f / "nothing"),
    "a link to itself": lambda f: _link(f, f / "link"),
    "a link to a file": lambda f: _link(f, _file(f, "a") / "a"),
    "a long name": lambda f: f / ("x" * 300),
    "a long path": lambda f: f.joinpath(*["x" * 200] * 30),
    "a NUL": lambda f: f / "a\0b",
    "half a character": lambda f: f / "\ud800",
    "a device": lambda f: Path("/dev/null"),
    "in a device": lambda f: Path("/dev/null/a"),
    "where nothing can be": lambda f: Path("/proc/emimic"),
}


@pytest.mark.parametrize("name", PLACES)
def test_an_impossible_place_is_named(name: str, tmp_path: Path) -> None:
    out = PLACES[name](tmp_path)
    result = made_results.result("clip.wav", seconds=0.6)
    with pytest.raises(OutputError, match=r" can't be written \(.*\)\. \w") as caught:
        formats.write_all(Results(result.targets, (result,), ()), out, KINDS)
    assert str(caught.value).startswith(str(out))


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake = fake_engine.Fake()
    monkeypatch.setattr("emimic.inference.predictor.open_engine", lambda *_, **__: fake)
    path = tmp_path / "b\u00e4r \U0001f600.wav"
    sound = tmp_path / "new.wav"
    soundfile.write(sound, fake_engine.recording(("burst", 0.6), ("hush", 0.3)), 16_000)
    return sound.rename(path)


JOURNALS: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a full disk": lambda path: path.symlink_to("/dev/full"),
    "a text": lambda path: path.write_text("my own notes\n"),
    "a link to itself": lambda path: path.symlink_to(path),
    "of tomorrow": lambda path: path.write_text('{"schema":"emimic/journal/99"}\n'),
}


@pytest.mark.parametrize("name", JOURNALS)
def test_a_journal_that_is_none(name: str, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    JOURNALS[name](out / "journal.jsonl")
    asked = predict_request.Request(files=(str(clip),), out=out, threads=1)
    lines: list[str] = []
    if name == "of tomorrow":
        predict_request.run(asked, lines.append)
        assert "written by another version" in lines[0]
        return
    with pytest.raises(EmimicError, match=r"journal\.jsonl"):
        predict_request.run(asked, lines.append)


@cache
def _report() -> Report:
    rng = np.random.default_rng(0)
    timelines = [timeline(wandering(60, rng), f"b\u00e4r \U0001f600 \udcff {n}") for n in (0, 1)]
    return compare_all(timelines[0], timelines[1:], settings=Settings(draws=19))


@pytest.mark.parametrize(
    "encoding", ["ascii", "cp1252", "cp437", "cp932", "koi8-r", "cp037", "utf-16-le", "utf-7", "utf-8-sig"]
)
@pytest.mark.parametrize("verb", ["predict", "mimicry", "csv"])
def test_every_table_in_every_encoding(
    verb: str, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = made_results.result("b\u00e4r \U0001f600 \udcff.wav")
    with (tmp_path / "shown").open("w", encoding=encoding) as shown, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", shown)
        with safe_streams(native=True):
            if verb == "mimicry":
                mimicry_request.show(_report())
            else:
                terminal.show(Results(result.targets, (result,), ()), "csv" if verb == "csv" else "table")
    text = (tmp_path / "shown").read_text(encoding)
    assert "r " in text
    assert len(text.splitlines()) > 3


@pytest.mark.parametrize("columns", ["1", "0", "-5", "abc", "", "99999"])
def test_any_width_shows_all_numbers(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    result = made_results.result("clip.wav", timeline=False)
    terminal.show(Results(result.targets, (result,), ()), "table")
    shown = capsys.readouterr().out
    assert all(f"{value:.2f}" in shown for value in result.prediction.intensities)


def test_a_long_suffix_is_written(tmp_path: Path) -> None:
    for name in ("a." + "b" * 240, "\U0001f600" * 60, "x" * 255, "." + "c" * 254):
        write_atomically(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("path", ["a\0b.flac", "\ud800.flac", "x" * 300, "nowhere/a.flac"], ids=ascii)
def test_sound_is_saved_or_its_path_named(path: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't be written"):
        decode.save(tmp_path / path, fake_engine.burst(0.1), codec="flac")
    with pytest.raises(OutputError, match="can't be written"):
        write_atomically(tmp_path / path, "")


@pytest.mark.parametrize("words", [["predict", ""], ["predict", "x", "--out", "a\0b"], ["mimicry", "", ""]])
def test_odd_words_are_an_error_in_a_line(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["emimic", *words])
    fake = fake_engine.Fake()
    monkeypatch.setattr("emimic.inference.predictor.open_engine", lambda *_, **__: fake)
    code = cli._run_verb()
    err = capsys.readouterr().err
    assert code in (1, 2)
    assert "should not have happened" not in err
    assert re.search("^(emimic: |Usage)", err, re.MULTILINE)


def test_names_of_several_alphabets_are_theirs_in_json(clip: Path, tmp_path: Path) -> None:
    asked = predict_request.Request(
        files=(str(clip),), out=tmp_path / "out", threads=1, kinds=KINDS, html=True
    )
    predict_request.run(asked, lambda line: None)
    stored = json.loads((tmp_path / "out" / "results.json").read_text("ascii"))
    assert unicodedata.normalize("NFC", stored["clips"][0]["Filename"]) == "b\u00e4r \U0001f600"


@pytest.mark.parametrize("name", ["a pipe", "a full disk", "a text"])
def test_a_journal_of_facts_that_is_none(name: str, tmp_path: Path) -> None:
    JOURNALS[name](tmp_path / clips.JOURNAL)
    with pytest.raises(EmimicError, match=r"facts\.jsonl"):
        clips._Journal(tmp_path)
    if name == "a text":
        assert (tmp_path / clips.JOURNAL).read_text() == "my own notes\n"
