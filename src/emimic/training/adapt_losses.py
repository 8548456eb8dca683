"""Differences of frames and predictions for `emimic adapt`, in standard deviations."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from emimic.model import pooling

LEAST: Final = 0.03
"""Least standard deviation by which a difference of predictions is divided: smaller ones are none to a reader."""


@dataclass(frozen=True)
class Scales:
    """Standard deviations, by which differences are divided.

    Attributes:
        frames: (feature,).
        moments: (2 * feature,), of means and standard deviations over a window's frames.
        values: (folder + 1, value), of the predictions of each folder's rows.
    """

    frames: Tensor
    moments: Tensor
    values: Tensor


def compute_moments(hidden: Tensor) -> Tensor:
    """Return mean and standard deviation over all frames, (window, 2 * feature), of (window, frame, feature)."""
    return pooling.compute_moments(
        hidden, torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    )


def compare(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Return the mean squared difference in standard deviations; beyond one it grows linearly."""
    squared = ((x - y).square() + 1e-12) / scale.square()
    return torch.where(squared < 1, squared, 2 * squared.sqrt() - 1).mean()
