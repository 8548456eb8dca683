"""Clips as models take them: from files, decoded ahead in training order, and predictions for a whole split.

The id stays with the clip from the table to the prediction; nothing is looked up by row number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from emimic import batching
from emimic.data import sampling
from emimic.data.augment import Augment, TimeMap
from emimic.data.items import Item
from emimic.data.joins import Joins
from emimic.media import decode
from emimic.media.waveform import ClipFormat, cut
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.progress import show_progress
from emimic.task import VAD

SILENCE: Final = 1e-4
"""Samples below this fraction of full scale are digital silence: padding, and what a codec makes of it."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A clip as a model takes it.

    Attributes:
        values: (sample,), hidden states (frame, feature), or a baseline's `sequences.Clip`.
        time_map: position of the recording in the clip.
    """

    values: Any
    time_map: TimeMap = field(default_factory=TimeMap)


@dataclass(frozen=True)
class Source:
    """The clips of a split: waveforms, or stored hidden states or outputs of frozen layers.

    Attributes:
        items: the clips.
        read: returns a clip as it is in an epoch, counted from 0; only augmented clips differ between epochs.
        encoded: the values are hidden states.
        relabel: returns a clip with its labels in an epoch, which a mixture changes. They are known before the clip
            is decoded, so that every process knows the labels of all clips of a step.
        started: the values are outputs of the encoder's frozen layers.
    """

    items: Sequence[Item]
    read: Callable[[Item, int], ModelInput]
    encoded: bool = False
    relabel: Callable[[Item, int], Item] = field(default=lambda item, _: item)
    started: bool = False

    def compute_hidden(self, model: Any, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return a model's hidden states of a batch of clips, (batch, frame, feature), and their frame mask."""
        if self.encoded:
            return values, mask
        return (model.encode_rest(values, mask), mask) if self.started else model.encode(values, mask)

    def plan(self, model: Any, clips: Sequence[ModelInput], *, batch_seconds: float) -> list[list[int]]:
        """Return the indices of the clips of each batch."""
        lengths = [len(clip.values) for clip in clips]
        plan: list[list[int]] = model.plan(
            lengths, batch_seconds=batch_seconds, encoded=self.encoded or self.started
        )
        return plan


def make_waveform_source(
    items: Sequence[Item],
    config: EmiConfig,
    min_samples: int,
    augment: Augment | None = None,
    joins: Joins | None = None,
) -> Source:
    """Return a source of waveforms (sample,) float32 in the form that a model takes, optionally augmented."""
    clip_format = ClipFormat(config.max_seconds, config.do_normalize, min_samples)

    def read(item: Item, epoch: int) -> ModelInput:
        samples, time_map = load(item, config.max_seconds), TimeMap()
        if joins is not None:
            samples, time_map = joins.apply(
                samples, item, epoch, lambda other: load(other, config.max_seconds)
            )
        if augment is not None:
            samples, later = augment.apply(samples, item.key, epoch)
            time_map = later.compose(time_map)
        return ModelInput(clip_format.prepare(samples).samples, time_map)

    return Source(items, read) if joins is None else Source(items, read, relabel=joins.label)


def load(item: Item, max_seconds: float) -> NDArray[np.float32]:
    """Return a clip's first samples at 16 kHz, without digital silence when its corpus is trimmed."""
    # Notes are dropped: the scan of the corpus has collected them.
    if not item.trim:
        return decode.load(item.path, max_seconds=max_seconds, notes=[])
    return cut(trim_silence(decode.load(item.path, notes=[])), max_seconds)


def trim_silence(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return samples (sample,) without digital silence (|x| < 1e-4) at both ends; all of them if there is no sound."""
    loud = np.flatnonzero(np.abs(samples) >= SILENCE)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def plan_steps(clips: int, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Return an epoch's optimizer steps: every clip once, in an order that depends on (seed, epoch) alone."""
    return sampling.plan_steps([sampling.Pool(range(clips))], batch_size, seed=seed, epoch=epoch)


def decode_ahead(
    source: Source, groups: Sequence[Sequence[int]], *, workers: int, epoch: int = 0
) -> Iterator[list[ModelInput]]:
    """Yield the clips of each group of rows in turn, while the next ones are decoded."""
    return batching.read_ahead(lambda row: source.read(source.items[row], epoch), groups, workers=workers)


def predict_source(
    model: Any,
    source: Source,
    *,
    batch_seconds: float = 60.0,
    workers: int = 2,
    progress: bool = False,
    label: str = "predicting",
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Predict every clip of a source.

    Args:
        model: an EmiModel or a baseline.
        source: the clips.
        batch_seconds: maximum length of a batch.
        workers: threads that decode.
        progress: show a bar on standard error.
        label: title of the bar.

    Returns:
        Intensities (clip, target), and V/A/D as the mean over frames (clip, 3), NaN for a model without V/A/D; in the
        order of the source.
    """
    groups = batching.split_rows(len(source.items))
    intensities: list[NDArray[np.float32]] = []
    vad: list[NDArray[np.float32]] = []
    unknown = np.full(len(VAD), np.nan, np.float32)
    batches = decode_ahead(source, groups, workers=workers)
    for clips in show_progress(batches, label, total=len(groups), show=progress):
        predictions = model.predict(
            [clip.values for clip in clips], batch_seconds=batch_seconds, encoded=source.encoded
        )
        intensities.extend(prediction.intensities for prediction in predictions)
        vad.extend(unknown if p.vad is None else p.vad.mean(axis=0) for p in predictions)
    n_clips = len(source.items)
    return (
        np.array(intensities, dtype=np.float32).reshape(n_clips, len(model.config.targets)),
        np.array(vad, dtype=np.float32).reshape(n_clips, len(VAD)),
    )


def predict(
    model: EmiModel,
    items: Sequence[Item],
    *,
    batch_seconds: float = 60.0,
    workers: int = 2,
    progress: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Predict every item from its file; see `predict_source`."""
    source = make_waveform_source(items, model.config, model.min_samples)
    return predict_source(model, source, batch_seconds=batch_seconds, workers=workers, progress=progress)
