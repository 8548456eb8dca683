"""Descriptors of faces: outputs of an ONNX network for each crop.

They are, for example, 8 expressions, valence and arousal, action units, or an embedding. A frame without a face is not
present, and no black image replaces it.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, field_validator

from emimic.data.items import Crops
from emimic.data.split_tables import get_clip_key
from emimic.features import faces, store
from emimic.features.extractor import Clip, Job, Options, Work, collect_facts, describe_source, write_each
from emimic.features.networks import Network, read_license, resize, select_outputs
from emimic.files import check_file
from emimic.task import CorpusError, ModelError

INCLUDED = Path(__file__).parents[1] / "face_expression" / "face_expression.onnx"
"""Probabilities of seven expressions, in the package; its README.md says what it can't do."""

NORMALIZATIONS = {
    # name: (mean, standard deviation) of each channel, of values in [0, 1]
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,) * 3, (1.0,) * 3),
    "symmetric": ((0.5,) * 3, (0.5,) * 3),
    "bytes": ((0.0,) * 3, (1 / 255,) * 3),
}


class Settings(Options):
    """Settings of the network's input and outputs."""

    faces: str | None = Field(
        None, description="features with the crops; null: features/faces where it exists, else face_images"
    )
    fps: float = Field(6.0, gt=0, description="faces per second in face_images")
    size: int | None = Field(
        None, ge=8, le=2048, description="side of the input in pixels; null: the network's, else 224"
    )
    normalize: str | None = Field(
        None,
        description="of the pixels: imagenet, unit (0 to 1), symmetric (-1 to 1), bytes (0 to 255); null: bytes for "
        "the included network, imagenet for others",
    )
    bgr: bool = Field(False, description="blue first, as networks from OpenCV expect it")
    outputs: tuple[str, ...] | None = Field(None, description="outputs to store, in this order; null: all")

    @field_validator("normalize")
    @classmethod
    def _check_normalize(cls, value: str | None) -> str | None:
        if value is not None and value not in NORMALIZATIONS:
            raise ValueError(f"expected one of {', '.join(NORMALIZATIONS)}")
        return value

    @field_validator("outputs", mode="before")
    @classmethod
    def _split_outputs(cls, value: Any) -> Any:
        return tuple(value.split(",")) if isinstance(value, str) else value


def plan(job: Job, settings: Settings) -> list[Work]:
    """Return the work for one folder of descriptors."""
    source = str(INCLUDED) if job.model is None else job.model
    network = Network(source)
    if settings.normalize is None:
        settings = settings.model_copy(update={"normalize": "bytes" if job.model is None else "imagenet"})
    crops_folder = faces.get_folder(job.folder, settings.faces)
    crops = faces.find(crops_folder, settings.fps)
    # The outputs for a gray image show early whether the network fits, and the sizes of the features.
    sizes = {name: values.shape[1] for name, values in _describe(network, [_GRAY], settings).items()}

    def make(clip: Clip) -> store.Sequence:
        return _make_sequence(network, crops[get_clip_key(clip.id)], settings)

    facts = collect_facts(
        job,
        settings,
        "onnxruntime",
        weights=network.weights,
        license=read_license(source),
        model=job.model or "face_expression, in the package: see its limits in docs/features.md",
        outputs=sizes,
        source=describe_source(crops_folder),
    )
    clips = [Clip(clip.id, crops_folder) for clip in crops.values()]
    return [Work(job.get_folder(), facts, clips, write_each(make, job.get_folder(), job.workers))]


_GRAY = np.full((224, 224, 3), 128, np.uint8)


def _make_sequence(network: Network, crops: Crops, settings: Settings, batch: int = 32) -> store.Sequence:
    within = crops.times <= (np.inf if settings.max_seconds is None else settings.max_seconds)
    times = crops.times[within]
    files = [file for file, inside in zip(crops.files, within, strict=True) if inside]
    rows = [row for row, file in enumerate(files) if file is not None]
    if not rows:
        raise CorpusError("no face was found in it")
    batches = []
    for start in range(0, len(rows), batch):
        images = [read_image(files[row]) for row in rows[start : start + batch]]
        batches.append(np.concatenate(list(_describe(network, images, settings).values()), axis=1))
    descriptors = np.concatenate(batches).astype(np.float32)
    values = np.zeros((len(files), descriptors.shape[1]), np.float32)
    values[rows] = descriptors
    present = np.zeros(len(files), np.bool_)
    present[rows] = np.isfinite(descriptors).all(axis=1)
    values[~present] = 0
    return store.Sequence(values, times, present)


def _describe(
    network: Network, images: list[NDArray[np.uint8]], settings: Settings
) -> dict[str, NDArray[Any]]:
    """Return the outputs by name, (image, feature), for RGB images (height, width, 3)."""
    height = settings.size or network.height or 224
    width = settings.size or network.width or 224
    batch = np.stack([resize(image, height, width) for image in images]).astype(np.float32) / 255
    mean, std = NORMALIZATIONS[settings.normalize or "imagenet"]
    batch = (batch - np.array(mean, np.float32)) / np.array(std, np.float32)
    if network.channels == 1:
        batch = batch @ np.array([[0.299], [0.587], [0.114]], np.float32)
    elif settings.bgr:
        batch = batch[..., ::-1]
    outputs = select_outputs(network.predict(batch), settings.outputs, network.source)
    wrong = [name for name, values in outputs.items() if len(values) != len(images)]
    if wrong:
        raise ModelError(
            f"{network.source}: the output {wrong[0]} doesn't have one row per image; leave it out of outputs=..."
        )
    return {name: values.reshape(len(images), -1) for name, values in outputs.items()}


def read_image(file: Path | None) -> NDArray[np.uint8]:
    """Return an image as RGB, (height, width, 3). Raises CorpusError."""
    try:
        check_file(str(file))
        with Image.open(str(file)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError, SyntaxError) as error:
        raise CorpusError(
            f"{file} can't be read as an image ({error}); delete it or copy it again"
        ) from error
