"""Features of a frozen image encoder: computed once, stored on disk, and read while only the rest is trained.

A clip's file is named by the hash of its images, its folder by everything else that determines the features (encoder,
weights, preparation, rate, type), so that a stale feature can't be read.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from emimic import batching
from emimic.data.items import Crops, Item
from emimic.data.loader import DEFAULT, GROUP, BatchOptions, Reader
from emimic.features import frames, store
from emimic.features.encoder_cache import digest_weights
from emimic.files import compute_sha256, make_folder
from emimic.model.model import EmiModel
from emimic.progress import show_progress

VERSION: Final = 0
"""Raise it when the way from a stored image to the encoder changes."""

DECISIVE: Final = ("encoder_config", "preprocessing", "fps", "padding")
"""Values of a vision branch that determine the features of an image or video file."""


def compute(
    model: EmiModel, items: Sequence[Item], folder: Path, options: BatchOptions, *, dtype: str
) -> Reader:
    """Encode the frames of every item, where `folder` doesn't have them yet; an interrupted run resumes.

    Args:
        model: with a frozen vision branch.
        items: the clips.
        folder: of all features.
        options: how frames are read.
        dtype: of the stored features.

    Returns:
        What reads a clip's features, (frame, feature), in the place of its frames.
    """
    branch: Any = model.branches["vision"]
    cache = folder / compute_key(model, dtype, options.precision)
    make_folder(cache)
    files = {
        item.key: cache / f"{_digest_frames(item.frames)}{store.SUFFIX}"
        for item in items
        if item.frames is not None
    }
    missing = [item for item in items if item.key in files and store.read_clip_id(files[item.key]) is None]
    for item, values in _encode(model, missing, options):
        file = files[item.key]
        # Frames without a face are left out, so these times are not the recording's; nothing reads them.
        times = np.arange(len(values)) / model.config.vision["fps"]
        store.write(file, file.stem, store.Sequence.from_frames(values.astype(dtype), times))

    def read(item: Item) -> NDArray[Any]:
        if item.frames is None:
            return np.zeros((0, branch.config["features"]), dtype)
        return store.read(files[item.key], files[item.key].stem).values

    return read


def compute_key(model: EmiModel, dtype: str, precision: str = DEFAULT.precision) -> str:
    """Return 16 hex digits for the image encoder and its weights, the preparation of frames, type and precision."""
    branch: Any = model.branches["vision"]
    settings = [branch.config[name] for name in DECISIVE]
    values = [VERSION, settings, model.config.max_seconds, digest_weights(branch.backbone), dtype]
    if precision != DEFAULT.precision:
        values.append(precision)
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


@torch.inference_mode()
def _encode(
    model: EmiModel, items: Sequence[Item], options: BatchOptions
) -> Iterator[tuple[Item, NDArray[np.float32]]]:
    """Yield every item with the features of its frames, (frame, feature)."""
    branch: Any = model.branches["vision"]
    branch.backbone.eval()
    reader = frames.make_reader(model.config.vision, model.config.max_seconds)
    groups = batching.split(range(len(items)), GROUP)
    read = batching.read_groups(lambda row: reader(items[row]), groups, workers=options.workers)
    for number, clips in show_progress(read, "image features", total=len(groups), show=options.progress):
        for row, images in zip(groups[number], clips, strict=True):
            values = np.zeros((0, branch.config["features"]), np.float32)
            if len(images):
                with options.autocast(model.device):
                    encoded = branch.encode_frames(torch.from_numpy(images).to(model.device))
                values = encoded.float().cpu().numpy()
            yield items[row], values


def _digest_frames(source: Crops | Path) -> str:
    """Return the hash of a clip's video, or of its crops and their times."""
    if not isinstance(source, Crops):
        return compute_sha256(source)
    digest = hashlib.sha256(source.times.tobytes())
    for file in source.files:
        digest.update(b"-" if file is None else compute_sha256(file).encode())
    return digest.hexdigest()
