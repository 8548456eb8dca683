"""The challenge's own features, `vit/*.pkl` and `wav2vec2/*.pkl`, converted to the format of all features.

The corpus documents only their sizes: 384 features per face (ViT) and 768 per frame (wav2vec 2.0). Their times follow
from the rates below: faces were cut at 6 per second; wav2vec 2.0 has a frame every 320 samples, of 400 samples each.
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
from emimic.features.extractor import Clip, Job, Work, collect_facts, write_each
from emimic.features.pickle_reader import read_arrays
from emimic.task import CorpusError, SettingsError

FOLDERS: Final = ("vit", "wav2vec2")


class Settings(Numbers):
    """Times and sizes of the frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vit_fps: float = Field(6.0, gt=0, description="faces per second; face k is at k / vit_fps")
    wav2vec2_fps: float = Field(50.0, gt=0, description="frames per second of wav2vec 2.0")
    wav2vec2_start: float = Field(
        0.0125, description="center of its first frame, in seconds: 200 of 400 samples"
    )
    vit_size: int | None = Field(384, ge=1, description="features of a face; null: as in most files")
    wav2vec2_size: int | None = Field(
        768, ge=1, description="features of a frame of wav2vec 2.0; null: as in most files"
    )


def plan(job: Job, settings: Settings) -> list[Work]:
    """Return the work for each of FOLDERS that the corpus has; the features get its name.

    Raises:
        CorpusError: if the corpus has none.
        ModelError: if a model was named.
        SettingsError: if a name was requested.
    """
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
            folder = job.get_folder(name)
            start, rate, size = expected[name]
            make = partial(_convert, start=start, rate=rate, size=size or _find_common_size(files))
            clips = [Clip(file.stem, file) for file in files]
            facts = collect_facts(job, settings, source=name)
            works.append(Work(folder, facts, clips, write_each(make, folder, job.workers)))
    if not works:
        raise CorpusError(
            f"{job.folder} has neither vit/*.pkl nor wav2vec2/*.pkl; expected the challenge's features"
        )
    return works


def _convert(clip: Clip, start: float, rate: float, size: int) -> store.Sequence:
    """Return the frames of one of the challenge's pickles; frames that aren't finite are not present.

    Raises:
        CorpusError: if it is no pickle of plain arrays, or its arrays are no frames of `size` features.
    """
    values = _stack_frames(read_arrays(clip.path), clip.path)
    if values.shape[1] != size:
        raise CorpusError(
            f"{clip.path} holds {len(values)} frames of {values.shape[1]} features, expected {size} features: copy it "
            "again, or leave it out"
        )
    present = np.asarray(np.isfinite(values).all(axis=1))
    return store.Sequence(
        np.where(present[:, None], values, np.float32(0)), start + np.arange(len(values)) / rate, present
    )


def _find_common_size(files: Sequence[Path]) -> int:
    """Return the number of features of a frame in most of the readable files; 0 without any."""
    counts: Counter[int] = Counter()
    for file in files:
        with suppress(CorpusError):  # is reported when the file is converted
            counts[_stack_frames(read_arrays(file), file).shape[1]] += 1
    return max(counts, key=lambda size: counts[size], default=0)


def _stack_frames(arrays: dict[str, NDArray[Any]], file: Path) -> NDArray[np.float32]:
    """Return frames (frame, feature) float32 from one such array, or from an array (feature,) per frame.

    Axes of size 1 are dropped. Frames with distinct numbers in their names, such as 10.jpg, are sorted by these.
    """
    numbers = {
        name: digits[-1] for name in arrays if (digits := re.findall(r"\d+", PurePosixPath(name).stem))
    }
    order = list(arrays)
    if len({int(number) for number in numbers.values()}) == len(arrays):
        order.sort(key=lambda name: int(numbers[name]))
    ordered = [np.squeeze(arrays[name]) if arrays[name].ndim > 2 else arrays[name] for name in order]
    if len(ordered) == 1:
        values = np.atleast_2d(ordered[0])
    else:
        rows = [array.reshape(-1) if array.shape[:-1] == (1,) else array for array in ordered]
        values = np.stack(rows) if len({row.shape for row in rows}) == 1 else np.empty(0)
    if values.ndim != 2 or not values.size or values.dtype.kind == "c":
        shapes = ", ".join(f"{name or 'the array'} {array.shape}" for name, array in list(arrays.items())[:3])
        raise CorpusError(
            f"{file} holds {shapes}; expected one array (frame, feature), or one (feature,) per frame"
        )
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
