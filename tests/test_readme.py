"""Check README and CONTRIBUTING: commands parse, Python runs, tables are those of docs/results, links exist."""

import re
import shutil
from pathlib import Path

import pytest
import typer.main
from doc_examples import find_blocks, find_commands, parse

import emimic.sample
from benchmarks import tables
from emimic.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", find_commands(README) + find_commands(CONTRIBUTING), ids=" ".join)
def test_commands_parse(words: list[str]) -> None:
    parse(words)


def test_every_verb_is_shown() -> None:
    assert {words[0] for words in find_commands(README)} == set(typer.main.get_command(app).commands)


def test_the_readme_fits_150_lines() -> None:
    assert len(README.splitlines()) <= 150


def test_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(emimic.sample.get_folder() / "audio" / "00001.mp3", tmp_path / "clip.wav")  # content decides
    first, *others = find_blocks(README, "python")
    namespace: dict[str, object] = {}
    exec(compile(first, "README.md", "exec"), namespace)  # noqa: S102 - our own README
    assert "'Admiration': " in capsys.readouterr().out
    for block in others:
        exec(compile(block, "README.md", "exec"), namespace)  # noqa: S102 - our own README


def test_tables_come_from_the_results() -> None:
    texts = {page: page.read_text(encoding="utf-8") for page in tables.PAGES}
    for page, text in texts.items():
        assert tables.fill_tables(text) == text, f"{page}: run python -m benchmarks.tables"
    names = {name for text in texts.values() for name in re.findall(r"<!-- table: (\w+) -->", text)}
    assert names == set(tables.TABLES)


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["readme", "contributing"])
def test_links_and_paths_exist(text: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)[)#]", text):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"`((?:src|tests|benchmarks|docs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_layout_is_that_of_the_package() -> None:
    layout = CONTRIBUTING.partition("src/emimic/\n")[2].partition("\nbenchmarks/")[0]
    heads = [re.split(r" {2,}", line.strip())[0] for line in layout.splitlines()]
    listed = {word for head in heads for word in re.findall(r"(\w+)/", head)}
    packages = {path.name for path in (ROOT / "src" / "emimic").iterdir() if path.is_dir()} - {"__pycache__"}
    assert listed == packages
