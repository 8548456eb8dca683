"""The training loop: setup -> fit -> validate, on Lightning Fabric, interruptible at any step.

Everything random in a step (dropout, SpecAugment, LayerDrop, the order of clips) follows from (seed, step, rank), so
a resumed run repeats the uninterrupted one bit for bit on a CPU. Several processes share each step's clips; their
gradients are added by hand, which needs no second wrapper around the model and no parameter to be used.
"""

import contextlib
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from emimic import scores
from emimic.model import EmiConfig, EmiModel
from emimic.progress import bar
from emimic.study import batches, checkpoint, features
from emimic.study.corpus import Corpus, Item, load_corpus
from emimic.study.losses import Mix
from emimic.study.settings import TrainSettings
from emimic.task import CorpusError, EmimicError, SettingsError


@dataclass(frozen=True)
class Result:
    """How a run ended. history: one dict an epoch (epoch, steps, loss, validation Pearson: mean and per target)."""

    folder: Path
    targets: tuple[str, ...]
    history: tuple[dict[str, Any], ...]
    best_epoch: int | None
    signal: int | None = None  # the signal that stopped it early, if one did

    def table(self) -> str:
        """One line an epoch, then where the best model is."""
        width = max(len(name) for name in self.targets)
        lines = [f"epoch     loss  {'mean':>7}  " + "  ".join(f"{name:>{width}}" for name in self.targets)]
        for entry in self.history:
            rho = [entry.get("pearson"), *(entry.get("targets", {}).get(name) for name in self.targets)]
            cells = (
                ["undef." if r is None else f"{r:.4f}" for r in rho]
                if "pearson" in entry
                else ["-"] * len(rho)
            )
            best = " *" if entry["epoch"] == self.best_epoch else ""
            rest = "  ".join(f"{cell:>{width}}" for cell in cells[1:])
            lines.append(f"{entry['epoch']:5d} {entry['loss']:8.5f}  {cells[0]:>7}  {rest}{best}")
        return "\n".join(
            [*lines, f"validation Pearson; the model of epoch {self.best_epoch} is in {self.folder}"]
        )


@dataclass
class Run:
    """What a training run holds while it runs."""

    folder: Path
    settings: TrainSettings
    fabric: Any
    model: EmiModel
    optimizer: torch.optim.AdamW
    loss: Mix
    train: batches.Source
    valid: batches.Source | None
    progress: checkpoint.Progress
    average: dict[str, Tensor] | None
    show: bool
    log: SummaryWriter | None = None
    signalled: int | None = None  # the signal that this process got
    stopped_by: int | None = None  # the signal that all processes stop by


def train(
    folder: Path, out: Path, settings: TrainSettings | None = None, *, resume: bool = False, show: bool = True
) -> Result:
    """Train on the corpus in `folder`, the run kept in `out` (paper section 4).

    settings: None means the paper's, or with `resume` the run's own. show: progress bars. Raises EmimicError when the
    corpus, the settings or the run folder can't be used, or the loss stops being finite. A first SIGTERM or SIGINT
    saves after the current step and returns with `signal` set.
    """
    if resume and (out / checkpoint.SETTINGS).exists():
        stored = checkpoint.read_settings(out)
        if settings is not None and settings != stored:
            raise SettingsError(
                f"{out} was started with other settings; resume without them, or start another run"
            )
        settings = stored
    elif (out / checkpoint.SETTINGS).exists():
        raise SettingsError(f"{out} already holds a run: resume it (--resume), or name another folder")
    elif resume and settings is None:
        raise SettingsError(
            f"{out} holds no run to resume: give its settings too, or start it without --resume"
        )
    settings = settings or TrainSettings.read()
    with _denormals_flushed(), _threads(settings.threads):
        run = _setup(folder, out, settings, resume=resume, show=show)
        with _signals(run):
            _fit(run)
    run.fabric.barrier()
    state = run.progress
    return Result(
        out, tuple(run.model.config.targets), tuple(state.history), state.best_epoch, run.stopped_by
    )


# Setup


def _setup(folder: Path, out: Path, settings: TrainSettings, *, resume: bool, show: bool) -> Run:
    loss = Mix(settings.loss)
    fabric = _fabric(settings)
    show = show and fabric.is_global_zero
    both = settings.train_on == "train+valid"
    corpus = load_corpus(
        folder,
        targets=settings.targets,
        splits=["train", "valid"],
        label_scale=settings.label_scale,
        workers=settings.workers,
        progress=show,
    )
    if show:
        print(corpus.summary())  # noqa: T201 - the report a run starts with
    items: list[Item] = [*corpus.splits["train"].items, *(corpus.splits["valid"].items if both else ())]
    held_out: Sequence[Item] = () if both else corpus.splits["valid"].items
    torch.manual_seed(settings.seed)
    model = _model(settings, corpus, items).to(fabric.device)
    if settings.gradient_checkpointing:
        # transformers renamed it after 5.20 and warns of the old name.
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    optimizer = _optimizer(model, settings)
    out.mkdir(parents=True, exist_ok=True)
    progress, average = checkpoint.Progress(), None
    if resume and (out / checkpoint.LAST).exists():
        progress, average = checkpoint.read_last(out, model, optimizer)
    elif settings.ema is not None:
        average = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    if fabric.is_global_zero:
        checkpoint.write_settings(out, settings, _facts(folder, corpus, fabric, model))
    learned = _source(model, items, out, settings, fabric, show)
    watched = _source(model, held_out, out, settings, fabric, show) if held_out else None
    log = (
        SummaryWriter(str(out / "tensorboard"), purge_step=progress.total_steps + 1)
        if fabric.is_global_zero
        else None
    )
    return Run(out, settings, fabric, model, optimizer, loss, learned, watched, progress, average, show, log)


def _fabric(settings: TrainSettings) -> Any:
    """One process, or as many as torchrun started."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            strategy="ddp" if world > 1 else "auto",
            devices=local,
            num_nodes=max(1, world // local),
            precision=settings.precision,
        )
    except (ValueError, RuntimeError) as error:
        raise SettingsError(f"accelerator {settings.accelerator!r} can't be used here: {error}") from error
    fabric.launch()
    return fabric


def _model(settings: TrainSettings, corpus: Corpus, items: Sequence[Item]) -> EmiModel:
    names = (
        "freeze_encoder", "freeze_convolutions", "global_vector", "regression_head", "lstm", "vad_head", "lstm_layers",
        "lstm_dropout", "max_seconds",
    )  # fmt: skip
    config: dict[str, Any] = {name: getattr(settings, name) for name in names}
    config["targets"] = list(corpus.targets)
    if settings.standardize_targets:
        labels = np.stack([_labels(item) for item in items]).astype(np.float64)
        spread = labels.std(axis=0)
        config["target_mean"] = labels.mean(axis=0).tolist()
        config["target_std"] = np.where(spread > 0, spread, 1.0).tolist()
    if settings.encoder is not None:
        return EmiModel.from_encoder(settings.encoder, layers=settings.encoder_layers, **config)
    return EmiModel(EmiConfig(encoder_config=settings.encoder_config, **config))


def _labels(item: Item) -> NDArray[np.float32]:
    if item.labels is None:
        raise CorpusError(f"clip {item.id} has no labels; training needs them")
    return item.labels


def _optimizer(model: EmiModel, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over what is trained; the encoder and the VAD head that came with it may have a rate of their own."""
    own = ("encoder.", "vad.") if model.config.vad_pretrained else ("encoder.",)
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name.startswith(own)].append(parameter)
    rates = {True: settings.encoder_lr or settings.lr, False: settings.lr}
    parts = [{"params": groups[of], "peak": rates[of]} for of in (True, False) if groups[of]]
    return torch.optim.AdamW(parts, lr=settings.lr, weight_decay=settings.weight_decay)


def _source(
    model: EmiModel, items: Sequence[Item], out: Path, settings: TrainSettings, fabric: Any, show: bool
) -> batches.Source:
    if not settings.freeze_encoder:
        return batches.waveforms(items, model.config, model.min_samples)
    folder = Path(settings.features) if settings.features else out / "features"
    if not fabric.is_global_zero:
        fabric.barrier()  # the first process computes what the others then read
    source = features.compute(
        model,
        items,
        folder,
        dtype=settings.feature_dtype,
        batch_seconds=settings.batch_seconds,
        workers=settings.workers,
        progress=show,
    )
    if fabric.is_global_zero:
        fabric.barrier()
    return source


def _facts(folder: Path, corpus: Corpus, fabric: Any, model: EmiModel) -> dict[str, Any]:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "versions": {
            name: version(name) for name in ("emimic", "torch", "transformers", "lightning-fabric", "numpy")
        },
        "device": str(fabric.device),
        "processes": fabric.world_size,
        "parameters": {"all": sum(p.numel() for p in model.parameters()), "trained": trained},
        "corpus": {"folder": folder.name, **corpus.report()},
    }


# The loop


def _fit(run: Run) -> None:
    settings, state = run.settings, run.progress
    count = len(run.train.items)
    per_epoch = math.ceil(count / settings.batch_size)
    log = contextlib.nullcontext() if run.log is None else contextlib.closing(run.log)
    with log, bar(show=run.show) as shown:
        task = shown.add_task("training", total=settings.epochs * per_epoch)
        while state.epoch < settings.epochs and not state.finished:
            _epoch(
                run, per_epoch, lambda text: shown.update(task, completed=state.total_steps, description=text)
            )
            if run.stopped_by is not None:
                return
            _end_epoch(run)
        state.finished = True


def _epoch(run: Run, per_epoch: int, tell: Any) -> None:
    """The rest of an epoch from `progress.step` on."""
    settings, state, fabric = run.settings, run.progress, run.fabric
    all_steps = batches.steps(
        len(run.train.items), settings.batch_size, seed=settings.seed, epoch=state.epoch
    )
    waiting = all_steps[state.step :]
    mine = [rows[fabric.global_rank :: fabric.world_size] for rows in waiting]
    run.model.train()
    decoded = batches.decoded(run.train, mine, workers=settings.workers)
    for rows, own, clips in zip(waiting, mine, decoded, strict=True):
        _seed_step(settings.seed, state.total_steps, fabric.global_rank)
        rate = _rate(state.total_steps, per_epoch, settings)
        for group in run.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        loss = _step(run, rows, own, clips)
        state.step += 1
        state.total_steps += 1
        state.loss_sum += loss * len(rows)
        state.loss_clips += len(rows)
        mean = state.loss_sum / state.loss_clips
        tell(f"epoch {state.epoch + 1} loss {mean:.4f}")
        if run.log is not None:
            run.log.add_scalar("loss/step", loss, state.total_steps)
        run.stopped_by = _agreed(run)
        if run.stopped_by is not None or (
            state.step < per_epoch and state.total_steps % settings.checkpoint_steps == 0
        ):
            _save(run)
        if run.stopped_by is not None:
            return


def _step(run: Run, rows: Sequence[int], own: Sequence[int], clips: Sequence[NDArray[Any]]) -> float:
    """One optimiser step over the clips `rows` of which this process holds `own`; returns the loss over all of them."""
    model, fabric = run.model, run.fabric
    forward = model.regress if run.train.encoded else model
    labels = {row: torch.from_numpy(_labels(run.train.items[row])) for row in rows}
    plan = model.plan(
        [len(clip) for clip in clips], batch_seconds=run.settings.batch_seconds, encoded=run.train.encoded
    )
    run.optimizer.zero_grad(set_to_none=True)
    answers: list[tuple[list[int], Tensor]] = []
    total = torch.zeros((), device=fabric.device)
    for part in plan:
        values, mask = model.collate([clips[i] for i in part])
        part_rows = [own[i] for i in part]
        with fabric.autocast():
            predictions = forward(values, mask).intensities.float()
        if run.loss.decomposes:
            # The mean over the step is the weighted mean over its parts, so each part's graph can go at once.
            truth = torch.stack([labels[row] for row in part_rows]).to(fabric.device)
            loss = _loss(run, predictions, truth) * (len(part) / len(rows))
            loss.backward()
            total += loss.detach()
        else:
            answers.append((part_rows, predictions))
    if run.loss.decomposes:
        total = _sum(fabric, total)
    else:
        total = _backward_together(run, rows, answers, torch.stack([labels[row] for row in rows]))
    value = float(total)
    if not math.isfinite(value):
        ids = ", ".join(run.train.items[row].id for row in rows)
        raise EmimicError(
            f"the loss is {value} at step {run.progress.total_steps + 1}; lower lr. Clips: {ids}"
        )
    _add_gradients(run)
    if run.settings.clip_value is not None:
        torch.nn.utils.clip_grad_value_(model.parameters(), run.settings.clip_value)
    run.optimizer.step()
    if run.average is not None and run.settings.ema is not None:
        for name, parameter in model.named_parameters():
            if name in run.average:
                run.average[name].lerp_(parameter.detach(), 1.0 - run.settings.ema)
    return value


def _loss(run: Run, predictions: Tensor, labels: Tensor) -> Tensor:
    spread = run.model.config.target_std
    if spread is not None:  # z-scored targets; the mean cancels
        predictions, labels = predictions / predictions.new_tensor(spread), labels / labels.new_tensor(spread)
    return run.loss(predictions, labels)


def _backward_together(
    run: Run, rows: Sequence[int], answers: Sequence[tuple[list[int], Tensor]], labels: Tensor
) -> Tensor:
    """A correlation needs the whole step: its gradient at all predictions first, then back through each part."""
    fabric = run.fabric
    place = {row: i for i, row in enumerate(rows)}
    everyone = torch.zeros(labels.shape, device=fabric.device)
    for part, predictions in answers:
        everyone[[place[row] for row in part]] = predictions.detach()
    everyone = _sum(fabric, everyone).requires_grad_()
    loss = _loss(run, everyone, labels.to(fabric.device))
    loss.backward()
    gradient = everyone.grad
    if answers and gradient is not None:
        torch.autograd.backward(
            [predictions for _, predictions in answers],
            [gradient[[place[r] for r in part]] for part, _ in answers],
        )
    return loss.detach()


def _sum(fabric: Any, tensor: Tensor) -> Tensor:
    summed: Tensor = fabric.all_reduce(tensor, reduce_op="sum") if fabric.world_size > 1 else tensor
    return summed


def _add_gradients(run: Run) -> None:
    """Sum the gradients over processes; a parameter that one of them didn't use counts as zero there.

    One that none of them used stays without a gradient, as in a single process, so that weight decay passes it by.
    """
    if run.fabric.world_size == 1:
        return
    trained = [p for p in run.model.parameters() if p.requires_grad]
    flat = [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in trained]
    users = torch.tensor([float(p.grad is not None) for p in trained], device=run.fabric.device)
    *parts, users = _sum(run.fabric, torch.cat([*flat, users])).split(
        [*(p.numel() for p in trained), len(trained)]
    )
    for parameter, part, used in zip(trained, parts, users.tolist(), strict=True):
        parameter.grad = part.view_as(parameter).clone() if used else None


def _rate(step: int, per_epoch: int, settings: TrainSettings) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine to 0 at the last step (paper section 4)."""
    warm = settings.warmup_epochs * per_epoch
    if step < warm:
        return (step + 1) / (warm + 1)
    share = (step - warm) / max(1.0, settings.epochs * per_epoch - warm)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


def _end_epoch(run: Run) -> None:
    """Validate, keep the best, decide whether to go on, save."""
    state, settings = run.progress, run.settings
    entry: dict[str, Any] = {
        "epoch": state.epoch + 1,
        "steps": state.total_steps,
        "loss": state.loss_sum / state.loss_clips,
    }
    if run.valid is not None:
        entry |= _validate(run, run.valid)
    score = entry.get("pearson")
    better = (
        run.valid is None
        or state.best_epoch is None
        or (score is not None and (state.best_score is None or score > state.best_score))
    )
    if better:
        state.best_score, state.best_epoch = score, state.epoch + 1
        if run.fabric.is_global_zero:
            checkpoint.write_model(run.folder, run.model, run.average)
    state.history.append(entry)
    state.epoch, state.step, state.loss_sum, state.loss_clips = state.epoch + 1, 0, 0.0, 0
    waited = state.epoch - (state.best_epoch or state.epoch)
    watched = run.valid is not None and settings.patience is not None
    state.finished = state.epoch == settings.epochs or (watched and waited >= (settings.patience or 0))
    if run.log is not None:
        run.log.add_scalar("loss/epoch", entry["loss"], entry["epoch"])
        for name, value in ({"mean": score} | entry.get("targets", {})).items():
            if value is not None:
                run.log.add_scalar(f"pearson/{name}", value, entry["epoch"])
        run.log.flush()
    _save(run)


def _validate(run: Run, source: batches.Source) -> dict[str, Any]:
    """Pearson on validation, of the averaged weights when there are any; undefined ones are None."""
    with _averaged(run):
        answers = batches.answer(
            run.model,
            source,
            batch_seconds=run.settings.batch_seconds,
            workers=run.settings.workers,
            progress=run.show,
        )
    rho = scores.pearson(answers, np.stack([_labels(item) for item in source.items]))
    named = {
        name: None if math.isnan(r) else float(r)
        for name, r in zip(run.model.config.targets, rho, strict=True)
    }
    mean = float(np.mean(rho))
    return {"pearson": None if math.isnan(mean) else mean, "targets": named}


@contextlib.contextmanager
def _averaged(run: Run) -> Iterator[None]:
    """The averaged weights in the model's place for a while."""
    if run.average is None:
        yield
        return
    parameters = dict(run.model.named_parameters())
    own = {name: parameters[name].detach().clone() for name in run.average}
    with torch.no_grad():
        for name, tensor in run.average.items():
            parameters[name].copy_(tensor)
        try:
            yield
        finally:
            for name, tensor in own.items():
                parameters[name].copy_(tensor)


# Around the loop


def _save(run: Run) -> None:
    if run.fabric.is_global_zero:
        checkpoint.write_last(run.folder, run.progress, run.model, run.optimizer, run.average)


def _seed_step(seed: int, step: int, rank: int) -> None:
    """All randomness of a step from (seed, step, rank); transformers draws feature masks from NumPy's generator."""
    words = np.random.SeedSequence((seed, step, rank)).generate_state(2)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 - the generator that transformers uses


def _agreed(run: Run) -> int | None:
    """The signal to stop by, once any process has got one: all must leave at the same step."""
    if run.fabric.world_size == 1:
        return run.signalled
    word = torch.tensor(float(run.signalled or 0), device=run.fabric.device)
    return int(run.fabric.all_reduce(word, reduce_op="max")) or None


@contextlib.contextmanager
def _signals(run: Run) -> Iterator[None]:
    """SIGTERM and a first Ctrl-C: finish the step, save, leave. A second Ctrl-C interrupts at once."""

    def stop(number: int, _: Any) -> None:
        run.signalled = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # not in the main thread: signals are somebody else's
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _denormals_flushed() -> Iterator[None]:
    """The LSTM's backward pass decays into denormal numbers, which CPUs handle 13 times slower than zeros."""
    before = sys.float_info.min / 2 == 0.0  # torch doesn't tell
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
