"""Weights of a late fusion, searched on validation: one set for all emotions, or one for each."""

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic import metrics

STEP: Final = 10
"""Weights are tried in tenths."""


def search(
    answers: NDArray[np.float32], heard: NDArray[np.bool_], labels: NDArray[np.float32], *, each: bool
) -> NDArray[np.float64]:
    """The weights (member, target), which sum to 1 over members, with the highest Pearson correlation.

    answers (clip, member, target), heard (clip, member), labels (clip, target). each: for every target its own weights,
    otherwise the same for all, by the mean over the targets. Every combination of tenths is tried; the first of equals,
    from equal weights on, wins. A correlation that is undefined counts as 0.
    """
    members, targets = answers.shape[1:]
    tried = [
        np.array(parts) / STEP
        for parts in itertools.product(range(STEP + 1), repeat=members)
        if sum(parts) == STEP
    ]
    tried.sort(key=lambda weights: float(np.square(weights - 1 / members).sum()))
    found = np.stack([_rho(answers, heard, weights, labels) for weights in tried])  # (trial, target)
    best = found.argmax(axis=0) if each else np.full(targets, found.mean(axis=1).argmax())
    return np.stack([tried[int(number)] for number in best], axis=1)


def join(
    answers: NDArray[np.float32], heard: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """As `model.join`, in NumPy: answers (clip, member, target), weights (member,) -> (clip, target)."""
    given = heard * weights
    given = np.where(given.sum(axis=1, keepdims=True) > 0, given, heard).astype(np.float64)
    joined: NDArray[np.float64] = np.einsum("cm,cmt->ct", given, answers) / given.sum(axis=1, keepdims=True)
    return joined


def join_all(
    answers: NDArray[np.float32], heard: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """As `join`, with weights (member, target)."""
    columns = [join(answers[:, :, [target]], heard, weights[:, target]) for target in range(weights.shape[1])]
    return np.concatenate(columns, axis=1)


def _rho(
    answers: NDArray[np.float32],
    heard: NDArray[np.bool_],
    weights: NDArray[np.float64],
    labels: NDArray[np.float32],
) -> NDArray[np.float64]:
    return np.nan_to_num(np.atleast_1d(metrics.pearson(join(answers, heard, weights), labels)))
