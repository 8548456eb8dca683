"""Face crops: cut from the videos with a detector, or those that the corpus brings; each with its time.

`emimic features FOLDER --kind faces` writes `features/faces/<id>/00000.jpg, ...` and `frames.json`: the time of every
frame looked at, its crop or null where no face was found, and the box. The corpus's own `face_images/<id>/*.jpg` say
their frame by their number; a number that is missing is a frame without a face.
"""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from emimic.data.corpus import FACES
from emimic.data.split_tables import clip_key
from emimic.features import store
from emimic.features.detectors import Box, Detector
from emimic.features.extractor import Clip, Job, Options, Work, clips, each_written, facts
from emimic.features.networks import licence
from emimic.files import need_file, read_json, visible, write_atomic
from emimic.media import video
from emimic.task import CorpusError
from emimic.wording import plural

FRAMES: Final = "frames.json"
SCHEMA: Final = "emimic/frames/1"
_IMAGES: Final = (".jpg", ".jpeg", ".png")


class Settings(Options):
    """How often, and how much of the face."""

    fps: float | None = Field(
        6.0, gt=0, description="frames looked at in a second (the corpus: 6); null: all"
    )
    score: float = Field(0.6, gt=0, le=1, description="least score of a face")
    margin: float = Field(
        0.1, ge=0, le=2, description="added on each side, as a share of the longer side of the box"
    )
    size: int = Field(224, ge=16, le=2048, description="side of a crop in pixels")


@dataclass(frozen=True, slots=True)
class Crops:
    """A clip's faces: times (frame,) in seconds, and the file of each frame's crop, None where there is no face."""

    id: str
    times: NDArray[np.float64]
    files: tuple[Path | None, ...]


def plan(job: Job, settings: Settings) -> list[Work]:
    """A folder of crops a clip."""
    source = job.need_model("detector.onnx")
    detector = Detector(source)
    place = job.place()

    def make(clip: Clip) -> None:
        _cut(clip, place / clip.id, detector, settings, job.notes)

    known = facts(job, settings, "onnxruntime", weights=detector.network.weights, licence=licence(source))
    return [
        Work(place, known, clips(job.folder, ("raw",)), each_written(make, job.workers), _there, job.notes)
    ]


def _there(place: Path) -> list[str]:
    return [clip_key(file.parent.name) for file in place.glob(f"[!.]*/{FRAMES}")]


def _cut(clip: Clip, folder: Path, detector: Detector, settings: Settings, notes: list[str]) -> None:
    """All crops of a clip; `frames.json` comes last and says that they are whole."""
    folder.mkdir(exist_ok=True)
    table: list[dict[str, Any]] = []
    name = f"raw/{clip.path.name}"
    for number, frame in enumerate(
        video.frames(clip.path, fps=settings.fps, max_seconds=settings.max_seconds, name=name, notes=notes)
    ):
        found = detector.face(frame.image, settings.score)
        row: dict[str, Any] = {"time": frame.time, "file": None}
        if found is not None:
            box, score = found
            row = {
                "time": frame.time,
                "file": f"{number:05d}.jpg",
                "box": [*map(round, box)],
                "score": round(score, 4),
            }
            _save(folder / row["file"], crop(frame.image, box, settings.margin, settings.size))
        table.append(row)
    write_atomic(folder / FRAMES, json.dumps({"schema": SCHEMA, "id": clip.id, "frames": table}) + "\n")
    if not any(row["file"] for row in table):
        notes.append(f"{name}: no face in {plural(len(table), 'frame')}")


def crop(picture: NDArray[np.uint8], box: Box, margin: float, size: int) -> Image.Image:
    """The square around a box, moved into the picture where it leaves it."""
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    side = min(max(right - left, bottom - top, 2) * (1 + 2 * margin), width, height)
    x = min(max((left + right - side) / 2, 0), width - side)
    y = min(max((top + bottom - side) / 2, 0), height - side)
    return Image.fromarray(picture).resize(
        (size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side)
    )


def _save(file: Path, image: Image.Image) -> None:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=95)
    write_atomic(file, data.getvalue())


def place(folder: Path, name: str | None) -> Path:
    """Where a corpus's crops are: `features/NAME`, by default `features/faces` if it is there, else `face_images`."""
    made = folder / store.FOLDER / (name or "faces")
    return made if name is not None or made.is_dir() else folder / FACES


def find(place: Path, fps: float) -> dict[str, Crops]:
    """A corpus's crops by clip key, in order of their names; in `face_images` frames are 1 / fps apart.

    Raises CorpusError when there are none, or two of one clip.
    """
    given = place.name == FACES
    found = _given(place, fps) if given else [_read(file) for file in sorted(place.glob(f"[!.]*/{FRAMES}"))]
    if not found:
        raise CorpusError(f"{place} holds no face crops; make them with --kind faces, or copy {FACES}")
    first: dict[str, Crops] = {}
    for crops in found:
        if (other := first.setdefault(clip_key(crops.id), crops)) is not crops:
            raise CorpusError(f"{place} holds {other.id} and {crops.id}, the same clip; delete one of them")
    return first


def _read(file: Path) -> Crops:
    try:
        need_file(file)
        table: Mapping[str, Any] = read_json(file)
        rows = table["frames"]
        return Crops(
            str(table["id"]),
            np.array([row["time"] for row in rows], np.float64),
            tuple(row["file"] and file.parent / Path(row["file"]).name for row in rows),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{file} can't be read ({error}); delete its folder and make it again") from error


def _given(folder: Path, fps: float) -> list[Crops]:
    """The corpus's own. Where any clip has a frame 0 numbers count from 0, else from 1."""
    if not folder.is_dir():
        return []
    numbered: dict[str, dict[int, Path]] = {}
    for place in [folder / entry.name for entry in visible(folder) if entry.is_dir()]:
        files = [place / entry.name for entry in visible(place) if entry.name.lower().endswith(_IMAGES)]
        found = {int(digits[-1]): file for file in files if (digits := re.findall(r"\d+", file.stem))}
        if found:
            numbered[place.name] = found
    first = min((min(found) for found in numbered.values()), default=0)
    start = 0 if first == 0 else 1
    return [
        Crops(
            name,
            np.arange(max(found) + 1 - start) / fps,
            tuple(found.get(number) for number in range(start, max(found) + 1)),
        )
        for name, found in numbered.items()
    ]
