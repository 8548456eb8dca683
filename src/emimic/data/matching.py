"""Matching of the rows of a split table with the files of their clips."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic.data.fields import get_speaker_key, list_alike
from emimic.data.items import Item, Left, Split
from emimic.data.labels import find_fault, has_vad, read_vad
from emimic.data.split_tables import LABELED, Table, get_clip_key, list_some
from emimic.task import VAD

_CLASSES: Final = 1000
"""Maximum number of classes in a column; one with more distinct values is not checked for similar classes."""


def match_table(
    table: Table,
    media: Mapping[str, Sequence[Path]],
    targets: tuple[str, ...],
    labels: NDArray[np.float64] | None,
    notes: list[str],
    category: str | None,
    reason: str,
    columns: Sequence[str],
    ranked: str | None,
) -> Split:
    """Match the rows of a table with files.

    Args:
        table: the split table.
        media: clip key -> its files.
        targets: columns of the labels.
        labels: (row, target) of the table; None when unread, or without any.
        notes: gets notes about clips with several files, missing labels and similar classes.
        category: see `corpus.load_corpus`.
        reason: why a clip without a file is left out.
        columns: see `corpus.load_corpus`.
        ranked: see `corpus.load_corpus`.
    """
    items: list[Item] = []
    omitted: list[Left] = []
    # V/A/D named as targets are learned as targets only.
    is_vad_read = labels is not None and has_vad(table) and not set(VAD) & set(targets)
    vad = read_vad(table) if is_vad_read else None
    lines: dict[str, int] = {}
    for i, row in enumerate(table.rows):
        name, values = row["Filename"], None if labels is None else labels[i]
        if row.get("Speaker"):
            row = {**row, "Speaker": get_speaker_key(row["Speaker"])}
        paths = media.get(get_clip_key(name), [])
        kind = (category and row.get(category)) or None
        class_name = kind or (ranked and row.get(ranked)) or None
        fault = None if values is None else find_fault(table, i, targets, values, vad, class_name)
        number = table.lines[i]
        if (line := lines.setdefault(get_clip_key(name), number)) != number:
            omitted.append(Left(name, f"listed again in line {number}; line {line} counts", "duplicate"))
        elif not paths:
            omitted.append(Left(name, reason, "missing"))
        elif fault:
            omitted.append(Left(name, f"{fault}, expected a finite number", "label"))
        else:
            if len(paths) > 1:
                notes.append(f"{name} could be {', '.join(p.name for p in paths)}; {paths[0].name} was taken")
            clip_vad = vad[i].astype(np.float32) if vad is not None and np.isfinite(vad[i]).any() else None
            is_labeled = values is not None and (
                table.name in LABELED or clip_vad is not None or np.isfinite(values).any()
            )
            clip_labels = values.astype(np.float32) if values is not None and is_labeled else None
            texts = {column: row.get(column, "") for column in columns}
            speaker = row.get("Speaker") or None
            items.append(
                Item(name, paths[0], clip_labels, speaker, math.nan, clip_vad, kind, row, columns=texts)
            )
    _note_missing(table, targets, items, notes)
    _note_alike(table, (category, ranked, *columns), notes)
    return Split(table.name, tuple(table.list_ids()), tuple(items), tuple(omitted))


def _note_missing(table: Table, targets: tuple[str, ...], items: Sequence[Item], notes: list[str]) -> None:
    """Note the number of clips with unknown labels, and the targets that no clip has."""
    labels = [item.labels for item in items if item.labels is not None]
    n_missing = sum(bool(np.isnan(values).any()) for values in labels)
    if not n_missing:
        return
    effect = "the loss leaves" if table.name == "train" else "scores leave"
    unknown = np.isnan(np.stack(labels)).all(axis=0)
    names = list_some([targets[i] for i in np.flatnonzero(unknown)])
    none = f"; none has {names}" if names else ""
    notes.append(
        f"{table.path.name}: {n_missing} clips have unknown targets{none}; {effect} out what is missing"
    )


def _note_alike(table: Table, columns: Iterable[str | None], notes: list[str]) -> None:
    """Note classes that are spelled in two ways."""
    for column in dict.fromkeys(filter(None, columns)):
        classes = {row[column] for row in table.rows if row.get(column)} if column != "Speaker" else set()
        if len(classes) <= _CLASSES and (close := list_alike(classes)):
            notes.append(
                f"{table.path.name}: {list_some(close)} in the column {column} differ only in case, signs or how a "
                "number is written; are they the same class?"
            )
