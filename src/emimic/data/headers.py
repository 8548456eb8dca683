"""Headers of split tables: names close to the known ones, and columns that only number the rows."""

import re
import unicodedata
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Final

from emimic.data.fields import read_number
from emimic.task import EMOTIONS, VAD, CorpusError

KNOWN: Final = ("Filename", "Speaker", *EMOTIONS, *VAD)
"""Columns with a fixed meaning."""

TEXT: Final = "Text"
"""The column with a clip's words, in any case; it is no label."""

_ALIASES: Final = {
    "Filename": {"file", "files", "filenames", "filepath", "clip", "clipname", "clipid"},
    "Speaker": {"speakers", "speakerid", "speakername", "speakerno", "spk", "spkid", "spkr", "spkrid"}
    | {"talker", "talkerid", "subjectid", "participantid", "personid", "actorid"},
}
_CLOSE: Final = 0.85
"""Minimum fraction of equal letters of two close names: "Admiraton", not "Amused"."""

_INDEX: Final = re.compile(r"(unnamed: \d+(\.\d+)?|index|level_\d+)(_[xy])?", re.I)
_ID: Final = re.compile(r"id|row|no|nr|number", re.I)
_MANY: Final = 20
"""Minimum number of rows in which different whole numbers are ids: labels repeat."""


def find_close(column: str) -> str | None:
    """Return the known column that another column seems to mean, None when it is known itself or means none."""
    if column in KNOWN or not column:
        return None
    letters = _fold(column)
    for name in KNOWN:
        if letters == _fold(name) or letters in _ALIASES.get(name, ()):
            return name
    ratios = {name: SequenceMatcher(None, letters, _fold(name)).ratio() for name in KNOWN}
    best = max(ratios, key=lambda name: ratios[name])
    return best if ratios[best] >= _CLOSE else None


def check_names(
    path: Path,
    header: Sequence[str],
    *,
    named: Collection[str] = (),
    beside: Collection[str] = (),
    about: Collection[str] = KNOWN,
) -> None:
    """Check that no column is close to a known one.

    One that differs by case or signs alone is always an error, another only when the known one is missing.

    Args:
        path: the table, for the error message.
        header: its columns.
        named: columns that the user named, which are taken as they are.
        beside: columns that come from another table.
        about: the known columns to check.

    Raises:
        CorpusError: there is such a column.
    """
    for column in header:
        meant = find_close(column)
        if meant is None or meant not in about or column in named:
            continue
        if meant not in header and meant not in beside:
            raise CorpusError(
                f"{path}: the header has {column!r} and no {meant}; found {','.join(header)!r:.300}. Is it {meant}? "
                f"Rename it to {meant}, or to something less close"
            )
        if _fold(column) == _fold(meant):
            raise CorpusError(
                f"{path}: found both {meant} and {column!r} as columns, expected one. Remove the other, or rename it "
                "to something less close"
            )


def is_row_number(name: str, fields: Sequence[str]) -> bool:
    """Return whether a column only numbers the rows, as the index that pandas writes, and is no label.

    Args:
        name: name of the column.
        fields: its text in all rows.
    """
    is_index = _INDEX.fullmatch(name) is not None
    fields = [field for field in fields if field] if is_index else fields  # a merge leaves some empty
    values = [read_number(field) for field in fields]
    numbers = [int(value) for value in values if value is not None and value.is_integer()]
    if len(numbers) < len(fields):
        return False
    is_distinct = len(set(numbers)) == len(numbers)
    is_sequence = len(numbers) > 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    is_long = len(numbers) >= _MANY or (len(numbers) > 2 and _ID.fullmatch(name) is not None)
    return is_index or is_sequence or (is_distinct and is_long)


def _fold(name: str) -> str:
    """Return the letters and digits of a name in lower case."""
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())
