"""Layouts of published corpora: their recordings, their tables, and the clips made of them."""

import csv
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emimic.data.fields import read_number
from emimic.data.split_tables import get_clip_key
from emimic.files import check_file, walk
from emimic.media import decode
from emimic.task import CorpusError


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording with its metadata."""

    path: Path
    speaker: str
    """The corpus's own id; empty where unknown."""
    category: str
    """One of `masks.MASKS`; empty for any other."""
    joy: float | None = None
    """Perceived joy in [0, 1], instead of the category's."""
    vad: Mapping[str, float] = field(default_factory=dict)
    """The known ones of Arousal, Dominance, Valence, in [0, 1]."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the source, such as Gender (male, female or empty)."""
    split: str = ""
    """train, valid or test as published; empty when the corpus publishes none."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A recording or a row of which no clip is made."""

    name: str
    reason: str
    planned: bool = False
    """Left out by an option, so that it is only counted."""


@dataclass(frozen=True, slots=True)
class Source:
    """The input of a layout: the folder, its recordings and the options; `notes` collects notes for the user."""

    folder: Path
    recordings: tuple[Path, ...]
    """One per clip, in order of names."""
    song: bool = False
    test_set: str = "Test1"
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of one published corpus.

    Attributes:
        name: its name on the command line.
        expected: the published layout in words, for error messages.
        folders: candidates for the folder of its recordings, the first that exists; else the whole folder.
        clips: yields a Clip or a LeftOut for each recording.
        options: those of `song`, `test_set` that it has.
        publishes_splits: its clips have a split; else speakers are drawn for validation.
    """

    name: str
    expected: str
    folders: tuple[str, ...]
    clips: Callable[[Source], Iterator[Clip | LeftOut]]
    options: frozenset[str] = frozenset()
    publishes_splits: bool = False


def list_recordings(folder: Path, folders: tuple[str, ...]) -> tuple[tuple[Path, ...], list[LeftOut]]:
    """Find the recordings in the first of `folders` that exists, else anywhere in `folder`, and second files of a clip.

    Hidden files and folders are ignored. Of two files of a clip, a WAV file is preferred, then the first path.

    Raises:
        CorpusError: a folder can't be listed.
    """
    root = next((folder / name for name in folders if (folder / name).is_dir()), folder)
    recordings: dict[str, Path] = {}
    twice: list[LeftOut] = []
    errors: list[OSError] = []
    paths = [
        path for path in walk(root, errors) if path.suffix.lower() in decode.MEDIA_SUFFIXES and path.is_file()
    ]
    if errors:
        raise CorpusError(f"{errors[0].filename}: can't be listed ({errors[0].strerror}). Make it readable")
    for path in sorted(paths, key=lambda path: (path.suffix.lower() != ".wav", path)):
        first = recordings.setdefault(get_clip_key(path.name), path)
        if first != path:
            twice.append(
                LeftOut(str(path.relative_to(folder)), f"is the same clip as {first.relative_to(folder)}")
            )
    return tuple(sorted(recordings.values(), key=lambda path: path.name)), twice


def read_rows(path: Path, columns: Collection[str], *, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a table in UTF-8 as rows of stripped text by column.

    Args:
        path: the table.
        columns: those that it must have.
        delimiter: between fields.

    Raises:
        CorpusError: the table can't be read, or one of `columns` is missing.
    """
    try:
        check_file(path)  # a pipe would block forever
        with path.open(newline="", encoding="utf-8-sig") as file:
            # In tables with tabs, quotes are letters.
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
            f"{path}: row {short[0]} has {len(lines[short[0] - 1])} fields, expected {len(header)} as in the header. "
            "Copy it again"
        )
    return [{name: text.strip() for name, text in zip(header, line, strict=True)} for line in lines[1:]]


def to_number(text: str) -> float | None:
    """Convert text to a finite number, with a decimal point or comma; None for other text."""
    value = read_number(text.replace(",", "."))
    return value if value is not None and math.isfinite(value) else None
