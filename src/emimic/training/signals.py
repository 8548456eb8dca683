"""SIGTERM and Ctrl-C while something long runs."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def handled(stop: Callable[[int], None]) -> Iterator[None]:
    """Call `stop` with the signal's number where SIGTERM or SIGINT comes; what was there before comes back at the end.

    Outside the main thread signals are somebody else's, and nothing is handled.
    """
    before: dict[int, Any] = {}
    with contextlib.suppress(ValueError):
        for name in (signal.SIGTERM, signal.SIGINT):
            before[name] = signal.signal(name, lambda number, _: stop(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
