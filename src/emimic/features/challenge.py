"""The challenge's own features, `vit/*.pkl` and `wav2vec2/*.pkl`, once into the form that everything else reads.

The corpus says of them only what they are: 384 features a face (ViT) and 768 a frame (wav2vec 2.0). Their times follow
from the rates below: faces were cut at 6 a second; wav2vec 2.0 gives a frame every 320 samples, of 400 samples each.
"""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from emimic.data.corpus_settings import Numbers
from emimic.features import store
from emimic.features.extractor import Clip, Job, Work, each, facts
from emimic.features.pickle_reader import read_arrays
from emimic.task import CorpusError, SettingsError

FOLDERS: Final = ("vit", "wav2vec2")


class Settings(Numbers):
    """Times and sizes of the frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vit_fps: float = Field(6.0, gt=0, description="faces a second; face k is at k / vit_fps")
    wav2vec2_fps: float = Field(50.0, gt=0, description="frames a second of wav2vec 2.0")
    wav2vec2_start: float = Field(
        0.0125, description="center of its first frame, in seconds: 200 of 400 samples"
    )
    vit_size: int | None = Field(384, ge=1, description="features a face; null: what most files have")
    wav2vec2_size: int | None = Field(
        768, ge=1, description="features a frame of wav2vec 2.0; null: what most files have"
    )


def plan(job: Job, settings: Settings) -> list[Work]:
    """Of each folder that is there its features under the same name. Raises CorpusError."""
    job.refuse_model()
    if job.name is not None:
        raise SettingsError(f"--kind challenge names its features {' and '.join(FOLDERS)}: leave --name out")
    expected = {
        "vit": (0.0, settings.vit_fps, settings.vit_size),
        "wav2vec2": (settings.wav2vec2_start, settings.wav2vec2_fps, settings.wav2vec2_size),
    }
    works = []
    for name in FOLDERS:
        files = sorted((job.folder / name).glob("[!.]*.pkl"))
        if files:
            place = job.place(name)
            start, rate, size = expected[name]
            make = partial(_made, start=start, rate=rate, size=size or _usual(files))

            chosen = [Clip(file.stem, file) for file in files]
            works.append(
                Work(place, facts(job, settings, source=name), chosen, each(make, place, job.workers))
            )
    if not works:
        raise CorpusError(
            f"{job.folder} has neither vit/*.pkl nor wav2vec2/*.pkl; expected the challenge's features"
        )
    return works


def _made(clip: Clip, start: float, rate: float, size: int) -> store.Sequence:
    """The frames of one of the challenge's pickles. Frames that aren't finite are not present.

    Raises CorpusError: no pickle of plain arrays, or arrays that are no frames of so many features.
    """
    values = _frames(read_arrays(clip.path), clip.path)
    if values.shape[1] != size:
        raise CorpusError(
            f"{clip.path} holds {len(values)} frames of {values.shape[1]} features, expected {size} features: copy it "
            "again, or leave it out"
        )
    present = np.asarray(np.isfinite(values).all(axis=1))
    return store.Sequence(
        np.where(present[:, None], values, np.float32(0)), start + np.arange(len(values)) / rate, present
    )


def _usual(files: Sequence[Path]) -> int:
    """Features of a frame in most of the files that can be read; 0 when none can."""
    found: Counter[int] = Counter()
    for file in files:
        with suppress(CorpusError):  # named when its turn comes
            found[_frames(read_arrays(file), file).shape[1]] += 1
    return max(found, key=lambda size: found[size], default=0)


def _frames(arrays: dict[str, NDArray[Any]], file: Path) -> NDArray[np.float32]:
    """One array (frame, feature), or an array (feature,) a frame -> (frame, feature) float32. Axes of 1 don't count.

    Frames that all have a number of their own in their names, such as 10.jpg, are in the order of these.
    """
    numbers = {
        name: digits[-1] for name in arrays if (digits := re.findall(r"\d+", PurePosixPath(name).stem))
    }
    order = list(arrays)
    if len({int(number) for number in numbers.values()}) == len(arrays):
        order.sort(key=lambda name: int(numbers[name]))
    found = [np.squeeze(arrays[name]) if arrays[name].ndim > 2 else arrays[name] for name in order]
    if len(found) == 1:
        values = np.atleast_2d(found[0])
    else:
        rows = [array.reshape(-1) if array.shape[:-1] == (1,) else array for array in found]
        values = np.stack(rows) if len({row.shape for row in rows}) == 1 else np.empty(0)
    if values.ndim != 2 or not values.size or values.dtype.kind == "c":
        shapes = ", ".join(f"{name or 'the array'} {array.shape}" for name, array in list(arrays.items())[:3])
        raise CorpusError(
            f"{file} holds {shapes}; expected one array (frame, feature), or one (feature,) a frame"
        )
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
