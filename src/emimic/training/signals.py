"""Handling of SIGTERM and Ctrl-C during long work."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def handle(stop: Callable[[int], None]) -> Iterator[None]:
    """Call `stop` with the signal's number at SIGTERM or SIGINT in this block; restore the handlers afterwards.

    Outside the main thread nothing is handled.
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
