"""Features on disk: one file per clip, its frames with their times, and the clip's id inside the file.

A corpus stores them in `features/NAME/`, beside `features.json`, which states what made them. Readers use the id in a
file's header and never a row number, so the frames of two modalities can't come from two clips.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from emimic.data.split_tables import get_clip_key
from emimic.files import check_file, read_json, replace_atomically, write_atomically
from emimic.task import CorpusError

FOLDER: Final = "features"
"""The folder of all features in a corpus."""

WAVEFORM: Final = "waveform"
"""In place of a folder's name: the clip itself, through an encoder that is trained, too."""

FACTS: Final = "features.json"
SCHEMA: Final = "emimic/features/1"
SUFFIX: Final = ".safetensors"
DECISIVE: Final = ("kind", "weights", "source", "settings")
"""The facts that determine the features; the others may differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """A clip's frames.

    Attributes:
        values: (frame, feature); arbitrary where a frame is not present.
        times: (frame,), the centers of the frames in seconds.
        present: (frame,), False where a frame has no features, such as without a face.
    """

    values: NDArray[Any]
    times: NDArray[np.float64]
    present: NDArray[np.bool_]

    def __post_init__(self) -> None:
        frames = len(self.values)
        if self.values.ndim != 2 or self.times.shape != (frames,) or self.present.shape != (frames,):
            raise ValueError(
                f"values {self.values.shape}, times {self.times.shape} and present {self.present.shape} don't "
                "belong together; expected (frame, feature), (frame,), (frame,)"
            )

    @classmethod
    def from_frames(cls, values: NDArray[Any], times: NDArray[np.float64]) -> "Sequence":
        """Return a sequence whose frames are all present."""
        return cls(values, times, np.ones(len(values), np.bool_))


def write(file: Path, clip: str, sequence: Sequence) -> None:
    """Write a clip's frames with its id, atomically."""
    tensors = {
        "values": np.ascontiguousarray(sequence.values),
        "times": np.ascontiguousarray(sequence.times, np.float64),
        "present": np.ascontiguousarray(sequence.present, np.bool_),
    }
    with replace_atomically(file) as temporary:
        save_file(tensors, temporary, metadata={"id": clip})


def read(file: Path, clip: str) -> Sequence:
    """Return the frames of the clip with that id (apart from leading zeros).

    Raises:
        CorpusError: if the file is damaged, or another clip's.
    """
    try:
        with safe_open(file, "np") as opened:
            stored = (opened.metadata() or {})["id"]
            sequence = Sequence(*(opened.get_tensor(name) for name in ("values", "times", "present")))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CorpusError(
            f"{file} can't be read as features ({error}); delete it and make it again"
        ) from error
    if get_clip_key(stored) != get_clip_key(clip):
        raise CorpusError(f"{file} holds the features of clip {stored!r}, expected {clip!r}")
    return sequence


def read_clip_id(file: Path) -> str | None:
    """Return the id in a file's header; None where the file is incomplete (shorter than its header states)."""
    try:
        check_file(file)
        with safe_open(file, "np") as opened:
            return (opened.metadata() or {}).get("id")
    except (SafetensorError, OSError):
        return None


def index(folder: Path, damaged: list[Path] | None = None) -> dict[str, Path]:
    """Return clip key -> its file, by the ids inside the files.

    Args:
        folder: of the features.
        damaged: incomplete files, which are left out, are appended to it.

    Raises:
        CorpusError: if there is no such folder, or two files hold the same clip.
    """
    if not folder.is_dir():
        raise CorpusError(
            f"{folder} is not there; expected features made by `emimic features` (see `emimic features --help`)"
        )
    files: dict[str, Path] = {}
    for file in sorted(folder.glob(f"[!.]*{SUFFIX}")):
        if (clip := read_clip_id(file)) is None:
            if damaged is not None:
                damaged.append(file)
            continue
        if (other := files.setdefault(get_clip_key(clip), file)) != file:
            raise CorpusError(f"{other} and {file.name} both hold clip {clip!r}; delete one of them")
    return files


def read_frame_size(files: Iterable[Path], folder: Path) -> int:
    """Return the number of features of a frame, from the first file.

    Raises:
        CorpusError: if there is no file.
    """
    for file in files:
        with safe_open(file, "np") as opened:
            return int(opened.get_slice("values").get_shape()[1])
    raise CorpusError(f"{folder} holds no features; make them with `emimic features`")


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what made the features of a folder; empty without `features.json`.

    Raises:
        CorpusError: if the file can't be read.
    """
    file = folder / FACTS
    try:
        return dict(read_json(file))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise CorpusError(f"{file} can't be read ({error}); delete {folder} and make it again") from error


def digest_facts(folder: Path) -> str | None:
    """Return 16 hex digits of the facts that determine the features of a folder; None without `features.json`.

    Raises:
        CorpusError: if the file can't be read.
    """
    facts = read_facts(folder)
    if not facts:
        return None
    text = json.dumps([facts.get(name) for name in DECISIVE], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write what makes the features of a folder into its `features.json`."""
    write_atomically(
        folder / FACTS, json.dumps({"schema": SCHEMA, **facts}, indent=1, ensure_ascii=False) + "\n"
    )
