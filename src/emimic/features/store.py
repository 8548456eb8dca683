"""Features on disk: one file a clip, its frames with their times, and the clip's id inside the file.

A corpus keeps them in `features/NAME/`, beside `features.json`, which says what made them. Whoever reads goes by the id
in a file's header and never by a row number, so the frames of two modalities can't come from two clips.
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

from emimic.data.split_tables import clip_key
from emimic.files import atomic, need_file, read_json, write_atomic
from emimic.task import CorpusError

FOLDER: Final = "features"
"""The place of all features in a corpus."""

WAVEFORM: Final = "waveform"
"""In place of a folder's name: the clip itself, through an encoder that is trained, too."""

FACTS: Final = "features.json"
SCHEMA: Final = "emimic/features/1"
SUFFIX: Final = ".safetensors"
DECISIVE: Final = ("kind", "weights", "source", "settings")
"""What of the facts decides the features; the rest may differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """A clip's frames: values (frame, feature); times (frame,), their centers in seconds; present (frame,), false where
    nothing was found in a frame, such as no face: its values mean nothing then."""

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
    def whole(cls, values: NDArray[Any], times: NDArray[np.float64]) -> "Sequence":
        """Frames that are all there."""
        return cls(values, times, np.ones(len(values), np.bool_))


def write(file: Path, clip: str, sequence: Sequence) -> None:
    """Write a clip's frames under its id, whole or not at all. Raises OSError."""
    tensors = {
        "values": np.ascontiguousarray(sequence.values),
        "times": np.ascontiguousarray(sequence.times, np.float64),
        "present": np.ascontiguousarray(sequence.present, np.bool_),
    }
    with atomic(file) as temporary:
        save_file(tensors, temporary, metadata={"id": clip})


def read(file: Path, clip: str) -> Sequence:
    """The frames of the clip with that id (leading zeros aside). Raises CorpusError: damaged, or another clip's."""
    try:
        with safe_open(file, "np") as opened:
            found = (opened.metadata() or {})["id"]
            sequence = Sequence(*(opened.get_tensor(name) for name in ("values", "times", "present")))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CorpusError(
            f"{file} can't be read as features ({error}); delete it and make it again"
        ) from error
    if clip_key(found) != clip_key(clip):
        raise CorpusError(f"{file} holds the features of clip {found!r}, expected {clip!r}")
    return sequence


def clip_of(file: Path) -> str | None:
    """The id in a file's header; None when the file isn't whole (its length is compared with its header's)."""
    try:
        need_file(file)
        with safe_open(file, "np") as opened:
            return (opened.metadata() or {}).get("id")
    except (SafetensorError, OSError):
        return None


def index(folder: Path, damaged: list[Path] | None = None) -> dict[str, Path]:
    """Clip key -> its file, by the ids inside the files; those that aren't whole are left out, and put into `damaged`.

    Raises CorpusError without such a folder, or when two files hold the same clip.
    """
    if not folder.is_dir():
        raise CorpusError(
            f"{folder} is not there; expected features made by `emimic features` (see `emimic features --help`)"
        )
    found: dict[str, Path] = {}
    for file in sorted(folder.glob(f"[!.]*{SUFFIX}")):
        if (clip := clip_of(file)) is None:
            if damaged is not None:
                damaged.append(file)
            continue
        if (other := found.setdefault(clip_key(clip), file)) != file:
            raise CorpusError(f"{other} and {file.name} both hold clip {clip!r}; delete one of them")
    return found


def size(files: Iterable[Path], place: Path) -> int:
    """Features of a frame, from the first file. Raises CorpusError when there is none."""
    for file in files:
        with safe_open(file, "np") as opened:
            return int(opened.get_slice("values").get_shape()[1])
    raise CorpusError(f"{place} holds no features; make them with `emimic features`")


def facts(folder: Path) -> dict[str, Any]:
    """What made the features of a folder; empty when nobody wrote it down. Raises CorpusError."""
    file = folder / FACTS
    try:
        return dict(read_json(file))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise CorpusError(f"{file} can't be read ({error}); delete {folder} and make it again") from error


def made_by(folder: Path) -> str | None:
    """16 hex digits of what made the features of a folder: kind, weights, source and settings; None if nobody wrote it
    down. Raises CorpusError."""
    known = facts(folder)
    if not known:
        return None
    text = json.dumps([known.get(name) for name in DECISIVE], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe(folder: Path, made_by: Mapping[str, Any]) -> None:
    """Write down what makes the features of a folder. Raises OSError."""
    write_atomic(
        folder / FACTS, json.dumps({"schema": SCHEMA, **made_by}, indent=1, ensure_ascii=False) + "\n"
    )
