"""Check the pages of docs: Python blocks run (one namespace per page), commands parse, the site builds."""

import pkgutil
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from doc_examples import find_blocks, find_commands, parse

import emimic.sample
from emimic.experiments.table2 import list_rows
from emimic.training.settings import TrainSettings

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
COMMANDS = [words for text in PAGES.values() for words in find_commands(text)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_parse(words: list[str]) -> None:
    parse(words)


# serve.md needs a server: tests/server/test_docs.py runs it.
@pytest.mark.parametrize(
    "page", [name for name, text in PAGES.items() if find_blocks(text, "python") and name != "serve"]
)
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = emimic.sample.get_folder() / "audio"
    (tmp_path / "clips").mkdir()
    shutil.copy(audio / "00113.mp3", tmp_path / "clip.wav")  # content decides
    shutil.copy(audio / "00114.mp3", tmp_path / "clips")
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": page}
    with warnings.catch_warnings():
        # audformat 1.4 on pandas 3.1: a reader of the page can't fix it.
        warnings.filterwarnings("ignore", message=".*", category=_get_pandas_warning())
        for code in find_blocks(PAGES[page], "python"):
            exec(compile(code, f"docs/{page}.md", "exec"), namespace)  # noqa: S102 - our own page


def _get_pandas_warning() -> type[Warning]:
    import pandas.errors

    kind = getattr(pandas.errors, "Pandas4Warning", DeprecationWarning)
    assert issubclass(kind, Warning)
    return kind


def test_what_the_papers_page_names_exists() -> None:
    rows = {row.name for row in list_rows()}
    for line in PAGES["paper"].splitlines():
        if not line.startswith("| ") or line.startswith(("| section", "|---")):
            continue
        for code in re.findall(r"`([^`]+)`", line.split(" | ")[-1]):
            first, *words = code.split()
            if first == "emimic":
                needs_out = words[0] in ("ablate", "baselines")
                parse([*words, *(["--out", "out"] if needs_out else [])])
            elif "/" in code:
                assert (DOCS.parent / code).exists(), code
            elif code.startswith("emimic."):
                assert pkgutil.resolve_name(code)
            else:
                assert code in rows or code.split(":")[0].split(".")[0] in TrainSettings.model_fields, code


def test_every_figure_on_the_paper_s_findings_is_in_a_table_of_results() -> None:
    """Beside the generated tables, the page has no number but those of sections, tables, modules and losses."""
    text = re.sub(r"<!-- table: \w+ -->.*?<!-- end -->", "", PAGES["evidence"], flags=re.DOTALL)
    text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.DOTALL)
    text = re.sub(r"\b(?:[Ss]ections?|Tables?) \d(?:\.\d)?|\bL2\b|\b2:1\b", "", text)
    text = re.sub(r"\b1 - (?:Pearson|CCC)|\b0 or 1|\bthem 0", "", text)
    assert re.findall(r"[^\n]*\d[^\n]*", text) == []


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
