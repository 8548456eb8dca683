"""Standard output and standard error of the command: a verb finishes its work even if printing fails."""

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
"""Errors of a pipe whose reader has closed it, as `head` does: not a failure."""

_DEFAULT_HANDLERS: Final = ("strict", "surrogateescape")
"""Python's default handlers of encoding errors; another one, set by PYTHONIOENCODING, stays."""


class Output(io.RawIOBase):
    """A raw stream that drops everything after its first failure, which it keeps in `failure`."""

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
                written = self.raw.write(rest)
            except OSError as error:
                self.failure = error
            else:
                rest = rest[written or 0 :]
                if written is None:  # a terminal that another program left non-blocking
                    time.sleep(0.01)
        return size

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the stream's file descriptor."""
        return self.raw.fileno()

    def isatty(self) -> bool:
        """Return True if the stream is a terminal."""
        return self.raw.isatty()


@contextmanager
def safe_streams(*, native: bool = False) -> Iterator[Output | None]:
    """Replace sys.stdout and sys.stderr by streams on which printing never fails, until the block ends.

    Characters that can't be encoded are replaced, text that can't be written is dropped, and a closed stream accepts
    everything. Only Python writes to standard error: output of C libraries (mpg123 on an mp3's tags) is discarded.
    faulthandler reports their crashes.

    Args:
        native: let C libraries write to standard error.

    Yields:
        Standard output, which has its failure; None where it is no file (in a test).
    """
    if os.name == "posix":
        _open_closed()
    with ExitStack() as stack:
        out = _replace("stdout", stack, private=False)
        _replace("stderr", stack, private=os.name == "posix" and not native)
        yield out


def _open_closed() -> None:
    """Open the standard streams that are closed (`>&-`), so that no file opened later takes their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _replace(name: str, stack: ExitStack, *, private: bool) -> Output | None:
    """Replace sys.stdout or sys.stderr by a stream that never fails; private: the only one on its descriptor."""
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
    errors = (
        ("replace" if name == "stdout" else "backslashreplace")
        if old.errors in _DEFAULT_HANDLERS
        else old.errors
    )
    new = io.TextIOWrapper(
        output if unbuffered else io.BufferedWriter(output),  # type: ignore[type-var]
        encoding=old.encoding, errors=errors, line_buffering=old.line_buffering, write_through=unbuffered,
    )  # fmt: skip
    stack.callback(setattr, sys, name, getattr(sys, name))
    stack.callback(new.flush)
    setattr(sys, name, new)
    return output


def _take(stack: ExitStack) -> io.RawIOBase:
    """Return standard error as a stream of the caller's alone; descriptor 2 leads to the null device."""
    stream = stack.enter_context(io.FileIO(os.dup(2), "w"))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    stack.callback(os.dup2, stream.fileno(), 2)
    if not faulthandler.is_enabled():
        faulthandler.enable(stream)
        stack.callback(faulthandler.disable)
    return stream
