"""Poolings: from the real frames of a clip to one vector, whatever its length or padding.

A pooling is called with frames x, (batch, frame, feature), and a mask, (batch, frame), true at the T real frames.
It returns (batch, width).
"""

from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor, nn

FLOOR: Final = 1e-5
"""Added to a variance before its root: the variance of a single frame is 0, where the root has no finite gradient."""


class Pooling(Protocol):
    """Callable from frames and their mask to one vector per clip."""

    @property
    def width(self) -> int:
        """Number of features of the vector."""

    def __call__(self, frames: Tensor, mask: Tensor, /) -> Tensor:
        """Return (batch, width) of (batch, frame, feature) and (batch, frame)."""


def compute_mean(frames: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over real frames, (batch, feature)."""
    return (frames * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def compute_moments(frames: Tensor, mask: Tensor) -> Tensor:
    """Return mean and standard deviation over real frames, concatenated, (batch, 2 * feature)."""
    means = compute_mean(frames, mask)
    differences = (frames - means[:, None]) * mask[..., None]
    stds = (differences.square().sum(dim=1) / mask.sum(dim=1, keepdim=True) + FLOOR).sqrt()
    return torch.cat([means, stds], dim=-1)


def get_last_output(network: nn.LSTM | nn.GRU, frames: Tensor, mask: Tensor) -> Tensor:
    """Return the last layer's output at each clip's last real frame, (batch, unit).

    It doesn't depend on the padding, which is on the right, as the network reads from left to right.
    """
    rows = torch.arange(frames.shape[0], device=frames.device)  # `len` would fix the batch of a trace
    return network(frames)[0][rows, mask.sum(dim=1) - 1]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Mean:
    """Mean over frames: m = sum_t x_t / T (the paper's global vector)."""

    features: int

    @property
    def width(self) -> int:
        return self.features

    def __call__(self, frames: Tensor, mask: Tensor) -> Tensor:
        return compute_mean(frames, mask)


@dataclass(frozen=True)
class MeanStd:
    """Mean m and standard deviation over frames: s = sqrt(sum_t (x_t - m)^2 / T + FLOOR)."""

    features: int

    @property
    def width(self) -> int:
        return 2 * self.features

    def __call__(self, frames: Tensor, mask: Tensor) -> Tensor:
        return compute_moments(frames, mask)


@dataclass(frozen=True)
class LastOutput:
    """Output of an LSTM's last layer at the last real frame: h_T with h_t = LSTM(x_t, h_(t-1))."""

    lstm: nn.LSTM

    @property
    def width(self) -> int:
        return self.lstm.hidden_size

    def __call__(self, frames: Tensor, mask: Tensor) -> Tensor:
        return get_last_output(self.lstm, frames, mask)


class AttentiveStatistics(nn.Module):
    """Attentive statistics pooling (Okabe, Koshinaka and Shinoda 2018, eq. 3 to 6).

    Weights a_t = softmax_t(score(tanh(hidden(x_t)))), with two linear layers; mean m = sum_t a_t x_t and standard
    deviation s = sqrt(sum_t a_t x_t^2 - m^2 + FLOOR).

    Args:
        features: features of a frame.
        units: width of the hidden layer.
    """

    def __init__(self, features: int, units: int = 128) -> None:
        super().__init__()
        self.hidden, self.score = nn.Linear(features, units), nn.Linear(units, 1)

    @property
    def width(self) -> int:
        return 2 * self.hidden.in_features

    def compute_scores(self, frames: Tensor) -> Tensor:
        """Return the logarithms of the weights, (batch, frame, 1), up to a constant."""
        return self.score(torch.tanh(self.hidden(frames)))  # type: ignore[no-any-return]

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return (batch, 2 * feature) of (batch, frame, feature) and (batch, frame); 0 without any real frame."""
        scores = self.compute_scores(frames)
        weights = scores.masked_fill(~mask[..., None], torch.finfo(scores.dtype).min).softmax(dim=1)
        weights = weights * mask[..., None]
        means = (weights * frames).sum(dim=1)
        variances = ((weights * frames.square()).sum(dim=1) - means.square()).clamp(min=0) + FLOOR
        return torch.where(mask.any(dim=1)[:, None], torch.cat([means, variances.sqrt()], dim=1), 0.0)


def smooth(frames: Tensor, mask: Tensor, width: int) -> Tensor:
    """Return the moving average of each frame over its real neighbors.

    Args:
        frames: (batch, frame, feature).
        mask: (batch, frame), true at real frames.
        width: frames in a window, odd, with the frame in the middle.

    Returns:
        (batch, frame, feature); padded frames are 0.
    """
    if width == 1:
        return frames * mask[..., None]
    weights = mask[:, None].to(frames.dtype)
    sums = nn.functional.avg_pool1d((frames * mask[..., None]).transpose(1, 2), width, 1, width // 2)
    counts = nn.functional.avg_pool1d(weights, width, 1, width // 2)
    return (sums / counts.clamp(min=0.5 / width) * weights).transpose(1, 2)
