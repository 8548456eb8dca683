"""What has been heard, kept as it comes, so that a run of `emimic predict --out FOLDER` that was killed goes on.

FOLDER/journal.jsonl is JSON lines. The first says of which model and which emimic it is. Each other line holds a
batch, `clips` or `curves`, and is written whole and flushed to the disk once that batch is heard: a line that a kill
has torn is a batch that was not heard. An entry bears its file's absolute path, size and time of change, and counts for
as long as the three hold; values are kept bit for bit, so what is written in the end doesn't depend on the kills. Of
files that failed nothing is kept: they are tried again.
"""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256 as new_sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast

import numpy as np
from numpy.typing import NDArray

from emimic import calibration
from emimic.files import lock, make_folder, naming, need_file, sha256, sync_folder
from emimic.inference.engine import DESCRIPTION
from emimic.inference.results import Recording, Result, Timeline, VoiceSegment, parts
from emimic.prediction import Prediction
from emimic.task import EmimicError
from emimic.version import __version__

NAME: Final = "journal.jsonl"
SCHEMA: Final = "emimic/journal/1"
_BEGIN: Final = b'{"schema":"emimic/journal/'


@dataclass(frozen=True, slots=True)
class Stamp:
    """A recording as it was before it was heard: absolute path, size in bytes, time of change in ns; its channel's
    number, None for all averaged."""

    file: str
    size: int
    changed: int
    channel: int | None = None


def stamp(recording: Recording) -> Stamp | None:
    """None for what is no file (standard input; what isn't there)."""
    path, number = parts(recording)
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return Stamp(os.path.abspath(path), found.st_size, found.st_mtime_ns, number)  # noqa: PTH100 - links stay


class Journal:
    """The journal of a folder, which is made when missing; no other process can use it until this one is closed.

    model: the model's folder, see `identity`. targets: names of its intensities. grid: window and hop of the curves
    wanted, if any. fresh: forget what is there. `note` is a line for the user when what was there is of no use. Raises
    EmimicError when another process uses the folder, or the file is no journal.
    """

    def __init__(
        self,
        folder: Path,
        model: Path,
        *,
        targets: tuple[str, ...],
        grid: tuple[float, float] | None = None,
        fresh: bool = False,
    ) -> None:
        self.path = folder / NAME
        self.note: str | None = None
        self._targets = targets
        self._clips: dict[Stamp, Result] = {}
        self._curves: dict[Stamp, Timeline] = {}
        head = {"schema": SCHEMA, "emimic": __version__, "model": identity(model)}
        make_folder(folder)
        with naming(self.path):
            if self.path.exists():
                need_file(self.path)  # reading a device may never end
            self._file = cast(BinaryIO, self.path.open("a+b"))
        try:
            if not lock(self._file):
                raise EmimicError(
                    f"{folder} is in use: another emimic writes its {NAME}. Wait for it, or give another --out"
                )
            if fresh or not self._knows(head):
                self._file.truncate(0)
                self._write(head)
                sync_folder(folder)
            else:
                self._read(grid)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with naming(self.path):  # what a full disk has not taken is tried again here
            self._file.close()

    def clip(self, mark: Stamp | None, recording: Recording) -> Result | None:
        """The clip's result, if that recording was heard, under the path as it is given now."""
        found = None if mark is None else self._clips.get(mark)
        path, number = parts(recording)
        return None if found is None else replace(found.renamed(path), channel=number)

    def curves(self, mark: Stamp | None) -> Timeline | None:
        """The recording's curves on this journal's grid, if they were heard."""
        return None if mark is None else self._curves.get(mark)

    def add_clips(self, heard: Iterable[tuple[Stamp, Result]]) -> None:
        """Keep a batch of clips; returns when it is on the disk."""
        self._add("clips", [{**_marked(mark), **packed(result)} for mark, result in heard])

    def add_curves(self, heard: Iterable[tuple[Stamp, Timeline]]) -> None:
        """Keep the curves of some recordings; returns when they are on the disk."""
        self._add("curves", [{**_marked(mark), **packed_curves(line)} for mark, line in heard])

    def _add(self, kind: str, entries: list[dict[str, Any]]) -> None:
        if entries:
            self._write({kind: entries})

    def _write(self, line: dict[str, Any]) -> None:
        with naming(self.path):
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def _knows(self, head: dict[str, Any]) -> bool:
        """Whether the file begins with that head; one of another model, or torn within its head, is begun again."""
        self._file.seek(0)
        line = self._file.readline()
        if not line.startswith(_BEGIN[: len(line)]):
            raise EmimicError(
                f"{self.path} is no journal of emimic: give another --out, or --fresh to replace it"
            )
        if not line.endswith(b"\n"):
            return False
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            self.note = f"{self.path} is damaged: everything is predicted again"
            return False
        if found != head:
            what = "model" if found.get("emimic") == head["emimic"] else "version of emimic"
            self.note = f"{self.path} was kept by another {what}: all is heard again"
        return bool(found == head)

    def _read(self, grid: tuple[float, float] | None) -> None:
        """What follows the head; what follows the last whole line goes."""
        end = self._file.tell()
        for line in self._file:
            if not line.endswith(b"\n"):
                self._file.truncate(end)
                return
            end += len(line)
            try:
                self._take(json.loads(line), grid)
            except (
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
                RecursionError,
            ):  # damaged on the disk: heard again
                continue

    def _take(self, found: dict[str, Any], grid: tuple[float, float] | None) -> None:
        for entry in found.get("clips", ()):
            self._clips[_mark(entry)] = unpacked(entry, Path(entry["file"]), self._targets)
        for entry in found.get("curves", ()):
            if grid == (entry["window"], entry["hop"]):
                self._curves[_mark(entry)] = unpacked_curves(entry, self._targets)


def identity(model: Path) -> str:
    """A hash of what a model's folder results with: an engine's description (which holds the hash of its graph), or a
    run's configuration, weights and calibration."""
    names = [DESCRIPTION] if (model / DESCRIPTION).is_file() else ["config.json", "model.safetensors"]
    if names[0] != DESCRIPTION and (model / calibration.FILE).is_file():
        names.append(calibration.FILE)  # it holds the hash of its arrays
    return new_sha256("".join(sha256(model / name) for name in names).encode()).hexdigest()


def packed(result: Result) -> dict[str, Any]:
    """What JSON can hold of a clip's result (not its targets and curves), every bit of it."""
    one = result.prediction
    return {
        "path": str(result.path),
        "seconds": result.seconds,
        "was_cut": result.was_cut,
        "was_padded": result.was_padded,
        "was_silent": result.was_silent,
        "notes": list(result.notes),
        "intensities": _pack(one.intensities),
        "vad": None if one.vad is None else _pack(one.vad),
        "times": _pack(one.times),
        "novelty": one.novelty,
    }


def unpacked(found: dict[str, Any], recording: Recording, targets: tuple[str, ...]) -> Result:
    """The result again, of that recording, whose path its notes name. Raises ValueError, KeyError or TypeError for what
    `packed` has not made."""
    vad = None if found["vad"] is None else _unpack(found["vad"])
    path, number = parts(recording)
    result = Result(
        path=Path(found.get("path", path)),
        targets=targets,
        seconds=found["seconds"],
        was_cut=found["was_cut"],
        was_padded=found["was_padded"],
        was_silent=found["was_silent"],
        notes=tuple(found["notes"]),
        prediction=Prediction(
            _unpack(found["intensities"]), vad, _unpack(found["times"]), novelty=found["novelty"]
        ),
        channel=number,
    )
    return result.renamed(path)


_CURVES: Final = ("times", "starts", "ends", "intensities", "vad_times", "vad")


def packed_curves(line: Timeline) -> dict[str, Any]:
    """What JSON can hold of curves, every bit of them."""
    arrays = {name: getattr(line, name) for name in _CURVES}
    return {
        "name": line.name,
        "seconds": line.seconds,
        "window": line.window,
        "hop": line.hop,
        "voice_segments": [[segment.start, segment.end] for segment in line.voice_segments],
        **{name: None if array is None else _pack(array) for name, array in arrays.items()},
    }


def unpacked_curves(found: dict[str, Any], targets: tuple[str, ...]) -> Timeline:
    """The curves again. Raises as `unpacked`."""
    arrays: dict[str, Any] = {name: None if found[name] is None else _unpack(found[name]) for name in _CURVES}
    return Timeline(
        name=found["name"],
        seconds=found["seconds"],
        targets=targets,
        window=found["window"],
        hop=found["hop"],
        voice_segments=tuple(VoiceSegment(start, end) for start, end in found["voice_segments"]),
        **arrays,
    )


def _marked(mark: Stamp) -> dict[str, Any]:
    channel = {} if mark.channel is None else {"channel": mark.channel}
    return {"file": mark.file, "size": mark.size, "changed": mark.changed, **channel}


def _mark(entry: dict[str, Any]) -> Stamp:
    return Stamp(entry["file"], entry["size"], entry["changed"], entry.get("channel"))


def _pack(array: NDArray[Any]) -> list[Any]:
    return [array.dtype.str, list(array.shape), b64encode(array.tobytes()).decode()]


def _unpack(found: list[Any]) -> NDArray[Any]:
    kind, shape, data = found
    return np.frombuffer(b64decode(data), dtype=kind).reshape(shape).copy()
