"""The pages of docs: Python blocks run (a namespace a page), commands parse, the site builds without a warning."""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from doc_examples import blocks, commands, parse

import emimic.sample

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
COMMANDS = [words for text in PAGES.values() for words in commands(text)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_parse(words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if blocks(text, "python")])
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = emimic.sample.folder() / "audio"
    (tmp_path / "clips").mkdir()
    shutil.copy(audio / "00113.mp3", tmp_path / "clip.wav")  # content decides
    shutil.copy(audio / "00114.mp3", tmp_path / "clips")
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": page}
    with warnings.catch_warnings():
        # audformat 1.4 on pandas 3.1; nothing that a reader of the page could mend.
        warnings.filterwarnings("ignore", message=".*", category=_pandas4())
        for code in blocks(PAGES[page], "python"):
            exec(compile(code, f"docs/{page}.md", "exec"), space)  # noqa: S102 - our own page


def _pandas4() -> type[Warning]:
    import pandas.errors

    kind = getattr(pandas.errors, "Pandas4Warning", DeprecationWarning)
    assert issubclass(kind, Warning)
    return kind


def test_every_page_is_in_the_index() -> None:
    listed = PAGES["index"].partition("```{toctree}")[2]
    assert set(PAGES) - {"index"} == set(listed.split("\n```")[0].split("\n\n")[1].split())


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "emimic.load" in (tmp_path / "api.html").read_text(encoding="utf-8")
