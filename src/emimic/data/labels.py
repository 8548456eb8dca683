"""Labels of split tables: which columns are targets, their values, and what is wrong with them."""

import math
from collections.abc import Collection, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from emimic.data.fields import fits_float32, read_number, seems_number
from emimic.data.headers import TEXT, is_row_number
from emimic.data.split_tables import LABELED, Table, append_notes
from emimic.task import EMOTIONS, VAD, CorpusError


def choose_targets(
    tables: Sequence[Table],
    wanted: Sequence[str] | None,
    category: str | None,
    notes: list[str],
    text_columns: Collection[str] = (),
) -> tuple[str, ...]:
    """Return the columns that are targets.

    These are the requested columns; else the paper's six when a table has them all; else none when there are labels of
    V/A/D; else all numeric columns in file order, except the category's and those `text_columns`.

    Args:
        tables: the split tables.
        wanted: requested columns; none for a VAD head alone; None to choose.
        category: the column of classes of the auxiliary task.
        notes: gets a note when the choice is not obvious.
        text_columns: columns that are kept as text.

    Raises:
        CorpusError: the requested columns are not distinct label columns, or there is no label column.
    """
    if wanted is not None:
        return _check_targets(tables, (wanted,) if isinstance(wanted, str) else tuple(wanted))
    # One table with all of them is enough: the other tables are then checked against it.
    if any(set(EMOTIONS) <= set(table.header) for table in tables):
        return EMOTIONS
    for table in tables:
        if has_vad(table):
            notes.append(
                f"{table.path.name} has {', '.join(VAD)} and not the six emotions: the VAD head alone is concerned; "
                "name the targets to predict other columns"
            )
            return ()
        if names := _find_numeric(table, {category, table.classes, *text_columns}, notes):
            return names
    if any(table.name in LABELED for table in tables):
        raise CorpusError(
            f"{tables[0].path}: no label column among {', '.join(tables[0].header)}; expected "
            f"{', '.join(EMOTIONS)} or other numeric columns{append_notes(notes)}"
        )
    return EMOTIONS


def _check_targets(tables: Sequence[Table], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return requested targets.

    Raises:
        CorpusError: they are not distinct label columns, or none without labels of V/A/D.
    """
    if not names and tables and not any(map(has_vad, tables)):
        raise CorpusError(
            f"{tables[0].path}: without targets there must be the columns {', '.join(VAD)}; found "
            f"{', '.join(tables[0].header)}. Add them, or name targets"
        )
    if len(set(names)) < len(names) or {"Filename", "Speaker"} & set(names):
        raise CorpusError(f"targets are {names}, expected distinct label columns (not Filename or Speaker)")
    return names


def _find_numeric(table: Table, others: Collection[str | None], notes: list[str]) -> tuple[str, ...]:
    """Return a table's numeric columns in file order, except `others`, the words, and those that number the rows."""
    others = {*others, *(name for name in table.header if name.casefold() == TEXT.casefold())}
    numeric = [name for name in table.header if name not in others and _is_numeric(table, name)]
    counters = [name for name in numeric if is_row_number(name, [row[name] for row in table.rows])]
    if counters:
        notes.append(
            f"{table.path.name}: {', '.join(counters)} only numbers the rows and is no target; name it as one if it is"
        )
    names = tuple(name for name in numeric if name not in counters)
    if names:
        emotions = [name for name in EMOTIONS if name in names]
        part = f" ({', '.join(emotions)} of the six emotions, the others are missing)" if emotions else ""
        notes.append(
            f"the targets are all numeric columns of {table.path.name}: {', '.join(names)}{part}; "
            "name the targets if some of these are no labels"
        )
    return names


def check_category(tables: Sequence[Table], category: str) -> None:
    """Check that a table has a column of classes, such as those of an auxiliary task.

    Raises:
        CorpusError: none has it.
    """
    if not any(category in table.header for table in tables):
        raise CorpusError(
            f"{tables[0].path} has no column {category}; found {', '.join(tables[0].header)}. Name another column "
            "of class names (category, or balance, together and ranks of a corpus), or none"
        )


def has_vad(table: Table) -> bool:
    """Return whether a table has all three columns for the VAD head."""
    return set(VAD) <= set(table.header)


def note_vad(tables: Sequence[Table], targets: Sequence[str], notes: list[str]) -> None:
    """Note labels of V/A/D that are not used, and those that are learned and not scored."""
    for table in tables:
        present = [name for name in VAD if name in table.header]
        if 0 < len(present) < len(VAD) and not set(present) & set(targets):
            missing = [name for name in VAD if name not in present]
            notes.append(
                f"{table.path.name} has {', '.join(present)} without {', '.join(missing)}: V/A/D labels need all three "
                "columns (a field may be empty), so these are not used"
            )
    labeled = [table for table in tables if table.name in LABELED and not set(VAD) & set(targets)]
    complete = [table for table in labeled if has_vad(table)]
    for with_, without in product(complete, [table for table in labeled if not has_vad(table)]):
        notes.append(
            f"{with_.path.name} has {', '.join(VAD)} and {without.path.name} has not: "
            + ("V/A/D are learned and not scored" if with_.name == "train" else "V/A/D are not learned")
        )


def read_vad(table: Table) -> NDArray[np.float64]:
    """Return arousal, dominance, valence (row, 3) in [0, 1], NaN for empty fields, of a table with these columns.

    Raises:
        CorpusError: a field is no number, or outside [0, 1].
    """
    values = _read_numbers(table, VAD)
    finite = values[np.isfinite(values)]
    if finite.size and (finite.min() < 0 or finite.max() > 1):
        raise CorpusError(
            f"{table.path}: {', '.join(VAD)} go from {finite.min():g} to {finite.max():g}; expected 0 to 1. Rescale "
            "them, such as (x - 1) / 6 for a scale from 1 to 7"
        )
    return values


def read_labels(
    table: Table,
    targets: tuple[str, ...],
    scale: float | None,
    notes: list[str],
    unknown: Collection[str] = (),
    tables: Sequence[Table] = (),
) -> NDArray[np.float64] | None:
    """Return labels (row, target), NaN for empty fields; None for a table without labels that needs none.

    Without targets (a corpus for the VAD head alone) the array is (row, 0).

    Args:
        table: the split table.
        targets: columns of the labels.
        scale: number that labels are divided by; None for 1.
        notes: gets a note about columns with a larger scale.
        unknown: targets whose columns may be missing, so that all their labels are unknown.
        tables: all tables of the corpus, for the error message.

    Raises:
        CorpusError: a column is missing, a field is no number, or the scale is wrong.
    """
    missing = [name for name in targets if name not in table.header and name not in unknown]
    if missing and len(missing) == len(targets) and table.name not in LABELED:
        return None
    if missing:
        others = [other for other in tables if set(missing) & set(other.header)]
        beside = f"; {others[0].path.name} has {', '.join(others[0].header)}" if others else ""
        raise CorpusError(
            f"{table.path} has no column {', '.join(missing)}; found {', '.join(table.header)}{beside}. Rename the "
            "columns or name the targets"
        )
    values = _read_numbers(table, targets)
    emotions = np.isin(targets, EMOTIONS)
    _check_scale(table, values[:, emotions], scale)
    scaled: NDArray[np.float64] = values / (scale or 1.0)
    if not all(map(fits_float32, scaled.flat)):
        raise CorpusError(
            f"{table.path}: labels divided by label_scale {scale:g} reach {np.nanmax(np.abs(scaled)):g}, expected "
            "about 0 to 1. Give the top of their scale as label_scale (--label-scale)"
        )
    for name, column in zip(targets, scaled.T, strict=True):
        finite = column[np.isfinite(column)]
        if name not in EMOTIONS and finite.size and finite.min() >= 0 and finite.max() > 1.5:
            notes.append(
                f"{table.path.name}: {name} goes from {finite.min():g} to {finite.max():g}, expected about "
                "0 to 1; divide by the top of its scale if it has one (label_scale, --label-scale)"
            )
    return scaled


def find_fault(
    table: Table,
    row: int,
    targets: tuple[str, ...],
    values: NDArray[np.float64],
    vad: NDArray[np.float64] | None,
    category: str | None,
) -> str | None:
    """Return what is wrong with the labels of a row's clip, None when nothing is.

    An empty field is an unknown label; nan and inf are errors. A clip of a split that must be labeled needs one known
    label: a target, one of V/A/D or, in train, a category.

    Args:
        table: the split table.
        row: number of the row.
        targets: columns of the labels.
        values: (target,) labels of the row.
        vad: (row, 3) of the table, None without these labels.
        category: the row's class, None without one.
    """
    fields = table.rows[row]
    labels = dict(zip(targets, values, strict=True)) | (
        {} if vad is None else dict(zip(VAD, vad[row], strict=True))
    )
    unknown = [name for name, value in labels.items() if not math.isfinite(value)]
    is_enough = len(unknown) < len(labels) or (table.name == "train" and category is not None)
    if not any(fields.get(name) for name in unknown) and (is_enough or table.name not in LABELED):
        return None
    needed = set(targets or labels)
    return (
        ", ".join(
            f"{name} is {fields.get(name) or 'empty'}"
            for name in unknown
            if name in needed or fields.get(name)
        )
        or "no VAD label"
    )


def _is_numeric(table: Table, column: str) -> bool:
    """Return whether most filled fields are meant as numbers: others are then errors to report, not text."""
    if column in ("", "Filename", "Speaker"):
        return False
    filled = [row[column] for row in table.rows if row[column]]
    return 2 * sum(map(seems_number, filled)) > len(filled)


def _read_numbers(table: Table, columns: Sequence[str]) -> NDArray[np.float64]:
    """Return numbers (row, column), NaN for empty fields and missing columns.

    Raises:
        CorpusError: a field is no number.
    """
    values = np.empty((len(table.rows), len(columns)))
    for i, row in enumerate(table.rows):
        for j, name in enumerate(columns):
            value = read_number(row.get(name, ""))
            if value is None or not fits_float32(value):
                raise CorpusError(
                    f"{table.path}, line {table.lines[i]} (clip {row['Filename']}): {name} is {row[name]!r}, "
                    "expected a number with a decimal point, such as 0.5"
                )
            values[i, j] = value
    return values


def _check_scale(table: Table, values: NDArray[np.float64], scale: float | None) -> None:
    """Check that intensities of the six lie in [0, 1] (section 3.1): other scales exist and are not guessed.

    Raises:
        CorpusError: most are above 1, or `scale` is above 1 and none is.
    """
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
        divided = "" if scale is None else f" even after division by label_scale {scale:g}"
        raise CorpusError(
            f"{table.path}: labels reach {top:g} and most are above 1{divided}; expected 0 to 1. Are they on a "
            "scale of 0 to 100? Then pass label_scale=100 (--label-scale 100), or the top of the scale"
        )
