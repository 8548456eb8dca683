"""Progress bars: always on standard error, so that what a verb prints can be piped."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, track

Member = TypeVar("Member")


def shown(members: Iterable[Member], label: str, *, total: int, show: bool) -> Iterator[Member]:
    """`members` as they come, with a bar of `total` steps while `show` is on."""
    console = Console(stderr=True)
    yield from track(members, label, total=total, disable=not show, transient=True, console=console)


def bar(*, show: bool) -> Progress:
    """A bar to move by hand (`add_task`, `update`), as a context manager."""
    return Progress(disable=not show, console=Console(stderr=True))
