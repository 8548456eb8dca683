"""Check that code, help and documents use the standard words of the field, not the house words of earlier days."""

import re
from pathlib import Path
from typing import Final

import pytest
import typer.main
from typer.testing import CliRunner

from emimic.cli import app

ROOT: Final = Path(__file__).parent.parent
CODE: Final = sorted(
    path
    for pattern in ("*.py", "*schema.json", "*.html", "*.js", "*.css", "*.md")
    for path in (ROOT / "src" / "emimic").rglob(pattern)
    if "built" not in path.parts  # of `make page`
)
DOCUMENTS: Final = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
    if path.name != "log.md"  # a record: each entry stays as it was written
)
VERBS: Final = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]

PROGRAMS: Final = sorted(
    path
    for folder in ("tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != Path(__file__).name
)

BANNED: Final = {
    r"hears?|heard|hearing|hearers?": "predict, process, decode; features are used",
    r"answer(s|ed|ing)?": "prediction, result, output",
    r"tells?|telling|told": "report, log, show, separate",
    r"rivals?": "baseline",
    r"lessons?": "teacher target",
    r"taught": "trained on, learned from",
    r"learnt": "learned",
    r"anew": "again",
    r"mend(s|ed|ing)?": "fix",
    r"senseless": "invalid",
    r"lack(s|ed|ing)?": "missing, without",
    r"cells?": "row, configuration; of a CSV: field",
    r"regions?": "voice segment",
    r"pictures?": "plot; of a video: image, frame",
    r"sheets?": "Markdown report",
    r"curves?": "timeline; drawn: line",
    r"clocks?": "alignment; of media: timestamps",
    r"spreads?": "std, standard deviation; as a verb: distribute, space",
    r"centre[sd]?": "center; of a statistic: mean",
    r"shares?": "fraction",
    r"quick(ly|er|est)?": "fast, faster, fastest",
    r"whereabouts": "path, folder",
    r"beneath": "below",
    r"can't be had": "unavailable, missing",
    r"goes without": "has no",
    r"in depth": "recursively",
    r"so many": "n, this many",
    r"of yours": "your",
    r"speaks? for": "describe, report",
    r"as it comes": "as it is, as they arrive",
    r"engine folders?": "exported model",
}
"""Words and phrases, as regular expressions -> what to write instead. A space stands for any gap, line ends too."""

ALLOWED: Final = {
    r"LSTM cells?|cell states?": "a part of an LSTM, in the field's own term",
    r"ROC curves?": "the field's term for a plot of two rates",
    r"Tonight I could tell him": "the translation of a sentence in the sample",
    r"\btell\(": "the method of Python's files that returns their position",
    r"wall[- ]clock": "the standard term for elapsed time",
    r'"CONOUT\$", "clock"': "a file's name in a test",
    r"\bshares? (an?|the|one|its|their|some|no|speakers|frames)\b": "the verb, not a fraction",
}
"""Uses that stay, as regular expressions -> the reason."""

_GAP: Final = r"[\s#*>|\"]+"
_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)|_")


def find_banned(text: str, name: str = "text") -> list[str]:
    """Return a line "NAME:LINE: found WORD, expected ..." per banned word of `text`.

    Parts of identifiers, between underscores, digits and capitals, count as words.
    """
    text = _WORD_START.sub(" ", text)
    for pattern in ALLOWED:
        text = re.sub(pattern, "", text)
    found = []
    for pattern in BANNED:
        for match in re.finditer(rf"\b(?:{pattern.replace(' ', _GAP)})\b", text, re.IGNORECASE):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{name}:{line}: found {' '.join(match[0].split())!r}, expected {BANNED[pattern]}")
    return found


def find_banned_in(paths: list[Path]) -> list[str]:
    """Return the banned words of files, named relative to the repository where they lie in it."""
    return [
        line
        for path in paths
        for line in find_banned(
            path.read_text(encoding="utf-8"),
            str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path),
        )
    ]


@pytest.mark.parametrize(
    "paths", [CODE, DOCUMENTS, PROGRAMS], ids=["code", "documents", "tests and benchmarks"]
)
def test_no_banned_word_is_in_files(paths: list[Path]) -> None:
    assert len(paths) > 10
    found = find_banned_in(paths)
    assert not found, f"{len(found)} banned words:\n" + "\n".join(found)


@pytest.mark.parametrize("verb", VERBS)
def test_no_banned_word_is_in_the_help(verb: str) -> None:
    help_text = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}, terminal_width=200).stdout
    assert "--help" in help_text
    assert not find_banned(help_text, f"emimic {verb} --help")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("It hears a clip.", "hears"), ("# Heard before.", "Heard"), ("def tell_user() -> None:", "tell"),
        ("class VoiceRegion:", "Region"), ("clip_share = 0.5", "share"), ("curves2 = []", "curves"),
        ("HTMLSheet()", "Sheet"), ("# it can't\n# be had", "can't # be had"), ('"walks in "\n"depth"', "in \" \"depth"),
        ('{"answers": 3}', "answers"), ("an _engine_folder", "engine folder"),
    ],
)  # fmt: skip
def test_a_planted_word_is_found(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "planted.py"
    path.write_text(f"\n{text}\n", encoding="utf-8")
    (line,) = find_banned_in([path])
    assert line.startswith(f"{path}:2: found {word!r}, expected ")


@pytest.mark.parametrize(
    "text",
    [
        "transparent", "spreadsheet", "slack black", "centered", "quickstart", "stellar", "shared", "excellent",
        "an LSTM cell", "the ROC curve", "wall-clock time", "clips that share a speaker", "share the runs",
    ],
)  # fmt: skip
def test_other_words_are_not(text: str) -> None:
    assert not find_banned(text)
