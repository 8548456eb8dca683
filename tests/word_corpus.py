"""A corpus whose labels follow from the words alone: the voice is noise."""

from pathlib import Path

import numpy as np
import soundfile

from emimic.task import EMOTIONS

SPOKEN = ("well", "done", "i", "am", "so", "sorry", "wow")
VALUES = dict(zip(SPOKEN, np.random.default_rng(7).random((len(SPOKEN), len(EMOTIONS))), strict=True))
"""Word -> its part of each label."""


def make_corpus(folder: Path, train: int = 96, valid: int = 40, *, silent: int = 0, seed: int = 0) -> Path:
    """Clips of noise with 1 to 4 words in `transcripts/`; the labels are means over words. silent: clips without."""
    rng = np.random.default_rng(seed)
    (folder / "audio").mkdir(parents=True)
    (folder / "transcripts").mkdir()
    number = 0
    for split, clips in (("train", train), ("valid", valid)):
        rows = [",".join(["Filename", *EMOTIONS])]
        for row in range(clips):
            number += 1
            noise = 0.1 * rng.standard_normal(int(rng.integers(900, 2500)))
            soundfile.write(folder / "audio" / f"{number:05d}.wav", noise.astype(np.float32), 16_000)
            words = list(rng.choice(SPOKEN, int(rng.integers(1, 5))))
            labels = np.mean([VALUES[word] for word in words], axis=0)
            if row >= silent:
                (folder / "transcripts" / f"{number}.txt").write_text(" ".join(words), encoding="utf-8")
            rows.append(",".join([f"{number:05d}", *(f"{value:.4f}" for value in labels)]))
        (folder / f"{split}_split.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder
