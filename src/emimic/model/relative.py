"""Whisper's positions replaced by learned biases for distances: frames that don't depend on where a clip begins.

A model whose encoder has positions and Whisper's floor predicts a window otherwise than the same window inside a longer
recording. Half of the difference is due to its positions (docs/log.md). Without them the encoder needs further
training: `make_relative` starts it near the old one, `emimic adapt` trains it.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from emimic.model import encoders, whisper
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.task import SAMPLE_RATE

MEL_FLOOR: Final = -7.0
"""80 dB below the loudest value of a voice at the usual level, as Whisper's floor is."""
_CHUNK: Final = 32


@dataclass(frozen=True)
class Relative:
    """A model without positions, and what it can't know of the old one's frames.

    Attributes:
        model: in evaluation mode, on the old one's device.
        offsets: (frame, feature), by which the old model's hidden states differ with their position in a clip on
            average, from those of the middle position.
    """

    model: EmiModel
    offsets: Tensor


@torch.no_grad()
def make_relative(old: EmiModel, clips: Tensor, seconds: float) -> Relative:
    """Return a model on a Whisper encoder with relative positions, which starts near one with Whisper's own.

    Each layer's biases are the mean scores that the old layer's positions added, by distance. The constant position is
    the middle one of the clips, and each layer's output is brought to the old one's mean there. Standard deviations
    over frames lose what positions added; linear layers that read them are corrected by a regression on the clips.

    Args:
        old: with targets, on a Whisper encoder with positions. It gets the fixed floor, too.
        clips: (clip, sample), prepared, all of them real.
        seconds: on either side of a frame to which it attends, in each layer; less than the clips have.
    """
    config: Any = copy.deepcopy(old.config)
    frames = old.count_frames(clips.shape[1])
    hop = encoders.compute_hop(config.encoder_config)
    old.config.encoder_config.mel_floor = MEL_FLOOR
    inner = config.encoder_config.to_dict()
    inner |= {"mel_floor": MEL_FLOOR, "max_source_positions": 1}
    inner["relative_frames"] = max(1, min(round(seconds * SAMPLE_RATE / hop), frames - 1))
    fields = {**config.to_dict(), "encoder_config": inner, "attention_seconds": None, "frozen_layers": 0}
    new = EmiModel(EmiConfig(**fields)).to(old.device).eval()
    weights = old.state_dict()
    weights["encoder.embed_positions.weight"] = weights["encoder.embed_positions.weight"][frames // 2, None]
    new.load_state_dict(weights | {"encoder.relative_bias": new.encoder.relative_bias})
    layers = _fit_biases(old.encoder, new.encoder, clips, frames, config.reach)
    wanted = config.hidden_layers
    if wanted is None:
        norm: Any = old.encoder.layer_norm
        hidden = norm(layers[-1])
    else:
        hidden = torch.cat([layers[number - 1] for number in wanted], dim=-1)
    means = hidden.mean(dim=0)
    offsets = means - means[frames // 2]
    if config.standardize_frames:
        new.frame_mean += means[frames // 2] - means.mean(dim=0)
        hidden = hidden / new.frame_std
    _correct_deviations(new, hidden)
    return Relative(new, offsets)


def _fit_biases(old: Any, new: Any, clips: Tensor, frames: int, reach: int | None) -> list[Tensor]:
    """Set the new encoder's biases and means; return the old layers' outputs, (clip, frame, feature) each."""
    mask, real = torch.ones_like(clips, dtype=torch.bool), clips.new_ones(1, frames).bool()
    embedded = [
        _map_chunks(lambda x, m, part=part: whisper.embed(part, x, m)[:, :frames], clips, mask)
        for part in (old, new)
    ]
    relative = new.config.relative_frames
    number = torch.arange(frames, device=clips.device)
    distance = number - number[:, None]
    near = distance.abs() <= relative
    index = (distance + relative)[near]
    layers = []
    hidden, own = embedded
    for place, (layer, copied) in enumerate(zip(old.layers, new.layers, strict=True)):
        scores = [
            _map_chunks(lambda x, part=part: _compute_scores(part, x).mean(0, keepdim=True), states).mean(0)
            for part, states in ((layer, hidden), (copied, own))
        ]
        added = (scores[0] - scores[1])[:, near]
        sums = added.new_zeros(len(added), 2 * relative + 1).index_add_(1, index, added)
        new.relative_bias[place] = sums / torch.bincount(index, minlength=2 * relative + 1).clamp(min=1)
        hidden, own = (
            _map_chunks(lambda x, part=part, bias=bias: part(x, bias), states)
            for part, states, bias in (
                (layer, hidden, whisper.compute_attention_biases(old, real, own.dtype, reach)[place]),
                (copied, own, whisper.compute_attention_biases(new, real, own.dtype, None)[place]),
            )
        )
        shift = hidden.mean(dim=0)[frames // 2] - own.mean(dim=(0, 1))
        copied.fc2.bias += shift
        own = own + shift
        layers.append(hidden)
    return layers


def _map_chunks(call: Callable[..., Tensor], *values: Tensor) -> Tensor:
    """Return the results of a call on a few clips at a time, concatenated."""
    return torch.cat([call(*part) for part in zip(*(v.split(_CHUNK) for v in values), strict=True)])


def _compute_scores(layer: Any, hidden: Tensor) -> Tensor:
    """Return the scores of a layer's attention, (clip, head, frame, frame), centered over the frames attended to."""
    attention, states = layer.self_attn, layer.self_attn_layer_norm(hidden)
    query, key = (
        project(states).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj)
    )
    scores = query @ key.transpose(-1, -2) * attention.head_dim**-0.5
    return scores - scores.mean(dim=-1, keepdim=True)  # type: ignore[no-any-return]


def _correct_deviations(model: EmiModel, hidden: Tensor) -> None:
    """Let linear layers that read standard deviations over frames expect those without positions."""
    config = model.config
    apart = (hidden - hidden.mean(dim=0)).std(dim=1, correction=0)
    together = hidden.std(dim=1, correction=0)
    centered = apart - apart.mean(dim=0)
    slope = (centered * together).sum(dim=0) / centered.square().sum(dim=0).clamp(min=1e-9)
    start = together.mean(dim=0) - slope * apart.mean(dim=0)
    features, width = config.hidden_features, config.frame_features
    if config.domains:
        probed = config.probe_features or range(features)
        _correct(model.domains.domain, len(probed), start[list(probed)], slope[list(probed)])
    linear = next(part for part in model.head.modules() if isinstance(part, nn.Linear))
    offset = 0
    for pool in model.poolings:
        if pool.width == 2 * width:  # means, then standard deviations
            _correct(linear, offset + width, start, slope)
        offset += pool.width


def _correct(linear: Any, first: int, start: Tensor, slope: Tensor) -> None:
    """Let a linear layer read x where it has read start + slope * x, from its `first` input on."""
    weights = linear.weight[:, first : first + len(start)]
    linear.bias += weights @ start
    weights *= slope
