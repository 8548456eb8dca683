"""Clips as long as the paper's corpus has them, to measure speed with: sample clips of the package, joined and cut."""

import numpy as np
from numpy.typing import NDArray

from emimic import sample
from emimic.media import decode
from emimic.task import MAX_SECONDS, SAMPLE_RATE

SHORTEST = 1.3
WHOLE = 0.956
"""Fraction of clips that the cut at 12 s leaves whole (paper section 3.2)."""


def seconds(count: int) -> NDArray[np.float64]:
    """Return the lengths of `count` clips, shortest first: evenly spaced, cut at 12 s, mean 6.9 s (section 3.2)."""
    quantile = (np.arange(count) + 0.5) / count
    return np.minimum(MAX_SECONDS, SHORTEST + (MAX_SECONDS - SHORTEST) * quantile / WHOLE)


def clips(count: int, *, seed: int = 0) -> list[NDArray[np.float32]]:
    """Return `count` clips (sample,) at 16 kHz of such lengths, in an order that `seed` decides; voices throughout."""
    rng = np.random.default_rng(seed)
    voices = sorted((sample.get_folder() / "audio").glob("*.mp3"))
    wanted = rng.permutation((seconds(count) * SAMPLE_RATE).astype(int))
    parts: list[NDArray[np.float32]] = []
    for number in rng.permutation(len(voices)):
        parts.append(decode.load(voices[number]))
        if sum(map(len, parts)) >= wanted.sum():
            break
    whole = np.resize(np.concatenate(parts), wanted.sum())
    return np.split(whole, wanted.cumsum()[:-1])
