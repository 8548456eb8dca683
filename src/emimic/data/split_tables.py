"""Split tables of a corpus: which there are, what they list, which columns are targets, the labels."""

import csv
import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path, PureWindowsPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic.data.cells import fits, likeness, read_number, seems_number, shown, speaker_fault, speaker_key
from emimic.data.headers import check_names, close_to, numbers_rows
from emimic.files import need_file
from emimic.media import decode
from emimic.task import EMOTIONS, VAD, CorpusError

LABELLED: Final = ("train", "valid")
"""Splits that must have labels; any other may lack them, as the challenge's test table does."""


def clip_key(name: str) -> str:
    """What two spellings of one clip share: no media suffix, and no leading zeros when it is a number."""
    name = unicodedata.normalize("NFC", name.strip())  # a Mac's disk and a table may spell "ä" differently
    stem, dot, suffix = name.rpartition(".")
    stem = stem if dot and f".{suffix.lower()}" in decode.MEDIA_SUFFIXES else name
    return (stem.lstrip("0") or "0") if stem.isascii() and stem.isdigit() else stem


@dataclass(frozen=True, slots=True)
class Table:
    """One split table: its rows as column -> stripped text, none of them blank."""

    name: str
    path: Path
    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]  # of each row in the file, for messages
    classes: str | None = None
    """The column of classes that a category table is joined by: no label itself."""

    def ids(self) -> list[str]:
        return [row["Filename"] for row in self.rows]

    def speakers(self) -> dict[str, str]:
        """Return the key of each known speaker -> as first written."""
        found: dict[str, str] = {}
        for row in self.rows:
            if name := row.get("Speaker"):
                found.setdefault(speaker_key(name), name)
        return found


def listing(sections: Mapping[str, Sequence[str]], limit: int = 20) -> list[str]:
    """Lines of a report: each section that isn't empty with its first `limit` entries and the number of the others."""
    lines: list[str] = []
    for title, entries in sections.items():
        if entries:
            lines += [f"{title} ({len(entries)}):", *(f"  {entry}" for entry in entries[:limit])]
            lines += [f"  and {len(entries) - limit} more"] if len(entries) > limit else []
    return lines


def some(names: Sequence[str], limit: int = 10) -> str:
    """The first names as text, with the number of the others."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def noted(notes: Sequence[str], limit: int = 3) -> str:
    """The first notes as the end of an error's text, which may follow from them."""
    return f" (noted before: {'; '.join(notes[:limit])})" if notes else ""


def split_files(
    folder: Path, wanted: Sequence[str] | None, notes: list[str]
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Split name -> table: those wanted, by default train, valid and, when there, test; and the others."""
    there = {path.name.removesuffix("_split.csv"): path for path in sorted(folder.glob("[!.]*_split.csv"))}
    if (other := there.pop("val", None)) is not None and there.setdefault("valid", other) != other:
        notes.append(f"{other.name} was not read, because valid_split.csv is there too")
    if wanted is None:
        names = ["train", "valid", *(["test"] if "test" in there else [])]
    else:
        wanted = [wanted] if isinstance(wanted, str) else wanted
        names = list(dict.fromkeys("valid" if name == "val" else name for name in wanted))
    if missing := [f"{name}_split.csv" for name in names if name not in there]:
        found = some([path.name for path in there.values()]) or "no *_split.csv at all"
        raise CorpusError(
            f"{folder} has no {', '.join(missing)}; found {found}. Add the table or name other splits"
        )
    return {name: there.pop(name) for name in names}, there


def read_others(files: Mapping[str, Path], notes: list[str]) -> list[Table]:
    """The tables that can be read; of the others, a note: what was not asked for must not stop a study."""
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
    """Read a comma-separated table in UTF-8, with or without BOM; CorpusError names file and line."""
    lines = read_lines(path)
    header = lines[0][1] if lines else []
    named = [column for column in header if column]  # spreadsheets add empty columns
    if "Filename" not in named or len(set(named)) < len(named):
        close = [column for column in named if close_to(column) == "Filename" and "Filename" not in named]
        hint = f". Is {close[0]!r} the Filename? Rename it" if close else ""
        raise CorpusError(
            f"{path}: the header is {','.join(header)!r:.200}; expected distinct names separated by commas, "
            f"Filename among them, such as Filename,{','.join(EMOTIONS)}{hint}"
        )
    if len(lines) == 1:
        raise CorpusError(f"{path} has a header but no rows; expected one row a clip")
    check_width(path, lines)
    rows = tuple(dict(zip(header, cells, strict=True)) for _, cells in lines[1:])
    for (number, _), cells in zip(lines[1:], rows, strict=True):
        # Ids also name files that are written, so a table from elsewhere must not lead out of a folder.
        clip = cells["Filename"]
        if PureWindowsPath(clip).name != clip or clip in ("", "..") or not clip.isprintable():
            raise CorpusError(
                f"{path}, line {number}: Filename is {clip!r}, expected the bare name of a file "
                "under audio/ or raw/, without folders"
            )
        if wrong := speaker_fault(cells.get("Speaker", "")):
            raise CorpusError(
                f"{path}, line {number} (clip {clip}): Speaker is {cells['Speaker']!r}, {wrong}"
            )
    return Table(name, path, tuple(header), rows, tuple(number for number, _ in lines[1:]))


def read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return a CSV's lines that are not blank, each with its number in the file. Raises CorpusError.

    Letters are composed (NFC) but for those of ids, which stay as written; of a header what can't be seen goes.
    """
    lines: list[tuple[int, list[str]]] = []
    place = ""
    try:
        need_file(path)  # a pipe would block for ever
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(
                handle, strict=True
            )  # else a quote that isn't closed takes all rows behind it
            try:
                lines += ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
            except csv.Error:
                place = f", line {lines[-1][0] + 1 if lines else 1}"
                raise
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(
            f"{path}{place} can't be read ({error}); expected a comma-separated table in UTF-8, quotes in pairs"
        ) from error
    lines = [(number, row) for number, row in lines if any(row)]
    header = [_visible(name) for name in lines[0][1]] if lines else []
    ids = header.index("Filename") if "Filename" in header else -1
    rows = [
        (number, [cell if i == ids else unicodedata.normalize("NFC", cell) for i, cell in enumerate(row)])
        for number, row in lines[1:]
    ]
    return [(number, header) for number, _ in lines[:1]] + rows


def _visible(name: str) -> str:
    """A column's name without a byte order mark or a zero-width space in it."""
    visible = "".join(c for c in name if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", visible).strip()


def check_width(path: Path, lines: Sequence[tuple[int, list[str]]]) -> None:
    """Raise CorpusError at a line that has another number of cells than the first."""
    for number, row in lines:
        if len(row) != len(lines[0][1]):
            raise CorpusError(
                f"{path}, line {number}: {len(row)} cells, expected {len(lines[0][1])} as in the header"
            )


def choose_targets(
    tables: Sequence[Table],
    wanted: Sequence[str] | None,
    category: str | None,
    notes: list[str],
    kept: Collection[str] = (),
) -> tuple[str, ...]:
    """The wanted columns (none: for a VAD head alone); else the paper's six when all are there; else none where there
    are VAD labels; else all numeric columns but the category's and those `kept` as text, in file order."""
    if wanted is not None:
        names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        if not names and tables and not any(map(has_vad, tables)):
            raise CorpusError(
                f"{tables[0].path}: without targets there must be the columns {', '.join(VAD)}; found "
                f"{', '.join(tables[0].header)}. Add them, or name targets"
            )
        if len(set(names)) < len(names) or {"Filename", "Speaker"} & set(names):
            raise CorpusError(
                f"targets are {names}, expected distinct label columns (not Filename or Speaker)"
            )
        return names
    # One table that has them all shows which one lacks some.
    if any(set(EMOTIONS) <= set(table.header) for table in tables):
        return EMOTIONS
    for table in tables:
        if has_vad(table):
            notes.append(
                f"{table.path.name} has {', '.join(VAD)} and not the six emotions: the VAD head alone is concerned; "
                "name the targets to predict other columns"
            )
            return ()
        others = {category, table.classes, *kept}
        numeric = [name for name in table.header if name not in others and _is_numeric(table, name)]
        rows = [name for name in numeric if numbers_rows(name, [row[name] for row in table.rows])]
        if rows:
            notes.append(
                f"{table.path.name}: {', '.join(rows)} only numbers the rows and is no target; name it as one if it is"
            )
        if names := tuple(name for name in numeric if name not in rows):
            few = [name for name in EMOTIONS if name in names]
            part = f" ({', '.join(few)} of the six emotions, the others are missing)" if few else ""
            notes.append(
                f"the targets are all numeric columns of {table.path.name}: {', '.join(names)}{part}; "
                "name the targets if some of these are no labels"
            )
            return names
    if any(table.name in LABELLED for table in tables):
        raise CorpusError(
            f"{tables[0].path}: no label column among {', '.join(tables[0].header)}; expected "
            f"{', '.join(EMOTIONS)} or other numeric columns{noted(notes)}"
        )
    return EMOTIONS


def check_category(tables: Sequence[Table], category: str) -> None:
    """Raise CorpusError when no table has a column of classes, such as those of an auxiliary task."""
    if not any(category in table.header for table in tables):
        raise CorpusError(
            f"{tables[0].path} has no column {category}; found {', '.join(tables[0].header)}. Name another column "
            "of class names (category, or balance, together and ranks of a corpus), or none"
        )


def has_vad(table: Table) -> bool:
    """Whether a table has all three columns for the VAD head."""
    return set(VAD) <= set(table.header)


def note_vad(tables: Sequence[Table], targets: Sequence[str], notes: list[str]) -> None:
    """Note labels of V/A/D that are of no use, and those that are learned and not scored."""
    for table in tables:
        some_of = [name for name in VAD if name in table.header]
        if 0 < len(some_of) < len(VAD) and not set(some_of) & set(targets):
            missing = [name for name in VAD if name not in some_of]
            notes.append(
                f"{table.path.name} has {', '.join(some_of)} without {', '.join(missing)}: V/A/D labels need all three "
                "columns (a cell may be empty), so these are not used"
            )
    labelled = [table for table in tables if table.name in LABELLED and not set(VAD) & set(targets)]
    for with_, without in product(*[[t for t in labelled if has_vad(t) == known] for known in (True, False)]):
        notes.append(
            f"{with_.path.name} has {', '.join(VAD)} and {without.path.name} has not: "
            + ("V/A/D are learned and not scored" if with_.name == "train" else "V/A/D are not learned")
        )


def read_vad(table: Table) -> NDArray[np.float64]:
    """Arousal, dominance, valence (row, 3) in [0, 1], empty cells as NaN, of a table that has the columns."""
    values = _numbers(table, VAD)
    known = values[np.isfinite(values)]
    if known.size and (known.min() < 0 or known.max() > 1):
        raise CorpusError(
            f"{table.path}: {', '.join(VAD)} go from {known.min():g} to {known.max():g}; expected 0 to 1. Rescale "
            "them, such as (x - 1) / 6 for a scale from 1 to 7"
        )
    return values


def _is_numeric(table: Table, column: str) -> bool:
    """Whether most filled cells are meant as numbers: then one that is none is a slip to report, not a text column."""
    if column in ("", "Filename", "Speaker"):
        return False
    filled = [row[column] for row in table.rows if row[column]]
    return 2 * sum(map(seems_number, filled)) > len(filled)


def read_labels(
    table: Table,
    targets: tuple[str, ...],
    scale: float | None,
    notes: list[str],
    unknown: Collection[str] = (),
    tables: Sequence[Table] = (),
) -> NDArray[np.float64] | None:
    """(row, target), empty cells as NaN; None for a table that may be unlabelled and is.

    Without targets (a corpus for the VAD head alone) every row has its no labels: (row, 0).
    unknown: targets whose columns may be missing: all their labels are unknown. tables: the corpus's, for the message.
    """
    missing = [name for name in targets if name not in table.header and name not in unknown]
    if missing and len(missing) == len(targets) and table.name not in LABELLED:
        return None
    if missing:
        others = [other for other in tables if set(missing) & set(other.header)]
        beside = f"; {others[0].path.name} has {', '.join(others[0].header)}" if others else ""
        raise CorpusError(
            f"{table.path} has no column {', '.join(missing)}; found {', '.join(table.header)}{beside}. Rename the "
            "columns or name the targets"
        )
    values = _numbers(table, targets)
    emotions = np.isin(targets, EMOTIONS)
    _check_scale(table, values[:, emotions], scale)
    scaled: NDArray[np.float64] = values / (scale or 1.0)
    if not all(map(fits, scaled.flat)):
        raise CorpusError(
            f"{table.path}: labels divided by label_scale {scale:g} reach {np.nanmax(np.abs(scaled)):g}, expected "
            "about 0 to 1. Give the top of their scale as label_scale (--label-scale)"
        )
    for name, column in zip(targets, scaled.T, strict=True):
        known = column[np.isfinite(column)]
        if name not in EMOTIONS and known.size and known.min() >= 0 and known.max() > 1.5:
            notes.append(
                f"{table.path.name}: {name} goes from {known.min():g} to {known.max():g}, expected about "
                "0 to 1; divide by the top of its scale if it has one (label_scale, --label-scale)"
            )
    return scaled


def fault(
    table: Table,
    row: int,
    targets: tuple[str, ...],
    values: NDArray[np.float64],
    vad: NDArray[np.float64] | None,
    category: str | None,
) -> str | None:
    """What is wrong with the labels of a row's clip, or None: values (target,), vad (row, 3) of the table.

    An empty cell is an unknown label; one that says nan or inf is wrong. A clip of a split that must be labelled needs
    one known label: a target, one of VAD or, in train, a category.
    """
    cells = table.rows[row]
    labels = dict(zip(targets, values, strict=True)) | (
        {} if vad is None else dict(zip(VAD, vad[row], strict=True))
    )
    unknown = [name for name, value in labels.items() if not math.isfinite(value)]
    enough = len(unknown) < len(labels) or (table.name == "train" and category is not None)
    if not any(cells.get(name) for name in unknown) and (enough or table.name not in LABELLED):
        return None
    needed = set(targets or labels)
    return (
        ", ".join(
            f"{name} is {cells.get(name) or 'empty'}" for name in unknown if name in needed or cells.get(name)
        )
        or "no VAD label"
    )


def _numbers(table: Table, columns: Sequence[str]) -> NDArray[np.float64]:
    """(row, column), empty cells and missing columns as NaN. Raises CorpusError at a cell that is no number."""
    values = np.empty((len(table.rows), len(columns)))
    for i, row in enumerate(table.rows):
        for j, name in enumerate(columns):
            value = read_number(row.get(name, ""))
            if value is None or not fits(value):
                raise CorpusError(
                    f"{table.path}, line {table.lines[i]} (clip {row['Filename']}): {name} is {row[name]!r}, "
                    "expected a number with a decimal point, such as 0.5"
                )
            values[i, j] = value
    return values


def _check_scale(table: Table, values: NDArray[np.float64], scale: float | None) -> None:
    """Intensities of the six lie in [0, 1] (section 3.1); other scales exist and look plausible, so ask."""
    nonzero = values[np.isfinite(values) & (values != 0)]
    if not nonzero.size:
        return
    top = nonzero.max()
    if scale is not None and scale > 1 >= top:
        raise CorpusError(
            f"{table.path}: labels reach {top:g} only, yet label_scale is {scale:g}; "
            "use 1 (label_scale=1, --label-scale 1)"
        )
    scaled = nonzero / (scale or 1.0)
    if scaled.max() > 1.5 and np.mean(scaled > 1) > 0.5:
        given = "" if scale is None else f" even after division by label_scale {scale:g}"
        raise CorpusError(
            f"{table.path}: labels reach {top:g} and most are above 1{given}; expected 0 to 1. Are they on a "
            "scale of 0 to 100? Then pass label_scale=100 (--label-scale 100), or the top of the scale"
        )


def refuse_leaks(
    tables: Sequence[Table], others: Sequence[Table], allow_speakers: bool, notes: list[str]
) -> None:
    """Raise CorpusError when a clip, or a speaker unless allowed, is in one of `tables` and in another table."""
    for one, two in (*combinations(tables, 2), *product(tables, others)):
        keys = {clip_key(name) for name in one.ids()}
        if both := [name for name in two.ids() if clip_key(name) in keys]:
            raise CorpusError(
                f"{one.path.name} and {two.path.name} both list {some(both)}; expected each clip in one "
                "split. Remove it from one of them, or take a table that is no split out of the folder"
            )
        known, met = one.speakers(), two.speakers()
        shared = sorted(
            met[key] if met[key] == known[key] else f"{shown(known[key])} = {shown(met[key])}"
            for key in met.keys() & known
        )
        if shared and not allow_speakers:
            raise CorpusError(
                f"{one.path.name} and {two.path.name} share the speakers {some(shared)}; expected different "
                "people, else scores say little about new voices. Give each speaker to one split (in Python, "
                "load_corpus(..., allow_speaker_overlap=True) makes this a warning)"
            )
        if shared:
            notes.append(f"{one.path.name} and {two.path.name} share speakers: {some(shared)}")
        like = {likeness(name): name for name in known.keys() - met}
        close = [
            f"{shown(like[likeness(name)])} and {shown(name)}"
            for name in sorted(met.keys() - known)
            if likeness(name) in like
        ]
        if close:
            notes.append(
                f"{one.path.name} and {two.path.name}: the speakers {some(close)} differ only in case, signs or how a "
                "number is written; are they the same people?"
            )
        if bool(known) != bool(met):
            with_, without = (one, two) if known else (two, one)
            notes.append(
                f"{without.path.name} names no speaker and {with_.path.name} does: whether they share some isn't known"
            )
