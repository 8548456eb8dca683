"""Progress bars, always on standard error, so that the output of a verb can be piped."""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

# rich is imported at the first bar: a server, and a program that predicts one clip, show none.

Item = TypeVar("Item")

BAR_WIDTH: Final = 8
"""Width of a bar in a table, in characters."""

BAR_CHARACTERS: Final = "·█"
"""The empty and the full character of a bar."""


@functools.cache
def get_console() -> "Console":
    """Return the console of all bars, so that an inner bar (validation while training) is below the outer one."""
    from rich.console import Console

    return Console(stderr=True)


def show_progress(items: Iterable[Item], label: str, *, total: int, show: bool) -> Iterator[Item]:
    """Yield `items`, with a bar of `total` steps if `show` is on."""
    if not show:
        yield from items
        return
    from rich.progress import track

    yield from track(items, label, total=total, transient=True, console=get_console())


def make_bar(*, show: bool) -> "Progress":
    """Return a bar to advance by hand (`add_task`, `update`), as a context manager."""
    from rich.progress import Progress

    return Progress(disable=not show, console=get_console())


def make_counting_bar(*, unit: str, show: bool) -> "Progress":
    """Return a bar like `make_bar` with the count and the rate in `unit`; it is removed at its end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _make_rate(unit),
        TimeRemainingColumn(),
    )
    return Progress(*columns, disable=not show, console=get_console(), transient=True)


def _make_rate(unit: str) -> "ProgressColumn":
    """Return a column with a task's rate and its unit."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f} {unit}")

    return Rate()


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
