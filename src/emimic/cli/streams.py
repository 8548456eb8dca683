"""Standard output and standard error of the command: what can't be printed never costs a verb its work."""

import errno
import faulthandler
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

GONE: Final = (errno.EPIPE, errno.ESHUTDOWN, *((errno.EINVAL,) if sys.platform == "win32" else ()))
"""Errors of a pipe whose reader has gone, as `head` does when it has seen enough: no fault."""

_OWN: Final = ("strict", "surrogateescape")
"""Python's own ways with a letter that the encoding lacks; what PYTHONIOENCODING names otherwise stays."""


class Output(io.RawIOBase):
    """The bytes of a stream, all of them or, from the first failure on, none; `failure` is why."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__()
        self.raw = raw
        self.failure: OSError | None = None

    def write(self, data: "memoryview | bytes", /) -> int:  # type: ignore[override]
        """Write all of `data`, or drop it."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest and self.failure is None:
            try:
                done = self.raw.write(rest)
            except OSError as error:
                self.failure = error
            else:
                rest = rest[done or 0 :]
                if done is None:  # a terminal that another program left non-blocking
                    time.sleep(0.01)
        return size

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the stream's own descriptor."""
        return self.raw.fileno()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self.raw.isatty()


@contextmanager
def safe_streams(*, native: bool = False) -> Iterator[Output | None]:
    """Make sys.stdout and sys.stderr such that printing never fails, until the block ends.

    Characters that the encoding lacks are replaced; what can't be written is dropped; a closed stream takes everything.
    Only Python writes to standard error: what C libraries print there (mpg123 of an mp3's tags) goes nowhere, so that
    a crash of one is reported by faulthandler.

    Args:
        native: let C libraries write to standard error.

    Yields:
        Standard output, which knows its failure; None where it is no file (in a test).
    """
    if os.name == "posix":
        _open_closed()
    with ExitStack() as stack:
        out = _replace("stdout", stack, private=False)
        _replace("stderr", stack, private=os.name == "posix" and not native)
        yield out


def _open_closed() -> None:
    """Keep files that are opened later from becoming standard streams (`>&-`)."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _replace(name: str, stack: ExitStack, *, private: bool) -> Output | None:
    """Put a stream that never fails in the place of sys.stdout or sys.stderr; private: alone with the descriptor."""
    old: Any = getattr(sys, name)
    if old is None:  # closed, or pythonw
        old = stack.enter_context(io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8"))
    buffer = getattr(old, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if not isinstance(old, io.TextIOWrapper) or not isinstance(raw, io.RawIOBase):
        return None  # a notebook's, a test's
    old.flush()
    output = Output(_take(stack) if private and raw.fileno() == 2 else raw)
    unbuffered = old.write_through
    errors = ("replace" if name == "stdout" else "backslashreplace") if old.errors in _OWN else old.errors
    new = io.TextIOWrapper(
        output if unbuffered else io.BufferedWriter(output),  # type: ignore[type-var]
        encoding=old.encoding, errors=errors, line_buffering=old.line_buffering, write_through=unbuffered,
    )  # fmt: skip
    stack.callback(setattr, sys, name, getattr(sys, name))
    stack.callback(new.flush)
    setattr(sys, name, new)
    return output


def _take(stack: ExitStack) -> io.RawIOBase:
    """Take standard error away from everyone but the caller."""
    kept = stack.enter_context(io.FileIO(os.dup(2), "w"))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    stack.callback(os.dup2, kept.fileno(), 2)
    if not faulthandler.is_enabled():
        faulthandler.enable(kept)
        stack.callback(faulthandler.disable)
    return kept
