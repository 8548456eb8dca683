"""One optimizer step: micro-batches of similar length, any loss exactly, over one process or several.

Everything random in a step (dropout, SpecAugment, LayerDrop) follows from (seed, step, rank), so a resumed run
repeats the uninterrupted one. Several processes share each step's clips; their gradients are added by hand, which
needs no second wrapper around the model and no parameter to be used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from emimic.baselines.model import BaselineModel
from emimic.data.augment import Clock
from emimic.data.corpus import Item
from emimic.data.loader import Heard
from emimic.task import VAD, EmimicError
from emimic.training.checkpoint import PROJECTION
from emimic.training.distill_targets import Lessons
from emimic.training.losses import framewise, rank_loss
from emimic.training.ranks import Ranked
from emimic.training.settings import TrainSettings
from emimic.training.setup import Run, labels_of, vad_of

RESTART: Final = 5
"""Epochs until the first restart of the schedule "restarts"."""

NONE: Final = -100
"""The class of a clip without one."""

ENCODED: Final = 8
"""So many times `batch_seconds` of cached features are one batch: the heads alone need that much less memory, and the
LSTM reads its weights once a frame whatever the number of clips."""


@dataclass(frozen=True)
class Labels:
    """Of one step's clips: targets (clip, target; of a baseline, member x fold x target) and vad (clip, 3), NaN where
    missing; categories (clip,), or NONE; weights and vad_weights (clip,) of the clips' losses, None where all are 1;
    ranks, for a rank loss; domains (clip,), NONE where unknown, None for a model without any."""

    targets: Tensor
    vad: Tensor
    categories: Tensor
    weights: Tensor | None
    vad_weights: Tensor | None
    ranks: Ranked | None
    domains: Tensor | None

    @classmethod
    def of(cls, run: Run, rows: Sequence[int]) -> "Labels":
        items = [run.train.labelled(run.train.items[row], run.progress.epoch) for row in rows]
        targets = torch.from_numpy(np.stack([labels_of(item) for item in items]))
        if isinstance(run.model, BaselineModel):
            targets = run.model.wanted(targets, items)
        number = {name: i for i, name in enumerate(run.model.config.categories)}
        place = {name: i for i, name in enumerate(getattr(run.model.config, "domains", ()))}
        device = run.fabric.device
        return cls(
            targets.to(device),
            torch.from_numpy(np.stack([vad_of(item) for item in items])).to(device),
            torch.tensor([number.get(item.category or "", NONE) for item in items], device=device),
            _factors([item.weight for item in items], device),
            _factors([item.vad_weight for item in items], device),
            None if run.ranks is None else run.ranks.ranked(items, device),
            torch.tensor([place.get(item.domain or "", NONE) for item in items], device=device)
            if place
            else None,
        )


def _factors(values: Sequence[float], device: Any) -> Tensor | None:
    return None if all(value == 1 for value in values) else torch.tensor(values, device=device)


def _of(factors: Tensor | None, places: list[int]) -> Tensor | None:
    return None if factors is None else factors[places]


def take(run: Run, rows: Sequence[int], own: Sequence[int], clips: Sequence[Heard]) -> float:
    """One optimizer step over the clips `rows` of which this process holds `own`; returns the loss over all of them."""
    fabric = run.fabric
    model: Any = run.model
    labels = Labels.of(run, rows)
    if run.settings.padding == "zeros-batch":
        clips = fill_up(clips)
    seconds = run.settings.batch_seconds * (ENCODED if run.train.encoded else 1)
    plan = run.train.plan(model, clips, batch_seconds=seconds)
    run.optimizer.zero_grad(set_to_none=True)
    together = labels.ranks is not None or (not run.loss.decomposes and labels.targets.shape[1] > 0)
    waiting: list[Tensor] = []
    answers: list[tuple[list[int], Tensor]] = []
    total = torch.zeros((), device=fabric.device)
    for part in plan:
        values, mask = model.collate([clips[i].values for i in part])
        places = [fabric.global_rank + i * fabric.world_size for i in part]
        with fabric.autocast():
            hidden, frames = run.train.hidden(model, values, mask)
            known = () if labels.domains is None else (labels.domains[places],)
            output = model.regress(hidden, frames, *known)
        # The mean over the step is the weighted mean over its parts, so a part's graph can go at once.
        loss = _of_part(run, output, labels, places)
        heard = [(run.train.items[own[i]], clips[i].clock) for i in part]
        if run.lessons is not None:
            loss = loss + _of_lesson(run, run.lessons, heard, hidden, output) / len(rows)
        if loss.requires_grad and labels.ranks is not None:
            waiting.append(loss)  # one way back through the part's graph, not two
        elif loss.requires_grad:
            loss.backward(retain_graph=together)
        total += loss.detach()
        if together:
            answers.append((places, _compared(output, labels)))
    total = summed(fabric, total)
    if together:
        total = total + _backward_together(run, answers, labels, waiting)
    value = _finite(run, float(total), rows)
    add_gradients(run)
    _update(run)
    return value


def fill_up(clips: Sequence[Heard]) -> list[Heard]:
    """Return clips of one length: each (sample,) filled up with zeros at its end to the longest, so that no mask hides
    them."""
    longest = max((len(clip.values) for clip in clips), default=0)
    return [replace(clip, values=np.pad(clip.values, (0, longest - len(clip.values)))) for clip in clips]


def _finite(run: Run, value: float, rows: Sequence[int]) -> float:
    if not math.isfinite(value):
        ids = ", ".join(run.train.items[row].key for row in rows)
        raise EmimicError(
            f"the loss is {value} at step {run.progress.total_steps + 1}; lower lr. Clips: {ids}"
        )
    return value


def _update(run: Run) -> None:
    """From the gradients to the weights and their average."""
    model = run.model
    if run.settings.l2:
        add_l2(model, run.settings.l2)
    if run.settings.clip_value is not None:
        torch.nn.utils.clip_grad_value_(model.parameters(), run.settings.clip_value)
    run.optimizer.step()
    if run.average is not None and run.settings.ema is not None:
        # The average forgets its random start before it settles at the decay asked for.
        decay = min(run.settings.ema, (1 + run.progress.total_steps) / (10 + run.progress.total_steps))
        for name, parameter in model.named_parameters():
            if name in run.average:
                run.average[name].lerp_(parameter.detach(), 1.0 - decay)


def add_l2(model: nn.Module, l2: float) -> None:
    """Add the gradient of l2 x sum of squares of the weight matrices, not of biases and norms.

    A baseline's loss is the mean over its models (branches x folds), so each has its part of the gradient of its own
    loss, and gets that part of its penalty, too: the two stand to each other as if each model was trained alone.
    """
    models = model.models if isinstance(model, BaselineModel) else 1
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and parameter.ndim > 1:
            part = 1 / models if name.startswith("members.") else 1.0
            parameter.grad.add_(parameter.detach(), alpha=2 * l2 * part)


def _loss(run: Run, predictions: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    spread = run.model.config.target_std
    if spread is not None:  # z-scored targets; the mean cancels
        scale = predictions.new_tensor(spread).repeat(predictions.shape[1] // len(spread))
        predictions, labels = predictions / scale, labels / scale
    return run.loss(predictions, labels, weights)


def _vad_means(output: Any) -> Tensor:
    """V/A/D as the mean over frames, (clip, 3)."""
    mask = output.frame_mask[..., None]
    means: Tensor = (output.vad.float() * mask).sum(dim=1) / mask.sum(dim=1)
    return means


def _compared(output: Any, labels: Labels) -> Tensor:
    """What a loss over the whole step needs of a part: (clip, target), before V/A/D where classes are ranked."""
    intensities: Tensor = output.intensities.float()
    ranked = labels.ranks is not None and output.vad is not None
    return torch.cat([intensities, _vad_means(output)], dim=1) if ranked else intensities


def _of_part(run: Run, output: Any, labels: Labels, places: list[int]) -> Tensor:
    """A part's share of the step's loss: targets (where their loss decomposes), VAD as the mean over frames, and the
    auxiliary classes; each divided by the labels of its kind in the whole step."""
    loss: Tensor = output.intensities.new_zeros((), dtype=torch.float32)
    if run.loss.decomposes and labels.targets.shape[1]:
        truth = labels.targets[places]
        share = (~truth.isnan()).sum() / (~labels.targets.isnan()).sum().clamp(min=1)
        loss = loss + share * _loss(run, output.intensities.float(), truth, _of(labels.weights, places))
    known = ~labels.vad[places].isnan()
    if output.vad is not None and run.settings.vad_weight and known.any():
        errors = ((_vad_means(output) - labels.vad[places].nan_to_num()) * known).square()
        if (factors := _of(labels.vad_weights, places)) is not None:
            errors = errors * factors[:, None]
        loss = loss + run.settings.vad_weight * errors.sum() / (~labels.vad.isnan()).sum()
    if output.categories is not None:
        entropy = nn.functional.cross_entropy(
            output.categories.float(), labels.categories[places], ignore_index=NONE, reduction="sum"
        )
        loss = loss + run.settings.category_weight * entropy / (labels.categories != NONE).sum().clamp(min=1)
    if labels.domains is not None:
        entropy = nn.functional.cross_entropy(
            output.domains.float(), labels.domains[places], ignore_index=NONE, reduction="sum"
        )
        loss = loss + run.settings.domain_weight * entropy / (labels.domains != NONE).sum().clamp(min=1)
    return loss


def _of_lesson(
    run: Run, lessons: Lessons, heard: Sequence[tuple[Item, Clock]], hidden: Tensor, output: Any
) -> Tensor:
    """How far a part's frames are from a teacher's, summed over clips: VAD and, projected, hidden states."""
    settings, device = run.settings, run.fabric.device
    model: Any = run.model
    loss = hidden.new_zeros((), dtype=torch.float32)
    project = getattr(model, PROJECTION, None)
    counts = output.frame_mask.sum(dim=1).tolist()
    times = model.frame_times(hidden.shape[1])
    lesson = lessons.lesson(heard, times, counts, hidden=project is not None)
    known = torch.from_numpy(lesson.known).to(device)
    if settings.teacher_vad_weight and output.vad is not None and lesson.vad is not None:
        apart = framewise(output.vad, torch.from_numpy(lesson.vad).to(device), known)
        loss = loss + settings.teacher_vad_weight * apart
    if project is not None and lesson.hidden is not None:
        with run.fabric.autocast():
            projected = project(hidden)
        apart = framewise(projected, torch.from_numpy(lesson.hidden).to(device), known)
        loss = loss + settings.teacher_frame_weight * apart
    return loss


def _backward_together(
    run: Run, answers: Sequence[tuple[list[int], Tensor]], labels: Labels, waiting: Sequence[Tensor]
) -> Tensor:
    """A correlation, or an order of clips, needs the whole step: its gradient at all predictions first, then back
    through each part, together with the parts' own losses that wait for that."""
    fabric = run.fabric
    clips, targets = labels.targets.shape
    vad = len(VAD) if labels.ranks is not None and getattr(run.model.config, "vad_head", False) else 0
    everyone = torch.zeros((clips, targets + vad), device=fabric.device)
    for places, predictions in answers:
        everyone[places] = predictions.detach()
    everyone = summed(fabric, everyone).requires_grad_()
    loss = everyone.sum() * 0 if labels.ranks is not None else torch.zeros((), device=fabric.device)
    if not run.loss.decomposes and targets:
        loss = loss + _loss(run, everyone[:, :targets], labels.targets, labels.weights)
    if labels.ranks is not None:
        ranks = labels.ranks
        values = everyone[:, ranks.columns]
        loss = loss + run.settings.rank_weight * rank_loss(
            values, ranks.ranks, ranks.groups, ranks.temperature
        )
    loss.backward()
    gradient = everyone.grad
    if answers and gradient is not None:
        torch.autograd.backward(
            [*(predictions for _, predictions in answers), *waiting],
            [*(gradient[places] for places, _ in answers), *(None for _ in waiting)],
        )
    return loss.detach()


def summed(fabric: Any, tensor: Tensor) -> Tensor:
    total: Tensor = fabric.all_reduce(tensor, reduce_op="sum") if fabric.world_size > 1 else tensor
    return total


def add_gradients(run: Run) -> None:
    """Sum the gradients over processes; a parameter that one of them didn't use counts as zero there.

    One that none of them used stays without a gradient, as in a single process, so that weight decay passes it by.
    """
    if run.fabric.world_size == 1:
        return
    trained = [p for p in run.model.parameters() if p.requires_grad]
    flat = [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in trained]
    users = torch.tensor([float(p.grad is not None) for p in trained], device=run.fabric.device)
    *parts, users = summed(run.fabric, torch.cat([*flat, users])).split(
        [*(p.numel() for p in trained), len(trained)]
    )
    for parameter, part, used in zip(trained, parts, users.tolist(), strict=True):
        parameter.grad = part.view_as(parameter).clone() if used else None


def rate(step: int, per_epoch: int, settings: TrainSettings) -> float:
    """Share of the peak learning rate: linear warm-up, then what `schedule` says, such as cosine to 0 at the last step
    (paper section 4)."""
    warm = settings.warmup_epochs * per_epoch
    if step < warm:
        return (step + 1) / (warm + 1)
    if settings.schedule == "constant":
        return 1.0
    past, length = step - warm, max(1.0, settings.epochs * per_epoch - warm)
    if settings.schedule == "restarts":
        length = float(RESTART * per_epoch)
        while past >= length:
            past, length = past - length, 2 * length
    share = past / length
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


def seed(number: int, step: int, rank: int) -> None:
    """All randomness of a step from (seed, step, rank); transformers draws feature masks from NumPy's generator."""
    words = np.random.SeedSequence((number, step, rank)).generate_state(2)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 - the generator that transformers uses
