"""The journal of `emimic predict --out FOLDER`: results stored while it runs, so that a killed run can be resumed.

FOLDER/journal.jsonl is JSON lines. The first line names the model and the version of emimic. Every other line holds a
batch, `clips` or `timelines`, and is flushed to the disk once that batch is predicted. An entry holds its file's
absolute path, size and modification time, and is valid while these three stay the same. Values are stored bit for bit,
so the final files don't depend on interruptions. Failures are not stored: these files are tried again.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic import calibration
from emimic.files import compute_sha256, make_folder
from emimic.inference.engine import DESCRIPTION
from emimic.inference.grid import TimelineOptions
from emimic.inference.results import Recording, Result, split_recording
from emimic.inference.timeline import Timeline, VoiceSegment
from emimic.journal import JournalFile
from emimic.prediction import Prediction
from emimic.version import __version__

NAME: Final = "journal.jsonl"
SCHEMA: Final = "emimic/journal/1"


@dataclass(frozen=True, slots=True)
class Stamp:
    """The identity of a recording's file before it was predicted.

    Attributes:
        file: Absolute path.
        size: Bytes.
        changed: Modification time in ns.
        channel: Number of the channel, counted from 1; None for all channels averaged.
    """

    file: str
    size: int
    changed: int
    channel: int | None = None


def stamp(recording: Recording) -> Stamp | None:
    """Return a recording's stamp; None if it is not a file (standard input, a missing file)."""
    path, number = split_recording(recording)
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return Stamp(os.path.abspath(path), status.st_size, status.st_mtime_ns, number)  # noqa: PTH100 - links stay


class Journal(JournalFile):
    """The journal of a folder; no other process can use the folder until it is closed."""

    def __init__(
        self,
        folder: Path,
        model: Path,
        *,
        targets: tuple[str, ...],
        options: TimelineOptions | None = None,
        fresh: bool = False,
    ) -> None:
        """Open the journal and read its results.

        Args:
            folder: Created if missing.
            model: The model's folder, see `hash_model`.
            targets: Names of the model's intensities.
            options: Of the timelines to read and add; None reads none.
            fresh: Discard the stored results.

        Raises:
            EmimicError: Another process uses the folder, or the file is not a journal.
        """
        make_folder(folder)
        head = {"schema": SCHEMA, "emimic": __version__, "model": hash_model(model)}
        super().__init__(folder / NAME, head, fresh=fresh)
        self._targets = targets
        self._clips: dict[Stamp, Result] = {}
        self._options = None if options is None else asdict(options)
        self._timelines: dict[Stamp, Timeline] = {}
        for entry in self.read_entries():
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # damaged on the disk
                self._take(entry)

    def get_clip(self, mark: Stamp | None, recording: Recording) -> Result | None:
        """Return the stored result under the recording's present path, None without one."""
        result = None if mark is None else self._clips.get(mark)
        path, number = split_recording(recording)
        return None if result is None else replace(result.replace_path(path), channel=number)

    def get_timeline(self, mark: Stamp | None) -> Timeline | None:
        """Return the stored timeline with this journal's options, None without one."""
        return None if mark is None else self._timelines.get(mark)

    def add_clips(self, results: Iterable[tuple[Stamp, Result]]) -> None:
        """Store a batch of results; return when it is on the disk."""
        self._add("clips", [{**_pack_stamp(mark), **pack(result)} for mark, result in results])

    def add_timelines(self, timelines: Iterable[tuple[Stamp, Timeline]]) -> None:
        """Store timelines; return when they are on the disk."""
        options = {"options": self._options}
        self._add(
            "timelines", [{**_pack_stamp(mark), **options, **pack_timeline(line)} for mark, line in timelines]
        )

    def _add(self, kind: str, entries: list[dict[str, Any]]) -> None:
        if entries:
            self.append({kind: entries})

    def _take(self, batch: dict[str, Any]) -> None:
        for entry in batch.get("clips", ()):
            self._clips[_unpack_stamp(entry)] = unpack(entry, Path(entry["file"]), self._targets)
        for entry in batch.get("timelines", ()):
            if self._options is not None and self._options == entry.get("options"):
                self._timelines[_unpack_stamp(entry)] = unpack_timeline(entry, self._targets)


def hash_model(model: Path) -> str:
    """Return a SHA-256 of everything that determines a model's predictions.

    For an exported model this is its description, which holds the hash of its graph; for a training run its
    configuration, weights and calibration.
    """
    names = [DESCRIPTION] if (model / DESCRIPTION).is_file() else ["config.json", "model.safetensors"]
    if names[0] != DESCRIPTION and (model / calibration.FILE).is_file():
        names.append(calibration.FILE)  # it holds the hash of its arrays
    return new_sha256("".join(compute_sha256(model / name) for name in names).encode()).hexdigest()


def pack(result: Result) -> dict[str, Any]:
    """Return a result as exact, JSON-ready values, without its targets and timeline."""
    prediction = result.prediction
    return {
        "path": str(result.path),
        "seconds": result.seconds,
        "was_cut": result.was_cut,
        "was_padded": result.was_padded,
        "was_silent": result.was_silent,
        "notes": list(result.notes),
        "intensities": _pack_array(prediction.intensities),
        "vad": None if prediction.vad is None else _pack_array(prediction.vad),
        "times": _pack_array(prediction.times),
        "novelty": prediction.novelty,
    }


def unpack(entry: dict[str, Any], recording: Recording, targets: tuple[str, ...]) -> Result:
    """Return the result that `pack` stored, with notes that name the recording's path.

    Raises:
        ValueError, KeyError, TypeError: The entry was not written by `pack`.
    """
    vad = None if entry["vad"] is None else _unpack_array(entry["vad"])
    path, number = split_recording(recording)
    result = Result(
        path=Path(entry.get("path", path)),
        targets=targets,
        seconds=entry["seconds"],
        was_cut=entry["was_cut"],
        was_padded=entry["was_padded"],
        was_silent=entry["was_silent"],
        notes=tuple(entry["notes"]),
        prediction=Prediction(
            _unpack_array(entry["intensities"]), vad, _unpack_array(entry["times"]), novelty=entry["novelty"]
        ),
        channel=number,
    )
    return result.replace_path(path)


_ARRAYS: Final = ("times", "starts", "ends", "intensities", "vad_times", "vad")


def pack_timeline(line: Timeline) -> dict[str, Any]:
    """Return a timeline as exact, JSON-ready values, without its targets."""
    arrays = {name: getattr(line, name) for name in _ARRAYS}
    return {
        "name": line.name,
        "seconds": line.seconds,
        "window": line.window,
        "hop": line.hop,
        "method": line.method,
        "voice_segments": [[segment.start, segment.end] for segment in line.voice_segments],
        **{name: None if array is None else _pack_array(array) for name, array in arrays.items()},
    }


def unpack_timeline(entry: dict[str, Any], targets: tuple[str, ...]) -> Timeline:
    """Return the timeline that `pack_timeline` stored.

    Raises:
        ValueError, KeyError, TypeError: The entry was not written by `pack_timeline`.
    """
    arrays: dict[str, Any] = {
        name: None if entry[name] is None else _unpack_array(entry[name]) for name in _ARRAYS
    }
    return Timeline(
        name=entry["name"],
        seconds=entry["seconds"],
        targets=targets,
        window=entry["window"],
        hop=entry["hop"],
        method=entry["method"],
        voice_segments=tuple(VoiceSegment(start, end) for start, end in entry["voice_segments"]),
        **arrays,
    )


def _pack_stamp(mark: Stamp) -> dict[str, Any]:
    channel = {} if mark.channel is None else {"channel": mark.channel}
    return {"file": mark.file, "size": mark.size, "changed": mark.changed, **channel}


def _unpack_stamp(entry: dict[str, Any]) -> Stamp:
    return Stamp(entry["file"], entry["size"], entry["changed"], entry.get("channel"))


def _pack_array(array: NDArray[Any]) -> list[Any]:
    return [array.dtype.str, list(array.shape), b64encode(array.tobytes()).decode()]


def _unpack_array(packed: list[Any]) -> NDArray[Any]:
    kind, shape, data = packed
    return np.frombuffer(b64decode(data), dtype=kind).reshape(shape).copy()
