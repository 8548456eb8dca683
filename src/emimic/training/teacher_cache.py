"""A teacher's answers on disk: the service wing writes them, the study wing learns a student from them.

    FOLDER/KEY/teacher.json     whose answers they are: see Teacher
    FOLDER/KEY/HASH.npz         the answer to the recording whose content has this SHA-256: see `read`

KEY follows from the teacher's files and HASH from the recording's, so that a stale answer can't be found.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.files import atomic, make_folder, read_json, write_atomic
from emimic.prediction import Prediction
from emimic.task import ModelError

DESCRIPTION: Final = "teacher.json"
SCHEMA: Final = "emimic/teacher/1"


@dataclass(frozen=True, slots=True)
class Teacher:
    """key: names its weights, 16 hex digits. targets: the names of its intensities. max_seconds: how much of each
    recording it heard, from the start. vad: whether it answers VAD."""

    key: str
    targets: tuple[str, ...]
    max_seconds: float
    vad: bool


def describe(folder: Path, teacher: Teacher) -> Path:
    """Make the folder of a teacher's answers under `folder`, and say whose they are."""
    place = folder / teacher.key
    make_folder(place)
    write_atomic(place / DESCRIPTION, json.dumps({"schema": SCHEMA, **asdict(teacher)}, indent=1) + "\n")
    return place


def described(place: Path) -> Teacher:
    """Whose answers a folder holds. Raises ModelError when it doesn't say."""
    file = place / DESCRIPTION
    try:
        found = read_json(file)
        return Teacher(found["key"], tuple(found["targets"]), found["max_seconds"], found["vad"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file} doesn't say whose answers lie beside it ({error!r}); run emimic distill, which writes them"
        ) from error


def write(file: Path, answer: Prediction) -> None:
    """One recording's answer, whole or not at all; hidden states as float16."""
    arrays: dict[str, Any] = {"intensities": answer.intensities, "times": answer.times}
    if answer.vad is not None:
        arrays["vad"] = answer.vad
    if answer.hidden is not None:
        # Nothing a frame's state means is lost; twice the size would be.
        arrays["hidden"] = answer.hidden.clip(-65504, 65504).astype(np.float16)
    with atomic(file) as temporary, temporary.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **arrays)


def read(file: Path, *, hidden: bool = False) -> Prediction:
    """One recording's answer as it was written, with hidden states, float32, if they are there and asked for. Raises
    ModelError when it is damaged."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as found:
            return Prediction(
                intensities=found["intensities"],
                vad=found.get("vad"),
                times=found["times"],
                hidden=found["hidden"].astype(np.float32) if hidden and "hidden" in found else None,
            )
    # zipfile has an error of its own, which is no OSError.
    except Exception as error:
        raise ModelError(f"{file} can't be read ({error}): delete it and run emimic distill again") from error
