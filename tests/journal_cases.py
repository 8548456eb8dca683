"""Recordings for tests of the journal."""

from pathlib import Path

import numpy as np
import soundfile

from emimic.inference import journal


def write_clips(folder: Path, count: int) -> Path:
    """Write trembling tones of about 0.3 s, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    for number in range(count):
        seconds = np.arange(rng.integers(3_200, 6_400)) / 16_000
        tone = np.sin(2 * np.pi * rng.uniform(100, 900) * seconds + np.sin(30 * seconds))
        wave = 0.3 * tone + 0.02 * rng.standard_normal(len(seconds))
        soundfile.write(folder / f"{number:04d}.wav", wave.astype(np.float32), 16_000)
    return folder


def files(out: Path) -> dict[str, bytes]:
    """Return the folder's files by name, without the journal."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != journal.NAME}
