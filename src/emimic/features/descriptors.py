"""Descriptors of faces: what an ONNX network says of each crop, such as 8 expressions, valence and arousal, action
units, or an embedding. A frame without a face is not present; it is never shown to the network as a black picture.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, field_validator

from emimic.data.split_tables import clip_key
from emimic.features import faces, store
from emimic.features.extractor import Clip, Job, Options, Work, each, facts, maker
from emimic.features.networks import Network, licence, pick, resized
from emimic.files import need_file
from emimic.task import CorpusError, ModelError

NORMALISATIONS = {
    # name: (mean, standard deviation) a channel, of values in [0, 1]
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,) * 3, (1.0,) * 3),
    "symmetric": ((0.5,) * 3, (0.5,) * 3),
    "bytes": ((0.0,) * 3, (1 / 255,) * 3),
}


class Settings(Options):
    """What the network takes, and what of its answers is kept."""

    faces: str | None = Field(
        None, description="features to take crops from; null: features/faces if it is there, else face_images"
    )
    fps: float = Field(6.0, gt=0, description="faces a second in face_images")
    size: int | None = Field(
        None, ge=8, le=2048, description="side of the input; null: as the network says, else 224"
    )
    normalize: str = Field(
        "imagenet", description="imagenet, unit (0 to 1), symmetric (-1 to 1), bytes (0 to 255) of the pixels"
    )
    bgr: bool = Field(False, description="blue first, as networks from OpenCV want it")
    outputs: tuple[str, ...] | None = Field(None, description="outputs to keep, in this order; null: all")

    @field_validator("normalize")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in NORMALISATIONS:
            raise ValueError(f"expected one of {', '.join(NORMALISATIONS)}")
        return value

    @field_validator("outputs", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return tuple(value.split(",")) if isinstance(value, str) else value


def plan(job: Job, settings: Settings) -> list[Work]:
    """One folder of descriptors."""
    source = job.need_model("descriptor.onnx")
    network = Network(source)
    place = faces.place(job.folder, settings.faces)
    crops = faces.find(place, settings.fps)
    # An answer to a grey picture says early what does not fit, and which features there are.
    sizes = {name: values.shape[1] for name, values in _describe(network, [_GREY], settings).items()}

    def make(clip: Clip) -> store.Sequence:
        return _sequence(network, crops[clip_key(clip.id)], settings)

    known = facts(
        job,
        settings,
        "onnxruntime",
        weights=network.weights,
        licence=licence(source),
        outputs=sizes,
        source=maker(place),
    )
    chosen = [Clip(one.id, place) for one in crops.values()]
    return [Work(job.place(), known, chosen, each(make, job.place(), job.workers))]


_GREY = np.full((224, 224, 3), 128, np.uint8)


def _sequence(network: Network, crops: faces.Crops, settings: Settings, batch: int = 32) -> store.Sequence:
    within = crops.times <= (np.inf if settings.max_seconds is None else settings.max_seconds)
    times = crops.times[within]
    files = [file for file, kept in zip(crops.files, within, strict=True) if kept]
    there = [row for row, file in enumerate(files) if file is not None]
    if not there:
        raise CorpusError("no face was found in it")
    found = []
    for start in range(0, len(there), batch):
        pictures = [_open(files[row]) for row in there[start : start + batch]]
        found.append(np.concatenate(list(_describe(network, pictures, settings).values()), axis=1))
    described = np.concatenate(found).astype(np.float32)
    values = np.zeros((len(files), described.shape[1]), np.float32)
    values[there] = described
    present = np.zeros(len(files), np.bool_)
    present[there] = np.isfinite(described).all(axis=1)
    values[~present] = 0
    return store.Sequence(values, times, present)


def _describe(
    network: Network, pictures: list[NDArray[np.uint8]], settings: Settings
) -> dict[str, NDArray[Any]]:
    """Pictures (height, width, 3) RGB -> outputs by name, (picture, feature) each."""
    height = settings.size or network.height or 224
    width = settings.size or network.width or 224
    batch = np.stack([resized(picture, height, width) for picture in pictures]).astype(np.float32) / 255
    mean, deviation = NORMALISATIONS[settings.normalize]
    batch = (batch - np.array(mean, np.float32)) / np.array(deviation, np.float32)
    if network.channels == 1:
        batch = batch @ np.array([[0.299], [0.587], [0.114]], np.float32)
    elif settings.bgr:
        batch = batch[..., ::-1]
    outputs = pick(network.run(batch), settings.outputs, network.source)
    wrong = [name for name, values in outputs.items() if len(values) != len(pictures)]
    if wrong:
        raise ModelError(
            f"{network.source}: the output {wrong[0]} has no row a picture; leave it out of outputs=..."
        )
    return {name: values.reshape(len(pictures), -1) for name, values in outputs.items()}


def _open(file: Path | None) -> NDArray[np.uint8]:
    try:
        need_file(str(file))
        with Image.open(str(file)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError, SyntaxError) as error:
        raise CorpusError(
            f"{file} can't be read as a picture ({error}); delete it or copy it again"
        ) from error
