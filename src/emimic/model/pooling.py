"""Poolings: the frames of a clip -> one vector, whatever its length. Padding changes nothing.

Every one is a function of sums over frames, so windows of a recording can share them.
"""

from typing import Final

import torch
from torch import Tensor, nn

FLOOR: Final = 1e-5
"""What is added to a variance before its root: one frame has none, and the root of zero has no gradient."""


def mean(frames: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over real frames: frames (batch, frame, feature), mask (batch, frame) -> (batch, feature)."""
    return (frames * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def std(frames: Tensor, mask: Tensor, means: Tensor) -> Tensor:
    """Return the standard deviation over real frames, (batch, feature); means: what `mean` gives, (batch, feature)."""
    differences = (frames - means[:, None]) * mask[..., None]
    return (differences.square().sum(dim=1) / mask.sum(dim=1, keepdim=True) + FLOOR).sqrt()


def moments(frames: Tensor, mask: Tensor) -> Tensor:
    """Return `mean` and `std` side by side, (batch, 2 * feature)."""
    means = mean(frames, mask)
    return torch.cat([means, std(frames, mask, means)], dim=-1)


def smooth(frames: Tensor, mask: Tensor, width: int) -> Tensor:
    """Return the mean of each frame's `width` neighbors (odd, itself in the middle), of those that are real.

    frames (batch, frame, feature), mask (batch, frame) -> (batch, frame, feature); padded frames come back as 0.
    """
    if width == 1:
        return frames * mask[..., None]
    weights = mask[:, None].to(frames.dtype)
    sums = nn.functional.avg_pool1d((frames * mask[..., None]).transpose(1, 2), width, 1, width // 2)
    counts = nn.functional.avg_pool1d(weights, width, 1, width // 2)
    return (sums / counts.clamp(min=0.5 / width) * weights).transpose(1, 2)


class AttentiveStatistics(nn.Module):
    """Mean and standard deviation over frames under learned weights (Okabe, Koshinaka and Shinoda 2018, eq. 3 to 6)."""

    def __init__(self, features: int, units: int = 128) -> None:
        super().__init__()
        self.hidden, self.score = nn.Linear(features, units), nn.Linear(units, 1)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return (batch, 2 x feature) of (batch, frame, feature) and (batch, frame); 0 without any real frame."""
        scores = self.score(torch.tanh(self.hidden(frames)))
        weights = scores.masked_fill(~mask[..., None], torch.finfo(scores.dtype).min).softmax(dim=1)
        weights = weights * mask[..., None]
        means = (weights * frames).sum(dim=1)
        variances = ((weights * frames.square()).sum(dim=1) - means.square()).clamp(min=0) + FLOOR
        return torch.where(mask.any(dim=1)[:, None], torch.cat([means, variances.sqrt()], dim=1), 0.0)
