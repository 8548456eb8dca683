"""Clips in training order: which make a step, decoding ahead, and answers for a whole split.

The id travels with the clip from the table to the answer; nothing is looked up by row number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from emimic import batching
from emimic.data import sampling
from emimic.data.augment import Augment, Clock
from emimic.data.corpus import Item
from emimic.data.joins import Joins
from emimic.media import decode
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.progress import shown
from emimic.task import VAD

SILENCE: Final = 1e-4
"""Below this part of full scale a sample is digital silence: padding, and what a codec makes of it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A clip as a model takes it: values, (sample,) or hidden states (frame, feature) or a baseline's `sequences.Clip`;
    and its recording's clock."""

    values: Any
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True)
class Source:
    """Where a split's clips come from: waveforms, or what is kept on disk: hidden states (`encoded`) or outputs of the
    encoder's frozen layers (`started`).

    read: a clip as it is heard in an epoch, counted from 0; only augmented clips differ from epoch to epoch.
    labelled: the clip with its labels in an epoch, which a mixture changes; known before it is decoded, so that every
    process knows the labels of all clips of a step.
    """

    items: Sequence[Item]
    read: Callable[[Item, int], Heard]
    encoded: bool = False
    labelled: Callable[[Item, int], Item] = field(default=lambda item, _: item)
    started: bool = False

    def hidden(self, model: Any, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The model's hidden states of a batch of clips, (batch, frame, feature), and their frame mask."""
        if self.encoded:
            return values, mask
        return (model.encode_rest(values, mask), mask) if self.started else model.encode(values, mask)

    def plan(self, model: Any, clips: Sequence[Heard], *, batch_seconds: float) -> list[list[int]]:
        """Which clips share a batch."""
        lengths = [len(clip.values) for clip in clips]
        plan: list[list[int]] = model.plan(
            lengths, batch_seconds=batch_seconds, encoded=self.encoded or self.started
        )
        return plan


def waveforms(
    items: Sequence[Item],
    config: EmiConfig,
    min_samples: int,
    augment: Augment | None = None,
    joins: Joins | None = None,
) -> Source:
    """The clips themselves, perhaps changed, prepared as the model wants them: (sample,) float32 each."""

    def read(item: Item, epoch: int) -> Heard:
        samples, clock = load(item, config.max_seconds), Clock()
        if joins is not None:
            samples, clock = joins.timed(samples, item, epoch, lambda one: load(one, config.max_seconds))
        if augment is not None:
            samples, later = augment.timed(samples, item.key, epoch)
            clock = later.after(clock)
        ready = decode.prepare(
            samples, max_seconds=config.max_seconds, normalize=config.do_normalize, min_samples=min_samples
        )
        return Heard(ready.samples, clock)

    return Source(items, read) if joins is None else Source(items, read, labelled=joins.labelled)


def load(item: Item, max_seconds: float) -> NDArray[np.float32]:
    """Return a clip's first samples at 16 kHz, after its digital silence where its corpus asks for that."""
    # The corpus's scan has noted what there is to note.
    if not item.trim:
        return decode.load(item.path, max_seconds=max_seconds, notes=[])
    return decode.cut(trimmed(decode.load(item.path, notes=[])), max_seconds)


def trimmed(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return samples (sample,) without digital silence (|x| < 1e-4) at either end; all of them if there is no other."""
    loud = np.flatnonzero(np.abs(samples) >= SILENCE)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def steps(clips: int, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """An epoch's optimizer steps: every clip once, in an order that (seed, epoch) alone decide."""
    return sampling.steps([sampling.Pool(range(clips))], batch_size, seed=seed, epoch=epoch)


def decoded(
    source: Source, groups: Sequence[Sequence[int]], *, workers: int, epoch: int = 0
) -> Iterator[list[Heard]]:
    """The clips of each group of rows in turn, the next ones being decoded meanwhile."""
    return batching.read_ahead(lambda row: source.read(source.items[row], epoch), groups, workers=workers)


def answer(
    model: Any,
    source: Source,
    *,
    batch_seconds: float = 60.0,
    workers: int = 2,
    progress: bool = False,
    label: str = "predicting",
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of an EmiModel or a baseline, for every clip of a source, in its order: intensities (clip, target), and VAD as
    the mean over its frames (clip, 3), NaN where the model doesn't answer VAD. label: of the bar of `progress`."""
    groups = batching.chunks(len(source.items))
    rows: list[NDArray[np.float32]] = []
    vad: list[NDArray[np.float32]] = []
    unknown = np.full(len(VAD), np.nan, np.float32)
    batches = decoded(source, groups, workers=workers)
    for clips in shown(batches, label, total=len(groups), show=progress):
        answers = model.predict(
            [clip.values for clip in clips], batch_seconds=batch_seconds, encoded=source.encoded
        )
        rows.extend(one.intensities for one in answers)
        vad.extend(unknown if one.vad is None else one.vad.mean(axis=0) for one in answers)
    intensities = np.array(rows, dtype=np.float32).reshape(len(source.items), len(model.config.targets))
    return intensities, np.array(vad, dtype=np.float32).reshape(len(source.items), len(VAD))


def predict(
    model: EmiModel,
    items: Sequence[Item],
    *,
    batch_seconds: float = 60.0,
    workers: int = 2,
    progress: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """As `answer`, for every item from its file."""
    source = waveforms(items, model.config, model.min_samples)
    return answer(model, source, batch_seconds=batch_seconds, workers=workers, progress=progress)
