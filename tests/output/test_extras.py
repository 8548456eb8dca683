"""Missing extras: a wrong path is reported first, then what can't be written; the rest is written."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import emimic.sample
from emimic import cli
from emimic.inference.predictor import Predictor
from emimic.install import install
from emimic.output import extras, formats, write
from emimic.task import CorpusError, EmimicError, ModelError

CLIP = next((emimic.sample.get_folder() / "audio").iterdir())


def lose(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make these packages unavailable."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def ask(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "x.wav", "--model", "nope", "--plot", "--formats", "eaf"], "there is no folder nope"),
        (["predict", "--mic", "1", "--model", "nope"], "there is no folder nope"),
        (["predict", "x.wav", "--ray", "auto", "--model", "nope"], "there is no folder nope"),
        (["mimicry", "a.wav", "b.wav", "--model", "nope", "--out", "o"], "there is no folder nope"),
        (["evaluate", "nope", "corpus"], "nope is no folder; expected a run folder"),
        (["submit", "nope", "corpus", "--out", "p.csv"], "nope is no folder; expected a run folder"),
        (["calibrate", "nope", "corpus"], "nope is no folder; expected a run folder"),
        (["export", "nope"], "nope is no folder; expected a run folder"),
        (["export", "."], "is no run: it has no config.json"),
        (["distill", "nope", "corpus", "--out", "s"], "there is no folder nope"),
        (["distill", ".", "corpus", "--out", "s"], "is no model: it has neither engine.json"),
        (["train", "nope", "--out", "r"], "nope is not a folder"),
        (["ablate", "nope", "--out", "a"], "nope is not a folder"),
    ],
)
def test_a_wrong_path_is_reported_first(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lose(monkeypatch, "torch", "transformers", "matplotlib", "pympi", "sounddevice", "ray")
    error = ask(*words).exception
    assert isinstance(error, ModelError | CorpusError)
    assert message in str(error)


@pytest.mark.parametrize(
    ("kind", "package", "message"),
    [
        ("eaf", "pympi", f"ELAN files need: {install('formats')}"),
        ("textgrid", "praatio", f"Praat TextGrids need: {install('formats')}"),
        ("audformat", "pandas", f"audformat databases need: {install('formats')}"),
        ("vtt", "webvtt", f"WebVTT captions need: {install('formats')}"),
        ("elan", "pympi", f"ELAN files need: {install('formats')}"),
    ],
)
def test_a_format_names_its_missing_package(
    kind: str, package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, package)
    missing = write.find_missing([kind, "json", "csv", "nova"], plot=True)
    assert missing == {kind: f"{message} ({package} is not installed)"}


@pytest.mark.parametrize(
    ("extra", "package", "message"),
    [
        (extras.PLOTS, "matplotlib", f"plots need: {install('plots')}"),
        (extras.MIC, "sounddevice", f"a microphone (--mic) needs: {install('mic')}"),
        (extras.RAY, "ray", f"a Ray cluster (--ray) needs: {install('ray')}"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_an_extra_names_its_missing_package(
    extra: extras.Extra, package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, package)
    assert extra.describe_missing() == f"{message} ({package} is not installed)"
    with pytest.raises(EmimicError, match="pip install"):
        extra.require()
    expected = {write.PLOT} if extra is extras.PLOTS else set()
    assert set(write.find_missing(["json"], plot=True)) == expected


def test_each_format_declares_itself() -> None:
    assert list(formats.FORMATS) == [
        "json", "csv", "intervals", "textgrid", "eaf", "elan-series", "nova", "stream", "audformat", "vtt",
    ]  # fmt: skip
    for form in formats.FORMATS.values():
        assert form.description
        for alias in (form.name, *form.aliases):
            assert formats.resolve(alias) == form.name


def test_what_needs_no_extra_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lose(monkeypatch, "pympi", "matplotlib")
    result = ask("predict", CLIP, "--formats", "eaf,json,vtt", "--plot", "--html", "--out", tmp_path, "-q")
    assert result.exit_code == 1
    first, second, *_ = result.stderr.splitlines()
    assert first.startswith("emimic: ELAN files need: pip install")
    assert second.startswith("emimic: plots need: pip install")
    stem = CLIP.stem
    assert {path.name for path in tmp_path.iterdir()} == {
        "intensities.csv", "results.json", "journal.jsonl", f"{stem}.json", f"{stem}.vtt", f"{stem}.html",
    }  # fmt: skip


def test_from_python_the_others_are_written_before_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Predictor(threads=1).predict_files([CLIP], timeline=True)
    lose(monkeypatch, "pympi")
    with pytest.raises(EmimicError, match="ELAN files need"):
        formats.write(results.clips[0], tmp_path / "one", ["eaf", "json"])
    with pytest.raises(EmimicError, match="ELAN files need"):
        formats.write_all(results, tmp_path / "all", ["eaf", "csv"])
    assert [path.name for path in (tmp_path / "one").iterdir()] == [f"{CLIP.stem}.json"]
    assert (tmp_path / "all" / f"{CLIP.stem}.csv").exists()


def test_an_extra_for_all_of_it_is_asked_for_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, "ray", "sounddevice")
    for words in (["predict", CLIP, "--ray", "auto", "--out", tmp_path / "o"], ["predict", "--mic", "1"]):
        assert "pip install '" in str(ask(*words).exception)
    assert not (tmp_path / "o").exists()
