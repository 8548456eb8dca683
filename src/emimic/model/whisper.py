"""Whisper's encoder on clips of any length, without its 30 s of padding; its frozen layers also alone.

Two fields that transformers doesn't know, in the encoder's configuration, make frames independent of where a clip
begins and of what is far away, so that windows of a recording can use the frames of one pass:

- `relative_frames`: a frame attends to n frames on either side, and each layer adds a learned bias for their distance
  to the attention's scores (Shaw, Uszkoreit and Vaswani 2018; Raffel et al. 2020, 2.1), in place of a position for each
  frame: all have the same one (`max_source_positions: 1`).
- `mel_floor`: the lowest logarithm of the log-mel features, in place of 8 below the clip's loudest.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emimic.model.frontend import compute_log_mel
from emimic.model.layers import concatenate_layers, draw_time_mask
from emimic.model.transfer import get_host_mask
from emimic.task import ModelError


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


def embed(encoder: Any, samples: Tensor, mask: Tensor, *, masks_time: bool = False) -> Tensor:
    """Return the first layer's input, (batch, frame, feature): log-mel features, convolutions, positions.

    Args:
        encoder: of `encoders.build`.
        samples: (batch, sample), at 16 kHz.
        mask: (batch, sample), true at real samples.
        masks_time: apply SpecAugment, if the configuration has it.
    """
    config = encoder.config
    # A spectrum needs more than bf16's 8 bits, and torch has none of half-precision samples.
    with torch.autocast(samples.device.type, enabled=False):
        samples = samples if samples.dtype == torch.float64 else samples.float()
        features, real = compute_log_mel(samples, mask, config.num_mel_bins, get_mel_floor(config))
    features = features.to(encoder.conv1.weight.dtype)
    if masks_time and config.apply_spec_augment and config.mask_time_prob > 0:
        features = features * ~draw_time_mask(config, real)[:, None, :]
    # The second convolution reads one step past the clip's end, where a clip alone is zero-padded.
    hidden = nn.functional.gelu(encoder.conv1(features)) * real[:, None, :]
    hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
    return hidden + encoder.embed_positions.weight[: hidden.shape[1]]  # type: ignore[no-any-return]


def _start(
    encoder: Any, samples: Tensor, mask: Tensor, frames: Tensor, frozen: int, reach: int | None
) -> dict[int, Tensor]:
    """Return the first layer's input (0) and the frozen layers' outputs by number, (batch, frame, feature) each."""
    training = encoder.training and not frozen
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        hidden = embed(encoder, samples, mask, masks_time=training)
        outputs = {0: nn.functional.dropout(hidden, p=encoder.dropout, training=training)}
        biases = compute_attention_biases(encoder, frames, hidden.dtype, reach)
        for number, layer in enumerate(encoder.layers[:frozen]):
            outputs[number + 1] = layer(outputs[number], biases[number])
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
    biases = compute_attention_biases(encoder, frames, hidden.dtype, reach)
    for number, layer in enumerate(encoder.layers[first:], first + 1):
        if not (encoder.training and float(torch.rand(())) < encoder.layerdrop):
            hidden = layer(hidden, biases[number - 1])
        outputs[number] = hidden
    if layers is not None:
        return concatenate_layers(outputs, layers)
    return encoder.layer_norm(hidden)  # type: ignore[no-any-return]


def compute_attention_biases(
    encoder: Any, frames: Tensor, dtype: torch.dtype, reach: int | None
) -> Sequence[Tensor | None]:
    """Return each layer's attention bias; None if all frames attend to all.

    Args:
        encoder: of `encoders.build`.
        frames: (batch, frame), true at real frames.
        dtype: of the hidden states.
        reach: frames on either side that a frame attends to, at most; None: all.

    Returns:
        (batch, 1, frame, frame) each; with `relative_frames`, those of `local_attention.compute_biases`.
    """
    if (relative := get_relative_frames(encoder.config)) is not None:
        from emimic.model.local_attention import compute_biases

        limit = relative if reach is None else min(reach, relative)
        return compute_biases(encoder.relative_bias, frames, limit, dtype)
    if reach is None and bool(get_host_mask(frames).all()):
        return [None] * len(encoder.layers)
    hidden = ~frames[:, None, None, :]
    if reach is not None:
        number = torch.arange(frames.shape[1], device=frames.device)
        hidden = hidden | ((number[:, None] - number).abs() > reach)
    bias = torch.zeros(hidden.shape, dtype=dtype, device=frames.device)
    bias = bias.masked_fill(hidden, torch.finfo(dtype).min)
    return [bias.expand(-1, 1, frames.shape[1], -1)] * len(encoder.layers)


def get_relative_frames(config: Any) -> int | None:
    """Return the frames on either side to which a frame attends, with learned biases; None: Whisper's positions."""
    return getattr(config, "relative_frames", None)


def check_relative(config: Any) -> None:
    """Raise ModelError unless `relative_frames` and `mel_floor` are numbers that can be used, or are missing."""
    relative, floor = get_relative_frames(config), get_mel_floor(config)
    if relative is not None and (not isinstance(relative, int) or relative < 1):
        raise ModelError(
            f"the encoder's relative_frames is {relative!r}; expected a whole number from 1, or none"
        )
    if floor is not None and not isinstance(floor, int | float):
        raise ModelError(f"the encoder's mel_floor is {floor!r}; expected a number, or none")


def get_mel_floor(config: Any) -> float | None:
    """Return the lowest logarithm of the log-mel features; None: 8 below the clip's loudest."""
    return getattr(config, "mel_floor", None)
