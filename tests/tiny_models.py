"""Tiny random models of every encoder family, and the formulas of paper and encoders written out in NumPy.

The formulas share no code with emimic, torch or transformers: they take a state dict and a clip.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from emimic.data import loader
from emimic.data.items import Item
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel

torch.set_num_threads(1)  # the tests run on two cores

Array = NDArray[np.float64]
Weights = dict[str, Array]

_SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "initializer_range": 0.2,
}
_LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

FAMILIES: dict[str, dict[str, Any]] = {
    "wav2vec2-layer": {"model_type": "wav2vec2", **_SMALL, **_LAYER},
    "wav2vec2-group": {"model_type": "wav2vec2", **_SMALL},
    "wavlm": {"model_type": "wavlm", **_SMALL, **_LAYER},
    "hubert": {"model_type": "hubert", **_SMALL, **_LAYER},
    "data2vec": {
        "model_type": "data2vec-audio",
        **_SMALL,
        "num_conv_pos_embeddings": 3,
        "conv_pos_kernel_size": 5,
    },
    "whisper": {
        "model_type": "whisper",
        "d_model": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 24,
        "num_mel_bins": 20,
        "max_source_positions": 1500,
        "vocab_size": 30,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
        "init_std": 0.2,
    },
}
RELATIVE: dict[str, Any] = {"relative_frames": 3, "mel_floor": -3.0, "max_source_positions": 1}
"""Fields of a Whisper encoder that make its frames independent of where a clip begins."""

INEXACT = ("wav2vec2-group", "data2vec")
HEADS: dict[str, Any] = {
    "hidden_layers": [1, 2],
    "probe_layers": [1],
    "standardize_frames": True,
    "global_std": True,
    "attentive": True,
    "head_units": 7,
    "vad_units": 0,
    "vad_seconds": 0.1,
    "vad_bounded": True,
    "domains": ["bursts", "plain", "speech"],
    "domain_targets": {"speech": ["Joy", "Amusement"], "plain": ["Joy"]},
}
"""Every part that the paper's model doesn't have."""


def encoder(family: str, **changes: Any) -> dict[str, Any]:
    """The encoder_config of a tiny encoder."""
    return {**FAMILIES[family], **changes}


def model(family: str = "wav2vec2-layer", *, seed: int = 0, **config: Any) -> EmiModel:
    """A tiny EmiModel in evaluation mode; `encoder` in config changes the encoder's own fields.

    Every weight is random, norms and biases too, so that no formula can forget one unseen.
    """
    changes = config.pop("encoder", {})
    torch.manual_seed(seed)
    made = EmiModel(EmiConfig(encoder_config=encoder(family, **changes), **config))
    scramble(made)
    return made.eval()


def scramble(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1 or not parameter.any():
                parameter.add_(0.1 * torch.randn_like(parameter))


def standardize(model: EmiModel, seed: int = 0) -> None:
    """Random means and standard deviations of a model's frames, where it has some."""
    if model.config.standardize_frames:
        rng = torch.Generator().manual_seed(seed)
        model.frame_mean.copy_(torch.randn(len(model.frame_mean), generator=rng))
        model.frame_std.copy_(torch.rand(len(model.frame_std), generator=rng) + 0.5)


def predict_items(model: EmiModel, items: Sequence[Item], **options: Any) -> tuple[Any, Any]:
    """Intensities (clip, target) and V/A/D (clip, 3) of items, predicted from their files."""
    source = loader.make_waveform_source(items, model.clip_format)
    return loader.predict_source(model, source, loader.BatchOptions(**options))


def write_clips(folder: Path, lengths: Sequence[int]) -> Path:
    """Write `0.wav` and so on, quiet clips of these numbers of samples, into a folder, and return it."""
    for number, length in enumerate(lengths):
        soundfile.write(folder / f"{number}.wav", 0.1 * clip(length, seed=number), 16_000)
    return folder


def clip(samples: int, seed: int = 0) -> NDArray[np.float32]:
    """Colored noise with zero mean and unit variance, another color for every seed."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(samples)
    tone = np.sin(np.arange(samples) * rng.uniform(0.01, 1.5) + rng.uniform(0, 6))
    wave = np.convolve(noise, rng.standard_normal(4), "same") + 3 * rng.uniform() * tone
    return ((wave - wave.mean()) / wave.std()).astype(np.float32)


def weights(module: torch.nn.Module) -> Weights:
    return {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}


# Formulas


def under(w: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def linear(w: Weights, name: str, x: Array) -> Array:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", np.zeros(()))


def norm(w: Weights, name: str, x: Array, axis: int = -1) -> Array:
    """Layer norm over the last axis; over axis 0 (time), the group norm of one channel a group."""
    centerd = x - x.mean(axis=axis, keepdims=True)
    scale = np.sqrt(np.square(centerd).mean(axis=axis, keepdims=True) + 1e-5)
    return centerd / scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def convolve(x: Array, kernel: Array, bias: Array | None, *, stride: int = 1, groups: int = 1) -> Array:
    """x (time, in), kernel (out, in / groups, tap) -> (time, out)."""
    outputs, inputs, taps = kernel.shape
    steps = (len(x) - taps) // stride + 1
    y = np.zeros((steps, outputs))
    for group in range(groups):
        ins = slice(group * inputs, (group + 1) * inputs)
        outs = slice(group * outputs // groups, (group + 1) * outputs // groups)
        for tap in range(taps):
            y[:, outs] += x[tap : tap + stride * (steps - 1) + 1 : stride, ins] @ kernel[outs, :, tap].T
    return y if bias is None else y + bias


def attention(w: Weights, x: Array, heads: int, bias: Array | None = None) -> Array:
    """bias: (head, frame, frame), added to the scores."""
    query, key, value = (linear(w, f"{part}_proj", x) for part in "qkv")
    width = x.shape[1] // heads
    mixed = np.zeros_like(x)
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        scores = query[:, own] @ key[:, own].T / math.sqrt(width) + (0 if bias is None else bias[head])
        softmax = np.exp(scores - scores.max(axis=1, keepdims=True))
        mixed[:, own] = softmax / softmax.sum(axis=1, keepdims=True) @ value[:, own]
    return linear(w, "out_proj", mixed)


def wav2vec2(w: Weights, config: dict[str, Any], samples: Array, *, bare: bool = False) -> Array:
    """wav2vec 2.0 (Baevski et al. 2020), both kinds: (sample,) -> (frame, feature); bare: before any final norm."""
    stable = config.get("do_stable_layer_norm", False)
    heads, groups = config["num_attention_heads"], config["num_conv_pos_embedding_groups"]
    x = np.asarray(samples, dtype=np.float64)[:, None]
    for layer, stride in enumerate((5, 2, 2, 2, 2, 2, 2)):
        name = f"feature_extractor.conv_layers.{layer}"
        x = convolve(x, w[f"{name}.conv.weight"], w.get(f"{name}.conv.bias"), stride=stride)
        if f"{name}.layer_norm.weight" in w:
            grouped = config.get("feat_extract_norm", "group") == "group"
            x = norm(w, f"{name}.layer_norm", x, axis=0 if grouped else -1)
        x = gelu(x)
    x = linear(w, "feature_projection.projection", norm(w, "feature_projection.layer_norm", x))
    # Weight norm with one gain a tap, and a kernel of even width that loses its last step.
    stem = "encoder.pos_conv_embed.conv"
    gain, direction = (w[f"{stem}.parametrizations.weight.original{i}"] for i in (0, 1))
    kernel = gain * direction / np.sqrt(np.square(direction).sum(axis=(0, 1), keepdims=True))
    half = kernel.shape[2] // 2
    padded = np.concatenate([np.zeros((half, x.shape[1])), x, np.zeros((half, x.shape[1]))])
    x = x + gelu(convolve(padded, kernel, w[f"{stem}.bias"], groups=groups)[: len(x)])
    if not stable:
        x = norm(w, "encoder.layer_norm", x)
    for layer in range(config["num_hidden_layers"]):
        own = under(w, f"encoder.layers.{layer}.")
        attend = under(own, "attention.")
        if stable:
            x = x + attention(attend, norm(own, "layer_norm", x), heads)
            x = x + feed_forward(own, norm(own, "final_layer_norm", x))
        else:
            x = norm(own, "layer_norm", x + attention(attend, x, heads))
            x = norm(own, "final_layer_norm", x + feed_forward(own, x))
    return norm(w, "encoder.layer_norm", x) if stable and not bare else x


def feed_forward(w: Weights, x: Array) -> Array:
    return linear(w, "feed_forward.output_dense", gelu(linear(w, "feed_forward.intermediate_dense", x)))


def log_mel(samples: Array, bins: int, floor: float | None = None) -> Array:
    """Whisper's features of a clip padded to 30 s, its own frames only: (mel frame, bin)."""
    count = len(samples) // 160
    whole = np.concatenate([samples[200:0:-1], samples, np.zeros(480_000 - len(samples) + 200)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = min(count + 3, 3000)  # those beyond get silence
    power = np.stack(
        [np.abs(np.fft.rfft(window * whole[160 * i : 160 * i + 400])) ** 2 for i in range(frames)]
    )

    def hertz(mel: Array) -> Array:  # Slaney's scale: linear to 1 kHz, then logarithmic
        return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** (np.maximum(mel - 15, 0) / 27))

    edges = hertz(np.linspace(0, 15 + 27 * math.log(8, 6.4), bins + 2))
    at = np.linspace(0, 8000, 201)
    rise = (at[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - at[:, None]) / np.diff(edges)[1:]
    filters = np.maximum(0, np.minimum(rise, fall)) * 2 / (edges[2:] - edges[:-2])
    logs = np.log10(np.maximum(power @ filters, 1e-10))
    return ((np.maximum(logs, logs.max() - 8 if floor is None else floor) + 4) / 4)[:count]


def whisper(w: Weights, config: dict[str, Any], samples: Array, *, bare: bool = False) -> Array:
    """Whisper's encoder (Radford et al. 2022, 2.2) on the clip's own frames: (sample,) -> (frame, feature)."""
    x = log_mel(np.asarray(samples, dtype=np.float64), config["num_mel_bins"], config.get("mel_floor"))
    for name, stride in (("conv1", 1), ("conv2", 2)):
        edge = np.zeros((1, x.shape[1]))
        x = np.concatenate([edge, x, edge])
        x = gelu(convolve(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=stride))
    x = x + w["embed_positions.weight"][: len(x)]
    for layer in range(config["encoder_layers"]):
        own = under(w, f"layers.{layer}.")
        attend, bias = under(own, "self_attn."), None
        if reach := config.get("relative_frames"):
            bias = np.full((config["encoder_attention_heads"], len(x), len(x)), -np.inf)
            for i, j in np.argwhere(np.abs(np.subtract.outer(np.arange(len(x)), np.arange(len(x)))) <= reach):
                bias[:, i, j] = w["relative_bias"][layer, :, j - i + reach]
        heads = config["encoder_attention_heads"]
        x = x + attention(attend, norm(own, "self_attn_layer_norm", x), heads, bias)
        x = x + linear(own, "fc2", gelu(linear(own, "fc1", norm(own, "final_layer_norm", x))))
    return x if bare else norm(w, "layer_norm", x)


def tanh_head(w: Weights, name: str, x: Array) -> Array:
    return linear(w, f"{name}.out_proj", np.tanh(linear(w, f"{name}.dense", x)))


def lstm(w: Weights, x: Array, layers: int = 2) -> Array:
    """Outputs of a stacked LSTM, gate by gate: (time, feature) -> (time, feature)."""
    for layer in range(layers):
        hidden = carry = np.zeros(x.shape[1])
        outputs = []
        for step in x:
            gates = w[f"weight_ih_l{layer}"] @ step + w[f"bias_ih_l{layer}"]
            gates = gates + w[f"weight_hh_l{layer}"] @ hidden + w[f"bias_hh_l{layer}"]
            let_in, forget, candidate, let_out = np.split(gates, 4)
            carry = sigmoid(forget) * carry + sigmoid(let_in) * np.tanh(candidate)
            hidden = sigmoid(let_out) * np.tanh(carry)
            outputs.append(hidden)
        x = np.stack(outputs)
    return x


def heads(w: Weights, hidden: Array) -> tuple[Array, Array | None]:
    """Paper section 4 from the hidden states on; the weights' names give the switches but the global vector's.

    (frame, feature) -> intensities (target,), VAD (frame, 3) or None.
    """
    vad = tanh_head(w, "vad", hidden) if "vad.dense.weight" in w else None
    frames = hidden if vad is None else np.concatenate([hidden, vad], axis=1)
    wanted = w["head.dense.weight" if "head.dense.weight" in w else "head.weight"].shape[1]
    parts = []
    recurrent = "lstm.weight_ih_l0" in w
    if wanted == frames.shape[1] * (1 + recurrent):
        parts.append(frames.sum(axis=0) / len(frames))
    if recurrent:
        parts.append(lstm(under(w, "lstm."), frames)[-1])
    pooled = np.concatenate(parts)
    intensities = tanh_head(w, "head", pooled) if "head.dense.weight" in w else linear(w, "head", pooled)
    return intensities, vad


FORMULAS = {"wav2vec2-layer": wav2vec2, "wav2vec2-group": wav2vec2, "whisper": whisper}
