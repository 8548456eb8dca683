"""A clip as baselines read it: the frames of each modality, by the clip's id, and reductions of these frames."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emimic.data.corpus import list_media
from emimic.features import store
from emimic.task import CorpusError

Shorten = Callable[[store.Sequence], store.Sequence]
Index = Mapping[str, Path]


@dataclass(frozen=True, eq=False)
class Clip:
    """The inputs of a clip by modality.

    Attributes:
        parts: (frame, feature) float32, or (sample,) of a waveform.
        masks: which of the frames, or samples, are present.
    """

    parts: Mapping[str, NDArray[np.float32]]
    masks: Mapping[str, NDArray[np.bool_]]

    def __len__(self) -> int:
        return max(map(len, self.parts.values()))


def take_every(step: int) -> Shorten:
    """Return a function that keeps every step-th frame, from the first on."""
    return lambda sequence: _take(sequence, np.arange(0, len(sequence.values), step))


def take_first(frames: int) -> Shorten:
    """Return a function that keeps at most the first `frames` frames."""
    return lambda sequence: _take(sequence, np.arange(min(frames, len(sequence.values))))


def take_evenly(frames: int) -> Shorten:
    """Return a function that keeps at most `frames` evenly spaced frames, the first and the last among them."""

    def shorten(sequence: store.Sequence) -> store.Sequence:
        count = len(sequence.values)
        if count <= frames:
            return sequence
        return _take(sequence, np.linspace(0, count - 1, frames).round().astype(int))

    return shorten


def _take(sequence: store.Sequence, rows: NDArray[np.intp]) -> store.Sequence:
    return store.Sequence(sequence.values[rows], sequence.times[rows], sequence.present[rows])


def index_modalities(
    folder: Path, modalities: Mapping[str, str], damaged: list[Path] | None = None
) -> dict[str, Index]:
    """Return modality -> clip key -> file, for the features of a corpus, or the media files of a waveform.

    Args:
        folder: the corpus.
        modalities: modality -> feature folder, or waveform.
        damaged: damaged files are appended to it.

    Raises:
        CorpusError: if a folder isn't there or two of its files hold one clip.
    """
    return {
        modality: {
            key: paths[0] for name in ("raw", "audio") for key, paths in list_media(folder / name).items()
        }
        if features == store.WAVEFORM
        else store.index(folder / store.FOLDER / features, damaged)
        for modality, features in modalities.items()
    }


def list_usable(indexes: Mapping[str, Index], modalities: Mapping[str, str]) -> Index:
    """Return clip key -> a file, for every clip with any modality, and with a waveform where one is read."""
    keys = set().union(*indexes.values())
    for modality, features in modalities.items():
        if features == store.WAVEFORM:
            keys &= set(indexes[modality])
    return {key: next(index[key] for index in indexes.values() if key in index) for key in sorted(keys)}


def read_frames(
    file: Path | None, clip: str, size: int, shorten: Shorten | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the frames (frame, feature) of a modality, and which are present; without a file, one that isn't."""
    absent = np.zeros((1, size), np.float32), np.zeros(1, np.bool_)
    if file is None:
        return absent
    frames = store.read(file, clip)
    if frames.values.shape[1] != size:
        raise CorpusError(
            f"{file} has {frames.values.shape[1]} features a frame, expected {size}: were they made "
            "by another model? Make this folder again"
        )
    frames = frames if shorten is None else shorten(frames)
    if not len(frames.values):
        return absent
    # The values of an absent frame are arbitrary, and 0 x NaN would be NaN.
    return np.where(frames.present[:, None], frames.values, 0).astype(np.float32), frames.present
