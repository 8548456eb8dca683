"""Frames of clips for a vision branch: face crops of a corpus, or images of its videos, at a constant rate."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.data.corpus import FACES, Corpus, list_media
from emimic.data.items import Crops
from emimic.data.loader import Reader
from emimic.data.split_tables import get_clip_key, list_some
from emimic.features import faces, store
from emimic.features.descriptors import read_image
from emimic.features.extract import extract
from emimic.media import video
from emimic.model.images import Preprocessing
from emimic.task import CorpusError

CORPUS_FPS: Final = 6.0
"""Rate of the crops in face_images (section 3.1)."""

CROP: Final = ("fps", "score", "margin", "size", "align")
"""Values of a vision branch that are settings of `emimic features --kind faces`, too."""

Frames = Mapping[str, Crops | Path]
Values = Mapping[str, Any]
"""Settings of a vision branch, of a training or of a finished model's configuration."""


def find(
    folder: Path, values: Values, max_seconds: float, *, workers: int = 2, progress: bool = False
) -> Frames:
    """Return clip key -> the crops or the video of every clip of a corpus; faces that aren't there are cut first.

    Raises:
        CorpusError: if there are no such frames.
        ModelError: if the detector can't be used.
    """
    kind = str(values["frames"])
    if kind == FACES:
        return faces.find(folder / FACES, CORPUS_FPS)
    if kind.startswith(f"{store.FOLDER}/"):
        return faces.find(folder / kind, CORPUS_FPS)
    if kind not in ("faces", "video"):
        raise CorpusError(
            f"vision.frames is {kind!r}; expected faces, face_images, video, or features/NAME with crops"
        )
    videos: dict[str, Crops | Path] = {key: paths[0] for key, paths in list_media(folder / "raw").items()}
    if not videos:
        raise CorpusError(
            f"{folder / 'raw'} holds no video; expected those of the clips, or vision.frames=face_images"
        )
    if kind == "video":
        return videos
    name = _make_crops(folder, values, max_seconds, workers=workers, progress=progress)
    # A video that can't be decoded has no crops: its clip is used without, or reported where there is no voice.
    return faces.find(folder / store.FOLDER / name, CORPUS_FPS)


def _make_crops(folder: Path, values: Values, max_seconds: float, *, workers: int, progress: bool) -> str:
    """Cut the faces of a corpus's videos where they aren't cut, and return the name of their features."""
    settings = {name: values[name] for name in CROP} | {"max_seconds": max_seconds}
    text = json.dumps([settings, values["detector"]], sort_keys=True)
    name = f"faces-{values['size']}px-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    extract(
        folder,
        "faces",
        name=name,
        model=values["detector"],
        overrides=settings,
        workers=workers,
        progress=progress,
    )
    return name


def add_frames(
    corpus: Corpus, values: Values, max_seconds: float, *, workers: int = 2, progress: bool = False
) -> Corpus:
    """Return a corpus whose clips have their frames, with a warning for each split where some have none."""
    frames = find(corpus.folder, values, max_seconds, workers=workers, progress=progress)
    splits, notes = {}, list(corpus.warnings)
    for name, split in corpus.splits.items():
        items = tuple(replace(item, frames=frames.get(get_clip_key(item.id))) for item in split.items)
        splits[name] = replace(split, items=items)
        if missing := [item.id for item in items if item.frames is None]:
            notes.append(
                f"{name}: {len(missing)} of {len(items)} clips have no frames and are used without them: "
                f"{list_some(missing)}"
            )
    return replace(corpus, splits=splits, warnings=tuple(notes))


def list_clips(
    folder: Path, values: Values, max_seconds: float, *, workers: int = 2, progress: bool = False
) -> dict[str, Path]:
    """Return clip key -> a file or folder of its frames, for a model without audio."""
    frames = find(folder, values, max_seconds, workers=workers, progress=progress)
    return {
        key: clip if isinstance(clip, Path) else next((file for file in clip.files if file), folder)
        for key, clip in frames.items()
    }


def read_crop_settings(folder: Path, values: Values) -> dict[str, Any]:
    """Return the values by which a corpus's crops were cut, for a vision branch that reads features/NAME."""
    if not str(values["frames"]).startswith(f"{store.FOLDER}/"):
        return {}
    settings = store.read_facts(folder / values["frames"]).get("settings") or {}
    return {name: settings[name] for name in CROP if name != "fps" and name in settings}


def make_reader(values: Values, max_seconds: float) -> Reader:
    """Return what reads a clip's frames, (frame, height, width, 3) uint8, as a vision branch takes them."""
    preprocessing = Preprocessing.of_dict(values["preprocessing"])
    return lambda item: read(item.frames, preprocessing, values, max_seconds)


def read(
    frames: Crops | Path | None, preprocessing: Preprocessing, values: Values, max_seconds: float
) -> NDArray[np.uint8]:
    """Return a clip's frames, (frame, height, width, 3); without any where it has none.

    Frames without a face are left out, or black with padding=zeros.
    """
    images: Iterable[NDArray[np.uint8] | None] = ()
    if isinstance(frames, Path):
        images = (
            frame.image
            for frame in video.read_frames(frames, fps=values["fps"], max_seconds=max_seconds, notes=[])
        )
    elif frames is not None:
        images = _read_crops(frames, values["fps"], max_seconds)
    return prepare(images, preprocessing, values, max_seconds)


def prepare(
    images: Iterable[NDArray[np.uint8] | None],
    preprocessing: Preprocessing,
    values: Values,
    max_seconds: float,
) -> NDArray[np.uint8]:
    """Return images (height, width, 3), None without a face, as a vision branch takes them; see `read`."""
    black = np.zeros((*preprocessing.shape, 3), np.uint8)
    zeros = values["padding"] == "zeros"
    prepared = [
        black if image is None else preprocessing.prepare(image)
        for image in images
        if image is not None or zeros
    ]
    if zeros:
        prepared += [black] * (round(max_seconds * values["fps"]) - len(prepared))
    return np.stack(prepared) if prepared else np.zeros((0, *black.shape), np.uint8)


class FrameReader:
    """Reads the frames of a recording outside a corpus as a vision branch takes them, with faces cut if it takes faces.

    Threads may share one.
    """

    def __init__(self, values: Values, max_seconds: float) -> None:
        self.values, self.max_seconds = values, max_seconds
        self._preprocessing = Preprocessing.of_dict(values["preprocessing"])
        crop = {name: values[name] for name in CROP}
        self._settings = faces.Settings(**crop, max_seconds=max_seconds)
        is_whole = values["frames"] == "video"
        self._detector = (
            None if is_whole else faces.open_detector(values["detector"], align=self._settings.align)
        )

    def read(self, source: str | Path | bytes, name: str, notes: list[str]) -> NDArray[np.uint8]:
        """Return the frames, (frame, height, width, 3); see `read`.

        Args:
            source: a file or its content.
            name: of it, for messages.
            notes: receives remarks about the file.

        Raises:
            AudioError: if it holds no image, or can't be decoded.
        """
        settings = self._settings
        if self._detector is None:
            read_frames = video.read_frames(
                source, fps=settings.fps, max_seconds=self.max_seconds, name=name, notes=notes
            )
            images: list[NDArray[np.uint8] | None] = [frame.image for frame in read_frames]
        else:
            cuts = faces.cut(source, self._detector, settings, name=name, notes=notes)
            images = [None if image is None else np.asarray(image) for _, _, image in cuts]
            if not any(image is not None for image in images):
                notes.append(f"{name}: no face in {len(images)} frames")
        return prepare(images, self._preprocessing, self.values, self.max_seconds)


def _read_crops(crops: Crops, fps: float, max_seconds: float) -> Iterator[NDArray[np.uint8] | None]:
    """Yield the crops nearest to multiples of 1 / fps seconds, each once; None without a face."""
    chosen: dict[int, int] = {}
    for row, time in enumerate(crops.times.tolist()):
        step = round(time * fps)
        if time <= max_seconds and (
            step not in chosen or abs(time * fps - step) < abs(crops.times[chosen[step]] * fps - step)
        ):
            chosen[step] = row
    for row in chosen.values():
        file = crops.files[row]
        yield None if file is None else read_image(file)
