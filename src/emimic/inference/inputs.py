"""The recordings that a user's inputs name: files, folders, patterns, standard input; never a URL."""

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from emimic.files import is_hidden, walk
from emimic.inference.results import Failure
from emimic.media.decode import MEDIA_SUFFIXES
from emimic.media.source import name_type
from emimic.task import AudioError

STDIN: Final = Path("<stdin>")
"""Name of a recording from standard input."""

_URL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


def expand(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path | Failure]:
    """Yield files in the order of the inputs, each once.

    A URL, a folder that can't be read or holds no media file, and a pattern without a match give failures. A file whose
    name looks like a pattern is that file.

    Args:
        paths: Files; `-`, which gives STDIN; folders and patterns (`*`, `?`, `[...]`, `**`), which give their media
            files. Folders are searched recursively (links too), sorted by name, without hidden and system files.

    Raises:
        AudioError: An element is not a path.
    """
    seen: set[str] = set()
    for path in _expand(paths):
        name = str(path) if isinstance(path, Failure) or path == STDIN else _make_absolute(path)
        if isinstance(path, Failure) or name not in seen:
            seen.add(name)
            yield path


def _make_absolute(path: Path) -> str:
    try:
        return os.path.abspath(path)  # noqa: PTH100 - links stay
    except FileNotFoundError:
        raise AudioError(
            f"{path}: the working folder is gone, expected one that exists. Go to another (cd), or give absolute "
            "paths"
        ) from None


def _expand(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path | Failure]:
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise AudioError(
                f"found {name_type(path)} in place of a path; expected files, folders or patterns. Give a recording "
                "that is in memory to the predictor itself: predictor(...)."
            )
        text = os.fspath(path)
        if not text:  # for the system, the current folder
            yield Failure(Path(text), "found an empty name, expected files, folders or patterns")
        elif text == "-":
            yield STDIN
        elif _URL.match(text):
            yield Failure(Path(text), f"{text}: URLs are never fetched: download it first and give the file")
        elif glob.has_magic(text) and not os.path.lexists(text):
            matches = sorted(_match(text))
            if not matches:
                yield Failure(Path(text), f"{text}: no file matches this pattern")
            for match in map(Path, matches):
                # A folder that matches among others may hold no recording; its files do count.
                if match.is_dir() or match.suffix.lower() in MEDIA_SUFFIXES or len(matches) == 1:
                    yield from _list_folder(match) if match.is_dir() else [match]
        else:
            yield from _list_folder(Path(text)) if Path(text).is_dir() else [Path(text)]


def _match(pattern: str) -> list[str]:
    """Return a pattern's matches, without hidden and system files and folders that it doesn't name itself."""
    named = set(Path(pattern).parts)
    return [
        match
        for match in glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        # glob omits names with a dot, unless the pattern has one too.
        if not any(is_hidden(part.lstrip(".")) for part in Path(match).parts if part not in named)
    ]


def _list_folder(folder: Path) -> Iterator[Path | Failure]:
    troubles: list[OSError] = []
    files = sorted(path for path in walk(folder, troubles) if path.suffix.lower() in MEDIA_SUFFIXES)
    yield from files
    for trouble in troubles:
        yield Failure(Path(trouble.filename), f"{trouble.filename}: can't be read ({trouble.strerror})")
    if not files and not troubles:
        yield Failure(folder, f"{folder}: holds no audio or video file")


def read_content(path: Path) -> Path | bytes:
    """Return the file's path, or the bytes of standard input.

    Raises:
        AudioError: Standard input is a terminal.
    """
    return read_standard_input() if path == STDIN else path


@cache
def read_standard_input() -> bytes:
    """Return the bytes piped into this process, which can be read only once.

    Raises:
        AudioError: There is no pipe.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise AudioError(f"{STDIN}: nothing is piped in; use it as in: cat clip.mp3 | emimic predict -")
    return sys.stdin.buffer.read()
