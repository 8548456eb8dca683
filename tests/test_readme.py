"""The README says what is: its commands parse, its Python runs, its tables are those of docs/results."""

import re
import shutil
from pathlib import Path

import pytest
import typer.main
from doc_examples import blocks, commands, parse

import emimic.sample
from benchmarks import tables
from emimic.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", commands(README), ids=" ".join)
def test_commands_parse(words: list[str]) -> None:
    parse(words)


def test_every_verb_is_shown() -> None:
    assert {words[0] for words in commands(README)} == set(typer.main.get_command(app).commands)


def test_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(emimic.sample.folder() / "audio" / "00001.mp3", tmp_path / "interview.mp4")  # content decides
    (code,) = blocks(README, "python")
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own README
    assert "Admiration" in capsys.readouterr().out


def test_tables_come_from_the_results() -> None:
    for page in tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert tables.filled(text) == text, f"{page}: run python -m benchmarks.tables"
    named = [re.findall(r"<!-- table: (\w+) -->", page.read_text(encoding="utf-8")) for page in tables.PAGES]
    assert set().union(*named) == set(tables.TABLES)


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
