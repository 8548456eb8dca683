"""Branches of the model beside audio: each maps its own sequence to one vector, or to a learned one without input.

A branch is a module of this package with two functions:

- `make_config(settings)`: from the group of a training's settings, such as `vision`, what the model's configuration
  stores: a dict for JSON with everything that builds the branch, so that a finished run needs no other folder.
- `build(config)`: the `Branch` of that dict, with random weights.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emimic import batching
from emimic.model.inputs import Inputs, get_further

BRANCHES: Final = ("vision", "text")
"""Modules of this package, and the names of their groups of settings, in the order of concatenation."""


class Branch(nn.Module):
    """A branch; subclasses have `encode`.

    Pre-trained weights are in a module `backbone`, so that `encoder_lr` is their learning rate.

    Args:
        width: features of the vector.
        dropout: fraction of training clips whose input is replaced by the learned vector (modality dropout).
        freeze: the backbone is not trained, and stays in evaluation mode.
    """

    backbone: nn.Module

    def __init__(self, width: int, *, dropout: float = 0.0, freeze: bool = False) -> None:
        super().__init__()
        self.width, self.dropout, self.is_frozen = width, dropout, freeze
        self.missing = nn.Parameter(torch.zeros(width))

    def encode(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return vectors (batch, width) of values (batch, step, ...) and mask (batch, step); each clip has a step."""
        raise NotImplementedError

    def fill(self, settings: Any) -> None:
        """Load the pre-trained weights that the group of settings names."""
        raise NotImplementedError

    def collate(self, sequences: Sequence[NDArray[Any]]) -> tuple[Tensor, Tensor]:
        """Return padded values (batch, step, ...) and mask (batch, step), as `forward` takes them.

        Args:
            sequences: (step, ...) each; without any step where the input is missing.
        """
        real = next((sequence for sequence in sequences if len(sequence)), np.zeros(0))
        empty = np.zeros((0, *real.shape[1:]), real.dtype)
        values, mask = batching.pad([sequence if len(sequence) else empty for sequence in sequences])
        device = self.missing.device
        return torch.from_numpy(values).to(device), torch.from_numpy(mask).to(device)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return vectors (batch, width) of values (batch, step, ...) and mask (batch, step), true at real steps."""
        present = mask.any(dim=1)
        if torch.onnx.is_in_onnx_export():  # no branch of the graph may depend on data
            first = torch.arange(mask.shape[1], device=mask.device) == 0
            encoded = self.encode(values, mask | (~present[:, None] & first))
            return torch.where(present[:, None], encoded, self.missing)
        if self.training and self.dropout:
            present = present & (torch.rand(len(mask), device=mask.device) >= self.dropout)
        vectors = self.missing.expand(len(mask), -1)
        if not present.any():
            return vectors
        encoded = self.encode(values[present], mask[present])
        return vectors.to(encoded.dtype).index_put((present,), encoded)

    def freeze(self) -> None:
        """Exclude the backbone from training where the settings say so."""
        if self.is_frozen:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.is_frozen:
            self.backbone.eval()
        return self


def list_branches(config: Any) -> list[str]:
    """Return the names of a model's further branches, in the order of concatenation."""
    return [name for name in BRANCHES if getattr(config, name, None)]


def make_configs(settings: Any) -> dict[str, dict[str, Any]]:
    """Return the configuration of each branch that a training's settings have."""
    return {name: _import(name).make_config(getattr(settings, name)) for name in list_branches(settings)}


def build_all(config: Any) -> nn.ModuleDict:
    """Return the branches of a model's configuration by name."""
    return nn.ModuleDict({name: _import(name).build(getattr(config, name)) for name in list_branches(config)})


def collate(
    branches: Mapping[str, nn.Module], clips: Sequence[NDArray[Any] | Inputs]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the padded values and mask of each branch of a batch of clips."""
    return {
        name: branch.collate([get_further(clip, name) for clip in clips])  # type: ignore[operator]
        for name, branch in branches.items()
    }


def _import(name: str) -> Any:
    return importlib.import_module(f"emimic.model.{name}")
