"""Face crops with their times: cut from the videos with a detector, or those that come with the corpus.

`emimic features FOLDER --kind faces` writes `features/faces/<id>/00000.jpg, ...` and `frames.json`: the time of every
processed frame, its crop (null without a face) and the box. In the corpus's own `face_images/<id>/*.jpg`, the number of
a file is that of its frame; a missing number is a frame without a face.
"""

import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from emimic.data.corpus import FACES
from emimic.data.items import Crops
from emimic.data.split_tables import get_clip_key
from emimic.features import store
from emimic.features.detectors import Box, Detector, Face, Points
from emimic.features.extractor import Clip, Job, Options, Work, collect_facts, list_clips, process_each
from emimic.features.networks import read_license
from emimic.files import check_file, list_visible, read_json, write_atomically
from emimic.media import video
from emimic.task import CorpusError, ModelError
from emimic.wording import pluralize

FRAMES: Final = "frames.json"
SCHEMA: Final = "emimic/frames/1"
_IMAGES: Final = (".jpg", ".jpeg", ".png")


class Settings(Options):
    """Settings of face crops."""

    fps: float | None = Field(
        6.0, gt=0, description="frames looked at in a second (the corpus: 6); null: all"
    )
    score: float = Field(0.6, gt=0, le=1, description="minimum score of a face")
    margin: float = Field(
        0.1, ge=0, le=2, description="added on each side, as a fraction of the longer side of the box"
    )
    size: int = Field(
        224, ge=16, le=2048, description="side of a crop in pixels (section 6.2: 160, then 256)"
    )
    align: bool = Field(False, description="rotate faces so that the eyes are level (section 6.2)")


def plan(job: Job, settings: Settings) -> list[Work]:
    """Return the work for one folder of crops per clip."""
    detector = open_detector(job.model, align=settings.align)
    folder = job.get_folder()

    def make(clip: Clip) -> None:
        _write_crops(clip, folder / clip.id, detector, settings, job.notes)

    facts = collect_facts(
        job,
        settings,
        "onnxruntime",
        weights=detector.network.weights,
        license=read_license(detector.network.source),
        model=job.model or "BlazeFace, in the package",
    )
    clips = list_clips(job.folder, ("raw",))
    return [Work(folder, facts, clips, process_each(make, job.workers), _list_made, job.notes)]


def _list_made(folder: Path) -> list[str]:
    return [get_clip_key(file.parent.name) for file in folder.glob(f"[!.]*/{FRAMES}")]


def open_detector(source: str | None, *, align: bool) -> Detector:
    """Return a face detector, the included one by default.

    Raises:
        ModelError: if it can't be used, or finds no eyes, by which faces are aligned.
    """
    detector = Detector(source)
    if align and not detector.has_eyes:
        raise ModelError(
            f"{source} gives no points of a face, and align needs the eyes': take BlazeFace or YuNet, or no align"
        )
    return detector


def cut(
    source: str | Path | bytes, detector: Detector, settings: Settings, *, name: str, notes: list[str]
) -> Iterator[tuple[float, Face | None, Image.Image | None]]:
    """Yield the time of each frame of a video in seconds, its face and the crop of it; None without a face."""
    frames = video.read_frames(
        source, fps=settings.fps, max_seconds=settings.max_seconds, name=name, notes=notes
    )
    for frame in frames:
        face = detector.detect(frame.image, settings.score)
        if face is None:
            yield frame.time, None, None
        else:
            eyes = face.eyes if settings.align else None
            yield frame.time, face, crop(frame.image, face.box, settings.margin, settings.size, eyes)


def _write_crops(clip: Clip, folder: Path, detector: Detector, settings: Settings, notes: list[str]) -> None:
    """Write all crops of a clip, then `frames.json`, which marks them as complete."""
    folder.mkdir(exist_ok=True)
    table: list[dict[str, Any]] = []
    name = f"raw/{clip.path.name}"
    for number, (time, face, image) in enumerate(cut(clip.path, detector, settings, name=name, notes=notes)):
        row: dict[str, Any] = {"time": time, "file": None}
        if face is not None and image is not None:
            row["file"] = f"{number:05d}.jpg"
            row |= {"box": [*map(round, face.box)], "score": round(face.score, 4)}
            _save(folder / row["file"], image)
        table.append(row)
    write_atomically(folder / FRAMES, json.dumps({"schema": SCHEMA, "id": clip.id, "frames": table}) + "\n")
    if not any(row["file"] for row in table):
        notes.append(f"{name}: no face in {pluralize(len(table), 'frame')}")


def crop(
    image: NDArray[np.uint8], box: Box, margin: float, size: int, eyes: Points | None = None
) -> Image.Image:
    """Return the square around a box, moved to lie within the image (height, width, 3).

    Args:
        image: the frame.
        box: of the face.
        margin: added on each side, as a fraction of the box's longer side.
        size: side of the result in pixels.
        eyes: the image is rotated around the middle of the box such that they are level; None: as it is.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = box
    middle = ((left + right) / 2, (top + bottom) / 2)
    rotated = Image.fromarray(image)
    if eyes is not None:
        across, down = eyes[1] - eyes[0]
        angle = math.degrees(math.atan2(down, across))
        rotated = rotated.rotate(angle, Image.Resampling.BILINEAR, center=middle)
    side = min(max(right - left, bottom - top, 2) * (1 + 2 * margin), width, height)
    x = min(max(middle[0] - side / 2, 0), width - side)
    y = min(max(middle[1] - side / 2, 0), height - side)
    return rotated.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side))


def _save(file: Path, image: Image.Image) -> None:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=95)
    write_atomically(file, data.getvalue())


def get_folder(corpus: Path, name: str | None) -> Path:
    """Return the folder of crops: `features/NAME`, by default `features/faces` where it exists, else `face_images`."""
    folder = corpus / store.FOLDER / (name or "faces")
    return folder if name is not None or folder.is_dir() else corpus / FACES


def find(folder: Path, fps: float) -> dict[str, Crops]:
    """Return a corpus's crops by clip key, in order of their names; in `face_images` frames are 1 / fps apart.

    Raises:
        CorpusError: if there are none, or two of one clip.
    """
    if folder.name == FACES:
        clips = _list_numbered(folder, fps)
    else:
        clips = [_read(file) for file in sorted(folder.glob(f"[!.]*/{FRAMES}"))]
    if not clips:
        raise CorpusError(f"{folder} holds no face crops; make them with --kind faces, or copy {FACES}")
    by_key: dict[str, Crops] = {}
    for crops in clips:
        if (other := by_key.setdefault(get_clip_key(crops.id), crops)) is not crops:
            raise CorpusError(f"{folder} holds {other.id} and {crops.id}, the same clip; delete one of them")
    return by_key


def _read(file: Path) -> Crops:
    try:
        check_file(file)
        table: Mapping[str, Any] = read_json(file)
        rows = table["frames"]
        return Crops(
            str(table["id"]),
            np.array([row["time"] for row in rows], np.float64),
            tuple(row["file"] and file.parent / Path(row["file"]).name for row in rows),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{file} can't be read ({error}); delete its folder and make it again") from error


def _list_numbered(folder: Path, fps: float) -> list[Crops]:
    """Return the corpus's own crops. Numbers count from 0 where any clip has a frame 0, else from 1."""
    if not folder.is_dir():
        return []
    clips: dict[str, dict[int, Path]] = {}
    for clip in [folder / entry.name for entry in list_visible(folder) if entry.is_dir()]:
        files = [clip / entry.name for entry in list_visible(clip) if entry.name.lower().endswith(_IMAGES)]
        frames = {int(digits[-1]): file for file in files if (digits := re.findall(r"\d+", file.stem))}
        if frames:
            clips[clip.name] = frames
    start = 0 if min(map(min, clips.values()), default=0) == 0 else 1
    return [
        Crops(
            name,
            np.arange(max(frames) + 1 - start) / fps,
            tuple(frames.get(number) for number in range(start, max(frames) + 1)),
        )
        for name, frames in clips.items()
    ]
