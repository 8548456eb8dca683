"""Files: atomic writes, hashes, locks, walks through folders, and text that names and files can hold."""

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
from typing import IO, Any, Final

from emimic.task import EmimicError

_BLOCK = 1 << 20

_SYSTEM: Final = frozenset(
    {
        "$recycle.bin", "recycler", "recycled", "system volume information", "found.000", "lost+found", "lost.dir",
        "__macosx", "__pycache__", "@eadir", "#recycle", "@recycle", "network trash folder", "temporary items",
        # Snapshots of storage systems contain every recording once more.
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

_SURROGATES: Final = re.compile("[\ud800-\udfff]")  # in names that are not UTF-8

# Characters that XML 1.0 can't hold, and lone surrogates (in a file name that is not UTF-8), which UTF-8 can't.
_UNWRITABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_BREAKS: Final = re.compile("[\t\n\r]+")


class OutputError(EmimicError, OSError):
    """A file or folder that can't be written; the message names it and a remedy."""


@contextmanager
def name_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise OutputError, which names `path` and a remedy, for an error of the system in the block."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if not isinstance(error, OSError | UnicodeEncodeError) and "null byte" not in str(error):
            # Libraries in Rust (safetensors) report a full disk with an exception of their own.
            if (match := re.search(r"\(os error (\d+)\)", str(error))) is None:
                raise
            number = int(match[1])
        reason = os.strerror(number) if number else " ".join(str(error).split())
        remedy = _REMEDIES.get(number or 0, "Check the path and the disk, or name another folder")
        named = OutputError(f"{os.fspath(path)} can't be written ({reason}). {remedy}.")
        named.errno = number
        raise named from error


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder and its parents, unless they exist, and check that files can be written there.

    Raises:
        OutputError: the folder can't be made or written to.
    """
    folder = Path(path)
    with name_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{secrets.token_hex(6)}"
        probe.open("xb").close()
        probe.unlink()
    return folder


@contextmanager
def replace_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` when the block succeeds, else it is removed.

    The temporary file exists (empty) and has `path`'s suffix, which some writers need. It is flushed to the disk before
    the rename, so after a crash `path` holds either the old content or the new one.

    Raises:
        OutputError: the folder does not exist, is not writable, or the disk is full. `path` is then unchanged.
    """
    target = Path(path)
    # mkstemp would make a file only its owner may read; "x" obeys the umask and is as exclusive.
    temporary = target.with_name(f".{target.stem[:20]}.{secrets.token_hex(6)}{target.suffix[-20:]}")
    with name_errors(target):
        temporary.open("xb").close()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        try:
            yield temporary
            with suppress(OSError):  # a file system without modes
                temporary.chmod(mode)  # safetensors puts a file in its place that only its owner may read
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(target.parent)


def write_atomically(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write all of `data` (text as UTF-8, newlines unchanged) to `path`, or leave `path` unchanged.

    Lone surrogates in a text (bytes of a file's name that are not UTF-8) become U+FFFD.

    Raises:
        OutputError: see `replace_atomically`.
    """
    with replace_atomically(path) as temporary:
        temporary.write_bytes(make_encodable(data).encode() if isinstance(data, str) else data)


class CsvText(io.StringIO):
    """The output of `csv.writer`: rows end with a line feed alone, and a carriage return in a field is still quoted.

    Python before 3.13 quotes only the characters of its line ends.
    """

    def write(self, row: str, /) -> int:
        """Write a row that ends with CR LF, the writer's line end."""
        return super().write(row.removesuffix("\r\n") + "\n")


def make_encodable(text: str) -> str:
    """Return `text` with U+FFFD for lone surrogates, which are bytes of a name that is not UTF-8."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def make_writable(text: object) -> str:
    """Return text that XML and UTF-8 can hold; each character that they can't becomes U+FFFD."""
    return _UNWRITABLE.sub("�", str(text))


def make_one_line(name: str) -> str:
    """Return `make_writable` text with spaces for tabs and line ends, for files that are read line by line."""
    return _BREAKS.sub(" ", make_writable(name))


def make_printable(text: str) -> str:
    """Return `text` with U+FFFD for control characters and lone surrogates; line ends and tabs stay."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def fold_case(name: str) -> str:
    """Return a name regardless of case and Unicode form: equal for names that some file system can't distinguish."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def compute_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits, read in blocks of 1 MiB.

    Raises:
        OSError: the file can't be read.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(path: str | os.PathLike[str], blocks: int = 64) -> str:
    """Return 16 hexadecimal digits of a hash of a file's length and of 64 blocks throughout it.

    It distinguishes large files of weights fast, but detects no damage.

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


def check_file(path: str | os.PathLike[str]) -> os.stat_result:
    """Return the status of a regular file, which can be opened without blocking.

    Raises:
        OSError: the file is missing, or is a pipe, a device or a folder.
    """
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is a pipe, a device or a folder")
    return status


def is_hidden(name: str) -> bool:
    """Return True if a name is of a hidden or system file or folder: trash, previews, resource forks."""
    return name.startswith(".") or name.casefold() in _SYSTEM


def list_visible(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Return the entries of a folder sorted by name, without hidden and system ones.

    Raises:
        OSError: the folder can't be listed.
    """
    with os.scandir(folder) as entries:
        selected = [entry for entry in entries if not is_hidden(entry.name)]
    if sys.platform == "win32":
        hidden = stat.FILE_ATTRIBUTE_HIDDEN | stat.FILE_ATTRIBUTE_SYSTEM
        selected = [e for e in selected if not e.stat(follow_symlinks=False).st_file_attributes & hidden]
    return sorted(selected, key=lambda entry: entry.name)


def walk(folder: str | os.PathLike[str], troubles: list[OSError]) -> Iterator[Path]:
    """Yield the files in `folder` and, recursively, in its folders (links too), without hidden ones.

    Args:
        folder: may itself be hidden.
        troubles: gets an error for each folder that can't be listed.
    """
    waiting = [Path(folder)]
    seen: set[str] = set()
    while waiting:
        parent = waiting.pop()
        real = str(parent.resolve())
        if real in seen:  # a link that leads back
            continue
        seen.add(real)
        try:
            entries = list_visible(parent)
        except OSError as error:
            troubles.append(error)
            continue
        folders = [parent / entry.name for entry in entries if _is_folder(entry)]
        yield from sorted({parent / entry.name for entry in entries}.difference(folders))
        waiting += reversed(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return True if an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; opening it raises the error
        return False


def lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed or the process ends; return False if another process holds the lock.

    A file system without locks returns True.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            position = file.seek(0, os.SEEK_CUR)
            file.seek(1 << 40)  # beyond the content, since Windows lets no other process read locked bytes
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            finally:
                file.seek(position)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        OSError: the file can't be read.
        ValueError: the file is no JSON, or nests too deeply.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name} nests too deeply") from None


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Hold a lock file until the block or the process ends; yield False if another process holds it.

    Missing folders are made. At the end the file is removed, and so is its folder if it was made for it and is empty.

    Raises:
        OutputError: the file can't be written.
    """
    is_new = not path.parent.exists()
    while True:
        with name_errors(path.parent):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("ab")
            except FileNotFoundError:  # the last holder has just removed its empty folder
                continue
            except FileExistsError:  # removed and made again meanwhile, or it is no folder
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
                if sys.platform == "win32":  # an open file can't be removed
                    file.close()
                with suppress(OSError):
                    path.unlink()
                if is_new:
                    with suppress(OSError):
                        path.parent.rmdir()
            return


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a rename lasts; do nothing where folders can't be opened (Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
