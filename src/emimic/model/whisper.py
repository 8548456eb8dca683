"""Whisper's encoder on clips of any length, without its 30 s of padding; its frozen layers also alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emimic.model.attention import EVERYWHERE, Attention
from emimic.model.frontend import compute_log_mel
from emimic.model.layers import concatenate_layers, draw_time_mask


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
    attention: Attention = EVERYWHERE,
) -> Tensor:
    """Return the outputs of `list_kept_layers`, concatenated, (batch, frame, feature); frames: the frame mask."""
    outputs = _start(encoder, samples, mask, frames, frozen, attention)
    return concatenate_layers(outputs, list_kept_layers(layers, frozen))


def encode_rest(
    encoder: Any,
    states: Tensor,
    frames: Tensor,
    layers: Sequence[int] | None,
    frozen: int,
    attention: Attention = EVERYWHERE,
) -> Tensor:
    """Run the other layers on the outputs of `encode_frozen`: return hidden states (batch, frame, feature)."""
    numbers = list_kept_layers(layers, frozen)
    outputs = dict(zip(numbers, states.chunk(len(numbers), dim=-1), strict=True))
    return _finish(encoder, outputs, frames, layers, attention)


def encode(
    encoder: Any,
    samples: Tensor,
    mask: Tensor,
    frames: Tensor,
    layers: Sequence[int] | None,
    frozen: int,
    attention: Attention,
) -> Tensor:
    """Run Whisper's encoder without its 30 s of padding: positions are sliced to the clip, padding is masked."""
    outputs = _start(encoder, samples, mask, frames, frozen, attention)
    return _finish(encoder, outputs, frames, layers, attention)


def _start(
    encoder: Any, samples: Tensor, mask: Tensor, frames: Tensor, frozen: int, attention: Attention
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
        hidden = attention.split(nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2))
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        outputs = {0: nn.functional.dropout(hidden, p=encoder.dropout, training=training)}
        bias = attention.compute_bias(frames, hidden.dtype)
        for number, layer in enumerate(encoder.layers[:frozen]):
            outputs[number + 1] = layer(outputs[number], bias)
    return {number: attention.join(output, frames) for number, output in outputs.items()}


def _finish(
    encoder: Any,
    outputs: dict[int, Tensor],
    frames: Tensor,
    layers: Sequence[int] | None,
    attention: Attention,
) -> Tensor:
    """Run the layers after the last one in `outputs`: return hidden states (batch, frame, feature)."""
    first = max(outputs)
    hidden = attention.split(outputs[first])
    bias = attention.compute_bias(frames, hidden.dtype)
    for number, layer in enumerate(encoder.layers[first:], first + 1):
        if not (encoder.training and float(torch.rand(())) < encoder.layerdrop):
            hidden = layer(hidden, bias)
        outputs[number] = attention.join(hidden, frames)
    if layers is not None:
        return concatenate_layers(outputs, layers)
    return encoder.layer_norm(outputs[len(encoder.layers)])  # type: ignore[no-any-return]
