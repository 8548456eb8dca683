"""Layers of the baselines; absent frames change nothing in any of them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from emimic.baselines.system import Options
from emimic.model import pooling


def average(frames: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the present frames of (batch, frame, feature): (batch, feature), 0 without any.

    Args:
        frames: (batch, frame, feature).
        mask: (batch, frame), True where a frame is present.
    """
    present = mask[..., None].to(frames.dtype)
    return (frames * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)


def compute_statistics(frames: Tensor, mask: Tensor) -> Tensor:
    """Return mean, standard deviation (over n), minimum and maximum over the present frames; 0 without any.

    Args:
        frames: (batch, frame, feature).
        mask: (batch, frame), True where a frame is present.

    Returns:
        (batch, 4 x feature).
    """
    present = mask[..., None]
    mean = average(frames, mask)
    std = (average((frames - mean[:, None]).square(), mask) + pooling.FLOOR).sqrt()
    minimum = frames.masked_fill(~present, math.inf).amin(dim=1)
    maximum = frames.masked_fill(~present, -math.inf).amax(dim=1)
    statistics = torch.cat([mean, std, minimum, maximum], dim=1)
    return torch.where(mask.any(dim=1)[:, None], statistics, 0.0)


def compact(frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the present frames to the front, in order: (batch, frame, feature), (batch, frame) -> the same.

    A clip without any gets one frame of zeros, so that networks over frames have an input.
    """
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    present = mask.gather(1, order)
    moved = frames.gather(1, order[..., None].expand_as(frames)) * present[..., None]
    present = present | (torch.arange(mask.shape[1], device=mask.device) == 0)
    longest = int(present.sum(dim=1).max())
    return moved[:, :longest], present[:, :longest]


def get_last_output(network: nn.LSTM | nn.GRU, frames: Tensor, mask: Tensor) -> Tensor:
    """Return the last layer's output at each clip's last present frame: (batch, unit), 0 without any.

    Args:
        network: an LSTM or a GRU.
        frames: (batch, frame, feature).
        mask: (batch, frame), True where a frame is present.
    """
    outputs = pooling.get_last_output(network, *compact(frames, mask))
    return torch.where(mask.any(dim=1)[:, None], outputs, 0.0)


class Tcn(nn.Module):
    """Temporal convolutional network (Bai, Kolter and Koltun 2018, section 3).

    Residual blocks of two dilated convolutions; the dilation doubles from block to block. Unlike in the paper, they
    look both ways, and have no weight norm.
    """

    def __init__(
        self, features: int, units: int, blocks: int, *, kernel: int = 3, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.input = nn.Linear(features, units)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                nn.Conv1d(units, units, kernel, padding="same", dilation=2**block) for _ in range(2)
            )
            for block in range(blocks)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, frame, feature), (batch, frame) to (batch, frame, unit), 0 where a frame is absent."""
        present = mask[:, None, :].to(frames.dtype)
        hidden: Tensor = self.input(frames).transpose(1, 2) * present
        for block in self.blocks:
            inner = hidden
            for convolution in block:  # type: ignore[attr-defined]
                inner = self.dropout(torch.relu(convolution(inner))) * present
            hidden = torch.relu(hidden + inner)
        return hidden.transpose(1, 2)


class Attention(nn.Module):
    """Transformer encoder (Vaswani et al. 2017, norms after the sums) over projected frames with sinusoids.

    Absent frames are not attended to.
    """

    def __init__(
        self,
        features: int,
        units: int,
        *,
        layers: int = 1,
        heads: int = 4,
        wide: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.input = nn.Linear(features, units)
        layer = nn.TransformerEncoderLayer(units, heads, wide or 4 * units, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, frame, feature), (batch, frame) to (batch, frame, unit), 0 where a frame is absent."""
        present = mask[..., None].to(frames.dtype)
        hidden = self.input(frames)
        hidden = (hidden + make_sinusoids(hidden.shape[1], hidden.shape[2]).to(hidden)) * present
        # Attention over no frame is undefined: a clip without frames attends to its first, and the result is set to 0.
        empty = ~mask.any(dim=1, keepdim=True)
        ignored = ~mask & ~(empty & (torch.arange(mask.shape[1], device=mask.device) == 0))
        return self.encoder(hidden, src_key_padding_mask=ignored) * present  # type: ignore[no-any-return]


def make_sinusoids(frames: int, units: int) -> Tensor:
    """Return the positional encodings (frame, unit) of Vaswani et al. 2017, section 3.5."""
    rates = torch.exp(-math.log(10_000.0) * torch.arange(0, units, 2, dtype=torch.float64) / units)
    angles = torch.arange(frames)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :units]


class Last(nn.Module):
    """The last output of an LSTM."""

    def __init__(self, features: int, units: int, *, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, units, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.size = units

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, frame, feature), (batch, frame) to (batch, unit)."""
        return get_last_output(self.lstm, frames, mask)


class Pooled(nn.Module):
    """Mean over frames, with `std` also the standard deviation -> layer norm, dense layer, ReLU."""

    def __init__(self, features: int, units: int, *, std: bool = False) -> None:
        super().__init__()
        self.std, self.size, self.pooled = std, units, features * (1 + std)
        self.norm, self.dense = nn.LayerNorm(self.pooled), nn.Linear(self.pooled, units)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, frame, feature), (batch, frame) to (batch, unit)."""
        pool = compute_statistics if self.std else average
        return torch.relu(self.dense(self.norm(pool(frames, mask)[:, : self.pooled])))


def average_groups(frames: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the means of the present frames in each group of `size` consecutive frames.

    Args:
        frames: (batch, frame, feature).
        mask: (batch, frame), True where a frame is present.
        size: of a group.

    Returns:
        Means (batch, group, feature), and which groups have any present frame (batch, group).
    """
    short = -frames.shape[1] % size
    frames = nn.functional.pad(frames, (0, 0, 0, short))
    mask = nn.functional.pad(mask, (0, short))
    present = mask.unflatten(1, (-1, size))[..., None].to(frames.dtype)
    count = present.sum(dim=2)
    means = (frames.unflatten(1, (-1, size)) * present).sum(dim=2) / count.clamp(min=1)
    return means, count[..., 0] > 0


class Pool(nn.Module):
    """`average` or `compute_statistics` as the encoder of a modality."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, frame, feature), (batch, frame) to (batch, feature)."""
        return self.function(frames, mask)


class Branch(nn.Module):
    """A vector of each modality, concatenated -> predictions.

    Each encoder maps frames (batch, frame, feature) and their mask (batch, frame) to (batch, unit), 0 without frames.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], output: nn.Module) -> None:
        super().__init__()
        self.modalities = tuple(encoders)
        self.encoders = nn.ModuleDict(encoders)
        self.output = output

    def forward(self, parts: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """Map {modality: (batch, frame, feature)}, {modality: (batch, frame)} to (batch, target)."""
        vectors = [self.encode(name, parts[name], masks[name]) for name in self.modalities]
        return self.output(torch.cat(vectors, dim=1))  # type: ignore[no-any-return]

    def encode(self, modality: str, frames: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, frame, feature), (batch, frame) of one modality to (batch, unit)."""
        return self.encoders[modality](frames, mask)  # type: ignore[no-any-return]


class JoinedOptions(Options):
    """Options of Joined, whose defaults each baseline overrides."""

    units: int = Field(512, ge=1, description="units of each modality's vector, and of the joined one")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the output")
    modality_dropout: float = Field(
        0.0, ge=0, lt=1, description="probability that a modality is dropped in training"
    )


class Joined(Branch):
    """A vector of each modality, concatenated -> dense layer, ReLU, dropout -> targets.

    A learned vector replaces a missing modality. In training, a modality is dropped with a probability of
    `modality_dropout`, so that the others learn to predict without it; a single modality is never dropped.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], options: JoinedOptions, targets: int) -> None:
        sizes: dict[str, Any] = {modality: encoder.size for modality, encoder in encoders.items()}
        dense, output = nn.Linear(sum(sizes.values()), options.units), nn.Linear(options.units, targets)
        super().__init__(encoders, nn.Sequential(dense, nn.ReLU(), nn.Dropout(options.dropout), output))
        self.missing = nn.ParameterDict({modality: torch.zeros(size) for modality, size in sizes.items()})
        self.modality_dropout = options.modality_dropout if len(encoders) > 1 else 0.0

    def encode(self, modality: str, frames: Tensor, mask: Tensor) -> Tensor:
        """Return the modality's vector, as Branch, or the learned one where it is missing."""
        present = mask.any(dim=1, keepdim=True)
        if self.training and self.modality_dropout:
            present = present & (torch.rand(present.shape, device=present.device) >= self.modality_dropout)
        return torch.where(present, super().encode(modality, frames, mask), self.missing[modality])
