"""Speech encoders: building them, their frame arithmetic, and running them so that padding changes nothing.

Families: wav2vec 2.0, WavLM, HuBERT and data2vec-audio (raw waveform in) and Whisper's encoder (waveform in too:
its log-mel features are computed here).
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from emimic.task import SAMPLE_RATE, ModelError

FAMILIES: Final = {
    "wav2vec2": "Wav2Vec2Model",
    "wavlm": "WavLMModel",
    "hubert": "HubertModel",
    "data2vec-audio": "Data2VecAudioModel",
    "whisper": "WhisperEncoder",
}

# Whisper's log-mel: windows of 25 ms every 10 ms; its two convolutions then halve the rate (Radford et al. 2022, 2.2).
MEL_WINDOW: Final = 400
MEL_HOP: Final = 160

# The encoder of the paper: audeering's wav2vec2-large-robust-12-ft-emotion-msp-dim (facts of its config.json).
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
    """Raise ModelError unless `model_type` is a speech encoder that emimic can run."""
    if model_type not in FAMILIES:
        raise ModelError(
            f"the encoder is of the family {model_type!r}; emimic runs {', '.join(FAMILIES)}: choose one of those"
        )


def build(config: Any) -> nn.Module:
    """A randomly initialised encoder for a transformers configuration of one of FAMILIES."""
    check_family(config.model_type)
    if getattr(config, "add_adapter", False):
        raise ModelError(
            "the encoder ends in an adapter that merges frames; emimic needs every frame: set add_adapter to false"
        )
    if config.model_type == "whisper":
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return WhisperEncoder(config)  # type: ignore[no-any-return]
    module: Any = getattr(transformers, FAMILIES[config.model_type])(config)
    for layer in module.feature_extractor.conv_layers:
        if isinstance(getattr(layer, "layer_norm", None), nn.LayerNorm):
            layer.__class__ = _quick_in_training(type(layer))  # type: ignore[arg-type]
    for number, part in enumerate((module.encoder.dropout, *module.encoder.layers)):
        part.register_forward_hook(functools.partial(_record, number))
    return module  # type: ignore[no-any-return]


_outputs: ContextVar[dict[int, Tensor] | None] = ContextVar("outputs", default=None)


def _record(number: int, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    if (outputs := _outputs.get()) is not None:
        outputs[number] = output[0] if isinstance(output, tuple) else output


@contextlib.contextmanager
def recorded() -> Iterator[dict[int, Tensor]]:
    """Collect what the layers of an encoder that isn't Whisper's put out in this block, counted from 1; 0: their input.

    transformers' own `hidden_states` lack the layers that LayerDrop skips, and are given by whole models only.
    """
    outputs: dict[int, Tensor] = {}
    token = _outputs.set(outputs)
    try:
        yield outputs
    finally:
        _outputs.reset(token)


def side_by_side(outputs: dict[int, Tensor], layers: Sequence[int]) -> Tensor:
    """Return (batch, frame, layer * feature) of what `recorded` collected; a skipped layer puts out its input."""
    return torch.cat([outputs[max(set(outputs) & set(range(layer + 1)))] for layer in layers], dim=-1)


@functools.cache
def _quick_in_training(kind: type[Any]) -> type[Any]:
    """A convolution layer of transformers with the same weights and formula, a third of the time while learning on a
    CPU: a matrix product over frames that lie together, instead of torch's convolution, whose backward pass is slow,
    between two transpositions for the norm."""

    def forward(self: Any, hidden: Tensor) -> Tensor:
        """(batch, channel, step) -> (batch, channel, step); features of a step lie together in what is given back."""
        if not self.training or hidden.device.type != "cpu":
            return kind.forward(self, hidden)  # type: ignore[no-any-return]
        (width,), (stride,) = self.conv.kernel_size, self.conv.stride
        steps = hidden.transpose(1, 2)
        span = steps.shape[1] - width + 1
        taps = torch.cat([steps[:, tap : tap + span : stride] for tap in range(width)], dim=-1)
        made = nn.functional.linear(taps, self.conv.weight.transpose(1, 2).flatten(1), self.conv.bias)
        return self.activation(self.layer_norm(made)).transpose(1, 2)  # type: ignore[no-any-return]

    # The name stays: transformers looks layers up by it.
    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def is_exact_under_padding(config: Any) -> bool:
    """Whether a masked, padded batch equals the clip alone.

    Not so with a group norm over time (wav2vec2-base), nor with data2vec's stacked positional convolutions, whose
    inner layers see what the padding became, nor with HuBERT's batch norm before its own, which shifts the padding's
    zeros: such encoders are only given clips of equal length together.
    """
    if config.model_type == "data2vec-audio" or getattr(config, "conv_pos_batch_norm", False):
        return False
    return bool(config.model_type == "whisper" or config.feat_extract_norm != "group")


def num_frames(config: Any, samples: int) -> int:
    """Frames the encoder makes of `samples` samples at 16 kHz (paper section 4: 192,000 -> 599)."""
    if config.model_type == "whisper":
        return -(-(samples // MEL_HOP) // 2)
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return max(samples, 0)


def hop(config: Any) -> int:
    """Samples from one frame to the next."""
    return 2 * MEL_HOP if config.model_type == "whisper" else math.prod(config.conv_stride)


def receptive_field(config: Any) -> int:
    """Samples that one frame sees before attention."""
    if config.model_type == "whisper":
        return MEL_WINDOW + 4 * MEL_HOP
    field = 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        field = (field - 1) * stride + kernel
    return int(field)


def min_samples(config: Any) -> int:
    """The shortest clip that gives a frame; shorter ones are right-padded to it."""
    return MEL_WINDOW if config.model_type == "whisper" else receptive_field(config)


def max_samples(config: Any) -> int | None:
    """The longest clip the encoder can take (Whisper has 1,500 positions: 30 s); None without a limit."""
    return config.max_source_positions * 2 * MEL_HOP if config.model_type == "whisper" else None


def frame_times(config: Any, frames: int) -> np.ndarray:
    """Center of each frame in seconds, (frame,) float64."""
    first = 0.0 if config.model_type == "whisper" else receptive_field(config) / 2
    return (first + hop(config) * np.arange(frames)) / SAMPLE_RATE


def frame_mask(config: Any, mask: Tensor, frames: int) -> Tensor:
    """Sample mask (batch, sample) -> frame mask (batch, frame), true where the frame is real."""
    counts = [num_frames(config, int(n)) for n in mask.sum(dim=1).tolist()]
    return (
        torch.arange(frames, device=mask.device)[None, :] < torch.tensor(counts, device=mask.device)[:, None]
    )


def num_layers(config: Any) -> int:
    """Transformer layers of an encoder."""
    return int(config.encoder_layers if config.model_type == "whisper" else config.num_hidden_layers)


def run(
    encoder: nn.Module,
    samples: Tensor,
    mask: Tensor,
    layers: Sequence[int] | None = None,
    frozen: int = 0,
) -> tuple[Tensor, Tensor]:
    """samples, mask (batch, sample) -> hidden states (batch, frame, feature), frame mask (batch, frame).

    layers: None gives the last hidden states; else the outputs of these layers, counted from 1, side by side in a
    frame: as they leave the layer, before any final norm of the encoder. frozen: Whisper's layers up to this one are
    run as when not training, and SpecAugment is off.

    Raises ModelError when the batch is padded but the encoder isn't exact under padding, or a clip is too short.
    """
    config: Any = encoder.config
    padded = not bool(mask.all())
    shortest, longest = int(mask.sum(dim=1).min()), samples.shape[1]
    if shortest < min_samples(config):
        raise ModelError(
            f"a clip has {shortest} samples, the encoder needs at least {min_samples(config)}: pad it on the right"
        )
    limit = max_samples(config)
    if limit is not None and longest > limit:
        raise ModelError(f"a clip has {longest} samples, this encoder takes at most {limit}: cut it")
    if padded and not is_exact_under_padding(config):
        raise ModelError(
            f"this {config.model_type} encoder would be changed by padding: batch clips of equal length only"
        )
    frames = frame_mask(config, mask, num_frames(config, longest))
    if config.model_type == "whisper":
        return _run_whisper(encoder, samples, mask, frames, layers, frozen), frames
    masked = _time_mask(config, frames) if encoder.training and config.mask_time_prob > 0 else None
    with recorded() as outputs:
        output = encoder(samples, attention_mask=mask.long() if padded else None, mask_time_indices=masked)
    return output.last_hidden_state if layers is None else side_by_side(outputs, layers), frames


def _time_mask(config: Any, frames: Tensor) -> Tensor:
    """SpecAugment's time spans, drawn over the real frames only; clips no longer than one span stay whole.

    transformers draws the spans itself but refuses clips shorter than a span, hence this function.
    """
    lengths = frames.sum(dim=1).tolist()
    span = config.mask_time_length
    masked = torch.zeros_like(frames)
    for row, length in enumerate(lengths):
        if length <= span:
            continue
        # Rounded at random, so that the expected share of span starts is right for short clips too.
        count = int(config.mask_time_prob * length / span + float(torch.rand(())))
        count = min(max(count, config.mask_time_min_masks), length // span)
        starts = torch.randperm(length - span + 1)[:count]
        for start in starts.tolist():
            masked[row, start : start + span] = True
    return masked


@functools.lru_cache(maxsize=4)
def mel_filters(bins: int) -> np.ndarray:
    """Whisper's mel filters, (frequency, bin)."""
    from transformers.audio_utils import mel_filter_bank

    filters: np.ndarray = mel_filter_bank(
        num_frequency_bins=MEL_WINDOW // 2 + 1,
        num_mel_filters=bins,
        min_frequency=0.0,
        max_frequency=8000.0,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return filters


def log_mel(samples: Tensor, mask: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Whisper's log-mel features: samples, mask (batch, sample) -> (batch, bin, mel frame), mask (batch, mel frame).

    Each clip's features equal the first frames of Whisper's own on the clip padded to 30 s: so the loudest value,
    which sets the floor, is also sought in the two frames after the last that still hear the clip.
    """
    samples = samples * mask
    samples = torch.cat([samples[:, 1 : MEL_WINDOW // 2 + 1].flip(1), samples], dim=1)
    samples = nn.functional.pad(samples, (0, MEL_WINDOW // 2 + 2 * MEL_HOP))
    window = torch.hann_window(MEL_WINDOW, dtype=samples.dtype, device=samples.device)
    spectrum = torch.stft(samples, MEL_WINDOW, MEL_HOP, window=window, center=False, return_complex=True)
    power = spectrum.abs().square()
    filters = torch.as_tensor(mel_filters(bins), dtype=power.dtype, device=power.device)
    features = (filters.T @ power).clamp(min=1e-10).log10()
    peak = features.amax(dim=(1, 2), keepdim=True)  # padding is silent, hence never louder
    features = (torch.maximum(features, peak - 8.0)[..., : mask.shape[1] // MEL_HOP] + 4.0) / 4.0
    lengths = mask.sum(dim=1) // MEL_HOP
    real = torch.arange(features.shape[2], device=mask.device)[None, :] < lengths[:, None]
    return features * real[:, None, :], real


def kept_layers(layers: Sequence[int] | None, frozen: int) -> list[int]:
    """The frozen layers, counted from 1, whose outputs the rest of a Whisper encoder or a frame needs, in order."""
    return sorted({frozen, *(layer for layer in layers or () if layer < frozen)})


def run_frozen(
    encoder: Any, samples: Tensor, mask: Tensor, layers: Sequence[int] | None, frozen: int
) -> tuple[Tensor, Tensor]:
    """The first part of `run`: outputs of `kept_layers` side by side, (batch, frame, feature), and the frame mask."""
    frames = frame_mask(encoder.config, mask, num_frames(encoder.config, samples.shape[1]))
    outputs = _whisper_first(encoder, samples, mask, frames, frozen)
    return side_by_side(outputs, kept_layers(layers, frozen)), frames


def run_rest(
    encoder: Any, states: Tensor, frames: Tensor, layers: Sequence[int] | None, frozen: int
) -> Tensor:
    """The second part of `run`, from what `run_frozen` gave: hidden states (batch, frame, feature)."""
    kept = kept_layers(layers, frozen)
    outputs = dict(zip(kept, states.chunk(len(kept), dim=-1), strict=True))
    return _whisper_last(encoder, outputs, frames, layers)


def _run_whisper(
    encoder: Any, samples: Tensor, mask: Tensor, frames: Tensor, layers: Sequence[int] | None, frozen: int
) -> Tensor:
    """Whisper's encoder without its 30 s of padding: positions sliced to the clip, padding masked throughout."""
    return _whisper_last(encoder, _whisper_first(encoder, samples, mask, frames, frozen), frames, layers)


def _whisper_first(
    encoder: Any, samples: Tensor, mask: Tensor, frames: Tensor, frozen: int
) -> dict[int, Tensor]:
    """What enters the first layer (0), and the outputs of the frozen ones by number, (batch, frame, feature) each."""
    config = encoder.config
    with torch.autocast(samples.device.type, enabled=False):  # the spectrum needs more than bf16's 8 bits
        # Nor is there a spectrum of half-precision samples.
        whole = samples if samples.dtype == torch.float64 else samples.float()
        features, real = log_mel(whole, mask, config.num_mel_bins)
    features = features.to(encoder.conv1.weight.dtype)
    training = encoder.training and not frozen
    if training and config.apply_spec_augment and config.mask_time_prob > 0:
        features = features * ~_time_mask(config, real)[:, None, :]
    bias = _attention_bias(frames, features.dtype)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        # The second convolution reaches one step past the clip's end, where a clip alone has its zero padding.
        hidden = nn.functional.gelu(encoder.conv1(features)) * real[:, None, :]
        hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        outputs = {0: nn.functional.dropout(hidden, p=encoder.dropout, training=training)}
        for number, layer in enumerate(encoder.layers[:frozen]):
            outputs[number + 1] = layer(outputs[number], bias)
    return outputs


def _whisper_last(
    encoder: Any, outputs: dict[int, Tensor], frames: Tensor, layers: Sequence[int] | None
) -> Tensor:
    """The layers after the last of those whose outputs are given."""
    first = max(outputs)
    hidden = outputs[first]
    bias = _attention_bias(frames, hidden.dtype)
    for number, layer in enumerate(encoder.layers[first:], first + 1):
        if not (encoder.training and float(torch.rand(())) < encoder.layerdrop):
            hidden = layer(hidden, bias)
        outputs[number] = hidden
    if layers is not None:
        return side_by_side(outputs, layers)
    return encoder.layer_norm(hidden)  # type: ignore[no-any-return]


def _attention_bias(frames: Tensor, dtype: torch.dtype) -> Tensor | None:
    """What keeps padded frames (batch, frame) out of attention; None where there are none."""
    if bool(frames.all()):
        return None
    bias = torch.zeros(frames.shape, dtype=dtype, device=frames.device)
    bias = bias.masked_fill(~frames, torch.finfo(dtype).min)[:, None, None, :]
    return bias.expand(-1, 1, frames.shape[1], -1)
