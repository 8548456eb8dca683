"""Category tables: `targets.csv` holds labels once per class that would otherwise be in every row of the split tables.

Its first column names a column of the split tables, such as `Category`. A row has the labels of one class: numbers, and
empty fields where a label is unknown.
"""

import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from emimic.data import headers
from emimic.data.fields import fits_float32, read_number
from emimic.data.split_tables import LABELED, Table, check_width, list_some, read_lines
from emimic.task import VAD, CorpusError

FILE: Final = "targets.csv"


@dataclass(frozen=True, slots=True)
class Classes:
    """A category table: the labels of each class, as text, by column."""

    path: Path
    column: str
    labels: tuple[str, ...]
    rows: dict[str, dict[str, str]]


def read(folder: Path) -> Classes | None:
    """Read the category table of a corpus; None when there is none.

    Raises:
        CorpusError: the table can't be read, a field is no finite number, or a value of V/A/D lies outside [0, 1].
    """
    path = folder / FILE
    if not os.path.lexists(path):
        return None
    lines = read_lines(path)
    header = lines[0][1] if lines else []
    if len(header) < 2 or "" in header or len(set(header)) < len(header) or header[0] == "Filename":
        raise CorpusError(
            f"{path}: the header is {','.join(header)!r:.200}; expected the column of classes in the split tables, "
            "then distinct names of labels, such as Category,Joy,Arousal"
        )
    if len(lines) == 1:
        raise CorpusError(f"{path} has a header but no rows; expected one row per class")
    check_width(path, lines)
    rows: dict[str, dict[str, str]] = {}
    for number, (name, *fields) in lines[1:]:
        if not name or name in rows:
            raise CorpusError(
                f"{path}, line {number}: the class is {name!r}, expected one that has no other row. "
                "Name each class once"
            )
        rows[name] = dict(zip(header[1:], fields, strict=True))
        for column, field in rows[name].items():
            _check_label(path, number, column, field)
    return Classes(path, header[0], tuple(header[1:]), rows)


def _check_label(path: Path, number: int, column: str, field: str) -> None:
    """Check that a field is empty, or a label.

    Raises:
        CorpusError: it is no finite number, or for V/A/D none in [0, 1].
    """
    low, high = (0.0, 1.0) if column in VAD else (-math.inf, math.inf)
    value = read_number(field)
    if field and (
        value is None or not math.isfinite(value) or not (fits_float32(value) and low <= value <= high)
    ):
        expected = "a number from 0 to 1" if column in VAD else "a finite number"
        raise CorpusError(
            f"{path}, line {number}: {column} is {field!r}, expected {expected}; leave the field empty where the "
            "label is unknown"
        )


def check_names(
    classes: Classes | None,
    tables: Sequence[Table],
    named: Collection[str] = (),
    about: Collection[str] = headers.KNOWN,
) -> None:
    """Check that no column of the split tables and of the category table is close to a known one.

    Args:
        classes: the category table, None without one.
        tables: the split tables.
        named: see `headers.check_names`.
        about: see `headers.check_names`.

    Raises:
        CorpusError: there is such a column.
    """
    labels, column = ((), "") if classes is None else (classes.labels, classes.column)
    for table in tables:
        headers.check_names(table.path, table.header, named=(*named, column), beside=labels, about=about)
    if classes is not None:
        beside = tables[0].header if tables else ()
        headers.check_names(classes.path, labels, named=named, beside=beside, about=about)


def join(
    classes: Classes | None, tables: Sequence[Table], others: Sequence[Table], notes: list[str]
) -> list[Table]:
    """Return the split tables with the labels of each row's class as further columns.

    A class without a row, and a clip without a class, has unknown labels. A split that needs no labels and has no
    column of classes is returned unchanged.

    Args:
        classes: the category table; None returns the tables unchanged.
        tables: the split tables that get its columns.
        others: further tables of the corpus, in which classes are only searched.
        notes: gets a note about classes that no table has, and one about classes without a row.

    Raises:
        CorpusError: train or valid has no column of classes, or a table has a column of the category table.
    """
    if classes is None:
        return list(tables)
    joined = [_join_table(classes, table) for table in tables]
    used = {
        row[classes.column] for table in (*tables, *others) for row in table.rows if row.get(classes.column)
    }
    if unused := [name for name in classes.rows if name not in used]:
        notes.append(
            f"{classes.path.name}: no clip is of the class {list_some(unused)}; is it spelled as in the tables?"
        )
    if missing := sorted(used - classes.rows.keys()):
        notes.append(
            f"{classes.path.name} has no row for {list_some(missing)}: the labels of these clips are unknown"
        )
    return joined


def _join_table(classes: Classes, table: Table) -> Table:
    """Return a split table with the labels of each row's class.

    Raises:
        CorpusError: see `join`.
    """
    if classes.column not in table.header:
        if table.name not in LABELED:
            return table
        raise CorpusError(
            f"{classes.path}: its first column is {classes.column!r}, and {table.path} has no such column; found "
            f"{', '.join(table.header)}. Name the column of classes there, or move {FILE} away"
        )
    if both := [name for name in classes.labels if name in table.header]:
        raise CorpusError(
            f"{classes.path} and {table.path} both have the column {', '.join(both)}; expected it in one of them. "
            "Remove it from the other"
        )
    # With one of the three there are labels of V/A/D, of which the others are unknown.
    rest = [
        name
        for name in VAD
        if set(VAD) & set(classes.labels) and name not in (*classes.labels, *table.header)
    ]
    unknown = dict.fromkeys((*classes.labels, *rest), "")
    rows = tuple(row | unknown | classes.rows.get(row[classes.column], {}) for row in table.rows)
    return replace(table, header=(*table.header, *unknown), rows=rows, classes=classes.column)
