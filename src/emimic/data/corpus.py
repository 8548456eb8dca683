"""A corpus in the layout of the ABAW challenge (paper section 3): split tables beside `audio/` or `raw/`.

A clip that can't be used is named and left out; nothing is ever replaced by zeros and no label is invented.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from emimic.cpus import available
from emimic.data import class_tables
from emimic.data.cells import alike, speaker_key
from emimic.data.headers import KNOWN
from emimic.data.split_tables import (
    LABELLED,
    Table,
    check_category,
    choose_targets,
    clip_key,
    fault,
    has_vad,
    listing,
    note_vad,
    noted,
    read_labels,
    read_others,
    read_table,
    read_vad,
    refuse_leaks,
    some,
    split_files,
)
from emimic.files import visible
from emimic.media import decode
from emimic.progress import shown
from emimic.task import EMOTIONS, SAMPLE_RATE, VAD, AudioError, CorpusError

MEDIA_FOLDERS: Final = ("audio", "raw")
FACES: Final = "face_images"
"""The corpus's folder of face crops, a folder a clip."""
"""Where clips are looked for, in this order: what `prepare` made is preferred to the video it came from."""

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

_CLASSES: Final = 1000
"""A column with more distinct cells has no classes."""

Kind = Literal["missing", "unreadable", "duplicate", "label"]
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Item:
    """A clip that can be used."""

    id: str
    """As written in the table."""
    path: Path
    labels: NDArray[np.float32] | None = field(compare=False)
    """(target,), in [0, 1] for the six emotions; NaN where unknown; None without any label."""
    speaker: str | None
    seconds: float
    """Length of the whole recording; NaN when the corpus was not scanned."""
    vad: NDArray[np.float32] | None = field(default=None, compare=False)
    """(3,) arousal, dominance, valence in [0, 1], NaN where missing; None without any."""
    category: str | None = None
    """The clip's class for the auxiliary task; None when not asked for, or missing."""
    row: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """The table's row: column -> stripped text, empty where the cell is."""
    corpus: str = ""
    """The name of its corpus where a run has several: ids are unique only within one."""
    domain: str | None = None
    """Kind of its recording; None when unknown."""
    weight: float = 1.0
    """Factor of the loss of its targets."""
    vad_weight: float = 1.0
    """Factor of the loss of its V/A/D labels."""
    ridge_weight: float = 1.0
    """Its weight where a domain's own layer is solved."""
    trim: bool = False
    """Whether digital silence at both ends is left out."""
    cells: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Further columns of its row that were asked for, as text."""

    @property
    def key(self) -> str:
        """Its id among all clips of a run."""
        return f"{self.corpus}/{self.id}" if self.corpus else self.id


@dataclass(frozen=True, slots=True)
class Left:
    """A listed clip that can't be used, and why."""

    id: str
    reason: str
    kind: Kind = "unreadable"


@dataclass(frozen=True, slots=True)
class Split:
    """One table: every id in file order as written, the clips that can be used, the others with a reason."""

    name: str
    listed: tuple[str, ...]
    items: tuple[Item, ...]
    left_out: tuple[Left, ...]

    @property
    def labels(self) -> NDArray[np.float32]:
        """(clip, target) float32 in the order of `items`, NaN where unknown; CorpusError when no clip has labels."""
        sizes = {len(item.labels) for item in self.items if item.labels is not None}
        if not sizes:
            bare = some([item.id for item in self.items]) or "it has no usable clip"
            raise CorpusError(
                f"split {self.name!r} has no labels ({bare}): it can't be scored; name one that has (--split)"
            )
        unknown = np.full(sizes.pop(), np.nan, np.float32)
        return np.stack([unknown if item.labels is None else item.labels for item in self.items])

    @property
    def hours(self) -> float:
        """Length of all usable clips in hours; NaN when the corpus was not scanned."""
        return math.fsum(item.seconds for item in self.items) / 3600

    @property
    def speakers(self) -> tuple[str, ...] | None:
        """The speakers of the usable clips, sorted; None when the table names none."""
        return tuple(sorted({item.speaker for item in self.items if item.speaker})) or None

    def outside(self) -> tuple[str, ...]:
        """Ids of usable clips with a label outside [0, 1]."""
        labelled = ((item.id, item.labels) for item in self.items if item.labels is not None)
        return tuple(name for name, values in labelled if ((values < 0) | (values > 1)).any())


@dataclass(frozen=True)
class Corpus:
    """A loaded corpus; `warnings` are sentences about what was found odd but kept."""

    folder: Path
    targets: tuple[str, ...]
    splits: dict[str, Split]
    warnings: tuple[str, ...] = ()

    def report(self) -> dict[str, Any]:
        """The integrity report, ready for JSON: counts of clips per split, every exclusion, every warning."""
        return {
            "folder": str(self.folder),
            "targets": list(self.targets),
            "splits": {name: _report(split) for name, split in self.splits.items()},
            "warnings": list(self.warnings),
        }

    def summary(self, limit: int = 20) -> str:
        """The report as plain text; of exclusions and of warnings, the first `limit` are named."""
        lines = [f"Corpus {self.folder}, targets: {', '.join(self.targets) or 'none beside VAD'}"]
        for name, split in self.splits.items():
            facts = _report(split)
            counts = {spoken: facts[key] for key, spoken in _COUNTS.items()}
            # Beside the clips left out for it, those that are kept because their split may lack labels.
            counts["without usable labels"] += sum(item.labels is None for item in split.items)
            counts["speakers"] = "unknown" if split.speakers is None else facts["speakers"]
            counts["hours"] = "unknown" if facts["hours"] is None else f"{split.hours:.2f}"
            lines.append(f"  {name}: " + ", ".join(f"{spoken} {n}" for spoken, n in counts.items()))
        left = [f"{name} {clip.id}: {clip.reason}" for name, s in self.splits.items() for clip in s.left_out]
        return "\n".join(lines + listing({"Left out": left, "Warnings": self.warnings}, limit))


def _report(split: Split) -> dict[str, Any]:
    kinds = Counter(clip.kind for clip in split.left_out)
    return {
        "rows": len(split.listed),
        "found": len(split.listed) - kinds["missing"] - kinds["duplicate"],
        "usable": len(split.items),
        "missing": kinds["missing"],
        "unreadable": kinds["unreadable"],
        "duplicates": kinds["duplicate"],
        "labels_outside_0_1": len(split.outside()),
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
    """Read `train_split.csv`, `valid_split.csv` (or `val_split.csv`) and, when there, `test_split.csv`.

    A table has the column `Filename` (a number with or without leading zeros, or a file name with or without
    its suffix), perhaps `Speaker`, and the targets: the paper's six in the paper's order when all are there,
    else every numeric column in file order, else what `targets` says. Only train and valid must be labelled.
    `Arousal, Dominance, Valence` in [0, 1], beside the six or in their place, are labels of the VAD head.
    An empty cell is an unknown label in every split; a clip of train or valid needs one known label, whichever.
    The labels of classes in `targets.csv` (see `classes`) count as if the tables had these columns.

    splits: names of the tables to load (`<name>_split.csv`); default train, valid and, when there, test.
    label_scale: labels are divided by it; a scale other than 0-1 is asked about, never guessed.
    scan: decode every clip once, so that unreadable ones are named and lengths are true.
    workers: threads for the scan, default one a core. progress: show a bar on stderr.
    labels: False leaves the labels unread, whatever they are; then every readable clip is usable.
    category: a column of class names that training clips may have too, for an auxiliary task; no target then.
    allow_speaker_overlap: turn the error about a speaker in two splits into a warning.
    clips: clip key -> the file of it, in place of what lies in `audio/` and `raw/`: of features, which aren't scanned.
    partial: the corpus may lack columns of `targets`, or all of them, as one among several.
    columns: further columns, to be kept as text (`Item.cells`). ranked: one of them; a training clip with a class there
    needs no label.

    Of a clip listed twice in a split the first row counts and the other is reported. A clip in two splits is
    always an error: it would be learned and then judged. Both are looked for in every table of the folder, also
    in those not loaded. Names in a table never lead out of `audio/` and `raw/`, but symbolic links there are
    followed: on clusters media often lie elsewhere. Raises CorpusError.
    """
    folder = Path(folder)
    _check_arguments(folder, label_scale)
    notes: list[str] = []
    wanted, others = split_files(folder, splits, notes)
    rest = read_others(others, notes)
    classified = class_tables.read(folder)
    read = [read_table(*file) for file in wanted.items()]
    named = [
        *((targets,) if isinstance(targets, str) else targets or ()),
        *columns,
        *([category] if category else ()),
    ]
    class_tables.check_names(classified, read, named, KNOWN if labels else ("Speaker",))
    tables = class_tables.join(classified, read, rest, notes)
    # A corpus among several may lack targets, or all of them.
    lacking = partial and [n for n in targets or () if not any(n in table.header for table in tables)]
    kept = [*columns, *([ranked] if ranked else ())]
    names = choose_targets(tables if labels and not partial else (), targets, category, notes, kept)
    if labels:
        note_vad(tables, names, notes)
    category = category if labels else None
    for column in filter(None, (category, *columns)):
        check_category(tables, column)
    refuse_leaks(tables, rest, allow_speaker_overlap, notes)
    media: dict[str, list[Path]] = {key: [path] for key, path in (clips or {}).items()}
    for name in reversed(MEDIA_FOLDERS if clips is None else ()):
        media |= list_media(folder / name)
    nowhere = "no file of that name under audio/ or raw/" if clips is None else "no features of it"
    values = [
        read_labels(table, names, label_scale, notes, lacking or (), tables) if labels else None
        for table in tables
    ]
    matched = [
        _match(table, media, names, v, notes, category, nowhere, columns, ranked)
        for table, v in zip(tables, values, strict=True)
    ]
    if scan and clips is None:
        items = [item for split in matched for item in split.items]
        lengths = dict(
            zip((item.path for item in items), _scan(items, workers, progress, notes), strict=True)
        )
        matched = [_measure(split, lengths) for split in matched]
    for split in matched:
        # The challenge gives out test tables before test clips, so only a split that was asked for must work.
        if not split.items and (splits is not None or split.name != "test"):
            why = "; ".join(f"{clip.id}: {clip.reason}" for clip in split.left_out[:3])
            place = "audio/" if clips is None else "features/"
            raise CorpusError(
                f"{folder}: no clip of split {split.name!r} can be used ({why}); is {place} complete?{noted(notes)}"
            )
        if set(names) <= set(EMOTIONS) and (outside := split.outside()):
            notes.append(f"{split.name}: kept although a label is outside [0, 1]: {some(outside)}")
    return Corpus(folder, names, {split.name: split for split in matched}, tuple(notes))


def _check_arguments(folder: Path, label_scale: float | None) -> None:
    if not folder.is_dir():
        raise CorpusError(
            f"{folder} is not a folder; expected one with train_split.csv, valid_split.csv, audio/"
        )
    number = isinstance(label_scale, Real) and not isinstance(label_scale, bool)
    if label_scale is not None and not (number and 0 < label_scale < math.inf):
        raise CorpusError(f"label_scale is {label_scale!r}, expected the top of the scale, such as 100")


def in_parallel(
    work: Callable[[_Job], _Result], jobs: Sequence[_Job], *, workers: int | None, progress: bool, text: str
) -> Iterator[_Result]:
    """Yield `work(job)` in the order of `jobs`, from threads, as decoders release the GIL.

    A failure or Ctrl-C drops the jobs not begun; those under way are waited for.
    """
    with ThreadPoolExecutor(workers or available()) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        results = (future.result() for future in futures)
        try:
            yield from shown(results, text, total=len(jobs), show=progress)
        finally:
            pool.shutdown(cancel_futures=True)


def list_media(folder: Path, *, pipes: bool = False) -> dict[str, list[Path]]:
    """Clip key -> its files in one folder, sorted, hidden ones left aside; empty without such a folder.

    pipes: list what is no file either, save folders, for those who name what they can't open.
    """
    if not folder.is_dir():
        return {}
    found: dict[str, list[Path]] = {}
    # One listing, not one look for each of 17,000 clips: folders on a cluster disk answer slowly.
    try:
        for entry in visible(folder):
            media = Path(entry.name).suffix.lower() in decode.MEDIA_SUFFIXES
            if media and (not entry.is_dir() if pipes else entry.is_file()):
                found.setdefault(clip_key(entry.name), []).append(folder / entry.name)
    except OSError as error:
        raise CorpusError(f"{folder} can't be listed ({error}); expected a folder you may read") from error
    return {key: sorted(paths) for key, paths in found.items()}


def _match(
    table: Table,
    media: dict[str, list[Path]],
    targets: tuple[str, ...],
    labels: NDArray[np.float64] | None,
    notes: list[str],
    category: str | None,
    nowhere: str,
    columns: Sequence[str],
    ranked: str | None,
) -> Split:
    items: list[Item] = []
    left: list[Left] = []
    # Whoever names one of the three as a target has it learned as such.
    own = labels is not None and has_vad(table) and not set(VAD) & set(targets)
    vad = read_vad(table) if own else None
    masked = 0
    first: dict[str, int] = {}
    for i, row in enumerate(table.rows):
        name, values = row["Filename"], None if labels is None else labels[i]
        if row.get("Speaker"):
            row = {**row, "Speaker": speaker_key(row["Speaker"])}
        paths = media.get(clip_key(name), [])
        kind = (category and row.get(category)) or None
        felt = vad[i].astype(np.float32) if vad is not None and np.isfinite(vad[i]).any() else None
        taught = kind or (ranked and row.get(ranked)) or None
        wrong = None if values is None else fault(table, i, targets, values, vad, taught)
        if (line := first.setdefault(clip_key(name), table.lines[i])) != table.lines[i]:
            left.append(Left(name, f"listed again in line {table.lines[i]}; line {line} counts", "duplicate"))
        elif not paths:
            left.append(Left(name, nowhere, "missing"))
        elif wrong:
            left.append(Left(name, f"{wrong}, expected a finite number", "label"))
        else:
            if len(paths) > 1:
                notes.append(f"{name} could be {', '.join(p.name for p in paths)}; {paths[0].name} was taken")
            usable = None
            if values is not None and (
                table.name in LABELLED or felt is not None or np.isfinite(values).any()
            ):
                usable = values.astype(np.float32)
            masked += usable is not None and bool(np.isnan(usable).any())
            cells = {column: row.get(column, "") for column in columns}
            speaker = row.get("Speaker") or None
            items.append(Item(name, paths[0], usable, speaker, math.nan, felt, kind, row, cells=cells))
    if masked:
        verb = "the loss leaves" if table.name == "train" else "scores leave"
        known = np.isfinite(np.stack([item.labels for item in items if item.labels is not None])).any(axis=0)
        none = some([targets[place] for place in np.flatnonzero(~known)])
        lack = f"; none has {none}" if none else ""
        notes.append(f"{table.path.name}: {masked} clips lack a target{lack}; {verb} out what is missing")
    _note_alike(table, (category, ranked, *columns), notes)
    return Split(table.name, tuple(table.ids()), tuple(items), tuple(left))


def _note_alike(table: Table, columns: Iterable[str | None], notes: list[str]) -> None:
    """Note classes that are spelled in two ways."""
    for column in dict.fromkeys(filter(None, columns)):
        found = {row[column] for row in table.rows if row.get(column)} if column != "Speaker" else set()
        if len(found) <= _CLASSES and (close := alike(found)):
            notes.append(
                f"{table.path.name}: {some(close)} in the column {column} differ only in case, signs or how a "
                "number is written; are they the same class?"
            )


def _scan(items: Sequence[Item], workers: int | None, progress: bool, notes: list[str]) -> list[float | str]:
    """The length of each clip in seconds, or why it can't be read."""

    def length(item: Item) -> float | str:
        try:
            name = f"{item.path.parent.name}/{item.path.name}"
            return len(decode.load(item.path, name=name, notes=notes)) / SAMPLE_RATE
        except AudioError as error:
            return str(error)

    return list(in_parallel(length, items, workers=workers, progress=progress, text="Reading clips"))


def _measure(split: Split, lengths: dict[Path, float | str]) -> Split:
    items: list[Item] = []
    left = list(split.left_out)
    for item in split.items:
        if isinstance(length := lengths[item.path], str):
            left.append(Left(item.id, length, "unreadable"))
        else:
            items.append(dataclasses.replace(item, seconds=length))
    return dataclasses.replace(split, items=tuple(items), left_out=tuple(left))
