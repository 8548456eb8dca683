"""A corpus of tones, and the encoder that learns from it in about a second."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from emimic.task import EMOTIONS

LENGTHS = (1280, 4000, 900, 2000, 3200, 2600, 4000, 300, 1700, 2300, 3000)
"""Samples of the training clips: one is shorter than the encoder's smallest input."""

ENCODER: dict[str, Any] = {
    "model_type": "wav2vec2",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    # Everything random at once: tests that want less switch it off.
    "layerdrop": 0.3,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "feat_proj_dropout": 0.1,
    "apply_spec_augment": True,
    "mask_time_prob": 0.4,
    "mask_time_length": 2,
    "mask_feature_prob": 0.2,
    "mask_feature_length": 2,
}
STILL: dict[str, Any] = {
    **ENCODER,
    **dict.fromkeys(
        (
            "layerdrop",
            "hidden_dropout",
            "attention_dropout",
            "activation_dropout",
            "feat_proj_dropout",
            "mask_time_prob",
            "mask_feature_prob",
        ),
        0.0,
    ),
}
"""The same encoder without anything random."""


def make_corpus(folder: Path, train: tuple[int, ...] = LENGTHS, valid: int = 4, seed: int = 0) -> Path:
    """Noisy tones whose six labels follow from their pitch and loudness."""
    rng = np.random.default_rng(seed)
    (folder / "audio").mkdir(parents=True)
    number = 0
    for name, lengths in (("train", train), ("valid", tuple(1500 + 400 * i for i in range(valid)))):
        rows = [",".join(["Filename", *EMOTIONS])]
        for samples in lengths:
            number += 1
            pitch, loudness = rng.random(2)
            tone = np.sin(2 * np.pi * (200 + 1500 * pitch) * np.arange(samples) / 16_000)
            wave = (0.1 + 0.6 * loudness) * tone + 0.02 * rng.standard_normal(samples)
            soundfile.write(folder / "audio" / f"{number:05d}.wav", wave.astype(np.float32), 16_000)
            labels = [pitch, loudness, 1 - pitch, pitch * loudness, rng.random(), 0.5 * (pitch + loudness)]
            rows.append(",".join([f"{number:05d}", *(f"{value:.4f}" for value in labels)]))
        (folder / f"{name}_split.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder
