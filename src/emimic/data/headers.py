"""Headers of split tables: names close to the known ones, and columns that only number the rows."""

import re
import unicodedata
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Final

from emimic.data.cells import read_number
from emimic.task import EMOTIONS, VAD, CorpusError

KNOWN: Final = ("Filename", "Speaker", *EMOTIONS, *VAD)
"""Columns with a meaning of their own."""

_ALIASES: Final = {
    "Filename": {"file", "files", "filenames", "filepath", "clip", "clipname", "clipid"},
    "Speaker": {"speakers", "speakerid", "speakername", "speakerno", "spk", "spkid", "spkr", "spkrid"}
    | {"talker", "talkerid", "subjectid", "participantid", "personid", "actorid"},
}
_CLOSE: Final = 0.85
"""Two names are close from this fraction of equal letters on: "Admiraton", not "Amused"."""

_INDEX: Final = re.compile(r"(unnamed: \d+(\.\d+)?|index|level_\d+)(_[xy])?", re.I)
_ID: Final = re.compile(r"id|row|no|nr|number", re.I)
_MANY: Final = 20
"""So many rows with a whole number each, all different, are ids: labels repeat."""


def close_to(column: str) -> str | None:
    """Return the known column that another one seems to mean, None where it is known or means none."""
    if column in KNOWN or not column:
        return None
    letters = _letters(column)
    for name in KNOWN:
        if letters == _letters(name) or letters in _ALIASES.get(name, ()):
            return name
    alike = {name: SequenceMatcher(None, letters, _letters(name)).ratio() for name in KNOWN}
    best = max(alike, key=lambda name: alike[name])
    return best if alike[best] >= _CLOSE else None


def check_names(
    path: Path,
    header: Sequence[str],
    *,
    named: Collection[str] = (),
    beside: Collection[str] = (),
    about: Collection[str] = KNOWN,
) -> None:
    """Ask about columns close to known ones.

    One that differs by case or signs alone is always asked about, another only where the known one is missing.

    Args:
        path: the table, for the message.
        header: its columns.
        named: columns that the user named, which therefore mean what they say.
        beside: columns that come from another table.
        about: the known columns that matter.

    Raises:
        CorpusError: if there is such a column.
    """
    for column in header:
        known = close_to(column)
        if known is None or known not in about or column in named:
            continue
        if known not in header and known not in beside:
            raise CorpusError(
                f"{path}: the header has {column!r} and no {known}; found {','.join(header)!r:.300}. Is it {known}? "
                f"Rename it to {known}, or to something less close"
            )
        if _letters(column) == _letters(known):
            raise CorpusError(
                f"{path}: found both {known} and {column!r} as columns, expected one. Remove the other, or rename it "
                "to something less close"
            )


def numbers_rows(name: str, cells: Sequence[str]) -> bool:
    """Return whether a column only numbers the rows, as the index that pandas writes does, and is no label.

    Args:
        name: of the column.
        cells: of all rows, as text.
    """
    index = _INDEX.fullmatch(name) is not None
    cells = [cell for cell in cells if cell] if index else cells  # a merge leaves some empty
    values = [read_number(cell) for cell in cells]
    whole = [int(value) for value in values if value is not None and value.is_integer()]
    if len(whole) < len(cells):
        return False
    different = len(set(whole)) == len(whole)
    counts = len(whole) > 2 and whole == list(range(whole[0], whole[0] + len(whole)))
    many = len(whole) >= _MANY or (len(whole) > 2 and _ID.fullmatch(name) is not None)
    return index or counts or (different and many)


def _letters(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())
