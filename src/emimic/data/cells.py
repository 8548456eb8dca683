"""Cells of tables: numbers, and the ids of speakers, which spreadsheets and pandas spell again."""

import math
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

import numpy as np

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.I)
_SEEMS: Final = re.compile(r"[+-]?\d*[._,' ]?\d+ ?%?")
_WHOLE: Final = re.compile(r"0*(\d+)(\.0*)?", re.ASCII)
_ROUNDED: Final = re.compile(r"\d([.,]\d+)?[eE]\+\d+", re.ASCII)
_MISSING: Final = frozenset(
    {"nan", "-nan", "<na>", "nat", "none", "null", "na", "n/a", "#na", "#n/a", "?", "-", "unknown"}
    | {"#value!", "#ref!", "#name?", "#num!", "#null!", "#div/0!"}
)
"""In small letters, as pandas, R, spreadsheets and people write that nothing is known."""


def read_number(cell: str) -> float | None:
    """Return a cell's number, NaN of an empty one, and None where it is none.

    ASCII digits with a decimal point, perhaps an exponent, or nan and inf: `0_5` and Arabic digits, which Python reads
    as numbers, are slips.
    """
    return float(cell) if _NUMBER.fullmatch(cell) else None if cell else math.nan


def fits(value: float) -> bool:
    """Return whether a number stays finite as float32, or is not finite itself."""
    return not math.isfinite(value) or abs(value) <= float(np.finfo(np.float32).max)


def seems_number(cell: str) -> bool:
    """Return whether a cell is a number, or is meant as one, such as 0_5, 0,5 or 50 %."""
    return bool(_NUMBER.fullmatch(cell) or _SEEMS.fullmatch(cell))


def speaker_key(cell: str) -> str:
    """Return the one spelling of a speaker's id, empty where unknown.

    310 for 000310 and 310.0; letters are composed, and what can't be seen (a zero-width space) is left out.
    """
    visible = "".join(c for c in " ".join(cell.split()) if unicodedata.category(c) not in ("Cc", "Cf"))
    text = " ".join(unicodedata.normalize("NFKC", visible).split())
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def speaker_fault(cell: str) -> str | None:
    """Return why a speaker's cell can't be an id, None where it can: a rounded number, or a word for a missing one."""
    if _ROUNDED.fullmatch(cell):
        return "a number that a spreadsheet has rounded, so that several people may have it; format the column as text"
    if cell.casefold() in _MISSING:
        return "a word for a missing value; leave the cell empty where the speaker is unknown"
    return None


def alike(names: Iterable[str]) -> list[str]:
    """Return "Anna and anna" for each group of names that differ in case, signs, or how a number is written."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(likeness(name), set()).add(name)
    return [" and ".join(map(shown, sorted(group))) for _, group in sorted(groups.items()) if len(group) > 1]


def shown(name: str) -> str:
    """Return a name for a message, with escapes where it has letters that can't be seen."""
    return name if name.isprintable() else repr(name)


def likeness(name: str) -> str:
    """Return the same for names that differ in case, signs, or how a number is written.

    Of 12.50, 12,5 and '12.5 one; of S-012, s_12 and S12, too; but not of 1-2 and 12.
    """
    text = speaker_key(name).casefold()
    number = read_number(text.strip("'\"=").replace(",", "."))
    if number is not None and math.isfinite(number):
        return repr(number)
    apart = re.sub(r"(?<=\d)[\W_]+(?=\d)", "|", text)
    letters = "".join(c for c in apart if c.isalnum() or c == "|")
    return re.sub(r"(?<!\d)0+(?=\d)", "", letters) or text
