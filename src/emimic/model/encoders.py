"""Speech encoders: construction, frame arithmetic, and a forward pass whose results don't depend on padding.

Families: wav2vec 2.0, WavLM, HuBERT, data2vec-audio, and Whisper's encoder. All take the waveform.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from emimic.model import whisper
from emimic.model.frontend import MEL_HOP, MEL_WINDOW
from emimic.model.layers import (
    concatenate_layers,
    draw_time_mask,
    get_inserted_frames,
    insert_mask,
    mask_layers,
    record,
    record_layers,
)
from emimic.model.transfer import get_host_mask, move_mask
from emimic.task import SAMPLE_RATE, ModelError

MASKED: Final = ("wav2vec2", "hubert")
"""Families whose layers take the attention mask of `mask_layers`."""

FAMILIES: Final = {
    "wav2vec2": "Wav2Vec2Model",
    "wavlm": "WavLMModel",
    "hubert": "HubertModel",
    "data2vec-audio": "Data2VecAudioModel",
    "whisper": "WhisperEncoder",
}

# The paper's encoder: the config.json of audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim.
PAPER_ENCODER: Final[dict[str, Any]] = {
    "model_type": "wav2vec2",
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "feat_proj_dropout": 0.1,
    "final_dropout": 0.1,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "layerdrop": 0.1,
    "mask_time_prob": 0.05,
    "mask_time_length": 10,
}


def check_family(model_type: str) -> None:
    """Raise ModelError unless `model_type` is one of FAMILIES."""
    if model_type not in FAMILIES:
        raise ModelError(
            f"the encoder is of the family {model_type!r}; emimic runs {', '.join(FAMILIES)}: choose one of those"
        )


def build(config: Any) -> nn.Module:
    """Return a randomly initialized encoder for a transformers configuration of one of FAMILIES."""
    check_family(config.model_type)
    if getattr(config, "add_adapter", False):
        raise ModelError(
            "the encoder ends in an adapter that merges frames; emimic needs every frame: set add_adapter to false"
        )
    if config.model_type == "whisper":
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        encoder: nn.Module = WhisperEncoder(config)
        if (relative := whisper.get_relative_frames(config)) is not None:
            from emimic.model.local_attention import LocalAttention

            for layer in encoder.layers:  # type: ignore[union-attr]
                layer.self_attn.__class__ = LocalAttention
            shape = config.encoder_layers, config.encoder_attention_heads, 2 * relative + 1
            encoder.relative_bias = nn.Parameter(torch.zeros(shape))
        return encoder
    module: Any = getattr(transformers, FAMILIES[config.model_type])(config)
    for layer in module.feature_extractor.conv_layers:
        if isinstance(getattr(layer, "layer_norm", None), nn.LayerNorm):
            layer.__class__ = _make_fast_layer(type(layer))  # type: ignore[arg-type]
    if config.model_type in MASKED:
        module.__class__ = _make_waiting_free(type(module))  # type: ignore[arg-type]
        for layer in module.encoder.layers:
            layer.register_forward_pre_hook(insert_mask, with_kwargs=True)
    for number, layer in enumerate((module.encoder.dropout, *module.encoder.layers)):
        layer.register_forward_hook(functools.partial(record, number))
    return module  # type: ignore[no-any-return]


@functools.cache
def _make_fast_layer(kind: type[Any]) -> type[Any]:
    """Return a subclass of transformers' convolutional layer that trains in a third of the time on a CPU.

    Weights and formula are the same. A matrix product over contiguous frames replaces torch's convolution, whose
    backward pass is slow, and the two transpositions for the norm.
    """

    def forward(self: Any, hidden: Tensor) -> Tensor:
        """Return (batch, channel, step), contiguous in the channels, of (batch, channel, step)."""
        if not self.training or hidden.device.type != "cpu":
            return kind.forward(self, hidden)  # type: ignore[no-any-return]
        (width,), (stride,) = self.conv.kernel_size, self.conv.stride
        steps = hidden.transpose(1, 2)
        span = steps.shape[1] - width + 1
        taps = torch.cat([steps[:, tap : tap + span : stride] for tap in range(width)], dim=-1)
        convolved = nn.functional.linear(taps, self.conv.weight.transpose(1, 2).flatten(1), self.conv.bias)
        return self.activation(self.layer_norm(convolved)).transpose(1, 2)  # type: ignore[no-any-return]

    # The same name: transformers looks layers up by it.
    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


@functools.cache
def _make_waiting_free(kind: type[Any]) -> type[Any]:
    """Return a subclass of transformers' encoder that masks without waiting for a GPU; results are the same.

    An assignment to the places of a mask must count them first.
    """

    def mask_hidden_states(
        self: Any,
        hidden: Tensor,
        mask_time_indices: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Return (batch, frame, feature) with the learned vector at a time mask, and 0 at padded frames."""
        config = self.config
        features = config.mask_feature_prob and self.training
        if mask_time_indices is None or features or not getattr(config, "apply_spec_augment", True):
            hidden = kind._mask_hidden_states(self, hidden, mask_time_indices, attention_mask)
        else:
            embedding = self.masked_spec_embed.to(hidden.dtype)
            hidden = torch.where(mask_time_indices[..., None], embedding, hidden)
        frames = get_inserted_frames()
        return hidden if frames is None else hidden.masked_fill(~frames[..., None], 0.0)

    members = {"_mask_hidden_states": mask_hidden_states, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), members)


def is_exact_under_padding(config: Any) -> bool:
    """Return True if a clip has the same result in a masked, padded batch as alone.

    False for a group norm over time (wav2vec2-base). False for data2vec's stacked positional convolutions, whose inner
    layers read the padding's outputs. False for HuBERT's batch norm before its convolution, which shifts the padding's
    zeros. Batches of such encoders hold clips of equal length only.
    """
    if config.model_type == "data2vec-audio" or getattr(config, "conv_pos_batch_norm", False):
        return False
    return bool(config.model_type == "whisper" or config.feat_extract_norm != "group")


def compute_group_width(config: Any) -> int | None:
    """Return the channels in a group of the encoder's positional convolution; None if it has none."""
    groups = getattr(config, "num_conv_pos_embedding_groups", None)
    return config.hidden_size // groups if groups else None


def is_exact_in_bf16(config: Any) -> bool:
    """Return False if CPUs may compute the encoder wrongly in bf16.

    On CPUs with AMX, oneDNN's bf16 convolutions with groups of other than 16, 32, ... channels are off by as much as
    their own standard deviation (torch 2.13).
    """
    width = compute_group_width(config)
    return width is None or width % 16 == 0


def _check_bf16(encoder: nn.Module, samples: Tensor) -> None:
    """Raise ModelError where a CPU would compute an encoder in bf16, wrongly."""
    if samples.device.type != "cpu" or is_exact_in_bf16(encoder.config):
        return
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if autocast or next(encoder.parameters()).dtype == torch.bfloat16:
        raise ModelError(
            f"the encoder's positional convolution has {compute_group_width(encoder.config)} channels a group, which "
            "some CPUs compute wrongly in bf16; expected float32: load the model with dtype=torch.float32, without "
            "autocast"
        )


def count_frames(config: Any, samples: int) -> int:
    """Return the frames of `samples` samples at 16 kHz (paper section 4: 192,000 -> 599)."""
    if config.model_type == "whisper":
        return -(-(samples // MEL_HOP) // 2)
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return max(samples, 0)


def compute_hop(config: Any) -> int:
    """Return the samples from one frame to the next."""
    return 2 * MEL_HOP if config.model_type == "whisper" else math.prod(config.conv_stride)


def compute_receptive_field(config: Any) -> int:
    """Return the samples that one frame depends on before attention."""
    if config.model_type == "whisper":
        return MEL_WINDOW + 4 * MEL_HOP
    field = 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        field = (field - 1) * stride + kernel
    return int(field)


def compute_min_samples(config: Any) -> int:
    """Return the samples of the shortest clip with a frame; shorter ones are right-padded to it."""
    return MEL_WINDOW if config.model_type == "whisper" else compute_receptive_field(config)


def compute_max_samples(config: Any) -> int | None:
    """Return the samples of the longest clip (Whisper has 1,500 positions: 30 s); None without a limit."""
    if config.model_type != "whisper" or whisper.get_relative_frames(config) is not None:
        return None
    return int(config.max_source_positions * 2 * MEL_HOP)


def compute_frame_times(config: Any, frames: int) -> np.ndarray:
    """Return the center of each frame in seconds, (frame,) float64."""
    first = 0.0 if config.model_type == "whisper" else compute_receptive_field(config) / 2
    return (first + compute_hop(config) * np.arange(frames)) / SAMPLE_RATE


def compute_frame_mask(config: Any, mask: Tensor, frames: int) -> Tensor:
    """Return the frame mask (batch, frame), true at real frames, of a sample mask (batch, sample)."""
    counts = [count_frames(config, int(n)) for n in get_host_mask(mask).sum(dim=1).tolist()]
    return move_mask(torch.arange(frames)[None, :] < torch.tensor(counts)[:, None], mask.device)


def count_layers(config: Any) -> int:
    """Return the number of an encoder's transformer layers."""
    return int(config.encoder_layers if config.model_type == "whisper" else config.num_hidden_layers)


def encode(
    encoder: nn.Module,
    samples: Tensor,
    mask: Tensor,
    layers: Sequence[int] | None = None,
    frozen: int = 0,
    reach: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Encode a batch of waveforms.

    Args:
        encoder: of `build`.
        samples: (batch, sample), at 16 kHz.
        mask: (batch, sample), true at real samples.
        layers: numbers, from 1, of the layers whose outputs are concatenated, before any final norm of the encoder;
            None: the last hidden states.
        frozen: Whisper's layers up to this one run in evaluation mode, without SpecAugment.
        reach: frames on either side that a frame of Whisper's attends to, in each layer; None: all.

    Returns:
        Hidden states (batch, frame, feature) and frame mask (batch, frame).

    Raises:
        ModelError: if a batch is padded for an encoder that isn't exact under padding, or a clip is too short or long.
    """
    config: Any = encoder.config
    host = get_host_mask(mask)
    padded = not bool(host.all())
    shortest, longest = int(host.sum(dim=1).min()), samples.shape[1]
    minimum = compute_min_samples(config)
    if shortest < minimum:
        raise ModelError(
            f"a clip has {shortest} samples, the encoder needs at least {minimum}: pad it on the right"
        )
    limit = compute_max_samples(config)
    if limit is not None and longest > limit:
        raise ModelError(f"a clip has {longest} samples, this encoder takes at most {limit}: cut it")
    if padded and not is_exact_under_padding(config):
        raise ModelError(
            f"this {config.model_type} encoder would be changed by padding: batch clips of equal length only"
        )
    _check_bf16(encoder, samples)
    frames = compute_frame_mask(config, mask, count_frames(config, longest))
    if config.model_type == "whisper":
        return whisper.encode(encoder, samples, mask, frames, layers, frozen, reach), frames
    masked = draw_time_mask(config, frames) if encoder.training and config.mask_time_prob > 0 else None
    with record_layers() as outputs:
        output = _run(encoder, samples, mask if padded else None, frames, masked)
    return output.last_hidden_state if layers is None else concatenate_layers(outputs, layers), frames


def _run(encoder: Any, samples: Tensor, mask: Tensor | None, frames: Tensor, masked: Tensor | None) -> Any:
    """Return the output of transformers' encoder.

    Args:
        encoder: of any family but Whisper.
        samples: (batch, sample).
        mask: (batch, sample), true at real samples; None: all are.
        frames: (batch, frame), true at real frames.
        masked: (batch, frame), SpecAugment's time mask; None: none.
    """
    config = encoder.config
    # Layers that are computed again in the backward pass, in a GPU's thread of its own, would not find the mask.
    inserted = config.model_type in MASKED and config._attn_implementation == "sdpa"
    again = any(getattr(layer, "gradient_checkpointing", False) for layer in encoder.encoder.layers)
    if mask is None or not inserted or again:
        attention_mask = None if mask is None else mask.long()
        return encoder(samples, attention_mask=attention_mask, mask_time_indices=masked)
    with mask_layers(frames):
        return encoder(samples, mask_time_indices=masked)
