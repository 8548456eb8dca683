"""Linear layers on frozen frames, solved by ridge regression before a run's first step: of the domains, and V/A/D.

They read means and standard deviations of the frames of frozen layers, for which the best layer has a closed form.
Gradient steps would stop at some distance from it. On speech of ten speakers this decides whether a layer transfers to
another language (docs/log.md).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emimic.data import loader
from emimic.data.corpus import Item
from emimic.model.model import EmiModel
from emimic.task import SAMPLE_RATE, VAD, CorpusError
from emimic.training.settings import TrainSettings

Array = NDArray[np.float64]

EDGE: Final = 0.02
"""Minimum distance of a bounded head's labels to 0 and 1, where the inverse sigmoid is infinite."""


def freeze(model: EmiModel, settings: TrainSettings) -> None:
    """Freeze the layers that `solve` solves."""
    if settings.vad_ridge is not None:
        model.vad.requires_grad_(False)
    if settings.domain_ridge is not None:
        model.domains.own.requires_grad_(False)


def solve(
    model: EmiModel,
    source: loader.Source,
    copies: Sequence[Sequence[int]],
    settings: TrainSettings,
    *,
    progress: bool = False,
) -> None:
    """Set the domains' own layers and the V/A/D head to the ridge regression of their labels.

    Each of several processes solves both from all clips, hence gets the same layers.

    Args:
        model: whose frames are standardized already, if at all; changed in place.
        source: of the training clips, augmented as in training.
        copies: the rows of the source that are read, for each epoch from the first.
        settings: domain_ridge and vad_ridge are the penalties of a squared weight, in clips, for moments of variance 1.
            Clips are weighted by `ridge_weight` (domains) or `vad_weight`; with ridge_piece each is used a second time,
            by a piece of its frames.
        progress: show a bar.

    Raises:
        CorpusError: if no clip has a label of what is solved.
    """
    by_domain = model.config.domain_targets if settings.domain_ridge is not None else {}

    def has_label(item: Item) -> bool:
        return item.domain in by_domain or (settings.vad_ridge is not None and item.vad is not None)

    items, rows = select(source, copies, has_label)
    if not items:
        raise CorpusError(
            "no training clip has a label that domain_ridge or vad_ridge could learn: add labels, or leave them out"
        )
    x = compute_moments(model, source, rows, settings, progress=progress)
    items *= len(x) // len(items)
    columns = {target: i for i, target in enumerate(model.config.targets)}
    missing = np.full(len(columns), np.nan)
    labels = np.stack([missing if item.labels is None else item.labels for item in items])
    weights = np.array([item.ridge_weight for item in items])
    for name, targets in by_domain.items():
        inside = np.array([item.domain == name for item in items])
        y = np.where(inside[:, None], labels, np.nan)[:, [columns[target] for target in targets]]
        _fit_layer(model.domains.own[name], x, y, weights, settings.domain_ridge, targets)
    if settings.vad_ridge is not None:
        vad = np.stack([np.full(len(VAD), np.nan) if item.vad is None else item.vad for item in items])
        if model.config.vad_bounded:
            clipped = np.clip(vad, EDGE, 1 - EDGE)
            vad = np.log(clipped / (1 - clipped))
        weights = np.array([item.vad_weight for item in items])
        _fit_layer(model.vad.out_proj, x[:, : x.shape[1] // 2], vad, weights, settings.vad_ridge, VAD)


def select(
    source: loader.Source, copies: Sequence[Sequence[int]], predicate: Callable[[Item], bool]
) -> tuple[list[Item], list[list[int]]]:
    """Return the clips that satisfy a predicate, with their labels of all epochs, and their rows of each epoch."""
    items: list[Item] = []
    rows: list[list[int]] = []
    for epoch, drawn in enumerate(copies):
        labelled = [(source.labelled(source.items[row], epoch), row) for row in drawn]
        items += [item for item, _ in labelled if predicate(item)]
        rows.append([row for item, row in labelled if predicate(item)])
    return items, rows


def _fit_layer(
    layer: Any, x: Array, labels: Array, weights: Array, strength: float | None, names: Sequence[str]
) -> None:
    """Set each row of a linear layer to the ridge regression of a label, (clip, output), on the clips that have it."""
    for row, (name, y) in enumerate(zip(names, labels.T, strict=True)):
        labelled = np.isfinite(y) & (weights > 0)
        if not labelled.any():
            raise CorpusError(
                f"no clip that domain_ridge or vad_ridge could learn {name} from has a label of it: add labels, or "
                "leave that setting out"
            )
        slope, intercept = fit_ridge(x[labelled], y[labelled], weights[labelled], strength or 0.0)
        with torch.no_grad():
            layer.weight[row] = torch.from_numpy(slope)
            layer.bias[row] = intercept


@torch.inference_mode()
def compute_moments(
    model: EmiModel,
    source: loader.Source,
    copies: Sequence[Sequence[int]],
    settings: TrainSettings,
    *,
    progress: bool = False,
) -> Array:
    """Return the domain heads' input for the rows of each epoch, (clip, 2 * feature).

    With settings.ridge_piece the same clips follow again, each by a piece of its frames that is drawn from the seed.
    """
    training = model.training
    model.eval()
    rng = np.random.default_rng(settings.seed)
    length = settings.ridge_piece and max(1, model.num_frames(round(settings.ridge_piece * SAMPLE_RATE)))
    width = 2 * len(model.config.probe_features)
    options = loader.BatchOptions(settings.batch_seconds, settings.workers, progress)
    parts: list[Array] = []
    for epoch, rows in enumerate(copies):
        starts = rng.random(len(rows))
        moments = np.empty((2 if length else 1, len(rows), width))
        for batch, values in loader.read_batches(model, source, rows, options, label="solving", epoch=epoch):
            states, mask = model.collate(values)
            if not source.started:
                states, mask = model.encode_frozen(states, mask)
            masks = [mask]
            if length:
                masks.append(_mask_piece(mask, torch.from_numpy(starts[batch]).to(mask.device), length))
            for array, frames in zip(moments, masks, strict=True):
                array[batch] = model.compute_frozen_moments(states, frames).double().cpu().numpy()
        parts.append(moments)
    model.train(training)
    return np.concatenate(parts, axis=1).reshape(-1, width)


def _mask_piece(mask: Tensor, starts: Tensor, length: int) -> Tensor:
    """Return the mask of a piece of `length` real frames, (batch, frame); starts: (batch,), in [0, 1)."""
    start = (starts * (mask.sum(dim=1) - length + 1).clamp(min=1)).floor()[:, None]
    frames = torch.arange(mask.shape[1], device=mask.device)
    return mask & (frames >= start) & (frames < start + length)


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
