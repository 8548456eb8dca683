"""Progress bars: always on standard error, so that what a verb prints can be piped."""

import math
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    track,
)
from rich.text import Text

Member = TypeVar("Member")

BAR_WIDTH: Final = 8
"""Characters of a bar in a table."""

BAR_CHARACTERS: Final = "·█"
"""Empty and full."""

_CONSOLE: Final = Console(stderr=True)
"""One for all bars, so that one within another (a validation while training) stands below it."""


def shown(members: Iterable[Member], label: str, *, total: int, show: bool) -> Iterator[Member]:
    """`members` as they come, with a bar of `total` steps while `show` is on."""
    yield from track(members, label, total=total, disable=not show, transient=True, console=_CONSOLE)


def bar(*, show: bool) -> Progress:
    """A bar to move by hand (`add_task`, `update`), as a context manager."""
    return Progress(disable=not show, console=_CONSOLE)


def counted(*, unit: str, show: bool) -> Progress:
    """A bar as of `bar` that says how many are done, and how many a second in words of `unit`; it goes at its end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    return Progress(*columns, disable=not show, console=_CONSOLE, transient=True)


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} {self.unit}")


def text_bar(value: float, *, ascii_only: bool = False) -> str:
    """Return a value from 0 to 1 as a bar of BAR_WIDTH characters; NaN as blank.

    ascii_only: for a terminal whose encoding lacks BAR_CHARACTERS (Windows in cp1252, LC_ALL=C).
    """
    if not math.isfinite(value):
        return " " * BAR_WIDTH
    empty, full = ".#" if ascii_only else BAR_CHARACTERS
    filled = round(min(max(value, 0.0), 1.0) * BAR_WIDTH)
    return full * filled + empty * (BAR_WIDTH - filled)
