"""Length buckets: which clips share a batch, and how they are padded (NumPy only; both wings use it).

The paper found zero-padding to cost memory and to harm training (section 6.2): sorted by length, clips that share
a batch are nearly equal, and the mask says which samples are real.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def plan(lengths: Sequence[int], *, budget: int, equal: bool = False) -> list[list[int]]:
    """Group clips into batches of similar length.

    lengths: samples (or frames) of each clip. budget: the most samples of a batch after padding; a clip longer
    than the budget makes a batch of its own. equal: only clips of exactly one length share a batch, for encoders
    that padding would change. Returns the indices of each batch, longest first, so that memory peaks at once.
    """
    if budget < 1:
        raise ValueError(f"the budget of a batch is {budget} samples; it must be at least 1")
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        if batches:
            longest = lengths[batches[-1][0]]
            fits = longest * (len(batches[-1]) + 1) <= budget
            if fits and (not equal or lengths[i] == longest):
                batches[-1].append(i)
                continue
        batches.append([i])
    return batches


def pad(clips: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Right-pad clips with zeros: (sample, ...) each -> (batch, sample, ...) and a mask (batch, sample), true where real."""
    if not clips:
        raise ValueError("a batch needs at least one clip")
    longest = max(len(clip) for clip in clips)
    values = np.zeros((len(clips), longest, *clips[0].shape[1:]), dtype=clips[0].dtype)
    mask = np.zeros((len(clips), longest), dtype=np.bool_)
    for row, clip in enumerate(clips):
        values[row, : len(clip)] = clip
        mask[row, : len(clip)] = True
    return values, mask
