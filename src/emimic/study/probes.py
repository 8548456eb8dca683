"""The domains' own linear layers, solved by ridge regression when a training run ends.

They read means and standard deviations of frames: the best layer for that is known in closed form, where steps of a
gradient would stop anywhere near it. On speech of ten speakers that is the difference between a layer that carries over
to another language and one that doesn't (docs/log.md).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emimic import buckets
from emimic.model import EmiModel
from emimic.progress import shown
from emimic.study import batches
from emimic.study.corpus import Item
from emimic.task import CorpusError

Array = NDArray[np.float64]


def solve(
    model: EmiModel,
    items: Sequence[Item],
    strength: float,
    *,
    batch_seconds: float = 60.0,
    workers: int = 2,
    progress: bool = False,
) -> None:
    """Set each domain's own layer of a finished model to the ridge regression of its labels.

    Args:
        model: whose domains have targets of their own; changed in place.
        items: clips that are learned from, as they are recorded; a clip counts as its `ridge_weight` says.
        strength: of the ridge, for moments brought to mean 0 and variance 1: the penalty of a squared weight, in clips.

    Raises:
        CorpusError: if no clip of a domain has a label of one of its targets.
    """
    columns = {target: i for i, target in enumerate(model.config.targets)}
    for name, targets in (model.config.domain_targets or {}).items():
        own = [item for item in items if item.domain == name and item.labels is not None]
        x = moments(model, own, batch_seconds=batch_seconds, workers=workers, progress=progress)
        weights = np.array([item.ridge_weight for item in own])
        layer: Any = model.domains.own[name]
        for row, target in enumerate(targets):
            y = np.array(
                [item.labels[columns[target]] for item in own if item.labels is not None], np.float64
            )
            known = np.isfinite(y) & (weights > 0)
            if not known.any():
                raise CorpusError(
                    f"no clip of the domain {name} has a label of {target}: add labels, or leave it out"
                )
            slope, intercept = ridge(x[known], y[known], weights[known], strength)
            with torch.no_grad():
                layer.weight[row] = torch.from_numpy(slope)
                layer.bias[row] = intercept


@torch.inference_mode()
def moments(
    model: EmiModel, items: Sequence[Item], *, batch_seconds: float, workers: int, progress: bool
) -> Array:
    """Return what the domains' layers read of each clip, (clip, 2 * feature)."""
    model.eval()
    source = batches.waveforms(items, model.config, model.min_samples)
    rows: dict[int, Array] = {}
    groups = buckets.chunks(len(items))
    decoded = batches.decoded(source, groups, workers=workers)
    for group, clips in zip(groups, shown(decoded, "solving", total=len(groups), show=progress), strict=True):
        for part in model.plan([len(clip.values) for clip in clips], batch_seconds=batch_seconds):
            found = model.moments(*model.encode(*model.collate([clips[i].values for i in part])))
            rows.update(zip((group[i] for i in part), found.double().cpu().numpy(), strict=True))
    return np.stack([rows[i] for i in range(len(items))])


def ridge(x: Array, y: Array, weights: Array, strength: float) -> tuple[Array, float]:
    """Return slope (feature,) and intercept of a weighted ridge regression.

    Args:
        x: (clip, feature), any scale: features are standardized inside, which the slope takes back.
        y: (clip,).
        weights: (clip,) above 0.
        strength: the penalty of a squared slope of a standardized feature.
    """
    mean = np.average(x, axis=0, weights=weights)
    std = np.sqrt(np.average(np.square(x - mean), axis=0, weights=weights)) + 1e-6
    middle = np.average(y, weights=weights)
    root = np.sqrt(weights)
    z, target = (x - mean) / std * root[:, None], (y - middle) * root
    # The same solution by way of the smaller of the two matrices.
    if len(z) < z.shape[1]:
        slope = z.T @ np.linalg.solve(z @ z.T + strength * np.eye(len(z)), target)
    else:
        slope = np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ target)
    slope = slope / std
    return slope, float(middle - mean @ slope)
