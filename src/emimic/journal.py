"""JSON lines files that one process appends to, so that an interrupted run can be resumed."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from emimic.files import check_file, lock, name_errors, sync_folder
from emimic.task import EmimicError


class JournalFile:
    """A JSON lines file with a head line, locked against other processes until it is closed.

    A line counts once it ends with a line feed. The head names the writer; a file with another head is started over.

    Attributes:
        path: The file.
        note: One line for the user if an existing file was started over, else None.
    """

    def __init__(self, path: Path, head: dict[str, Any], *, fresh: bool = False) -> None:
        """Open or create the file.

        Args:
            path: The file, in a folder that exists.
            head: Values of the first line. Required: `schema` (first, as NAME/VERSION) and `emimic`.
            fresh: Discard the file's entries.

        Raises:
            EmimicError: Another process has the file open, or it is not a journal of this schema.
        """
        self.path = path
        self.note: str | None = None
        self._threads = threading.Lock()
        with name_errors(path):
            if path.exists():
                check_file(path)  # reading a device may never end
            self._file = cast(BinaryIO, path.open("a+b"))
        try:
            if not lock(self._file):
                raise EmimicError(
                    f"{path.parent} is in use: another emimic writes its {path.name}. Wait for it, or give another "
                    "--out"
                )
            if fresh or not self._matches(head):
                self._file.truncate(0)
                self.append(head)
                sync_folder(path.parent)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with name_errors(self.path):  # closing retries what a full disk has refused
            self._file.close()

    def read_entries(self) -> Iterator[Any]:
        """Yield the entries after the head; skip invalid lines and remove an incomplete last one."""
        self._file.seek(0)
        end = len(self._file.readline())
        for line in self._file:
            if not line.endswith(b"\n"):
                self._file.truncate(end)
                return
            end += len(line)
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            yield entry

    def append(self, entry: dict[str, Any], *, sync: bool = True) -> None:
        """Write one line. Threads may append at the same time.

        Args:
            entry: JSON-ready values.
            sync: Return only once the line is on the disk.
        """
        data = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        with self._threads, name_errors(self.path):
            self._file.write(data)
            self._file.flush()
            if sync:
                os.fsync(self._file.fileno())

    def _matches(self, head: dict[str, Any]) -> bool:
        """Return True if the file begins with that head; False if it is empty, damaged or of another writer."""
        self._file.seek(0)
        line = self._file.readline()
        begin = f'{{"schema":"{head["schema"].rpartition("/")[0]}/'.encode()
        compact = line.replace(b" ", b"")
        if not compact.startswith(begin[: len(compact)]):
            raise EmimicError(f"{self.path} is no journal of emimic: give another --out, or rename it")
        if not line.endswith(b"\n"):
            return False
        try:
            stored = json.loads(line)
        except (ValueError, RecursionError):
            self.note = f"{self.path} is damaged: everything is computed again"
            return False
        if stored != head:
            writer = "model" if stored.get("emimic") == head["emimic"] else "version of emimic"
            self.note = f"{self.path} was written by another {writer}: everything is computed again"
        return bool(stored == head)
