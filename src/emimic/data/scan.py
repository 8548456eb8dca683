"""The scan of a corpus: each recording is decoded once in a process, also when several runs or commands ask for it.

A recording is known by its path, length and times of change, so that another one of the same name is decoded again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emimic.media import decode
from emimic.task import SAMPLE_RATE, AudioError

Key = tuple[str, int, int, int, int]
"""Path, bytes, time of the content's change and of the file's in nanoseconds, number of the file."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """What decoding showed of a recording.

    Attributes:
        seconds: its length; NaN where it can't be read.
        error: why it can't be read; empty where it can.
        notes: warnings.
    """

    seconds: float
    error: str = ""
    notes: tuple[str, ...] = ()


_scanned: Final[dict[Key, Scanned]] = {}


def scan(path: Path) -> Scanned:
    """Return what decoding shows of a recording, which is decoded unless this process knows it."""
    try:
        status = path.stat()
    except OSError:
        return _decode(path)
    key = str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    if (known := _scanned.get(key)) is None:
        known = _scanned[key] = _decode(path)
    return known


def _decode(path: Path) -> Scanned:
    notes: list[str] = []
    try:
        samples = decode.load(path, name=f"{path.parent.name}/{path.name}", notes=notes)
    except AudioError as error:
        return Scanned(float("nan"), str(error), tuple(notes))
    return Scanned(len(samples) / SAMPLE_RATE, "", tuple(notes))


def list_scanned() -> dict[Key, Scanned]:
    """Return what this process knows of recordings, for other processes."""
    return dict(_scanned)


def add_scanned(scanned: Mapping[Key, Scanned]) -> None:
    """Add what another process knows of recordings."""
    _scanned.update(scanned)
