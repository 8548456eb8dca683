"""Whisper's encoder on clips of any length, without its 30 s of padding; its frozen layers also alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emimic.model.frontend import compute_log_mel
from emimic.model.layers import concatenate_layers, draw_time_mask
from emimic.model.transfer import get_host_mask


def list_kept_layers(layers: Sequence[int] | None, frozen: int) -> list[int]:
    """Return the numbers, from 1, of the frozen layers whose outputs the rest of a Whisper encoder or a frame needs."""
    return sorted({frozen, *(layer for layer in layers or () if layer < frozen)})


def encode_frozen(
    encoder: Any,
    samples: Tensor,
    mask: Tensor,
    frames: Tensor,
    layers: Sequence[int] | None,
    frozen: int,
    reach: int | None = None,
) -> Tensor:
    """Return the outputs of `list_kept_layers`, concatenated, (batch, frame, feature); frames: the frame mask."""
    outputs = _start(encoder, samples, mask, frames, frozen, reach)
    return concatenate_layers(outputs, list_kept_layers(layers, frozen))


def encode_rest(
    encoder: Any,
    states: Tensor,
    frames: Tensor,
    layers: Sequence[int] | None,
    frozen: int,
    reach: int | None = None,
) -> Tensor:
    """Run the other layers on the outputs of `encode_frozen`: return hidden states (batch, frame, feature)."""
    numbers = list_kept_layers(layers, frozen)
    outputs = dict(zip(numbers, states.chunk(len(numbers), dim=-1), strict=True))
    return _finish(encoder, outputs, frames, layers, reach)


def encode(
    encoder: Any,
    samples: Tensor,
    mask: Tensor,
    frames: Tensor,
    layers: Sequence[int] | None,
    frozen: int,
    reach: int | None,
) -> Tensor:
    """Run Whisper's encoder without its 30 s of padding: positions are sliced to the clip, padding is masked."""
    outputs = _start(encoder, samples, mask, frames, frozen, reach)
    return _finish(encoder, outputs, frames, layers, reach)


def _start(
    encoder: Any, samples: Tensor, mask: Tensor, frames: Tensor, frozen: int, reach: int | None
) -> dict[int, Tensor]:
    """Return the first layer's input (0) and the frozen layers' outputs by number, (batch, frame, feature) each."""
    config = encoder.config
    # A spectrum needs more than bf16's 8 bits, and torch has none of half-precision samples.
    with torch.autocast(samples.device.type, enabled=False):
        samples = samples if samples.dtype == torch.float64 else samples.float()
        features, real = compute_log_mel(samples, mask, config.num_mel_bins)
    features = features.to(encoder.conv1.weight.dtype)
    training = encoder.training and not frozen
    if training and config.apply_spec_augment and config.mask_time_prob > 0:
        features = features * ~draw_time_mask(config, real)[:, None, :]
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        # The second convolution reads one step past the clip's end, where a clip alone is zero-padded.
        hidden = nn.functional.gelu(encoder.conv1(features)) * real[:, None, :]
        hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        outputs = {0: nn.functional.dropout(hidden, p=encoder.dropout, training=training)}
        bias = _compute_attention_bias(frames, hidden.dtype, reach)
        for number, layer in enumerate(encoder.layers[:frozen]):
            outputs[number + 1] = layer(outputs[number], bias)
    return outputs


def _finish(
    encoder: Any,
    outputs: dict[int, Tensor],
    frames: Tensor,
    layers: Sequence[int] | None,
    reach: int | None,
) -> Tensor:
    """Run the layers after the last one in `outputs`: return hidden states (batch, frame, feature)."""
    first = max(outputs)
    hidden = outputs[first]
    bias = _compute_attention_bias(frames, hidden.dtype, reach)
    for number, layer in enumerate(encoder.layers[first:], first + 1):
        if not (encoder.training and float(torch.rand(())) < encoder.layerdrop):
            hidden = layer(hidden, bias)
        outputs[number] = hidden
    if layers is not None:
        return concatenate_layers(outputs, layers)
    return encoder.layer_norm(hidden)  # type: ignore[no-any-return]


def _compute_attention_bias(frames: Tensor, dtype: torch.dtype, reach: int | None) -> Tensor | None:
    """Return the attention bias (batch, 1, frame, frame); None if all frames attend to all.

    Args:
        frames: (batch, frame), true at real frames.
        dtype: of the hidden states.
        reach: frames on either side that a frame attends to; None: all.
    """
    if reach is None and bool(get_host_mask(frames).all()):
        return None
    hidden = ~frames[:, None, None, :]
    if reach is not None:
        number = torch.arange(frames.shape[1], device=frames.device)
        hidden = hidden | ((number[:, None] - number).abs() > reach)
    bias = torch.zeros(hidden.shape, dtype=dtype, device=frames.device)
    bias = bias.masked_fill(hidden, torch.finfo(dtype).min)
    return bias.expand(-1, 1, frames.shape[1], -1)
