"""Clips whose labels follow from the image, the words or the voice alone, and tiny image encoders that learn them."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
from PIL import Image

from emimic.task import EMOTIONS

SIDE: Final = 32

VISIBLE, SPOKEN, AUDIBLE = EMOTIONS[:2], EMOTIONS[2:4], EMOTIONS[4:]
"""Labels that follow from the image's color, from the words, and from the voice's two tones."""

WORDS: Final = {"well": (0, 0.5), "done": (0.25, 1), "so": (0.5, 0), "sorry": (0.75, 0.75), "wow": (1, 0.25)}
"""Word -> its two labels."""

BACKBONES: dict[str, dict[str, Any]] = {
    "convnext": {"model_type": "convnext", "hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2},
    "convnextv2": {"model_type": "convnextv2", "hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2},
    "dinov2": {
        "model_type": "dinov2",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "patch_size": 8,
    },
    "vit": {
        "model_type": "vit",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "patch_size": 8,
    },
    "resnet": {
        "model_type": "resnet",
        "hidden_sizes": [8, 12],
        "depths": [1, 1],
        "embedding_size": 8,
        "layer_type": "basic",
    },
    "efficientnet": {
        "model_type": "efficientnet",
        "width_coefficient": 0.1,
        "depth_coefficient": 0.1,
        "hidden_dim": 128,
    },
}
for _config in BACKBONES.values():
    _config["image_size"] = SIDE


def make_image_corpus(folder: Path, train: int = 64, valid: int = 24, seed: int = 0) -> Path:
    """Clips of about 1 s with crops in face_images at 6 a second, some of them missing, a word and a voice.

    Two labels follow from the image's color alone, two from the word, and two from the
    fraction of the voice that is high.
    """
    rng = np.random.default_rng(seed)
    (folder / "audio").mkdir(parents=True)
    (folder / "transcripts").mkdir()
    number = 0
    for split, count in (("train", train), ("valid", valid)):
        rows = [",".join(["Filename", *EMOTIONS, "Speaker"])]
        for clip in range(count):
            number += 1
            color, high = rng.random(3), rng.random()
            frames = int(rng.integers(4, 8))
            _write_crops(folder / f"face_images/{number:05d}", color, frames, rng)
            soundfile.write(folder / f"audio/{number:05d}.wav", sing(high, 16_000 // 6 * frames), 16_000)
            word = str(rng.choice(list(WORDS)))
            (folder / f"transcripts/{number:05d}.txt").write_text(word, encoding="utf-8")
            labels = [*color[:2], *WORDS[word], high, 1 - high]
            rows.append(",".join([f"{number:05d}", *(f"{v:.4f}" for v in labels), f"{split}{clip % 6}"]))
        (folder / f"{split}_split.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def sing(high: float, samples: int) -> np.ndarray[Any, Any]:
    """A low tone whose last part, the fraction `high`, is a high one; (sample,) at 16 kHz."""
    time = np.arange(samples) / 16_000
    pitch = np.where(np.arange(samples) < (1 - high) * samples, 300, 2400)
    return (0.3 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)


def _write_crops(folder: Path, color: Any, frames: int, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for frame in range(frames):
        if frame in (0, frames - 1) or rng.random() < 0.8:
            Image.fromarray(paint(color, rng)).save(folder / f"{frame:05d}.jpg", quality=95)


def paint(color: Any, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """A noisy image of one color, each channel 0 to 1."""
    noise = rng.normal(0, 12, (SIDE, SIDE, 3))
    return np.clip(40 + 175 * np.asarray(color) + noise, 0, 255).astype(np.uint8)
