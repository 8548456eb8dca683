"""Standardization of frames: mean and std of each feature, measured before a run's first step."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import torch

from emimic.data import loader, sampling
from emimic.training.settings import TrainSettings

CLIPS: Final = 500
"""Number of clips that are measured: some 50,000 frames."""

STD_FLOOR: Final = 1e-4
"""The smallest standard deviation that a feature is divided by."""


@torch.no_grad()
def measure(
    model: Any,
    source: loader.Source,
    pools: Sequence[sampling.Pool],
    settings: TrainSettings,
    *,
    progress: bool = False,
) -> None:
    """Set the model's `frame_mean` and `frame_std` from the frames of the first epoch's first clips.

    Each of several processes measures all of these clips, hence gets the same numbers.
    """
    steps = sampling.plan_steps(pools, settings.batch_size, seed=settings.seed, epoch=0)
    rows = list(chain.from_iterable(steps))[:CLIPS]
    count = torch.zeros((), dtype=torch.float64)
    sums = torch.zeros(2, len(model.frame_mean), dtype=torch.float64)
    model.eval()
    options = loader.BatchOptions(settings.seconds_in_batch, settings.workers, progress)
    for _, values in loader.read_batches(model, source, rows, options, label="measuring frames"):
        hidden, frames = source.compute_hidden(model, *model.collate(values))
        real = hidden[frames].cpu().double()
        count += len(real)
        sums += torch.stack([real.sum(dim=0), real.square().sum(dim=0)])
    means = sums[0] / count
    model.frame_mean.copy_(means)
    model.frame_std.copy_((sums[1] / count - means.square()).clamp(min=0).sqrt().clamp(min=STD_FLOOR))
