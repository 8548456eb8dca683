"""Linear layers on frozen frames, solved by ridge regression before a run's first step: of the domains, and V/A/D.

They read means and standard deviations of the frames of layers that aren't trained: the best layer for that is known in
closed form, where steps of a gradient would stop anywhere near it. On speech of ten speakers that is the difference
between a layer that carries over to another language and one that doesn't (docs/log.md).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emimic import batching
from emimic.data import loader
from emimic.data.corpus import Item
from emimic.model.model import EmiModel
from emimic.progress import shown
from emimic.task import SAMPLE_RATE, VAD, CorpusError
from emimic.training.settings import TrainSettings

Array = NDArray[np.float64]

EDGE: Final = 0.02
"""Labels of a bounded head are kept so far from 0 and 1, where its inverse is infinite."""


def freeze(model: EmiModel, settings: TrainSettings) -> None:
    """Leave what `solve` solves out of training."""
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
    """Set the domains' own layers and the V/A/D head to the ridge regression of their labels, as settings say.

    Every process of several solves both from all clips, hence gets the same layers.

    Args:
        model: whose frames are standardized already, if they are to be; changed in place.
        source: of the clips that are learned from, as training changes them.
        copies: the rows of the source that are read, for each epoch from the first.
        settings: domain_ridge and vad_ridge are the strengths, for moments of variance 1: the penalty of a squared
            weight, in clips. A clip counts as its `ridge_weight` (domains) or `vad_weight` says, and with ridge_piece
            once more by a piece of it.

    Raises:
        CorpusError: if no clip has a label of what is solved.
    """
    own = model.config.domain_targets if settings.domain_ridge is not None else {}

    def wanted(item: Item) -> bool:
        return item.domain in own or (settings.vad_ridge is not None and item.vad is not None)

    items, rows = select(source, copies, wanted)
    if not items:
        raise CorpusError(
            "no training clip has a label that domain_ridge or vad_ridge could learn: add labels, or leave them out"
        )
    x = moments(model, source, rows, settings, progress=progress)
    items *= len(x) // len(items)
    columns = {target: i for i, target in enumerate(model.config.targets)}
    unknown = np.full(len(columns), np.nan)
    labels = np.stack([unknown if item.labels is None else item.labels for item in items])
    weights = np.array([item.ridge_weight for item in items])
    for name, targets in own.items():
        there = np.array([item.domain == name for item in items])
        y = np.where(there[:, None], labels, np.nan)[:, [columns[target] for target in targets]]
        _set(model.domains.own[name], x, y, weights, settings.domain_ridge, targets)
    if settings.vad_ridge is not None:
        vad = np.stack([np.full(len(VAD), np.nan) if item.vad is None else item.vad for item in items])
        if model.config.vad_bounded:
            inside = np.clip(vad, EDGE, 1 - EDGE)
            vad = np.log(inside / (1 - inside))
        weights = np.array([item.vad_weight for item in items])
        _set(model.vad.out_proj, x[:, : x.shape[1] // 2], vad, weights, settings.vad_ridge, VAD)


def select(
    source: loader.Source, copies: Sequence[Sequence[int]], wanted: Callable[[Item], bool]
) -> tuple[list[Item], list[list[int]]]:
    """Return the wanted clips with their labels of all epochs, and their rows of each epoch; copies: as in `solve`."""
    items: list[Item] = []
    rows: list[list[int]] = []
    for epoch, places in enumerate(copies):
        drawn = [(source.labelled(source.items[place], epoch), place) for place in places]
        items += [item for item, _ in drawn if wanted(item)]
        rows.append([place for item, place in drawn if wanted(item)])
    return items, rows


def _set(
    layer: Any, x: Array, labels: Array, weights: Array, strength: float | None, names: Sequence[str]
) -> None:
    """Set a linear layer's rows to the ridge regression of labels (clip, output), each on the clips that have it."""
    for row, (name, y) in enumerate(zip(names, labels.T, strict=True)):
        known = np.isfinite(y) & (weights > 0)
        if not known.any():
            raise CorpusError(
                f"no clip that domain_ridge or vad_ridge could learn {name} from has a label of it: add labels, or "
                "leave that setting out"
            )
        slope, intercept = ridge(x[known], y[known], weights[known], strength or 0.0)
        with torch.no_grad():
            layer.weight[row] = torch.from_numpy(slope)
            layer.bias[row] = intercept


@torch.inference_mode()
def moments(
    model: EmiModel,
    source: loader.Source,
    copies: Sequence[Sequence[int]],
    settings: TrainSettings,
    *,
    progress: bool = False,
) -> Array:
    """Return what the domains' layers read of the rows of a source, for each epoch, (clip, 2 * feature).

    With settings.ridge_piece the same clips follow once more, by a piece of their frames that is drawn from the seed.
    """
    training = model.training
    model.eval()
    rng = np.random.default_rng(settings.seed)
    length = settings.ridge_piece and max(1, model.num_frames(round(settings.ridge_piece * SAMPLE_RATE)))
    whole: list[Array] = []
    pieces: list[Array] = []
    for epoch, rows in enumerate(copies):
        groups = [[rows[i] for i in group] for group in batching.chunks(len(rows))]
        decoded = loader.decoded(source, groups, workers=settings.workers, epoch=epoch)
        for clips in shown(decoded, "solving", total=len(groups), show=progress):
            places = rng.random(len(clips))
            found: dict[int, list[Array]] = {}
            for part in source.plan(model, clips, batch_seconds=settings.batch_seconds):
                states, mask = model.collate([clips[i].values for i in part])
                if not source.started:
                    states, mask = model.encode_frozen(states, mask)
                masks = [mask]
                if length:
                    masks.append(_piece(mask, torch.from_numpy(places[part]).to(mask.device), length))
                some = [model.compute_frozen_moments(states, one).double().cpu().numpy() for one in masks]
                found.update({i: [one[row] for one in some] for row, i in enumerate(part)})
            for i in range(len(clips)):
                whole.append(found[i][0])
                pieces += found[i][1:]
    model.train(training)
    return np.stack(whole + pieces)


def _piece(mask: Tensor, places: Tensor, length: int) -> Tensor:
    """Return which frames are of a piece of `length` real ones, (batch, frame); places: (batch,), in [0, 1), where."""
    start = (places * (mask.sum(dim=1) - length + 1).clamp(min=1)).floor()[:, None]
    frames = torch.arange(mask.shape[1], device=mask.device)
    return mask & (frames >= start) & (frames < start + length)


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
