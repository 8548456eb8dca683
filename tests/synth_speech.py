"""Tones that imitate voices of two kinds."""

from pathlib import Path

import numpy as np
import soundfile


def make_voices(folder: Path, *, rough: bool, seed: int) -> Path:
    """Tones whose pitch means Joy, or its opposite where they are rough."""
    (folder / "audio").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for name, count in (("train", 40), ("valid", 12)):
        lines = ["Filename,Joy"]
        for i in range(count):
            pitch, samples = rng.random(), int(rng.integers(1600, 3200))
            wave = np.sin(2 * np.pi * (250 + 900 * pitch) * np.arange(samples) / 16_000 + rng.uniform(0, 6))
            if rough:
                wave = wave + 0.5 * rng.standard_normal(samples)
            soundfile.write(folder / "audio" / f"{name}{i}.wav", 0.1 * wave, 16_000)
            lines.append(f"{name}{i},{1 - pitch if rough else pitch:.4f}")
        (folder / f"{name}_split.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
