"""The sessions of a study: the table that names them, and their timelines."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from emimic.inference.timeline import Timeline
from emimic.mimicry.compare import check_series, make_series
from emimic.mimicry.results import MimicryError, Series

ALL: Final = "all"
"""In the column `channels`: every channel of every file."""

_COLUMN: Final = re.compile(r"(file|role)(\d*)")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table of sessions.

    Attributes:
        id: Unique name of the session.
        files: Its recordings, which start together.
        channels: Numbers of the channels to compare, counted from 1; None for all of each file; empty for the first two
            channels of a single file, or each of several files as one voice.
        group: Name of its group, may be empty.
        roles: Names of its voices in order; empty if not given.
    """

    id: str
    files: tuple[Path, ...]
    channels: tuple[int, ...] | None
    group: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """The voices of one session.

    Attributes:
        id: Unique name.
        group: Name of its group, may be empty.
        roles: Unique names of the voices; voices of one role stand in for each other in pseudo-dyads.
        voices: Their timelines, simultaneous.
        notes: Remarks about its recordings.
    """

    id: str
    group: str
    roles: tuple[str, ...]
    voices: tuple[Series, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def from_timelines(
        cls, name: str, timelines: Sequence[Timeline], *, group: str = "", roles: Sequence[str] = ()
    ) -> "Session":
        """Return the session of two or more simultaneous timelines.

        Raises:
            MimicryError: Fewer than two voices, too little voice, roles that don't fit the voices, or timelines of
                different models.
        """
        named = tuple(roles) or tuple(f"voice {number}" for number in range(1, len(timelines) + 1))
        if len(timelines) < 2:
            raise MimicryError(
                f"{name}: found {len(timelines)} voice, expected two or more. Give another file"
            )
        if len(named) != len(timelines) or len(set(named)) != len(named):
            raise MimicryError(
                f"{name}: found the roles {', '.join(named)} for {len(timelines)} voices, expected a different "
                "role for each. Correct its row"
            )
        voices = tuple(
            replace(make_series(timeline), name=f"{name} {role}")
            for timeline, role in zip(timelines, named, strict=True)
        )
        for first, second in combinations(voices, 2):
            check_series(first, second)
        return cls(name, group, named, voices)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a table of sessions (CSV in UTF-8); files are relative to the table's folder.

    Columns: `id`; `file`, and `file2`, ... if each voice has a file; optional `channels` (such as `1,2`, or `all`),
    `group`, and `role1`, `role2`, ... Other columns are ignored.

    Raises:
        MimicryError: The table can't be read, or a row of it is invalid.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            lines = [(reader.line_num, row) for row in reader if any(row.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no CSV in UTF-8"
        raise MimicryError(
            f"{path}: can't be read ({reason}). Give a CSV with the columns id and file"
        ) from None
    if "id" not in header or not {"file", "file1"} & set(header):
        raise MimicryError(
            f"{path}: found the columns {', '.join(header) or 'none'}, expected id and file. See docs/mimicry.md"
        )
    parsed = [_parse_row(path, number, row) for number, row in lines]
    seen: set[str] = set()
    for (number, _), row in zip(lines, parsed, strict=True):
        if row.id in seen:
            raise MimicryError(
                f"{path}: found the id {row.id} again in row {number}, expected another. Rename it"
            )
        seen.add(row.id)
    if not parsed:
        raise MimicryError(f"{path}: found no session, expected one per row. Add rows")
    return parsed


def _parse_row(path: Path, number: int, fields: dict[str, Any]) -> Row:
    if None in fields:
        raise MimicryError(
            f'{path}: row {number} has more fields than the header, expected as many. Quote channels, as "1,2"'
        )
    row = {name: (value or "").strip() for name, value in fields.items()}
    numbered = sorted(
        (match[1], int(match[2] or 1), value)
        for name, value in row.items()
        if value and (match := _COLUMN.fullmatch(name))
    )
    files = tuple(path.parent / value for kind, _, value in numbered if kind == "file")
    if not row["id"] or not files:
        raise MimicryError(
            f"{path}: row {number} has no {'file' if row['id'] else 'id'}, expected one. Add it"
        )
    channels = _parse_channels(path, number, row.get("channels", ""))
    if channels and 1 != len(files) != len(channels):
        raise MimicryError(
            f"{path}: row {number} has {len(files)} files and {len(channels)} channels, expected one of each file. "
            "Correct them"
        )
    return Row(
        id=row["id"],
        files=files,
        channels=channels,
        group=row.get("group", ""),
        roles=tuple(value for kind, _, value in numbered if kind == "role"),
    )


def _parse_channels(path: Path, number: int, text: str) -> tuple[int, ...] | None:
    if text.lower() == ALL:
        return None
    parts = re.split(r"[\s,;]+", text) if text else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise MimicryError(
            f"{path}: row {number} has the channels {text!r}, expected such as 1,2 or all. Correct it"
        )
    return tuple(map(int, parts))
