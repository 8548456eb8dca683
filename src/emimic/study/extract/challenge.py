"""The challenge's own features, `vit/*.pkl` and `wav2vec2/*.pkl`, once into the form that everything else reads.

The corpus says of them only what they are: 384 features a face (ViT) and 768 a frame (wav2vec 2.0). Their times follow
from the rates below: faces were cut at 6 a second; wav2vec 2.0 gives a frame every 320 samples, of 400 samples each.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from emimic.files import read_arrays
from emimic.study import store
from emimic.study.extract.session import Clip, Job, Work, each, facts
from emimic.task import CorpusError, SettingsError

FOLDERS: Final = ("vit", "wav2vec2")


class Settings(BaseModel):
    """Times of the frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vit_fps: float = Field(6.0, gt=0, description="faces a second; face k is at k / vit_fps")
    wav2vec2_fps: float = Field(50.0, gt=0, description="frames a second of wav2vec 2.0")
    wav2vec2_start: float = Field(
        0.0125, description="centre of its first frame, in seconds: 200 of 400 samples"
    )


def plan(job: Job, settings: Settings) -> list[Work]:
    """Of each folder that is there its features under the same name. Raises CorpusError."""
    job.refuse_model()
    if job.name is not None:
        raise SettingsError(f"--kind challenge names its features {' and '.join(FOLDERS)}: leave --name out")
    times = {"vit": (0.0, settings.vit_fps), "wav2vec2": (settings.wav2vec2_start, settings.wav2vec2_fps)}
    works = []
    for name in FOLDERS:
        files = sorted((job.folder / name).glob("[!.]*.pkl"))
        if files:
            place = job.place(name)
            start, rate = times[name]

            def make(clip: Clip, start: float = start, rate: float = rate) -> store.Sequence:
                return read(clip.path, start, rate)

            chosen = [Clip(file.stem, file) for file in files]
            works.append(
                Work(place, facts(job, settings, source=name), chosen, each(make, place, job.workers))
            )
    if not works:
        raise CorpusError(
            f"{job.folder} has neither vit/*.pkl nor wav2vec2/*.pkl; expected the challenge's features"
        )
    return works


def read(file: Path, start: float, rate: float) -> store.Sequence:
    """The frames of one of the challenge's pickles. Frames that aren't finite are not present.

    Raises CorpusError: no pickle of plain arrays, or arrays that are no frames.
    """
    values = _frames(read_arrays(file), file)
    present = np.asarray(np.isfinite(values).all(axis=1))
    return store.Sequence(
        np.where(present[:, None], values, np.float32(0)), start + np.arange(len(values)) / rate, present
    )


def _frames(arrays: dict[str, NDArray[Any]], file: Path) -> NDArray[np.float32]:
    """One array (frame, feature), or an array (feature,) a frame -> (frame, feature) float32. Axes of 1 don't count."""
    found = [np.squeeze(array) if array.ndim > 2 else array for array in arrays.values()]
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
