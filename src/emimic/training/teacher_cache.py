"""A teacher's predictions on disk, written by `emimic distill` and read by the student's training.

    FOLDER/KEY/teacher.json     the teacher: see Teacher
    FOLDER/KEY/HASH.npz         its prediction of the recording whose content has this SHA-256: see `read`

KEY depends on the teacher's files and HASH on the recording's, so that an outdated prediction is never read.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.files import make_folder, read_json, replace_atomically, write_atomically
from emimic.prediction import Prediction
from emimic.task import ModelError

DESCRIPTION: Final = "teacher.json"
SCHEMA: Final = "emimic/teacher/1"


@dataclass(frozen=True, slots=True)
class Teacher:
    """Description of a teacher.

    Attributes:
        key: names its weights, 16 hex digits.
        targets: names of its intensities.
        max_seconds: length of each recording that it predicts, from the start.
        vad: it predicts V/A/D.
    """

    key: str
    targets: tuple[str, ...]
    max_seconds: float
    vad: bool


def write_teacher(cache: Path, teacher: Teacher) -> Path:
    """Make the folder of a teacher's predictions under `cache`, with its description; return it."""
    folder = cache / teacher.key
    make_folder(folder)
    write_atomically(folder / DESCRIPTION, json.dumps({"schema": SCHEMA, **asdict(teacher)}, indent=1) + "\n")
    return folder


def read_teacher(folder: Path) -> Teacher:
    """Return the teacher whose predictions a folder holds. Raises ModelError where its description is unreadable."""
    file = folder / DESCRIPTION
    try:
        content = read_json(file)
        return Teacher(content["key"], tuple(content["targets"]), content["max_seconds"], content["vad"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file} doesn't describe the teacher of these predictions ({error!r}); run emimic distill, which writes "
            "them"
        ) from error


def write(file: Path, prediction: Prediction) -> None:
    """Write the prediction of one recording atomically, hidden states as float16."""
    arrays: dict[str, Any] = {"intensities": prediction.intensities, "times": prediction.times}
    if prediction.vad is not None:
        arrays["vad"] = prediction.vad
    if prediction.hidden is not None:
        # Half the size, and precise enough for a target.
        arrays["hidden"] = prediction.hidden.clip(-65504, 65504).astype(np.float16)
    with replace_atomically(file) as temporary, temporary.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **arrays)


def read(file: Path, *, hidden: bool = False) -> Prediction:
    """Return the prediction of one recording, with float32 hidden states if asked for and written.

    Raises:
        ModelError: if the file is missing or damaged.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return Prediction(
                intensities=arrays["intensities"],
                vad=arrays.get("vad"),
                times=arrays["times"],
                hidden=arrays["hidden"].astype(np.float32) if hidden and "hidden" in arrays else None,
            )
    # zipfile's own error is no OSError.
    except Exception as error:
        raise ModelError(f"{file} can't be read ({error}): delete it and run emimic distill again") from error
