"""Files that are whole or not there: atomic writes and hashes; what names may hold; and the one gate for other people's
pickles."""

import errno
import hashlib
import io
import json
import os
import re
import secrets
import stat
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from emimic.task import EmimicError

if TYPE_CHECKING:
    pass

_BLOCK = 1 << 20

_SYSTEM: Final = frozenset(
    {
        "$recycle.bin", "recycler", "recycled", "system volume information", "found.000", "lost+found", "lost.dir",
        "__macosx", "__pycache__", "@eadir", "#recycle", "@recycle", "network trash folder", "temporary items",
        # Snapshots of storage systems, which hold every recording again.
        "#snapshot", "~snapshot", "~latest", "@recently-snapshot", "@sharesnap", "@sharebin", "@tmp",
    }
)  # fmt: skip


_REMEDIES: Final = {
    errno.ENOSPC: "Free space there, or name another folder",
    errno.EDQUOT: "Free space there, or name another folder",
    errno.EFBIG: "This system allows no file of that size there (ulimit -f, FAT32): name another folder",
    errno.EACCES: "Name a folder that you may write to",
    errno.EPERM: "Name a folder that you may write to",
    errno.EROFS: "Name a folder that you may write to",
    errno.ENOENT: "Make its folder first, or name another",
    errno.ENOTDIR: "A part of this path is a file: name another folder",
    errno.EEXIST: "A file has this name: name another folder",
    errno.EISDIR: "A folder has this name: name another file",
    errno.ENAMETOOLONG: "Give a shorter name",
}

_SURROGATES: Final = re.compile("[\ud800-\udfff]")  # of names that are not UTF-8

# What XML 1.0 can't hold, and lone surrogates (a file name that is not UTF-8), which UTF-8 can't.
_UNWRITABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_BREAKS: Final = re.compile("[\t\n\r]+")


class OutputError(EmimicError, OSError):
    """A file or folder that can't be written; the message names it and says what to do."""


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise OutputError, which names `path` and a remedy, for what the system refuses in the block."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if not isinstance(error, OSError | UnicodeEncodeError) and "null byte" not in str(error):
            # Libraries in Rust (safetensors) tell of a full disk with an exception of their own.
            if (found := re.search(r"\(os error (\d+)\)", str(error))) is None:
                raise
            number = int(found[1])
        reason = os.strerror(number) if number else " ".join(str(error).split())
        remedy = _REMEDIES.get(number or 0, "Check the path and the disk, or name another folder")
        named = OutputError(f"{os.fspath(path)} can't be written ({reason}). {remedy}.")
        named.errno = number
        raise named from error


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, and those above it, unless it is there, and try whether it can be written to.

    Raises:
        OutputError: it can't.
    """
    folder = Path(path)
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{secrets.token_hex(6)}"
        probe.open("xb").close()
        probe.unlink()
    return folder


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path`; when the block ends well, it becomes `path`, else it goes.

    The temporary file exists (empty) and keeps `path`'s suffix, which some writers look at. It is flushed
    to the disk before the rename, so after a crash `path` holds either the old content or the new one.

    Raises:
        OutputError: the folder does not exist, is not writable, or the disk is full. `path` is then untouched.
    """
    target = Path(path)
    # mkstemp would make a file only its owner may read; "x" obeys the umask and is as exclusive.
    temporary = target.with_name(f".{target.stem[:20]}.{secrets.token_hex(6)}{target.suffix[-20:]}")
    with naming(target):
        temporary.open("xb").close()
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(target.parent)


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Writes all of `data` (text as UTF-8, newlines as they are) to `path`, or leaves `path` as it was.

    What UTF-8 can't hold of a text (bytes of a file's name that are no text) becomes U+FFFD.

    Raises:
        OutputError: see `atomic`.
    """
    with atomic(path) as temporary:
        temporary.write_bytes(encodable(data).encode() if isinstance(data, str) else data)


class CsvText(io.StringIO):
    """What `csv.writer` writes to: rows end with a line feed alone, and yet a carriage return in a cell is quoted.

    Python before 3.13 quotes only the characters of its own line ends.
    """

    def write(self, row: str, /) -> int:
        """Take a row that ends with CR LF, the writer's own way."""
        return super().write(row.removesuffix("\r\n") + "\n")


def encodable(text: str) -> str:
    """Return `text` with U+FFFD in the place of lone surrogates, which stand for bytes of a name that are no text."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def writable(text: object) -> str:
    """Text that XML and UTF-8 can hold; each character that they can't becomes U+FFFD."""
    return _UNWRITABLE.sub("�", str(text))


def one_line(name: str) -> str:
    """Return `writable` text without tabs and line ends, as files that are read line by line hold it."""
    return _BREAKS.sub(" ", writable(name))


def printable(text: str) -> str:
    """Return `text` with U+FFFD for control characters and lone surrogates; line ends and tabs stay."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def folded(name: str) -> str:
    """Return what is equal for names that some file system takes for one: regardless of case and Unicode form."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits; read in blocks of 1 MiB.

    Raises:
        OSError: the file can't be read.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(path: str | os.PathLike[str], blocks: int = 64) -> str:
    """16 hexadecimal digits of a file's length and of 64 blocks spread over it: tells large files of weights apart at
    once, but not whether one is damaged.

    Raises:
        OSError: the file can't be read.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for block in range(blocks):
            file.seek(max(0, size - 4096) * block // (blocks - 1))
            digest.update(file.read(4096))
    return digest.hexdigest()[:16]


def need_file(path: str | os.PathLike[str]) -> os.stat_result:
    """What the system says of a file that may be opened: a pipe would block for ever.

    Raises:
        OSError: not there, or a pipe, a device or a folder.
    """
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is a pipe, a device or a folder")
    return status


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or a system's own: trash, previews, resource forks."""
    return name.startswith(".") or name.casefold() in _SYSTEM


def visible(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Return the entries of a folder in order of their names, without hidden and system ones.

    Raises:
        OSError: the folder can't be listed.
    """
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if not is_hidden(entry.name)]
    if sys.platform == "win32":
        hidden = stat.FILE_ATTRIBUTE_HIDDEN | stat.FILE_ATTRIBUTE_SYSTEM
        found = [one for one in found if not one.stat(follow_symlinks=False).st_file_attributes & hidden]
    return sorted(found, key=lambda entry: entry.name)


def walk(folder: str | os.PathLike[str], troubles: list[OSError]) -> Iterator[Path]:
    """Yield what is no folder in `folder` and, recursively, in those within it (links too), hidden ones left out.

    Args:
        folder: may be hidden itself: somebody named it.
        troubles: gets an error for each folder that can't be listed.
    """
    waiting = [Path(folder)]
    seen: set[str] = set()
    while waiting:
        place = waiting.pop()
        real = str(place.resolve())
        if real in seen:  # a link that leads back
            continue
        seen.add(real)
        try:
            entries = visible(place)
        except OSError as error:
            troubles.append(error)
            continue
        folders = [place / entry.name for entry in entries if _is_folder(entry)]
        yield from sorted({place / entry.name for entry in entries}.difference(folders))
        waiting += reversed(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; whoever opens it is told
        return False


def lock(file: IO[Any]) -> bool:
    """Take an open file for this process until it closes it or ends, however it ends; False when another has it.

    A file system that knows no locks is taken at its word: True.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            place = file.tell()
            file.seek(
                1 << 40
            )  # far behind what is written, since Windows forbids others to read what is locked
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            finally:
                file.seek(place)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is no JSON, or nests too deeply.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name} nests too deeply") from None


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Hold a lock file for as long as the block, or the process, lasts; it is False where another has it.

    Folders that lack are made; in the end the file goes, and its folder too if it was made for it and is still empty.

    Raises:
        OSError: the file can't be written.
    """
    made = not path.parent.exists()
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except FileNotFoundError:  # the last holder's empty folder went just now
            continue
        except FileExistsError:  # it went and came meanwhile, or something else is in its place
            with suppress(FileNotFoundError):
                if not stat.S_ISDIR(path.parent.lstat().st_mode):
                    raise
            continue
        with file:
            if not lock(file):
                yield False
                return
            try:
                current = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                current = False
            if not current:  # its last holder removed it before it was locked here
                continue
            try:
                yield True
            finally:
                if sys.platform == "win32":  # where what is open can't be removed
                    file.close()
                with suppress(OSError):
                    path.unlink()
                if made:
                    with suppress(OSError):
                        path.parent.rmdir()
            return


def sync_folder(folder: Path) -> None:
    """Makes a rename last; systems that can't open a folder (Windows) do without."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
