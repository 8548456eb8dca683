"""What the compared systems are built of; frames that are not there change nothing in any of them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from emimic.baselines.system import Options
from emimic.model import recurrent
from emimic.model.pooling import FLOOR


def mean(frames: Tensor, mask: Tensor) -> Tensor:
    """(batch, frame, feature), (batch, frame) -> (batch, feature): over the frames there are; 0 without any."""
    there = mask[..., None].to(frames.dtype)
    return (frames * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)


def statistics(frames: Tensor, mask: Tensor) -> Tensor:
    """(batch, frame, feature), (batch, frame) -> (batch, 4 x feature): mean, standard deviation over n, minimum,
    maximum; 0 without any frame."""
    there = mask[..., None]
    center = mean(frames, mask)
    spread = (mean((frames - center[:, None]).square(), mask) + FLOOR).sqrt()
    low = frames.masked_fill(~there, math.inf).amin(dim=1)
    high = frames.masked_fill(~there, -math.inf).amax(dim=1)
    found = torch.cat([center, spread, low, high], dim=1)
    return torch.where(mask.any(dim=1)[:, None], found, 0.0)


def compact(frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The frames that are there moved to the front, in order: (batch, frame, feature), (batch, frame) -> the same.

    A clip without any is given one frame of zeros, so that what runs over frames has something to run over.
    """
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    there = mask.gather(1, order)
    moved = frames.gather(1, order[..., None].expand_as(frames)) * there[..., None]
    there = there | (torch.arange(mask.shape[1], device=mask.device) == 0)
    longest = int(there.sum(dim=1).max())
    return moved[:, :longest], there[:, :longest]


def last(network: nn.LSTM | nn.GRU, frames: Tensor, mask: Tensor) -> Tensor:
    """(batch, frame, feature), (batch, frame) -> (batch, unit): the last layer's output at each clip's last frame; 0
    without any frame."""
    moved, there = compact(frames, mask)
    if isinstance(network, nn.LSTM):
        found = recurrent.last_outputs(network, moved, there)
    else:
        rows = torch.arange(len(moved), device=moved.device)
        found = network(moved)[0][rows, there.sum(dim=1) - 1]
    return torch.where(mask.any(dim=1)[:, None], found, 0.0)


class Tcn(nn.Module):
    """Temporal convolutional network (Bai, Kolter and Koltun 2018, section 3): residual blocks of two dilated
    convolutions, the dilation doubling from block to block; here they look both ways, and without weight norm."""

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
        """(batch, frame, feature), (batch, frame) -> (batch, frame, unit), 0 where a frame is not there."""
        there = mask[:, None, :].to(frames.dtype)
        hidden: Tensor = self.input(frames).transpose(1, 2) * there
        for block in self.blocks:
            inner = hidden
            for convolution in block:  # type: ignore[attr-defined]
                inner = self.dropout(torch.relu(convolution(inner))) * there
            hidden = torch.relu(hidden + inner)
        return hidden.transpose(1, 2)


class Attention(nn.Module):
    """Transformer encoder (Vaswani et al. 2017, norms after the sums) over projected frames, sinusoids as positions;
    a frame that is not there is not attended to."""

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
        """(batch, frame, feature), (batch, frame) -> (batch, frame, unit), 0 where a frame is not there."""
        there = mask[..., None].to(frames.dtype)
        hidden = self.input(frames)
        hidden = (hidden + sinusoids(hidden.shape[1], hidden.shape[2]).to(hidden)) * there
        # Attention over nothing at all is undefined: a clip without frames attends to its first, and is 0 after.
        none = ~mask.any(dim=1, keepdim=True)
        ignored = ~mask & ~(none & (torch.arange(mask.shape[1], device=mask.device) == 0))
        return self.encoder(hidden, src_key_padding_mask=ignored) * there  # type: ignore[no-any-return]


def sinusoids(frames: int, units: int) -> Tensor:
    """(frame, unit): Vaswani et al. 2017, section 3.5."""
    rates = torch.exp(-math.log(10_000.0) * torch.arange(0, units, 2, dtype=torch.float64) / units)
    angles = torch.arange(frames)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :units]


class Last(nn.Module):
    """An LSTM's last output."""

    def __init__(self, features: int, units: int, *, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, units, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.size = units

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, frame, feature), (batch, frame) -> (batch, unit)."""
        return last(self.lstm, frames, mask)


class Pooled(nn.Module):
    """Mean over frames, perhaps with the standard deviation beside it -> layer norm, dense layer, ReLU."""

    def __init__(self, features: int, units: int, *, spread: bool = False) -> None:
        super().__init__()
        self.spread, self.size = spread, units
        pooled = features * (1 + spread)
        self.norm, self.dense = nn.LayerNorm(pooled), nn.Linear(pooled, units)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, frame, feature), (batch, frame) -> (batch, unit)."""
        found = mean(frames, mask)
        if self.spread:
            found = statistics(frames, mask)[:, : 2 * frames.shape[2]]
        return torch.relu(self.dense(self.norm(found)))


def grouped(frames: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Means of the present frames in each group of `size` in a row: (batch, frame, feature) -> (batch, group, feature),
    and which groups have any."""
    short = -frames.shape[1] % size
    frames = nn.functional.pad(frames, (0, 0, 0, short))
    mask = nn.functional.pad(mask, (0, short))
    there = mask.unflatten(1, (-1, size))[..., None].to(frames.dtype)
    held = there.sum(dim=2)
    means = (frames.unflatten(1, (-1, size)) * there).sum(dim=2) / held.clamp(min=1)
    return means, held[..., 0] > 0


class Pool(nn.Module):
    """`mean` or `statistics` as a branch of a member."""

    def __init__(self, how: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.how = how

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, frame, feature), (batch, frame) -> (batch, feature)."""
        return self.how(frames, mask)


class Member(nn.Module):
    """A vector of each role, side by side -> answers. Each branch maps frames (batch, frame, feature) and mask (batch,
    frame) to (batch, unit), 0 for a clip without any frame."""

    def __init__(self, branches: Mapping[str, nn.Module], output: nn.Module) -> None:
        super().__init__()
        self.roles = tuple(branches)
        self.branches = nn.ModuleDict(branches)
        self.output = output

    def forward(self, parts: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """{role: (batch, frame, feature)}, {role: (batch, frame)} -> (batch, target)."""
        found = [self.vector(role, parts[role], masks[role]) for role in self.roles]
        return self.output(torch.cat(found, dim=1))  # type: ignore[no-any-return]

    def vector(self, role: str, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, frame, feature), (batch, frame) -> (batch, unit) of one role."""
        return self.branches[role](frames, mask)  # type: ignore[no-any-return]


class JoinedOptions(Options):
    """Of Joined; what a system's source says, or leaves open, it puts in their place."""

    units: int = Field(512, ge=1, description="units of each modality's vector, and of the joined one")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the output")
    lacking: float = Field(
        0.0, ge=0, lt=1, description="how often a modality is taken for missing while learning"
    )


class Joined(Member):
    """A vector of each role, side by side -> dense layer, ReLU, dropout -> targets.

    In place of a modality that a clip lacks stands a vector that is learned; while learning, a modality is taken for
    lacking with a probability of `lacking` (none when it is the only one), so that the others learn to do without it.
    """

    def __init__(self, branches: Mapping[str, nn.Module], options: JoinedOptions, targets: int) -> None:
        sizes: dict[str, Any] = {role: branch.size for role, branch in branches.items()}
        dense, output = nn.Linear(sum(sizes.values()), options.units), nn.Linear(options.units, targets)
        super().__init__(branches, nn.Sequential(dense, nn.ReLU(), nn.Dropout(options.dropout), output))
        self.missing = nn.ParameterDict({role: torch.zeros(size) for role, size in sizes.items()})
        self.lacking = options.lacking if len(branches) > 1 else 0.0

    def vector(self, role: str, frames: Tensor, mask: Tensor) -> Tensor:
        """As Member's, or the learned vector of what is lacking."""
        there = mask.any(dim=1, keepdim=True)
        if self.training and self.lacking:
            there = there & (torch.rand(there.shape, device=there.device) >= self.lacking)
        return torch.where(there, super().vector(role, frames, mask), self.missing[role])
