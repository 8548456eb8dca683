"""Outputs of an encoder's layers, and SpecAugment's mask of its frames."""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from emimic.model.transfer import get_host_mask, move

_outputs: ContextVar[dict[int, Tensor] | None] = ContextVar("outputs", default=None)
_frames: ContextVar[Tensor | None] = ContextVar("frames", default=None)


def record(number: int, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    if (outputs := _outputs.get()) is not None:
        outputs[number] = output[0] if isinstance(output, tuple) else output


@contextlib.contextmanager
def record_layers() -> Iterator[dict[int, Tensor]]:
    """Collect the outputs of an encoder's layers in this block by number, from 1; 0 is the first layer's input.

    Whisper's encoder isn't recorded. transformers' `hidden_states` omit the layers that LayerDrop skips.
    """
    outputs: dict[int, Tensor] = {}
    token = _outputs.set(outputs)
    try:
        yield outputs
    finally:
        _outputs.reset(token)


def insert_mask(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Give an encoder's layer the attention mask of `mask_layers`: a forward pre-hook."""
    if (frames := _frames.get()) is None:
        return inputs, options
    count = frames.shape[1]
    mask = frames[:, None, None, :].expand(-1, 1, count, count)
    return inputs, {**options, "attention_mask": mask}


def get_inserted_frames() -> Tensor | None:
    """Return the frame mask of `mask_layers`, (batch, frame); None outside of it."""
    return _frames.get()


@contextlib.contextmanager
def mask_layers(frames: Tensor) -> Iterator[None]:
    """Let every layer of an encoder attend to real frames alone in this block.

    transformers' encoders make it themselves, but ask the device whether any frame is padded.

    Args:
        frames: (batch, frame), true at real frames.
    """
    token = _frames.set(frames)
    try:
        yield
    finally:
        _frames.reset(token)


def concatenate_layers(outputs: dict[int, Tensor], layers: Sequence[int]) -> Tensor:
    """Return recorded outputs, concatenated, (batch, frame, layer * feature); a skipped layer's output is its input."""
    return torch.cat([outputs[max(set(outputs) & set(range(layer + 1)))] for layer in layers], dim=-1)


def draw_time_mask(config: Any, frames: Tensor) -> Tensor:
    """Return SpecAugment's time mask, (batch, frame), drawn over real frames; clips of at most one span have none.

    transformers' own function raises for clips shorter than a span.
    """
    host = get_host_mask(frames)
    lengths = host.sum(dim=1).tolist()
    span = config.mask_time_length
    masked = torch.zeros_like(host)
    for row, length in enumerate(lengths):
        if length <= span:
            continue
        # Rounded at random, so that the expected fraction of span starts holds for short clips too.
        count = int(config.mask_time_prob * length / span + float(torch.rand(())))
        count = min(max(count, config.mask_time_min_masks), length // span)
        starts = torch.randperm(length - span + 1)[:count]
        for start in starts.tolist():
            masked[row, start : start + span] = True
    return move(masked, frames.device)
