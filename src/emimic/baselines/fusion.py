"""Weights of a late fusion, searched on validation: one set for all emotions, or one for each."""

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic import metrics

STEP: Final = 10
"""Weights are searched in steps of 1 / STEP."""


def search(
    predictions: NDArray[np.float32],
    present: NDArray[np.bool_],
    labels: NDArray[np.float32],
    *,
    each: bool,
) -> NDArray[np.float64]:
    """Return the weights (branch, target), which sum to 1 over branches, with the highest Pearson correlation.

    All combinations of tenths are compared. Of equal ones, the first from equal weights on wins. An undefined
    correlation counts as 0.

    Args:
        predictions: (clip, branch, target).
        present: (clip, branch), whether the clip has a modality of the branch.
        labels: (clip, target).
        each: whether every target has its own weights; otherwise the mean over targets decides on one set.
    """
    branches, targets = predictions.shape[1:]
    trials = [
        np.array(parts) / STEP
        for parts in itertools.product(range(STEP + 1), repeat=branches)
        if sum(parts) == STEP
    ]
    trials.sort(key=lambda weights: float(np.square(weights - 1 / branches).sum()))
    rho = np.stack(
        [_correlate(predictions, present, weights, labels) for weights in trials]
    )  # (trial, target)
    best = rho.argmax(axis=0) if each else np.full(targets, rho.mean(axis=1).argmax())
    return np.stack([trials[int(number)] for number in best], axis=1)


def join(
    predictions: NDArray[np.float32], present: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Join predictions (clip, branch, target) with weights (branch,), as `model.join`: (clip, target)."""
    used = present * weights
    used = np.where(used.sum(axis=1, keepdims=True) > 0, used, present).astype(np.float64)
    joined: NDArray[np.float64] = np.einsum("cb,cbt->ct", used, predictions) / used.sum(axis=1, keepdims=True)
    return joined


def join_all(
    predictions: NDArray[np.float32], present: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Join predictions as `join`, with weights (branch, target)."""
    columns = [
        join(predictions[:, :, [target]], present, weights[:, target]) for target in range(weights.shape[1])
    ]
    return np.concatenate(columns, axis=1)


def _correlate(
    predictions: NDArray[np.float32],
    present: NDArray[np.bool_],
    weights: NDArray[np.float64],
    labels: NDArray[np.float32],
) -> NDArray[np.float64]:
    return np.nan_to_num(np.atleast_1d(metrics.compute_pearson(join(predictions, present, weights), labels)))
