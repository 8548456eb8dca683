"""One optimizer step: micro-batches of similar length, exact for any loss, over one process or several.

All randomness of a step (dropout, SpecAugment, LayerDrop) depends on (seed, step, rank), so that a resumed run repeats
the uninterrupted one. Several processes divide a step's clips among them. Their gradients are added here, so that the
model needs no wrapper and a step may leave parameters unused.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emimic.baselines.model import BaselineModel
from emimic.data.augment import TimeMap
from emimic.data.corpus import Item
from emimic.data.loader import ModelInput
from emimic.model.inputs import change_audio, get_audio
from emimic.model.model import EmiModel
from emimic.model.transfer import get_host_mask, move
from emimic.task import VAD, EmimicError
from emimic.training.checkpoint import PROJECTION
from emimic.training.distill_targets import TeacherTargets
from emimic.training.losses import compute_frame_error, compute_rank_loss
from emimic.training.settings import TrainSettings
from emimic.training.setup import Run
from emimic.training.step_labels import NONE, Labels, Part

RESTART: Final = 5
"""Epochs until the first restart of the schedule "restarts"."""

ENCODED: Final = 8
"""Factor of `batch_seconds` for cached features: the heads need less memory, and larger batches are faster."""


def take(run: Run, rows: Sequence[int], own: Sequence[int], clips: Sequence[ModelInput]) -> Tensor:
    """Take one optimizer step, without waiting for a GPU to have done it.

    Args:
        run: whose model is trained.
        rows: the step's clips, over all processes.
        own: those of this process.
        clips: their values.

    Returns:
        The loss over the step's clips, a scalar on the device; `check_finite` reads it.
    """
    fabric = run.fabric
    model: Any = run.model
    labels = Labels.from_rows(run, rows)
    if run.settings.padding == "zeros-batch":
        clips = pad_to_longest(clips)
    seconds = run.settings.seconds_in_batch * (ENCODED if run.train.encoded else 1)
    plan = run.train.plan(model, clips, batch_seconds=seconds)
    run.optimizer.zero_grad(set_to_none=True)
    together = labels.ranks is not None or (not run.loss.decomposes and labels.targets.shape[1] > 0)
    waiting: list[Tensor] = []
    predictions: list[tuple[Tensor, Tensor]] = []
    total = torch.zeros((), device=fabric.device)
    for part in plan:
        batch = [clips[i].values for i in part]
        values, mask = model.collate(batch)
        indices = [fabric.global_rank + i * fabric.world_size for i in part]  # in the step
        selected = labels.select(indices, fabric.device)
        with fabric.autocast():
            hidden, frames = run.train.compute_hidden(
                model, values, mask, context=_draw_context(run.settings)
            )
            options: dict[str, Any] = {} if selected.domains is None else {"domains": selected.domains}
            if isinstance(model, EmiModel):
                options["further"] = model.collate_further(batch)
            output = model.regress(hidden, frames, **options)
        # The mean over the step is the weighted mean over its parts, so that a part's graph can be freed at once.
        loss = _compute_part_loss(run, output, selected)
        if run.teacher is not None:
            timed = [(run.train.items[own[i]], clips[i].time_map) for i in part]
            loss = loss + _compute_teacher_loss(run, run.teacher, timed, hidden, output) / len(rows)
        if loss.requires_grad and labels.ranks is not None:
            waiting.append(loss)  # one backward pass through the part's graph instead of two
        elif loss.requires_grad:
            loss.backward(retain_graph=together)
        total += loss.detach()
        if together:
            predictions.append((move(torch.tensor(indices), fabric.device), _collect(output, labels)))
    total = add_up(fabric, total)
    if together:
        total = total + _backward_together(run, predictions, labels, waiting)
    add_gradients(run)
    _update(run)
    return total


def _draw_context(settings: TrainSettings) -> float | None:
    """Return the seconds of the sequences in which a batch's clips are encoded, or None for each clip alone."""
    context = settings.context
    chosen = context is not None and float(torch.rand(())) < context.fraction
    return context.seconds if context is not None and chosen else None


def pad_to_longest(clips: Sequence[ModelInput]) -> list[ModelInput]:
    """Return clips of one length, each zero-padded at its end to the longest, (sample,), which no mask hides."""
    longest = max((len(get_audio(clip.values)) for clip in clips), default=0)

    def pad(audio: NDArray[Any]) -> NDArray[Any]:
        return np.pad(audio, (0, longest - len(audio)))

    return [replace(clip, values=change_audio(clip.values, pad)) for clip in clips]


def check_finite(run: Run, loss: Tensor, rows: Sequence[int], number: int) -> float:
    """Return the loss of a step, for which a GPU must have done it.

    Args:
        run: whose model is trained.
        loss: of `take`.
        rows: the step's clips.
        number: of the step, from 1.

    Raises:
        EmimicError: if it isn't finite.
    """
    value = float(loss)
    if not math.isfinite(value):
        ids = ", ".join(run.train.items[row].key for row in rows)
        raise EmimicError(f"the loss is {value} at step {number}; lower lr. Clips: {ids}")
    return value


def _update(run: Run) -> None:
    """Update the weights from their gradients, and the averaged weights."""
    model = run.model
    if run.settings.l2:
        add_l2(model, run.settings.l2)
    if run.settings.clip_value is not None:
        torch.nn.utils.clip_grad_value_(model.parameters(), run.settings.clip_value)
    run.optimizer.step()
    if run.average is not None and run.settings.ema is not None:
        # A smaller decay at first, so that the average forgets its random start.
        decay = min(run.settings.ema, (1 + run.progress.total_steps) / (10 + run.progress.total_steps))
        for name, parameter in model.named_parameters():
            if name in run.average:
                run.average[name].lerp_(parameter.detach(), 1.0 - decay)


def add_l2(model: nn.Module, l2: float) -> None:
    """Add the gradient of l2 x sum of squares of the weight matrices, not of biases and norms.

    A baseline's loss is the mean over its models (branches x folds). Each model thus has a fraction of the gradient of
    its own loss, and gets the same fraction of its penalty, as if it was trained alone.
    """
    models = model.models if isinstance(model, BaselineModel) else 1
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and parameter.ndim > 1:
            part = 1 / models if name.startswith("branches.") else 1.0
            parameter.grad.add_(parameter.detach(), alpha=2 * l2 * part)


def _compute_loss(run: Run, predictions: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    std = run.model.config.target_std
    if std is not None:  # z-scored targets; the mean cancels
        scale = move(torch.tensor(std, dtype=predictions.dtype), predictions.device)
        scale = scale.repeat(predictions.shape[1] // len(std))
        predictions, labels = predictions / scale, labels / scale
    return run.loss(predictions, labels, weights)


def _average_vad(output: Any) -> Tensor:
    """Return V/A/D as the mean over frames, (clip, 3)."""
    mask = output.frame_mask[..., None]
    means: Tensor = (output.vad.float() * mask).sum(dim=1) / mask.sum(dim=1)
    return means


def _collect(output: Any, labels: Labels) -> Tensor:
    """Return a part's predictions for a loss over the step: (clip, target), then V/A/D where classes are ranked."""
    intensities: Tensor = output.intensities.float()
    ranked = labels.ranks is not None and output.vad is not None
    return torch.cat([intensities, _average_vad(output)], dim=1) if ranked else intensities


def _compute_part_loss(run: Run, output: Any, labels: Part) -> Tensor:
    """Return a part's contribution to the step's loss, each term divided by its labels in the entire step.

    The terms are targets (where their loss decomposes), V/A/D as the mean over frames, auxiliary classes and domains.
    """
    loss: Tensor = output.intensities.new_zeros((), dtype=torch.float32)
    if run.loss.decomposes and labels.targets.shape[1]:
        computed = _compute_loss(run, output.intensities.float(), labels.targets, labels.weights)
        loss = loss + labels.fraction * computed
    if output.vad is not None and run.settings.vad_weight and labels.vad is not None:
        truth, factors = labels.vad
        errors = (_average_vad(output) - truth).square() * factors
        loss = loss + run.settings.vad_weight * errors.sum()
    if output.categories is not None:
        entropy = nn.functional.cross_entropy(
            output.categories.float(), labels.categories, ignore_index=NONE, reduction="sum"
        )
        loss = loss + run.settings.category_weight * entropy / labels.category_count
    if labels.domains is not None:
        entropy = nn.functional.cross_entropy(
            output.domains.float(), labels.domains, ignore_index=NONE, reduction="sum"
        )
        loss = loss + run.settings.domain_weight * entropy / labels.domain_count
    return loss


def _compute_teacher_loss(
    run: Run, teacher: TeacherTargets, clips: Sequence[tuple[Item, TimeMap]], hidden: Tensor, output: Any
) -> Tensor:
    """Return the error of a part's frames to a teacher's, summed over clips: V/A/D and projected hidden states.

    Args:
        run: with a student's model.
        teacher: whose predictions are the targets.
        clips: each with the times of its augmentation.
        hidden: (clip, frame, feature).
        output: of the model.
    """
    settings, device = run.settings, run.fabric.device
    model: Any = run.model
    loss = hidden.new_zeros((), dtype=torch.float32)
    project = getattr(model, PROJECTION, None)
    counts = get_host_mask(output.frame_mask).sum(dim=1).tolist()
    times = model.compute_frame_times(hidden.shape[1])
    targets = teacher.align(clips, times, counts, hidden=project is not None)
    mask = move(torch.from_numpy(targets.mask), device)
    if settings.teacher_vad_weight and output.vad is not None and targets.vad is not None:
        error = compute_frame_error(output.vad, move(torch.from_numpy(targets.vad), device), mask)
        loss = loss + settings.teacher_vad_weight * error
    if project is not None and targets.hidden is not None:
        with run.fabric.autocast():
            projected = project(hidden)
        error = compute_frame_error(projected, move(torch.from_numpy(targets.hidden), device), mask)
        loss = loss + settings.teacher_frame_weight * error
    return loss


def _backward_together(
    run: Run, predictions: Sequence[tuple[Tensor, Tensor]], labels: Labels, waiting: Sequence[Tensor]
) -> Tensor:
    """Compute the losses over an entire step (a correlation, or an order of clips) and backpropagate them.

    The gradient at all predictions is computed first, then passed through each part, with the parts' waiting losses.

    Args:
        run: whose model is trained.
        predictions: of each part: the clips' indices in the step, and (clip, target) with its graph.
        labels: of the step.
        waiting: losses of the parts that are not backpropagated yet.

    Returns:
        The loss, a scalar.
    """
    fabric = run.fabric
    labels = labels.move_all(fabric.device)
    clips, targets = labels.targets.shape
    vad = len(VAD) if labels.ranks is not None and getattr(run.model.config, "vad_head", False) else 0
    everyone = torch.zeros((clips, targets + vad), device=fabric.device)
    for indices, part in predictions:
        everyone[indices] = part.detach().to(everyone.dtype)
    everyone = add_up(fabric, everyone).requires_grad_()
    loss = everyone.sum() * 0 if labels.ranks is not None else torch.zeros((), device=fabric.device)
    if not run.loss.decomposes and targets:
        loss = loss + _compute_loss(run, everyone[:, :targets], labels.targets, labels.weights)
    if labels.ranks is not None:
        ranks = labels.ranks
        values = torch.stack([everyone[:, column] for column in ranks.columns], dim=1)
        loss = loss + run.settings.rank_weight * compute_rank_loss(
            values, ranks.ranks, ranks.groups, ranks.temperature
        )
    loss.backward()
    gradient = everyone.grad
    if predictions and gradient is not None:
        torch.autograd.backward(
            [*(part for _, part in predictions), *waiting],
            [*(gradient[indices] for indices, _ in predictions), *(None for _ in waiting)],
        )
    return loss.detach()


def add_up(fabric: Any, tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over processes."""
    total: Tensor = fabric.all_reduce(tensor, reduce_op="sum") if fabric.world_size > 1 else tensor
    return total


def add_gradients(run: Run) -> None:
    """Sum the gradients over processes; a parameter that one of them didn't use counts as zero there.

    A parameter that no process used has no gradient, as in a single process, and thus no weight decay.
    """
    if run.fabric.world_size == 1:
        return
    trained = [p for p in run.model.parameters() if p.requires_grad]
    flat = [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in trained]
    users = torch.tensor([float(p.grad is not None) for p in trained], device=run.fabric.device)
    *parts, users = add_up(run.fabric, torch.cat([*flat, users])).split(
        [*(p.numel() for p in trained), len(trained)]
    )
    for parameter, part, used in zip(trained, parts, users.tolist(), strict=True):
        parameter.grad = part.view_as(parameter).clone() if used else None


def compute_rate(step: int, per_epoch: int, settings: TrainSettings) -> float:
    """Return the fraction of the peak learning rate at a step: linear warm-up, then the schedule (paper section 4)."""
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
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, past / length)))


def seed(number: int, step: int, rank: int) -> None:
    """Seed a step's randomness from (seed, step, rank); transformers draws feature masks from NumPy's generator."""
    words = np.random.SeedSequence((number, step, rank)).generate_state(2)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 - the generator that transformers uses
