"""How much a model computes, from its shapes alone: multiplications and additions of its matrix products."""

import math
from collections.abc import Sequence
from typing import Any, Final

from emimic.task import SAMPLE_RATE, VAD

ATTENTION: Final = 128
"""Units of the attentive pooling (`pooling.AttentiveStatistics`)."""


def operations(config: Any, samples: int) -> dict[str, float]:
    """Floating-point operations of one clip of `samples` samples at 16 kHz, by part of the model.

    config: an EmiConfig. A product of (a, b) and (b, c) counts 2 a b c. Left out, as below a hundredth: additions of
    biases, norms, activations, Whisper's spectrum, WavLM's gate of relative positions.
    """
    encoder = config.encoder_config
    whisper = encoder.model_type == "whisper"
    made = dict.fromkeys(("convolutions", "positional", "attention", "feed_forward", "lstm", "heads"), 0.0)
    width = encoder.d_model if whisper else encoder.hidden_size
    if whisper:
        mel = samples // 160
        frames = -(-mel // 2)
        made["convolutions"] = 2.0 * 3 * width * (mel * encoder.num_mel_bins + frames * width)
        layers, inner = encoder.encoder_layers, encoder.encoder_ffn_dim
    else:
        frames, inputs = samples, 1
        shapes = zip(encoder.conv_dim, encoder.conv_kernel, encoder.conv_stride, strict=True)
        for outputs, kernel, stride in shapes:
            frames = max(0, (frames - kernel) // stride + 1)
            made["convolutions"] += 2.0 * frames * inputs * outputs * kernel
            inputs = outputs
        made["convolutions"] += 2.0 * frames * inputs * width
        stacked = encoder.model_type == "data2vec-audio"
        kernel = encoder.conv_pos_kernel_size if stacked else encoder.num_conv_pos_embeddings
        depth = encoder.num_conv_pos_embeddings if stacked else 1
        # A kernel of even width makes one step more, which is dropped.
        steps = frames + (kernel % 2 == 0)
        made["positional"] = (
            2.0 * depth * steps * width * width / encoder.num_conv_pos_embedding_groups * kernel
        )
        layers, inner = encoder.num_hidden_layers, encoder.intermediate_size
    made["attention"] = 2.0 * layers * (4 * frames * width**2 + 2 * frames**2 * width)
    made["feed_forward"] = 2.0 * layers * 2 * frames * width * inner
    probed = len(config.probe_features)
    if config.vad_head:
        made["heads"] += frames * _head(probed, config.vad_units, len(VAD))
    outputs, features = len(config.targets), config.frame_features
    pooled = features * (config.global_vector * (1 + config.global_std) + 2 * config.attentive)
    if config.attentive and outputs:
        made["heads"] += frames * _head(features, ATTENTION, 1)
    if config.lstm and outputs:
        units = config.lstm_units or features
        for layer in range(config.lstm_layers):
            made["lstm"] += 2.0 * frames * 4 * units * ((units if layer else features) + units)
        pooled += units
    if outputs:
        made["heads"] += _head(pooled, config.head_units if config.regression_head else 0, outputs)
    if config.domains and outputs:
        own = sum(len(targets) for targets in config.domain_targets.values())
        made["heads"] += 2.0 * probed * (2 * len(config.domains) + own)
    return made


def _head(features: int, units: int | None, outputs: int) -> float:
    """A dense layer of `units` (None: as many as its inputs; 0: none) and a projection, for one vector."""
    units = features if units is None else units
    return 2.0 * (units * (features + outputs) if units else features * outputs)


def per_second(config: Any, lengths: Sequence[float]) -> float:
    """Operations per second of audio over clips of these lengths in seconds."""
    samples = [round(length * SAMPLE_RATE) for length in lengths]
    return math.fsum(sum(operations(config, one).values()) for one in samples) / math.fsum(lengths)
