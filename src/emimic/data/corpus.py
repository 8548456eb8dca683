"""Corpora in the layout of the ABAW challenge (paper section 3): split tables beside `audio/` or `raw/`.

A clip that can't be used is reported and left out; it is never replaced by zeros, and no label is invented.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Final

from emimic.data import class_tables
from emimic.data.headers import KNOWN
from emimic.data.items import Item, Left, Split
from emimic.data.labels import check_category, choose_targets, note_vad, read_labels
from emimic.data.leaks import check_leaks
from emimic.data.matching import match_table
from emimic.data.media_files import FACES, MEDIA_FOLDERS, list_media
from emimic.data.parallel import run_in_parallel
from emimic.data.scan import scan as scan_recording
from emimic.data.split_tables import (
    Table,
    append_notes,
    find_split_files,
    format_sections,
    list_some,
    read_others,
    read_table,
)
from emimic.task import EMOTIONS, CorpusError

__all__ = [
    "FACES",
    "MEDIA_FOLDERS",
    "Corpus",
    "Item",
    "Left",
    "Split",
    "list_media",
    "load_corpus",
    "run_in_parallel",
]

_COUNTS: Final = {
    # in the report: in the summary
    "rows": "rows",
    "usable": "usable",
    "missing": "missing",
    "unreadable": "unreadable",
    "duplicates": "duplicates",
    "labels_not_finite": "without usable labels",
    "labels_outside_0_1": "labels outside [0, 1]",
    "hours": "hours",
    "speakers": "speakers",
}


@dataclass(frozen=True)
class Corpus:
    """A loaded corpus; `warnings` are sentences about oddities that were accepted."""

    folder: Path
    targets: tuple[str, ...]
    splits: dict[str, Split]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the integrity report, ready for JSON: counts of clips per split, every exclusion, every warning."""
        return {
            "folder": str(self.folder),
            "targets": list(self.targets),
            "splits": {name: _count_clips(split) for name, split in self.splits.items()},
            "warnings": list(self.warnings),
        }

    def to_text(self, limit: int = 20) -> str:
        """Return the report as plain text, with the first `limit` exclusions and warnings."""
        lines = [f"Corpus {self.folder}, targets: {', '.join(self.targets) or 'none beside VAD'}"]
        for name, split in self.splits.items():
            facts = _count_clips(split)
            counts = {title: facts[key] for key, title in _COUNTS.items()}
            # Besides clips left out for their labels, those that are used because their split needs no labels.
            counts["without usable labels"] += sum(item.labels is None for item in split.items)
            counts["speakers"] = "unknown" if split.speakers is None else facts["speakers"]
            counts["hours"] = "unknown" if facts["hours"] is None else f"{split.hours:.2f}"
            lines.append(f"  {name}: " + ", ".join(f"{title} {n}" for title, n in counts.items()))
        left = [f"{name} {clip.id}: {clip.reason}" for name, s in self.splits.items() for clip in s.left_out]
        return "\n".join(lines + format_sections({"Left out": left, "Warnings": self.warnings}, limit))


def _count_clips(split: Split) -> dict[str, Any]:
    """Return a split's part of the report."""
    kinds = Counter(clip.kind for clip in split.left_out)
    return {
        "rows": len(split.listed),
        "found": len(split.listed) - kinds["missing"] - kinds["duplicate"],
        "usable": len(split.items),
        "missing": kinds["missing"],
        "unreadable": kinds["unreadable"],
        "duplicates": kinds["duplicate"],
        "labels_outside_0_1": len(split.list_outside()),
        "labels_not_finite": kinds["label"],
        "speakers": None if split.speakers is None else len(split.speakers),
        "hours": None if math.isnan(split.hours) else split.hours,
        "left_out": [dataclasses.asdict(clip) for clip in split.left_out],
    }


def load_corpus(
    folder: str | Path,
    *,
    targets: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    label_scale: float | None = None,
    scan: bool = True,
    workers: int | None = None,
    progress: bool = False,
    labels: bool = True,
    category: str | None = None,
    allow_speaker_overlap: bool = False,
    clips: Mapping[str, Path] | None = None,
    partial: bool = False,
    columns: Sequence[str] = (),
    ranked: str | None = None,
) -> Corpus:
    """Read `train_split.csv`, `valid_split.csv` (or `val_split.csv`) and, if it exists, `test_split.csv`.

    A table has the column `Filename` (a number with or without leading zeros, or a file name with or without its
    suffix), perhaps `Speaker`, and the targets: the paper's six in the paper's order when all are there, else every
    numeric column in file order, else those in `targets`. Only train and valid must be labeled. `Arousal, Dominance,
    Valence` in [0, 1], beside the six or instead of them, are labels of the VAD head. An empty field is an unknown
    label in every split; a clip of train or valid needs one known label, whichever. The labels of classes in
    `targets.csv` (see `class_tables`) count as if the tables had these columns.

    Of a clip listed twice in a split the first row counts and the other is reported. A clip in two splits is always an
    error: it would be learned and then evaluated. Both are checked in every table of the folder, also in those not
    loaded. Names in a table never lead out of `audio/` and `raw/`; symbolic links there are followed.

    Args:
        folder: the corpus.
        targets: the label columns.
        splits: names of the tables to load (`<name>_split.csv`); default train, valid and, if it exists, test.
        label_scale: labels are divided by it; a scale other than 0-1 is never guessed.
        scan: decode every clip once, so that unreadable ones are reported and lengths are true.
        workers: threads for the scan, default one per CPU.
        progress: show a bar on standard error.
        labels: False leaves the labels unread; then every readable clip is usable.
        category: a column of class names of training clips, for an auxiliary task; it is no target.
        allow_speaker_overlap: turn the error about a speaker in two splits into a warning.
        clips: clip key -> its file, instead of those in `audio/` and `raw/`: files of features, which aren't scanned.
        partial: columns of `targets` may be missing, as in one corpus among several.
        columns: further columns that are kept as text (`Item.columns`).
        ranked: one of `columns`; a training clip with a class there needs no label.

    Raises:
        CorpusError: a table is missing or invalid, no clip of a requested split can be used, or splits overlap.
    """
    folder = Path(folder)
    _check_arguments(folder, label_scale)
    notes: list[str] = []
    texts = [*columns, *filter(None, [category])]
    tables, others = _read_tables(folder, splits, targets, texts, labels, notes)
    names = choose_targets(tables if labels and not partial else (), targets, category, notes, columns)
    if labels:
        note_vad(tables, names, notes)
    category = category if labels else None
    for column in filter(None, (category, *columns)):
        check_category(tables, column)
    check_leaks(tables, others, allow_speaker_overlap, notes)
    media, reason = _find_media(folder, clips)
    # One corpus among several may have none of the targets.
    absent = [n for n in targets or () if partial and not any(n in table.header for table in tables)]
    values = [
        read_labels(table, names, label_scale, notes, absent, tables) if labels else None for table in tables
    ]
    matched = [
        match_table(table, media, names, v, notes, category, reason, columns, ranked)
        for table, v in zip(tables, values, strict=True)
    ]
    if scan and clips is None:
        matched = _scan(matched, workers, progress, notes)
    for split in matched:
        # The challenge publishes test tables before test clips, so only a requested split must have clips.
        if splits is not None or split.name != "test":
            _check_clips(folder, split, "audio/" if clips is None else "features/", notes)
        if set(names) <= set(EMOTIONS) and (outside := split.list_outside()):
            notes.append(f"{split.name}: kept although a label is outside [0, 1]: {list_some(outside)}")
    return Corpus(folder, names, {split.name: split for split in matched}, tuple(notes))


def _check_arguments(folder: Path, label_scale: float | None) -> None:
    """Check the folder and the scale.

    Raises:
        CorpusError: the folder is missing, or the scale is no positive number.
    """
    if not folder.is_dir():
        raise CorpusError(
            f"{folder} is not a folder; expected one with train_split.csv, valid_split.csv, audio/"
        )
    is_number = isinstance(label_scale, Real) and not isinstance(label_scale, bool)
    if label_scale is not None and not (is_number and 0 < label_scale < math.inf):
        raise CorpusError(f"label_scale is {label_scale!r}, expected the top of the scale, such as 100")


def _read_tables(
    folder: Path,
    splits: Sequence[str] | None,
    targets: Sequence[str] | None,
    text_columns: Sequence[str],
    labels: bool,
    notes: list[str],
) -> tuple[list[Table], list[Table]]:
    """Return the tables of the requested splits with the labels of their classes, and those of the other splits.

    Args:
        folder: the corpus.
        splits: see `load_corpus`.
        targets: see `load_corpus`.
        text_columns: other columns that the user named.
        labels: see `load_corpus`.
        notes: gets notes about tables and classes.

    Raises:
        CorpusError: a table is missing or invalid.
    """
    files, other_files = find_split_files(folder, splits, notes)
    others = read_others(other_files, notes)
    classes = class_tables.read(folder)
    tables = [read_table(*file) for file in files.items()]
    named = [*((targets,) if isinstance(targets, str) else targets or ()), *text_columns]
    class_tables.check_names(classes, tables, named, KNOWN if labels else ("Speaker",))
    return class_tables.join(classes, tables, others, notes), others


def _find_media(folder: Path, clips: Mapping[str, Path] | None) -> tuple[dict[str, list[Path]], str]:
    """Return clip key -> its files, those in `clips` or in the media folders; and the reason of a clip without one."""
    if clips is not None:
        return {key: [path] for key, path in clips.items()}, "no features of it"
    media: dict[str, list[Path]] = {}
    for name in reversed(MEDIA_FOLDERS):
        media |= list_media(folder / name)
    return media, "no file of that name under audio/ or raw/"


def _check_clips(folder: Path, split: Split, media_folder: str, notes: Sequence[str]) -> None:
    """Raise CorpusError where no clip of a split can be used."""
    if not split.items:
        reasons = "; ".join(f"{clip.id}: {clip.reason}" for clip in split.left_out[:3])
        raise CorpusError(
            f"{folder}: no clip of split {split.name!r} can be used ({reasons}); is {media_folder} complete?"
            f"{append_notes(notes)}"
        )


def _scan(splits: Sequence[Split], workers: int | None, progress: bool, notes: list[str]) -> list[Split]:
    """Decode all clips, and return the splits with their lengths, without clips that can't be read."""
    paths = list(dict.fromkeys(item.path for split in splits for item in split.items))
    results = run_in_parallel(scan_recording, paths, workers=workers, progress=progress, text="Reading clips")
    lengths: dict[Path, float | str] = {}
    for path, scanned in zip(paths, results, strict=True):
        notes += scanned.notes
        lengths[path] = scanned.error or scanned.seconds
    return [_add_lengths(split, lengths) for split in splits]


def _add_lengths(split: Split, lengths: Mapping[Path, float | str]) -> Split:
    """Return a split with the lengths of its clips, without those that can't be read."""
    items: list[Item] = []
    left_out = list(split.left_out)
    for item in split.items:
        if isinstance(length := lengths[item.path], str):
            left_out.append(Left(item.id, length, "unreadable"))
        else:
            items.append(dataclasses.replace(item, seconds=length))
    return dataclasses.replace(split, items=tuple(items), left_out=tuple(left_out))
