"""Fields of tables: numbers, and the ids of speakers, which spreadsheets and pandas rewrite."""

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
"""Missing values as pandas, R, spreadsheets and people write them, in lower case."""


def read_number(field: str) -> float | None:
    """Return a field's number, NaN for an empty field, and None when it is no number.

    A number has ASCII digits with a decimal point and perhaps an exponent, or is nan or inf. `0_5` and Arabic digits,
    which Python reads as numbers, are typing errors.
    """
    return float(field) if _NUMBER.fullmatch(field) else None if field else math.nan


def fits_float32(value: float) -> bool:
    """Return whether a number stays finite as float32, or is not finite itself."""
    return not math.isfinite(value) or abs(value) <= float(np.finfo(np.float32).max)


def seems_number(field: str) -> bool:
    """Return whether a field is a number, or is meant as one, such as 0_5, 0,5 or 50 %."""
    return bool(_NUMBER.fullmatch(field) or _SEEMS.fullmatch(field))


def get_speaker_key(field: str) -> str:
    """Return the normalized id of a speaker, empty when unknown.

    310 for 000310 and 310.0; letters are composed, and invisible characters (a zero-width space) are left out.
    """
    visible = "".join(c for c in " ".join(field.split()) if unicodedata.category(c) not in ("Cc", "Cf"))
    text = " ".join(unicodedata.normalize("NFKC", visible).split())
    number = _WHOLE.fullmatch(text)
    return number[1] if number else text


def find_speaker_fault(field: str) -> str | None:
    """Return why a field can't be a speaker's id (a rounded number, a word for a missing value), None when it can."""
    if _ROUNDED.fullmatch(field):
        return "a number that a spreadsheet has rounded, so that several people may have it; format the column as text"
    if field.casefold() in _MISSING:
        return "a word for a missing value; leave the field empty where the speaker is unknown"
    return None


def list_alike(names: Iterable[str]) -> list[str]:
    """Return "Anna and anna" for each group of names that differ in case, signs, or how a number is written."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(fold_name(name), set()).add(name)
    return [
        " and ".join(map(show_name, sorted(group))) for _, group in sorted(groups.items()) if len(group) > 1
    ]


def show_name(name: str) -> str:
    """Return a name for messages, with escapes when it has invisible characters."""
    return name if name.isprintable() else repr(name)


def fold_name(name: str) -> str:
    """Return a text that is equal for names that differ in case, signs, or how a number is written.

    Equal for 12.50, 12,5 and '12.5, and for S-012, s_12 and S12; but not for 1-2 and 12.
    """
    text = get_speaker_key(name).casefold()
    number = read_number(text.strip("'\"=").replace(",", "."))
    if number is not None and math.isfinite(number):
        return repr(number)
    separated = re.sub(r"(?<=\d)[\W_]+(?=\d)", "|", text)
    letters = "".join(c for c in separated if c.isalnum() or c == "|")
    return re.sub(r"(?<!\d)0+(?=\d)", "", letters) or text
