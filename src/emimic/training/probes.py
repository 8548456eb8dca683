"""Linear layers on frozen frames, solved by ridge regression before a run's first step: of the domains, and V/A/D.

The layers read means of the frames of frozen layers, for which the best layer has a closed form.
Gradient steps would stop at some distance from it. On speech of ten speakers this decides whether a layer transfers to
another language (docs/log.md).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from emimic.data import loader
from emimic.data.corpus import Item
from emimic.model import packing
from emimic.model.model import EmiModel
from emimic.task import VAD, CorpusError
from emimic.training.settings import TrainSettings

Array = NDArray[np.float64]

EDGE: Final = 0.02
"""Minimum distance of a bounded layer's labels to 0 and 1, where the inverse sigmoid is infinite."""


def freeze(model: EmiModel, settings: TrainSettings) -> None:
    """Freeze the layers that `solve` solves."""
    if settings.vad_ridge is not None:
        model.vad.requires_grad_(False)
    if settings.domain_ridge is not None:
        model.domains.own.requires_grad_(False)


def solve(
    model: EmiModel,
    items: Sequence[Item],
    settings: TrainSettings,
    fabric: Any,
    *,
    progress: bool = False,
) -> None:
    """Set the domains' own layers and the V/A/D head to the ridge regression of their labels.

    They are fitted to the recordings as they are: with augmented ones, Joy of speech transfers worse to another
    language (docs/log.md). With `context`, they are fitted to the recordings alone and side by side. Several
    processes share the clips' encoding, then each solves both from all clips, hence gets the same layers.

    Args:
        model: whose frames are standardized already, if at all; changed in place.
        items: the training clips.
        settings: domain_ridge and vad_ridge are the penalties of a squared weight, in clips, for means of variance 1.
            Clips are weighted by `ridge_weight` (domains) or `vad_weight`.
        fabric: the run's processes.
        progress: show a bar.

    Raises:
        CorpusError: if no clip has a label of what is solved.
    """
    by_domain = model.config.domain_targets if settings.domain_ridge is not None else {}
    items = [
        item
        for item in items
        if item.domain in by_domain or (settings.vad_ridge is not None and item.vad is not None)
    ]
    if not items:
        raise CorpusError(
            "no training clip has a label that domain_ridge or vad_ridge could learn: add labels, or leave them out"
        )
    contexts = (None,) if settings.context is None else (None, settings.context.seconds)
    own = slice(fabric.global_rank, None, fabric.world_size)
    parts = []
    for seconds in contexts:
        means = torch.zeros(len(items), len(model.config.probe_features), dtype=torch.float64)
        own_means = compute_means(model, items[own], settings, context=seconds, progress=progress)
        means[own] = torch.from_numpy(own_means)
        parts.append(fabric.all_reduce(means.to(fabric.device), reduce_op="sum").cpu().numpy())
    x = np.concatenate(parts)
    items = items * len(contexts)
    columns = {target: i for i, target in enumerate(model.config.targets)}
    missing = np.full(len(columns), np.nan)
    labels = np.stack([missing if item.labels is None else item.labels for item in items])
    weights = np.array([item.ridge_weight / len(contexts) for item in items])
    for name, targets in by_domain.items():
        inside = np.array([item.domain == name for item in items])
        y = np.where(inside[:, None], labels, np.nan)[:, [columns[target] for target in targets]]
        y = to_logits(y) if model.config.bounded else y
        _fit_layer(model.domains.own[name], x, y, weights, settings.domain_ridge, targets)
    if settings.vad_ridge is not None:
        vad = np.stack([np.full(len(VAD), np.nan) if item.vad is None else item.vad for item in items])
        vad = to_logits(vad) if model.config.vad_bounded else vad
        weights = np.array([item.vad_weight / len(contexts) for item in items])
        _fit_layer(model.vad.out_proj, x, vad, weights, settings.vad_ridge, VAD)


def to_logits(labels: Array) -> Array:
    """Return the logits of labels in [0, 1]."""
    clipped = np.clip(labels, EDGE, 1 - EDGE)
    return np.log(clipped / (1 - clipped))


def _fit_layer(
    layer: Any, x: Array, labels: Array, weights: Array, strength: float | None, names: Sequence[str]
) -> None:
    """Set each row of a linear layer to the ridge regression of a label, (clip, output), on the clips that have it."""
    for row, (name, y) in enumerate(zip(names, labels.T, strict=True)):
        labeled = np.isfinite(y) & (weights > 0)
        if not labeled.any():
            raise CorpusError(
                f"no clip that domain_ridge or vad_ridge could learn {name} from has a label of it: add labels, or "
                "leave that setting out"
            )
        slope, intercept = fit_ridge(x[labeled], y[labeled], weights[labeled], strength or 0.0)
        with torch.no_grad():
            layer.weight[row] = torch.from_numpy(slope)
            layer.bias[row] = intercept


@torch.inference_mode()
def compute_means(
    model: EmiModel,
    items: Sequence[Item],
    settings: TrainSettings,
    *,
    context: float | None = None,
    progress: bool = False,
) -> Array:
    """Return the solved layers' input for each clip, (clip, feature); context: see `loader.Source.compute_hidden`."""
    training = model.training
    model.eval()
    source = loader.make_waveform_source(items, model.clip_format)
    options = loader.BatchOptions(settings.seconds_in_batch, settings.workers, progress)
    means = np.empty((len(items), len(model.config.probe_features)))
    for rows, values in loader.read_batches(model, source, range(len(items)), options, label="solving"):
        samples = model.collate(values)
        if context is None:
            states, mask = model.encode_frozen(*samples)
        else:
            states, mask = packing.encode_in_context(model, *samples, context, encode=model.encode_frozen)
        means[rows] = model.compute_frozen_means(states, mask).double().cpu().numpy()
    model.train(training)
    return means


def fit_ridge(x: Array, y: Array, weights: Array, strength: float) -> tuple[Array, float]:
    """Return slope (feature,) and intercept of a weighted ridge regression.

    Args:
        x: (clip, feature), of any scale: features are standardized here, and the slope is scaled back.
        y: (clip,).
        weights: (clip,) above 0.
        strength: the penalty of a squared slope of a standardized feature.
    """
    mean = np.average(x, axis=0, weights=weights)
    std = np.sqrt(np.average(np.square(x - mean), axis=0, weights=weights)) + 1e-6
    center = np.average(y, weights=weights)
    root = np.sqrt(weights)
    z, target = (x - mean) / std * root[:, None], (y - center) * root
    # The same solution, by the smaller of two matrices.
    if len(z) < z.shape[1]:
        slope = z.T @ np.linalg.solve(z @ z.T + strength * np.eye(len(z)), target)
    else:
        slope = np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ target)
    slope = slope / std
    return slope, float(center - mean @ slope)
