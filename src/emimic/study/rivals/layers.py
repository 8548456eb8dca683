"""What the compared systems are built of; frames that are not there change nothing in any of them."""

import math

import torch
from torch import Tensor

FLOOR = 1e-5
"""Added to a variance before its root: one frame has no spread, and the root of zero no gradient."""


def mean(frames: Tensor, mask: Tensor) -> Tensor:
    """(batch, frame, feature), (batch, frame) -> (batch, feature): over the frames there are; 0 without any."""
    there = mask[..., None].to(frames.dtype)
    return (frames * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)


def statistics(frames: Tensor, mask: Tensor) -> Tensor:
    """(batch, frame, feature), (batch, frame) -> (batch, 4 x feature): mean, standard deviation over n, minimum,
    maximum; 0 without any frame."""
    there = mask[..., None]
    centre = mean(frames, mask)
    spread = (mean((frames - centre[:, None]).square(), mask) + FLOOR).sqrt()
    low = frames.masked_fill(~there, math.inf).amin(dim=1)
    high = frames.masked_fill(~there, -math.inf).amax(dim=1)
    found = torch.cat([centre, spread, low, high], dim=1)
    return torch.where(mask.any(dim=1)[:, None], found, 0.0)
