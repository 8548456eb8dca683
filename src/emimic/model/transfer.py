"""Copies from the host to the model's device that wait for nothing, and masks of which the host keeps a copy.

A GPU works behind the program's back. Reading a value of its memory, or copying pageable memory to it, makes the
program wait for all that is queued there. So the lengths of clips are read from the host's copy of a mask.
"""

import torch
from torch import Tensor


def move(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return a host's tensor on a device, copied from pinned memory while the program continues."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    # Only CUDA keeps pinned memory until it is copied.
    return tensor.to(device, dtype, non_blocking=device.type != "mps")


def move_mask(mask: Tensor, device: torch.device) -> Tensor:
    """Return a host's mask on a device, for which `get_host_mask` still returns the host's."""
    moved = move(mask, device)
    if moved is not mask:
        moved.on_host = mask  # type: ignore[attr-defined]
    return moved


def get_host_mask(mask: Tensor) -> Tensor:
    """Return the host's copy of a mask, or the mask itself, whose values a GPU must send first, where there is none."""
    host: Tensor = getattr(mask, "on_host", mask)
    return host
