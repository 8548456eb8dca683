"""A clip as baselines take it: the frames of each modality, read by the clip's id, and what is read of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emimic.data import loader
from emimic.data.corpus import Item, list_media
from emimic.data.split_tables import clip_key
from emimic.features import store
from emimic.media import decode
from emimic.task import CorpusError

Shorten = Callable[[store.Sequence], store.Sequence]
Index = Mapping[str, Path]


@dataclass(frozen=True, eq=False)
class Clip:
    """parts: role -> (frame, feature) float32, or (sample,) of a waveform; masks: role -> which of them are there."""

    parts: Mapping[str, NDArray[np.float32]]
    masks: Mapping[str, NDArray[np.bool_]]

    def __len__(self) -> int:
        return max(map(len, self.parts.values()))


def every(step: int) -> Shorten:
    """Every step-th frame, from the first on."""
    return lambda found: _rows(found, np.arange(0, len(found.values), step))


def first(frames: int) -> Shorten:
    """No more than so many frames."""
    return lambda found: _rows(found, np.arange(min(frames, len(found.values))))


def evenly(frames: int) -> Shorten:
    """So many frames spread over the clip, its first and last among them; all where it has no more."""

    def shorten(found: store.Sequence) -> store.Sequence:
        count = len(found.values)
        return (
            found if count <= frames else _rows(found, np.linspace(0, count - 1, frames).round().astype(int))
        )

    return shorten


def bins(seconds: float) -> Shorten:
    """The mean of the present frames in each stretch of so many seconds; a stretch without any is not present."""

    def shorten(found: store.Sequence) -> store.Sequence:
        if not len(found.values):
            return found
        places = np.floor(found.times / seconds).astype(int)
        count = int(places.max()) + 1
        held = np.bincount(places[found.present], minlength=count)
        total = np.zeros((count, found.values.shape[1]))
        np.add.at(total, places[found.present], found.values[found.present])
        times = (np.arange(count, dtype=np.float64) + 0.5) * np.float64(seconds)
        values = total / np.maximum(held, 1.0)[:, None]
        return store.Sequence(values.astype(np.float32), times, held > 0)

    return shorten


def _rows(found: store.Sequence, rows: NDArray[np.intp]) -> store.Sequence:
    return store.Sequence(found.values[rows], found.times[rows], found.present[rows])


def indexes(
    folder: Path, modalities: Mapping[str, str], damaged: list[Path] | None = None
) -> dict[str, Index]:
    """Role -> clip key -> file, for the features (or the media, of a waveform) of a corpus; damaged files go into
    `damaged`. Raises CorpusError."""
    return {
        role: {
            key: paths[0] for place in ("raw", "audio") for key, paths in list_media(folder / place).items()
        }
        if name == store.WAVEFORM
        else store.index(folder / store.FOLDER / name, damaged)
        for role, name in modalities.items()
    }


def usable(found: Mapping[str, Index], modalities: Mapping[str, str]) -> Index:
    """Clip key -> a file of it, for every clip that can be heard: in any modality, and as a waveform where one is
    asked for."""
    keys = set().union(*found.values())
    for role, name in modalities.items():
        if name == store.WAVEFORM:
            keys &= set(found[role])
    return {key: next(index[key] for index in found.values() if key in index) for key in sorted(keys)}


def source(
    items: Sequence[Item],
    found: Mapping[str, Index],
    sizes: Mapping[str, int],
    shorten: Mapping[str, Shorten],
    prepare: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
    *,
    waveform: str | None = None,
) -> loader.Source:
    """Where clips come from: role -> clip key -> file, features of a frame by role, what is read of them.

    waveform: the role that is the clip itself, which `prepare` makes ready.
    """

    def read(item: Item, _: int) -> loader.Heard:
        parts, masks = {}, {}
        for role, index in found.items():
            file = index.get(clip_key(item.id))
            if role == waveform and prepare is not None:
                parts[role] = prepare(decode.load(index[clip_key(item.id)], notes=[]))
                masks[role] = np.ones(len(parts[role]), np.bool_)
                continue
            parts[role], masks[role] = np.zeros((1, sizes[role]), np.float32), np.zeros(1, np.bool_)
            if file is None:
                continue
            frames = store.read(file, item.id)
            if frames.values.shape[1] != sizes[role]:
                raise CorpusError(
                    f"{file} has {frames.values.shape[1]} features a frame, expected {sizes[role]}: were they made "
                    "by another model? Make this folder again"
                )
            frames = shorten[role](frames) if role in shorten else frames
            if len(frames.values):
                # What stands in a frame where nothing was found means nothing, and 0 x NaN would be NaN.
                parts[role] = np.where(frames.present[:, None], frames.values, 0).astype(np.float32)
                masks[role] = frames.present
        return loader.Heard(Clip(parts, masks))

    return loader.Source(items, read, encoded=waveform is None)


def frame_size(folder: Path, name: str, index: Index) -> int:
    """Features of a frame in a corpus's feature folder. Raises CorpusError when it is empty."""
    return store.size(index.values(), folder / store.FOLDER / name)
