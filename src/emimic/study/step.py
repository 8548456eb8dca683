"""One optimiser step: micro-batches of similar length, any loss exactly, over one process or several.

Everything random in a step (dropout, SpecAugment, LayerDrop) follows from (seed, step, rank), so a resumed run
repeats the uninterrupted one. Several processes share each step's clips; their gradients are added by hand, which
needs no second wrapper around the model and no parameter to be used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from emimic.study.augment import Clock
from emimic.study.batches import Heard
from emimic.study.checkpoint import PROJECTION
from emimic.study.corpus import Item
from emimic.study.lessons import Lessons
from emimic.study.losses import framewise
from emimic.study.rivals.model import RivalModel
from emimic.study.run import Run, labels_of, vad_of
from emimic.study.settings import TrainSettings
from emimic.task import EmimicError

RESTART: Final = 5
"""Epochs until the first restart of the schedule "restarts"."""

NONE: Final = -100
"""The class of a clip without one."""

ENCODED: Final = 8
"""So many times `batch_seconds` of cached features are one batch: the heads alone need that much less memory, and the
LSTM reads its weights once a frame whatever the number of clips."""


@dataclass(frozen=True)
class Labels:
    """Of one step's clips: targets (clip, target; of a rival, member x fold x target) and vad (clip, 3), NaN where
    missing; categories (clip,), or NONE."""

    targets: Tensor
    vad: Tensor
    categories: Tensor

    @classmethod
    def of(cls, run: Run, rows: Sequence[int]) -> "Labels":
        items = [run.train.items[row] for row in rows]
        targets = torch.from_numpy(np.stack([labels_of(item) for item in items]))
        if isinstance(run.model, RivalModel):
            targets = run.model.wanted(targets, items)
        number = {name: i for i, name in enumerate(run.model.config.categories)}
        device = run.fabric.device
        return cls(
            targets.to(device),
            torch.from_numpy(np.stack([vad_of(item) for item in items])).to(device),
            torch.tensor([number.get(item.category or "", NONE) for item in items], device=device),
        )


def take(run: Run, rows: Sequence[int], own: Sequence[int], clips: Sequence[Heard]) -> float:
    """One optimiser step over the clips `rows` of which this process holds `own`; returns the loss over all of them."""
    fabric = run.fabric
    model: Any = run.model
    labels = Labels.of(run, rows)
    place = {row: i for i, row in enumerate(rows)}
    seconds = run.settings.batch_seconds * (ENCODED if run.train.encoded else 1)
    lengths = [len(clip.values) for clip in clips]
    plan = model.plan(lengths, batch_seconds=seconds, encoded=run.train.encoded)
    run.optimizer.zero_grad(set_to_none=True)
    together = not run.loss.decomposes and labels.targets.shape[1] > 0
    answers: list[tuple[list[int], Tensor]] = []
    total = torch.zeros((), device=fabric.device)
    for part in plan:
        values, mask = model.collate([clips[i].values for i in part])
        places = [place[own[i]] for i in part]
        with fabric.autocast():
            hidden, frames = (values, mask) if run.train.encoded else model.encode(values, mask)
            output = model.regress(hidden, frames)
        # The mean over the step is the weighted mean over its parts, so a part's graph can go at once.
        loss = _of_part(run, output, labels, places)
        heard = [(run.train.items[own[i]], clips[i].clock) for i in part]
        if run.lessons is not None:
            loss = loss + _of_lesson(run, run.lessons, heard, hidden, output) / len(rows)
        if loss.requires_grad:
            loss.backward(retain_graph=together)
        total += loss.detach()
        if together:
            answers.append((places, output.intensities.float()))
    total = summed(fabric, total)
    if together:
        total = total + _backward_together(run, answers, labels.targets)
    value = _finite(run, float(total), rows)
    add_gradients(run)
    _update(run)
    return value


def _finite(run: Run, value: float, rows: Sequence[int]) -> float:
    if not math.isfinite(value):
        ids = ", ".join(run.train.items[row].id for row in rows)
        raise EmimicError(
            f"the loss is {value} at step {run.progress.total_steps + 1}; lower lr. Clips: {ids}"
        )
    return value


def _update(run: Run) -> None:
    """From the gradients to the weights and their average."""
    model = run.model
    if run.settings.l2:
        for parameter in model.parameters():
            if parameter.grad is not None and parameter.ndim > 1:
                parameter.grad.add_(parameter.detach(), alpha=2 * run.settings.l2)
    if run.settings.clip_value is not None:
        torch.nn.utils.clip_grad_value_(model.parameters(), run.settings.clip_value)
    run.optimizer.step()
    if run.average is not None and run.settings.ema is not None:
        # The average forgets its random start before it settles at the decay asked for.
        decay = min(run.settings.ema, (1 + run.progress.total_steps) / (10 + run.progress.total_steps))
        for name, parameter in model.named_parameters():
            if name in run.average:
                run.average[name].lerp_(parameter.detach(), 1.0 - decay)


def _loss(run: Run, predictions: Tensor, labels: Tensor) -> Tensor:
    spread = run.model.config.target_std
    if spread is not None:  # z-scored targets; the mean cancels
        scale = predictions.new_tensor(spread).repeat(predictions.shape[1] // len(spread))
        predictions, labels = predictions / scale, labels / scale
    return run.loss(predictions, labels)


def _of_part(run: Run, output: Any, labels: Labels, places: list[int]) -> Tensor:
    """A part's share of the step's loss: targets (where their loss decomposes), VAD as the mean over frames, and the
    auxiliary classes; each divided by the labels of its kind in the whole step."""
    loss: Tensor = output.intensities.new_zeros((), dtype=torch.float32)
    if run.loss.decomposes and labels.targets.shape[1]:
        truth = labels.targets[places]
        share = (~truth.isnan()).sum() / (~labels.targets.isnan()).sum().clamp(min=1)
        loss = loss + share * _loss(run, output.intensities.float(), truth)
    known = ~labels.vad[places].isnan()
    if output.vad is not None and run.settings.vad_weight and known.any():
        mask = output.frame_mask[..., None]
        means = (output.vad.float() * mask).sum(dim=1) / mask.sum(dim=1)
        errors = ((means - labels.vad[places].nan_to_num()) * known).square().sum()
        loss = loss + run.settings.vad_weight * errors / (~labels.vad.isnan()).sum()
    if output.categories is not None:
        entropy = nn.functional.cross_entropy(
            output.categories.float(), labels.categories[places], ignore_index=NONE, reduction="sum"
        )
        loss = loss + run.settings.category_weight * entropy / (labels.categories != NONE).sum().clamp(min=1)
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


def _backward_together(run: Run, answers: Sequence[tuple[list[int], Tensor]], labels: Tensor) -> Tensor:
    """A correlation needs the whole step: its gradient at all predictions first, then back through each part."""
    fabric = run.fabric
    everyone = torch.zeros(labels.shape, device=fabric.device)
    for places, predictions in answers:
        everyone[places] = predictions.detach()
    everyone = summed(fabric, everyone).requires_grad_()
    loss = _loss(run, everyone, labels)
    loss.backward()
    gradient = everyone.grad
    if answers and gradient is not None:
        torch.autograd.backward(
            [predictions for _, predictions in answers], [gradient[places] for places, _ in answers]
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
