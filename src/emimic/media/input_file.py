"""Media files as decoders read them: seekable bytes without a name, so that content decides and no other file opens."""

import io
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from emimic.task import AudioError

_URL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:")  # two letters at least: C: is a drive


def open_input(source: str | os.PathLike[str] | bytes, label: str) -> BinaryIO:
    """Open a media file, or the content of one, as a readable and seekable binary file that is not empty.

    Args:
        source: a path, or a file's content.
        label: name for error messages.

    Raises:
        AudioError: the source is missing, empty, a URL, a folder, a pipe or a device, or can't be opened.
    """
    if isinstance(source, bytes):
        size, file = len(source), cast(BinaryIO, io.BytesIO(source))
    else:
        path = Path(os.fsdecode(source))
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise AudioError(f"{label}: is a folder; give a media file.")
            if not stat.S_ISREG(status.st_mode):  # a pipe would block forever
                raise AudioError(f"{label}: is a pipe or a device; give a media file or its bytes.")
            size, file = status.st_size, path.open("rb")
        except FileNotFoundError:
            if _URL.match(os.fsdecode(source)):
                raise AudioError(f"{label}: is a URL; download it first and give the file.") from None
            raise AudioError(f"{label}: does not exist. Check the path.") from None
        except (OSError, ValueError) as error:  # no permission; a NUL in the name
            raise AudioError(f"{label}: can't be opened ({error}). Check path and permissions.") from None
    if not size:
        file.close()
        raise AudioError(f"{label}: is empty (0 bytes). Record or download it again.")
    return file


class InputFile:
    """The part of a binary file that decoders may read, without its name.

    Args:
        file: an open, seekable binary file.
        end: position in bytes at which the file appears to end; None for its real end.
    """

    def __init__(self, file: BinaryIO, end: int | None = None) -> None:
        self._file, self._end = file, end

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, or all that remain."""
        return self._file.read(self._limit(size))

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer and return the number of bytes read."""
        view = memoryview(buffer).cast("B")
        return cast(int, self._file.readinto(view[: self._limit(len(view))]))  # type: ignore[attr-defined]

    def truncate_at(self, end: int | None) -> "InputFile":
        """Return the same file ending at `end`."""
        return self if end is None else InputFile(self._file, end)

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position and return it; -1 when it lies before the start."""
        if whence == io.SEEK_END and self._end is not None:
            offset, whence = self._end + offset, io.SEEK_SET
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):  # broken headers cause such seeks; decoders in C expect -1
            return -1

    def _limit(self, size: int) -> int:
        """Return the number of bytes to read for a request of `size`."""
        if self._end is None:
            return size
        remaining = max(0, self._end - self._file.tell())
        return remaining if size < 0 else min(size, remaining)


class OffsetFile:
    """A file from byte `start` on: libsndfile's mp3 decoder prints to stderr what it dislikes about a tag in front."""

    def __init__(self, file: InputFile, start: int) -> None:
        self.read, self.readinto = file.read, file.readinto
        self._file, self._start = file, start
        file.seek(start)

    def tell(self) -> int:
        """Return the position in bytes, counted from `start`."""
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position, counted from `start`, and return it."""
        return self._file.seek(offset + (self._start if whence == io.SEEK_SET else 0), whence) - self._start
