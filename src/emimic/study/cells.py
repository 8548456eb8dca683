"""Cells of tables: numbers, and the ids of speakers, which spreadsheets and pandas spell anew."""

import math
import re
import unicodedata
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.I)
_SEEMS: Final = re.compile(r"[+-]?\d*[._,' ]?\d+ ?%?")
_WHOLE: Final = re.compile(r"0*(\d+)(\.0*)?", re.ASCII)
_ROUNDED: Final = re.compile(r"\d([.,]\d+)?[eE]\+\d+", re.ASCII)
_MISSING: Final = frozenset(
    {"nan", "NaN", "NAN", "<NA>", "NaT", "None", "null", "NULL", "#N/A", "N/A", "n/a"}
)


def read_number(cell: str) -> float | None:
    """Return a cell's number, NaN of an empty one, and None where it is none.

    ASCII digits with a decimal point, perhaps an exponent, or nan and inf: `0_5` and Arabic digits, which Python reads
    as numbers, are slips.
    """
    return float(cell) if _NUMBER.fullmatch(cell) else None if cell else math.nan


def seems_number(cell: str) -> bool:
    """Return whether a cell is a number, or is meant as one, such as 0_5, 0,5 or 50 %."""
    return bool(_NUMBER.fullmatch(cell) or _SEEMS.fullmatch(cell))


def speaker_key(cell: str) -> str:
    """Return the one spelling of a speaker's id: 310 for 000310 and 310.0, composed letters; empty where unknown."""
    text = " ".join(unicodedata.normalize("NFKC", cell).split())
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def speaker_fault(cell: str) -> str | None:
    """Return why a speaker's cell can't be an id, None where it can: a rounded number, or a word for a missing one."""
    if _ROUNDED.fullmatch(cell):
        return "a number that a spreadsheet has rounded, so that several people may have it; format the column as text"
    if cell in _MISSING:
        return "a word for a missing value; leave the cell empty where the speaker is unknown"
    return None
