"""A published corpus as a layout: its recordings, its tables, and the clips they make."""

import csv
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emimic.data.cells import read_number
from emimic.data.split_tables import clip_key
from emimic.files import need_file, walk
from emimic.media import decode
from emimic.task import CorpusError


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording with what its corpus says of it."""

    path: Path
    speaker: str
    """The corpus's own id; empty where unknown."""
    category: str
    """One of `masks.MASKS`; empty where it is none of them."""
    joy: float | None = None
    """Perceived joy in [0, 1], in place of the category's."""
    vad: Mapping[str, float] = field(default_factory=dict)
    """Arousal, Dominance, Valence in [0, 1]: those known."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the source, such as Gender (male, female or empty)."""
    split: str = ""
    """train, valid or test as published; empty where the corpus publishes none."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A recording or a row that makes no clip."""

    name: str
    reason: str
    planned: bool = False
    """Left out by an option, so that counting is enough."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a layout reads: the folder, its recordings, the options; `notes` collects what the user should know."""

    folder: Path
    recordings: tuple[Path, ...]
    """One per clip, in order of names."""
    song: bool = False
    test_set: str = "Test1"
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Layout:
    """One corpus.

    Attributes:
        name: what the command line calls it.
        expected: the published layout in words, for errors.
        folders: where its recordings lie, the first that exists; else all of the folder is searched.
        clips: yields a Clip or a LeftOut for each recording.
        options: which of `song`, `test_set` it knows.
        publishes_splits: its clips carry a split; else speakers are drawn for validation.
    """

    name: str
    expected: str
    folders: tuple[str, ...]
    clips: Callable[[Source], Iterator[Clip | LeftOut]]
    options: frozenset[str] = frozenset()
    publishes_splits: bool = False


def list_recordings(folder: Path, folders: tuple[str, ...]) -> tuple[tuple[Path, ...], list[LeftOut]]:
    """Return the recordings in the first of `folders` that exists, or anywhere in `folder`, and second files of a clip.

    Hidden files and folders are ignored. Of a clip that is there twice, a WAV file is preferred, then the first path.
    """
    place = next((folder / name for name in folders if (folder / name).is_dir()), folder)
    found: dict[str, Path] = {}
    twice: list[LeftOut] = []
    troubles: list[OSError] = []
    paths = [
        path
        for path in walk(place, troubles)
        if path.suffix.lower() in decode.MEDIA_SUFFIXES and path.is_file()
    ]
    if troubles:
        raise CorpusError(
            f"{troubles[0].filename}: can't be listed ({troubles[0].strerror}). Make it readable"
        )
    for path in sorted(paths, key=lambda path: (path.suffix.lower() != ".wav", path)):
        first = found.setdefault(clip_key(path.name), path)
        if first != path:
            twice.append(
                LeftOut(str(path.relative_to(folder)), f"is the same clip as {first.relative_to(folder)}")
            )
    return tuple(sorted(found.values(), key=lambda path: path.name)), twice


def read_rows(path: Path, columns: Collection[str], *, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a table in UTF-8 as rows of stripped text by column.

    Raises:
        CorpusError: it can't be read, or lacks one of `columns`.
    """
    try:
        need_file(path)  # a pipe would block for ever
        with path.open(newline="", encoding="utf-8-sig") as file:
            # Tables with tabs have quotes as letters.
            reader = (
                csv.reader(file, strict=True)
                if delimiter == ","
                else csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE)
            )
            lines = [line for line in reader if any(line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(
            f"{path} can't be read ({error}); expected a table in UTF-8. Copy it again"
        ) from error
    header = [name.strip() for name in lines[0]] if lines else []
    if missing := [name for name in columns if name not in header]:
        raise CorpusError(
            f"{path}: found the columns {', '.join(header)!r:.200}, expected {', '.join(missing)} too. Take the "
            "table as it was published"
        )
    if twice := [name for name in columns if header.count(name) > 1]:
        raise CorpusError(
            f"{path}: found the column {', '.join(twice)} twice, expected it once. Take the table as it was published"
        )
    if short := [number for number, line in enumerate(lines, 1) if len(line) != len(header)]:
        raise CorpusError(
            f"{path}: row {short[0]} has {len(lines[short[0] - 1])} cells, expected {len(header)} as in the header. "
            "Copy it again"
        )
    return [{name: cell.strip() for name, cell in zip(header, line, strict=True)} for line in lines[1:]]


def number(text: str) -> float | None:
    """Return a finite number, with a decimal point or comma, or None."""
    value = read_number(text.replace(",", "."))
    return value if value is not None and math.isfinite(value) else None
