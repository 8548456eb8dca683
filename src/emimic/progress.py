"""Progress bars, always on standard error, so that the output of a verb can be piped."""

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

Item = TypeVar("Item")

BAR_WIDTH: Final = 8
"""Width of a bar in a table, in characters."""

BAR_CHARACTERS: Final = "·█"
"""The empty and the full character of a bar."""

_CONSOLE: Final = Console(stderr=True)
"""The console of all bars, so that an inner bar (validation while training) is below the outer one."""


def show_progress(items: Iterable[Item], label: str, *, total: int, show: bool) -> Iterator[Item]:
    """Yield `items`, with a bar of `total` steps if `show` is on."""
    yield from track(items, label, total=total, disable=not show, transient=True, console=_CONSOLE)


def make_bar(*, show: bool) -> Progress:
    """Return a bar to advance by hand (`add_task`, `update`), as a context manager."""
    return Progress(disable=not show, console=_CONSOLE)


def make_counting_bar(*, unit: str, show: bool) -> Progress:
    """Return a bar like `make_bar` with the count and the rate in `unit`; it is removed at its end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    return Progress(*columns, disable=not show, console=_CONSOLE, transient=True)


class _Rate(ProgressColumn):
    """The rate of a task."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate with its unit."""
        return Text("" if task.speed is None else f"{task.speed:.1f} {self.unit}")


def draw_bar(value: float, *, ascii_only: bool = False) -> str:
    """Draw a value from 0 to 1 as a bar of BAR_WIDTH characters, NaN as blank.

    Args:
        value: clipped to [0, 1].
        ascii_only: use ASCII, for encodings without BAR_CHARACTERS (Windows in cp1252, LC_ALL=C).
    """
    if not math.isfinite(value):
        return " " * BAR_WIDTH
    empty, full = ".#" if ascii_only else BAR_CHARACTERS
    filled = round(min(max(value, 0.0), 1.0) * BAR_WIDTH)
    return full * filled + empty * (BAR_WIDTH - filled)
