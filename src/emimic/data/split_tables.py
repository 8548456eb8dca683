"""Split tables of a corpus: the files, and the clips and columns that they list."""

import csv
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Final

from emimic.data.fields import find_speaker_fault, get_speaker_key
from emimic.data.headers import check_names, find_close
from emimic.files import check_file
from emimic.media import decode
from emimic.task import EMOTIONS, CorpusError

LABELED: Final = ("train", "valid")
"""Splits that must have labels; in the others they are optional, as in the challenge's test table."""


def get_clip_key(name: str) -> str:
    """Return the key that all spellings of a clip have: no media suffix, and no leading zeros for a number."""
    name = unicodedata.normalize("NFC", name.strip())  # a Mac's disk and a table may spell "ä" differently
    stem, dot, suffix = name.rpartition(".")
    stem = stem if dot and f".{suffix.lower()}" in decode.MEDIA_SUFFIXES else name
    return (stem.lstrip("0") or "0") if stem.isascii() and stem.isdigit() else stem


@dataclass(frozen=True, slots=True)
class Table:
    """One split table: its rows as column -> stripped text, without blank rows."""

    name: str
    path: Path
    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]
    """Line of each row in the file, for messages."""
    classes: str | None = None
    """The column of classes that a category table is joined by; it is no label itself."""

    def list_ids(self) -> list[str]:
        """Return the ids of all rows as written."""
        return [row["Filename"] for row in self.rows]

    def list_speakers(self) -> dict[str, str]:
        """Return the key of each known speaker -> the id as first written."""
        names: dict[str, str] = {}
        for row in self.rows:
            if name := row.get("Speaker"):
                names.setdefault(get_speaker_key(name), name)
        return names


def format_sections(sections: Mapping[str, Sequence[str]], limit: int = 20) -> list[str]:
    """Return the lines of a report: each non-empty section with its first `limit` entries and the number of others."""
    lines: list[str] = []
    for title, entries in sections.items():
        if entries:
            lines += [f"{title} ({len(entries)}):", *(f"  {entry}" for entry in entries[:limit])]
            lines += [f"  and {len(entries) - limit} more"] if len(entries) > limit else []
    return lines


def list_some(names: Sequence[str], limit: int = 10) -> str:
    """Return the first names as text, with the number of the others."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def append_notes(notes: Sequence[str], limit: int = 3) -> str:
    """Return the first notes as the end of an error's text, since they may explain it."""
    return f" (noted before: {'; '.join(notes[:limit])})" if notes else ""


def find_split_files(
    folder: Path, wanted: Sequence[str] | None, notes: list[str]
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return split name -> table for the requested splits, and for the others.

    Args:
        folder: the corpus.
        wanted: names of splits; None for train, valid and, if it exists, test.
        notes: gets a note when a table is ignored.

    Raises:
        CorpusError: a requested table is missing.
    """
    paths = {path.name.removesuffix("_split.csv"): path for path in sorted(folder.glob("[!.]*_split.csv"))}
    if (val := paths.pop("val", None)) is not None and paths.setdefault("valid", val) != val:
        notes.append(f"{val.name} was not read, because valid_split.csv is there too")
    if wanted is None:
        names = ["train", "valid", *(["test"] if "test" in paths else [])]
    else:
        wanted = [wanted] if isinstance(wanted, str) else wanted
        names = list(dict.fromkeys("valid" if name == "val" else name for name in wanted))
    if missing := [f"{name}_split.csv" for name in names if name not in paths]:
        tables = list_some([path.name for path in paths.values()]) or "no *_split.csv at all"
        raise CorpusError(
            f"{folder} has no {', '.join(missing)}; found {tables}. Add the table or name other splits"
        )
    return {name: paths.pop(name) for name in names}, paths


def read_others(files: Mapping[str, Path], notes: list[str]) -> list[Table]:
    """Read the tables of splits that were not requested; note those that can't be read, which must not stop a run."""
    tables = []
    for name, path in files.items():
        try:
            table = read_table(name, path)
            check_names(path, table.header, about=("Speaker",))
            tables.append(table)
        except CorpusError as error:
            notes.append(f"leaks into {path.name} can't be looked for: {error}")
    return tables


def read_table(name: str, path: Path) -> Table:
    """Read a comma-separated table in UTF-8, with or without BOM.

    Raises:
        CorpusError: the table can't be read, or a header, an id or a speaker is invalid.
    """
    lines = read_lines(path)
    header = lines[0][1] if lines else []
    columns = [column for column in header if column]  # spreadsheets add empty columns
    if "Filename" not in columns or len(set(columns)) < len(columns):
        close = [
            column for column in columns if find_close(column) == "Filename" and "Filename" not in columns
        ]
        hint = f". Is {close[0]!r} the Filename? Rename it" if close else ""
        raise CorpusError(
            f"{path}: the header is {','.join(header)!r:.200}; expected distinct names separated by commas, "
            f"Filename among them, such as Filename,{','.join(EMOTIONS)}{hint}"
        )
    if len(lines) == 1:
        raise CorpusError(f"{path} has a header but no rows; expected one row per clip")
    check_width(path, lines)
    rows = tuple(dict(zip(header, fields, strict=True)) for _, fields in lines[1:])
    for (number, _), row in zip(lines[1:], rows, strict=True):
        # Ids also name files that are written, so a table from elsewhere must not lead out of a folder.
        clip = row["Filename"]
        if PureWindowsPath(clip).name != clip or clip in ("", "..") or not clip.isprintable():
            raise CorpusError(
                f"{path}, line {number}: Filename is {clip!r}, expected the bare name of a file "
                "under audio/ or raw/, without folders"
            )
        if fault := find_speaker_fault(row.get("Speaker", "")):
            raise CorpusError(f"{path}, line {number} (clip {clip}): Speaker is {row['Speaker']!r}, {fault}")
    return Table(name, path, tuple(header), rows, tuple(number for number, _ in lines[1:]))


def read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Read the lines of a CSV that are not blank, each with its number in the file.

    Letters are composed (NFC), except those of ids, which stay as written. Invisible characters are removed from the
    header.

    Raises:
        CorpusError: the file can't be read as comma-separated UTF-8.
    """
    lines: list[tuple[int, list[str]]] = []
    position = ""
    try:
        check_file(path)  # a pipe would block forever
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)  # else an unclosed quote takes all rows behind it
            try:
                lines += ((reader.line_num, [field.strip() for field in row]) for row in reader)
            except csv.Error:
                position = f", line {lines[-1][0] + 1 if lines else 1}"
                raise
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(
            f"{path}{position} can't be read ({error}); expected a comma-separated table in UTF-8, quotes in pairs"
        ) from error
    lines = [(number, row) for number, row in lines if any(row)]
    header = [_remove_invisible(name) for name in lines[0][1]] if lines else []
    ids = header.index("Filename") if "Filename" in header else -1
    rows = [
        (number, [text if i == ids else unicodedata.normalize("NFC", text) for i, text in enumerate(row)])
        for number, row in lines[1:]
    ]
    return [(number, header) for number, _ in lines[:1]] + rows


def _remove_invisible(name: str) -> str:
    """Return a column's name without a byte order mark or a zero-width space in it."""
    visible = "".join(c for c in name if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", visible).strip()


def check_width(path: Path, lines: Sequence[tuple[int, list[str]]]) -> None:
    """Check that all lines have as many fields as the first.

    Raises:
        CorpusError: a line has another number of fields.
    """
    for number, row in lines:
        if len(row) != len(lines[0][1]):
            raise CorpusError(
                f"{path}, line {number}: {len(row)} fields, expected {len(lines[0][1])} as in the header"
            )
