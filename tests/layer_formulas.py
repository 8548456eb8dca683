"""Layers of the baselines in NumPy: one clip at a time, without padding frames, in float64."""

import math
from collections.abc import Mapping

import numpy as np

Array = np.ndarray
Weights = Mapping[str, Array]


def under(weights: Weights, prefix: str) -> dict[str, Array]:
    """The weights of a part, by their names within it."""
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def linear(x: Array, w: Weights, name: str = "") -> Array:
    return x @ w[f"{name}weight"].T + w[f"{name}bias"]


def mean(x: Array) -> Array:
    """(frame, feature) -> (feature,)"""
    return x.mean(axis=0) if len(x) else np.zeros(x.shape[1])


def norm(x: Array, w: Weights, name: str) -> Array:
    centerd = x - x.mean(axis=-1, keepdims=True)
    scaled = centerd / np.sqrt(np.square(centerd).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}weight"] + w[f"{name}bias"]


def tcn(x: Array, present: Array, w: Weights, *, blocks: int) -> Array:
    """(frame, feature), (frame,) -> (frame, unit), frames that are not there included."""
    hidden = linear(x, w, "input.") * present[:, None]
    for block in range(blocks):
        inner = hidden
        for part in range(2):
            kernel, bias = w[f"blocks.{block}.{part}.weight"], w[f"blocks.{block}.{part}.bias"]
            middle = kernel.shape[2] // 2
            made = np.tile(bias, (len(x), 1))
            for t in range(len(x)):
                for tap in range(kernel.shape[2]):
                    if 0 <= (at := t + (tap - middle) * 2**block) < len(x):
                        made[t] += kernel[:, :, tap] @ inner[at]
            inner = np.maximum(made, 0) * present[:, None]
        hidden = np.maximum(hidden + inner, 0)
    return hidden


def attention(x: Array, present: Array, w: Weights, *, layers: int, heads: int) -> Array:
    """(frame, feature), (frame,) -> (frame, unit), 0 where a frame is not there."""
    hidden = linear(x, w, "input.")
    units = hidden.shape[1]
    for t in range(len(hidden)):
        for pair in range(units // 2):
            angle = t / 10_000 ** (2 * pair / units)
            hidden[t, 2 * pair] += math.sin(angle)
            hidden[t, 2 * pair + 1] += math.cos(angle)
    out = np.zeros_like(hidden)
    if not present.any():
        return out
    hidden, wide = hidden[present], units // heads
    for layer in range(layers):
        own = under(w, f"encoder.layers.{layer}.")
        query, key, value = np.split(linear(hidden, under(own, "self_attn.in_proj_")), 3, axis=1)
        mixed = np.zeros_like(hidden)
        for head in (slice(n * wide, (n + 1) * wide) for n in range(heads)):
            scores = query[:, head] @ key[:, head].T / math.sqrt(wide)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed[:, head] = weights / weights.sum(axis=1, keepdims=True) @ value[:, head]
        hidden = norm(hidden + linear(mixed, own, "self_attn.out_proj."), own, "norm1.")
        inner = np.maximum(linear(hidden, own, "linear1."), 0)
        hidden = norm(hidden + linear(inner, own, "linear2."), own, "norm2.")
    out[present] = hidden
    return out


def last(x: Array, w: Weights, *, layers: int) -> Array:
    """The last output of an LSTM or a GRU, distinguished by the number of gates: (frame, feature) -> (unit,)."""
    units = w["weight_hh_l0"].shape[1]
    gated = w["weight_hh_l0"].shape[0] // units
    for layer in range(layers):
        own = {kind: w[f"{kind}_l{layer}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        output, carry, outputs = np.zeros(units), np.zeros(units), np.zeros((len(x), units))
        for t, row in enumerate(x):
            given = np.split(own["weight_ih"] @ row + own["bias_ih"], gated)
            kept = np.split(own["weight_hh"] @ output + own["bias_hh"], gated)
            if gated == 4:
                enter, forget, candidate, leave = (a + b for a, b in zip(given, kept, strict=True))
                carry = sigmoid(forget) * carry + sigmoid(enter) * np.tanh(candidate)
                output = sigmoid(leave) * np.tanh(carry)
            else:
                reset, update = sigmoid(given[0] + kept[0]), sigmoid(given[1] + kept[1])
                output = (1 - update) * np.tanh(given[2] + reset * kept[2]) + update * output
            outputs[t] = output
        x = outputs
    return x[-1] if len(x) else np.zeros(units)


def attentive_statistics(x: Array, w: Weights) -> Array:
    """(frame, feature) -> (2 x feature,)"""
    if not len(x):
        return np.zeros(2 * x.shape[1])
    score = linear(np.tanh(linear(x, w, "hidden.")), w, "score.")[:, 0]
    weights = np.exp(score - score.max())
    weights /= weights.sum()
    center = weights @ x
    std = np.sqrt(np.maximum(weights @ x**2 - center**2, 0) + 1e-5)
    return np.concatenate([center, std])
