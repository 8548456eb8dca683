"""Clips as models take them: from files, decoded ahead in training order, and predictions for a whole split.

The id stays with the clip from the table to the prediction; nothing is looked up by row number.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emimic import batching
from emimic.data.augment import Augment, TimeMap
from emimic.data.items import Item
from emimic.data.joins import Joins
from emimic.media import decode
from emimic.media.waveform import ClipFormat, cut
from emimic.model import packing
from emimic.model.inputs import Inputs
from emimic.progress import show_progress
from emimic.task import VAD

SILENCE: Final = 1e-4
"""Samples below this fraction of full scale are digital silence: padding, and what a codec makes of it."""


GROUP: Final = 16
"""Clips with frames that are read together: 12 s of them are 11 MB."""

Reader = Callable[[Item], NDArray[Any]]
"""Function from a clip to the sequence of a branch beside audio."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A clip as a model takes it.

    Attributes:
        values: (sample,), hidden states (frame, feature), the `Inputs` of several branches, or a baseline's
            `inputs.Clip`.
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
        group: clips that are read together for prediction.
    """

    items: Sequence[Item]
    read: Callable[[Item, int], ModelInput]
    encoded: bool = False
    relabel: Callable[[Item, int], Item] = field(default=lambda item, _: item)
    started: bool = False
    group: int = batching.CHUNK

    def compute_hidden(
        self, model: Any, values: Tensor, mask: Tensor, *, context: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return a model's hidden states of a batch of clips, (batch, frame, feature), and their frame mask.

        Args:
            model: that encodes them.
            values: of the clips, padded.
            mask: true at real samples or frames.
            context: seconds of the sequences in which clips are encoded side by side; None: each clip alone.
        """
        if self.encoded:
            return values, mask
        if context is not None:
            return packing.encode_in_context(model, values, mask, context, started=self.started)
        return (model.encode_rest(values, mask), mask) if self.started else model.encode(values, mask)

    def plan(self, model: Any, clips: Sequence[ModelInput], *, batch_seconds: float) -> list[list[int]]:
        """Return the indices of the clips of each batch."""
        plan: list[list[int]] = model.plan(
            [clip.values for clip in clips],
            batch_seconds=batch_seconds,
            encoded=self.encoded or self.started,
        )
        return plan


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How the clips of a source are read in batches.

    Attributes:
        batch_seconds: maximum seconds of audio in a batch, after padding.
        workers: threads that decode.
        progress: show a bar on standard error.
        precision: bf16-mixed computes stored features under autocast; 32-true doesn't.
    """

    batch_seconds: float = 60.0
    workers: int = 2
    progress: bool = False
    precision: str = "32-true"

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context in which an encoder runs at this precision."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")


DEFAULT: Final = BatchOptions()


def make_waveform_source(
    items: Sequence[Item],
    clip_format: ClipFormat,
    augment: Augment | None = None,
    joins: Joins | None = None,
) -> Source:
    """Return a source of waveforms (sample,) float32 in the form that a model takes, optionally augmented."""
    seconds = clip_format.max_seconds

    def read(item: Item, epoch: int) -> ModelInput:
        samples, time_map = load(item, seconds), TimeMap()
        if joins is not None:
            samples, time_map = joins.apply(samples, item, epoch, lambda other: load(other, seconds))
        if augment is not None:
            samples, later = augment.apply(samples, item.key, epoch)
            time_map = later.compose(time_map)
        return ModelInput(clip_format.prepare(samples).samples, time_map)

    return Source(items, read) if joins is None else Source(items, read, relabel=joins.label)


def make_silent_source(items: Sequence[Item]) -> Source:
    """Return a source for a model without audio: clips without a sample, to which `add_branches` adds the others."""
    return Source(items, lambda _, __: ModelInput(np.zeros(0, np.float32)))


def add_branches(source: Source, readers: Mapping[str, Reader]) -> Source:
    """Return a source whose clips have the sequences of further branches beside their audio.

    Args:
        source: of audio.
        readers: branch -> a function from a clip to its sequence, (step, ...), without any step where it has none.
    """
    if not readers:
        return source

    def read(item: Item, epoch: int) -> ModelInput:
        audio = source.read(item, epoch)
        further = {name: reader(item) for name, reader in readers.items()}
        return replace(audio, values=Inputs(audio.values, further))

    return replace(source, read=read, group=GROUP if "vision" in readers else source.group)


def load(item: Item, max_seconds: float | None) -> NDArray[np.float32]:
    """Return a clip's first samples at 16 kHz, without digital silence when its corpus is trimmed."""
    # Notes are dropped: the scan of the corpus has collected them.
    if not item.trim:
        return decode.load(item.path, max_seconds=max_seconds, notes=[])
    return cut(trim_silence(decode.load(item.path, notes=[])), max_seconds)


def trim_silence(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return samples (sample,) without digital silence (|x| < 1e-4) at both ends; all of them if there is no sound."""
    loud = np.flatnonzero(np.abs(samples) >= SILENCE)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def decode_ahead(
    source: Source, groups: Sequence[Sequence[int]], *, workers: int, epoch: int = 0
) -> Iterator[list[ModelInput]]:
    """Yield the clips of each group of rows in turn, while the next ones are decoded."""
    groups_read = batching.read_groups(
        lambda row: source.read(source.items[row], epoch), groups, workers=workers
    )
    return (clips for _, clips in groups_read)


def read_batches(
    model: Any,
    source: Source,
    rows: Sequence[int],
    options: BatchOptions,
    *,
    label: str = "",
    epoch: int = 0,
) -> Iterator[tuple[list[int], list[Any]]]:
    """Yield batches as positions in `rows` and the clips' values; clips of similar length share a batch.

    Args:
        model: an EmiModel or a baseline, which plans the batches.
        source: the clips.
        rows: of the source.
        options: how they are read.
        label: title of the bar.
        epoch: see `Source.read`.
    """
    groups = batching.split(range(len(rows)), source.group)
    decoded = decode_ahead(
        source, [[rows[i] for i in group] for group in groups], workers=options.workers, epoch=epoch
    )
    shown_clips = show_progress(decoded, label, total=len(groups), show=options.progress)
    for group, clips in zip(groups, shown_clips, strict=True):
        for part in source.plan(model, clips, batch_seconds=options.batch_seconds):
            yield [group[i] for i in part], [clips[i].values for i in part]


def predict_source(
    model: Any, source: Source, options: BatchOptions = DEFAULT, *, label: str = "predicting"
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Predict every clip of a source with an EmiModel or a baseline.

    Returns:
        Intensities (clip, target), and V/A/D as the mean over frames (clip, 3), NaN for a model without V/A/D; in the
        order of the source.
    """
    count = len(source.items)
    intensities = np.empty((count, len(model.config.targets)), np.float32)
    vad = np.full((count, len(VAD)), np.nan, np.float32)
    for rows, values in read_batches(model, source, range(count), options, label=label):
        predictions = model.predict(values, batch_seconds=options.batch_seconds, encoded=source.encoded)
        for row, prediction in zip(rows, predictions, strict=True):
            intensities[row] = prediction.intensities
            if prediction.vad is not None:
                vad[row] = prediction.vad.mean(axis=0)
    return intensities, vad
