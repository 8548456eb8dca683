"""Predictions and labels of clips, as arrays, for the scores' tests."""

import numpy as np


def sample(clips=60, targets=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((clips, targets)) < 0.5, 0.0, rng.random((clips, targets)))
    return 0.2 + 0.4 * labels + 0.1 * rng.normal(size=labels.shape), labels
