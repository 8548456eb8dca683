"""The training loop: open a run, fit, validate, keep the best; interruptible at any step, resumable to the bit."""

import contextlib
import logging
import math
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from emimic import batching, metrics
from emimic.baselines import fusion
from emimic.baselines.model import BaselineModel
from emimic.cpus import available, launched
from emimic.data import loader, sampling
from emimic.data.corpus import Item
from emimic.files import hold, naming, write_atomic
from emimic.progress import bar
from emimic.task import VAD, SettingsError
from emimic.training import checkpoint, signals, step
from emimic.training import setup as runs
from emimic.training.settings import TrainSettings, check_new
from emimic.training.setup import TENSORBOARD, Run

_LOG: Final = logging.getLogger("emimic.train")


@dataclass(frozen=True)
class Result:
    """How a run ended. history: one dict an epoch (epoch, steps, loss, validation Pearson: mean and per target; of
    several corpora, the means over them, and of each its own)."""

    folder: Path
    targets: tuple[str, ...]
    history: tuple[dict[str, Any], ...]
    best_epoch: int | None
    signal: int | None = None  # the signal that stopped it early, if one did
    fused: str = ""  # of a baseline, the weights of its members, if they were searched
    left_out: tuple[str, ...] = ()  # "split: clip: reason" of every listed clip that couldn't be used

    def table(self) -> str:
        """One line an epoch, then where the best model is."""
        corpora = list(dict.fromkeys(name for entry in self.history for name in entry.get("corpora", {})))
        names = [*self.targets, *corpora]
        width = max(len(name) for name in names)
        lines = [f"epoch     loss  {'mean':>7}  " + "  ".join(f"{name:>{width}}" for name in names)]
        for entry in self.history:
            rho = [entry.get("pearson"), *(entry.get("targets", {}).get(name) for name in self.targets)]
            rho += [entry.get("corpora", {}).get(name, {}).get("watched") for name in corpora]
            cells = (
                ["undef." if r is None else f"{r:.4f}" for r in rho]
                if "pearson" in entry
                else ["-"] * len(rho)
            )
            best = " *" if entry["epoch"] == self.best_epoch else ""
            rest = "  ".join(f"{cell:>{width}}" for cell in cells[1:])
            lines.append(f"{entry['epoch']:5d} {entry['loss']:8.5f}  {cells[0]:>7}  {rest}{best}")
        if self.best_epoch is not None:
            scored = "pearson" in self.history[-1]
            what = "validation Pearson" if scored else "no validation: all clips were trained on"
            lines.append(f"{what}; the model of epoch {self.best_epoch} is in {self.folder}")
        if any(None in [e.get("pearson", 0), *e.get("targets", {}).values()] for e in self.history):
            lines.append(
                "undef.: predictions or labels are constant. To compare epochs, a target with constant labels is left "
                "out of the mean, one with constant predictions counts as 0"
            )
        if self.fused:
            lines.append(self.fused)
        if self.left_out:
            more = (
                [f"and {len(self.left_out) - 20} more (train.json counts them)"] if self.left_out[20:] else []
            )
            lines += [f"{len(self.left_out)} listed clips were left out:", *self.left_out[:20], *more]
        return "\n".join(lines)


def train(
    folder: Path | Sequence[Path],
    out: Path,
    settings: TrainSettings | None = None,
    *,
    resume: bool = False,
    show: bool = True,
) -> Result:
    """Train on the corpus in `folder`, the run kept in `out` (paper section 4).

    folder: or several, of which the first makes the epochs; `settings.corpora` says how each counts.
    settings: None means the paper's, or with `resume` the run's own; with a `teacher`, its answers must be there
    already (`emimic distill` lets it answer first). show: progress bars. Raises EmimicError when the
    corpus, the settings or the run folder can't be used, another training uses that folder, or the loss stops being
    finite. A first SIGTERM or SIGINT saves after the current step and returns with `signal` set.
    """
    with _held(out):
        settings = _settings(out, settings, resume=resume)
        return _train(folder, out, settings, resume=resume, show=show)


@contextlib.contextmanager
def _held(out: Path) -> Iterator[None]:
    """Keep other trainings out of a run's folder; of several processes the first one does."""
    if launched("RANK", 0):
        yield
        return
    with contextlib.ExitStack() as stack:
        with naming(out):
            ours = stack.enter_context(hold(out / checkpoint.LOCK))
        if not ours:
            raise SettingsError(
                f"{out} is in use: another training writes to it. Wait for it to end, or name another folder"
            )
        yield


def _settings(out: Path, settings: TrainSettings | None, *, resume: bool) -> TrainSettings:
    """What a run is trained with; SettingsError where its folder and `resume` don't go together."""
    if not resume:
        check_new(out)
    elif (out / checkpoint.SETTINGS).exists():
        stored = checkpoint.read_settings(out)
        if settings is not None and settings != stored:
            names = [n for n in TrainSettings.model_fields if getattr(settings, n) != getattr(stored, n)]
            raise SettingsError(
                f"{out} was started with other settings ({', '.join(names)} differ); "
                "resume without them, or start another run"
            )
        settings = stored
    elif settings is None:
        raise SettingsError(
            f"{out} holds no run to resume: give its settings too, or start it without --resume"
        )
    return settings or TrainSettings.read()


def _train(
    folder: Path | Sequence[Path], out: Path, settings: TrainSettings, *, resume: bool, show: bool
) -> Result:
    fused = ""
    with _denormals_flushed(), _threads(settings.threads), _own_randomness():
        run = runs.open_run(folder, out, settings, resume=resume, show=show)
        with _signals(run):
            _fit(run)
            if run.progress.finished and run.valid is not None and run.fabric.is_global_zero:
                fused = _settle(run, run.valid)
            if run.progress.finished and run.fabric.is_global_zero:
                shutil.rmtree(out / checkpoint.FROZEN, ignore_errors=True)
    run.fabric.barrier()
    state = run.progress
    return Result(
        folder=out,
        targets=tuple(run.model.config.targets) or VAD,
        history=tuple(state.history),
        best_epoch=state.best_epoch,
        signal=run.stopped_by,
        fused=fused,
        left_out=run.left_out,
    )


class _StopValidationError(BaseException):
    """A signal came while validating; nothing is lost, as the epoch's last step was saved before."""


# The loop


def _fit(run: Run) -> None:
    settings, state = run.settings, run.progress
    count = sum(len(pool.rows) if pool.count is None else pool.count for pool in run.pools)
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
            try:
                _end_epoch(run)
            except _StopValidationError:
                run.stopped_by = run.signalled
                return
        state.finished = True


def _epoch(run: Run, per_epoch: int, tell: Any) -> None:
    """The rest of an epoch from `progress.step` on."""
    settings, state, fabric = run.settings, run.progress, run.fabric
    all_steps = sampling.steps(run.pools, settings.batch_size, seed=settings.seed, epoch=state.epoch)
    waiting = all_steps[state.step :]
    mine = [rows[fabric.global_rank :: fabric.world_size] for rows in waiting]
    run.model.train()
    decoded = loader.decoded(run.train, mine, workers=settings.workers, epoch=state.epoch)
    for rows, own, clips in zip(waiting, mine, decoded, strict=True):
        step.seed(settings.seed, state.total_steps, fabric.global_rank)
        share = step.rate(state.total_steps, per_epoch, settings)
        for group in run.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        loss = step.take(run, rows, own, clips)
        state.step += 1
        state.total_steps += 1
        state.loss_sum += loss * len(rows)
        state.loss_clips += len(rows)
        mean = state.loss_sum / state.loss_clips
        tell(f"epoch {state.epoch + 1} loss {mean:.4f}")
        if run.log is not None:
            with naming(run.folder / TENSORBOARD):
                run.log.add_scalar("loss/step", loss, state.total_steps)
        run.stopped_by = _agreed(run)
        due = state.step == per_epoch or state.total_steps % settings.checkpoint_steps == 0
        if due or run.stopped_by is not None:
            _save(run)  # also before the validation, which may take long
        if run.stopped_by is not None:
            return


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
    if run.fabric.world_size > 1:
        entry = run.fabric.broadcast(entry)  # a last bit that differs must not part the processes
    score = entry.get("watched")
    # Without anything to compare by, the newest model is the one to keep.
    better = score is None or state.best_score is None or score > state.best_score
    if better:
        state.best_score, state.best_epoch = score, state.epoch + 1
        if run.fabric.is_global_zero:
            checkpoint.write_model(run.folder, run.model, run.average)
    state.history.append(entry)
    _LOG.info(
        "epoch %d: loss %.4f, validation Pearson %s", entry["epoch"], entry["loss"], entry.get("pearson")
    )
    state.epoch, state.step, state.loss_sum, state.loss_clips = state.epoch + 1, 0, 0.0, 0
    waited = state.epoch - (state.best_epoch or state.epoch)
    watched = run.valid is not None and settings.patience is not None
    state.finished = state.epoch == settings.epochs or (watched and waited >= (settings.patience or 0))
    if run.log is not None:
        with naming(run.folder / TENSORBOARD):
            run.log.add_scalar("loss/epoch", entry["loss"], entry["epoch"])
            for name, value in _rho(entry).items():
                if value is not None:
                    run.log.add_scalar(f"pearson/{name}", value, entry["epoch"])
            run.log.flush()
    _save(run)


def _rho(entry: dict[str, Any]) -> dict[str, float | None]:
    """Every correlation of an epoch by the name it is logged under."""
    found: dict[str, float | None] = {"mean": entry.get("pearson")}
    found |= entry.get("targets", {}) | entry.get("vad_targets", {})
    for corpus, own in entry.get("corpora", {}).items():
        found |= {f"{corpus}/{name}": value for name, value in _rho(own).items()}
    return found


def _validate(run: Run, source: loader.Source) -> dict[str, Any]:
    """Pearson on validation, of the averaged weights when there are any; undefined ones are None.

    `watched` is what epochs are compared by: the mean over the targets (of a model without any, over VAD) whose labels
    vary, constant predictions counting as 0; None when none does. Of several corpora, the mean of each one's.
    """
    with _averaged(run), _interruptible(run):
        answers, vad = _answers(run, source)
    corpora = list(dict.fromkeys(item.corpus for item in source.items))
    if corpora == [""]:
        return _entry(run, source.items, answers, vad)
    entries = {}
    for name in corpora:
        rows = [row for row, item in enumerate(source.items) if item.corpus == name]
        entries[name] = _entry(run, [source.items[row] for row in rows], answers[rows], vad[rows])
    return _joined(entries)


def _answers(run: Run, source: loader.Source) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """As `batches.answer`, each process its share of the clips."""
    fabric = run.fabric
    own = slice(fabric.global_rank, None, fabric.world_size)
    found = loader.answer(
        run.model,
        replace(source, items=source.items[own]),
        batch_seconds=run.settings.batch_seconds,
        workers=run.settings.workers,
        progress=run.show,
        label="validating",
    )
    if fabric.world_size == 1:
        return found
    together = []
    for part in found:
        whole = torch.zeros(len(source.items), part.shape[1], device=fabric.device)
        whole[own] = torch.from_numpy(part).to(fabric.device)
        together.append(step.summed(fabric, whole).cpu().numpy())
    return together[0], together[1]


def _joined(entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The means over corpora, where a corpus has a value; of one whose targets have none, V/A/D are watched."""
    for own in entries.values():
        own["watched"] = own.get("vad_watched") if own["watched"] is None else own["watched"]
    targets = {
        name: _mean([own["targets"].get(name) for own in entries.values()])
        for own in entries.values()
        for name in own["targets"]
    }
    watched = _mean([own["watched"] for own in entries.values()])
    return {"pearson": watched, "watched": watched, "targets": targets, "corpora": entries}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _entry(
    run: Run, items: Sequence[Item], answers: NDArray[np.float32], vad: NDArray[np.float32]
) -> dict[str, Any]:
    """The scores of one corpus's clips."""
    found: dict[str, Any] = {}
    if run.model.config.predicts_vad:
        truth = np.stack([runs.vad_of(item) for item in items])
        if np.isfinite(truth).any():
            found = {"vad_" + name: value for name, value in _scored(vad, truth, VAD).items()}
    targets = run.model.config.targets
    if not targets:
        nothing: dict[str, Any] = {"pearson": None, "watched": None, "targets": {}}
        return nothing | {name.removeprefix("vad_"): value for name, value in found.items()}
    labels = np.stack([runs.labels_of(item) for item in items])
    return found | _scored(answers, labels, targets)


def _scored(
    answers: NDArray[np.float32], labels: NDArray[np.float32], names: Sequence[str]
) -> dict[str, Any]:
    """Pearson of each target over the clips whose label is known (NaN where not)."""
    rho = metrics.pearson(answers, labels)
    known = np.isfinite(labels)
    lowest = labels.min(axis=0, where=known, initial=np.inf)
    varied = lowest < labels.max(axis=0, where=known, initial=-np.inf)
    watched = float(np.nan_to_num(rho[varied]).mean()) if varied.any() else None
    named = {name: None if math.isnan(r) else float(r) for name, r in zip(names, rho, strict=True)}
    mean = float(np.mean(rho))
    return {"pearson": None if math.isnan(mean) else mean, "watched": watched, "targets": named}


@contextlib.contextmanager
def _interruptible(run: Run) -> Iterator[None]:
    """A signal ends what happens here at once; with several processes only after the next step, by agreement."""
    run.interruptible = run.fabric.world_size == 1
    try:
        if run.interruptible and run.signalled is not None:
            raise _StopValidationError
        yield
    finally:
        run.interruptible = False


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


def _settle(run: Run, source: loader.Source) -> str:
    """Search the weights of a finished baseline's fusion, if it has any to search, and keep them with its best model.

    Returns what they are, and what they come to.
    """
    if not isinstance(run.model, BaselineModel) or run.model.options.fusion == "mean":
        return ""
    best = BaselineModel.open_run(run.folder)
    groups = batching.chunks(len(source.items))
    answers, heard = [], []
    for clips in loader.decoded(source, groups, workers=run.settings.workers):
        some = best.predict_members(
            [clip.values for clip in clips], batch_seconds=run.settings.batch_seconds, encoded=source.encoded
        )
        answers.append(some[0])
        heard.append(some[1])
    labels = np.stack([runs.labels_of(item) for item in source.items])
    each = run.model.options.fusion == "emotion"
    found = fusion.search(np.concatenate(answers), np.concatenate(heard), labels, each=each)
    weights = {name: row.tolist() for name, row in zip(best.members, found, strict=True)}
    config = best.config.model_copy(update={"weights": weights})
    write_atomic(run.folder / "config.json", config.to_json_string())
    rho = metrics.pearson(fusion.join_all(np.concatenate(answers), np.concatenate(heard), found), labels)
    told = "; ".join(f"{name} {', '.join(f'{value:.1f}' for value in row)}" for name, row in weights.items())
    return (
        f"the epochs were compared with equal weights; those found on validation ({', '.join(best.config.targets)}): "
        f"{told}; with them its mean Pearson is {np.mean(rho):.4f}"
    )


# Around the loop


def _save(run: Run) -> None:
    if run.fabric.is_global_zero:
        checkpoint.write_last(run.folder, run.progress, run.model, run.optimizer, run.average)


def _agreed(run: Run) -> int | None:
    """The signal to stop by, once any process has got one: all must leave at the same step."""
    if run.fabric.world_size == 1:
        return run.signalled
    word = torch.tensor(float(run.signalled or 0), device=run.fabric.device)
    return int(run.fabric.all_reduce(word, reduce_op="max")) or None


@contextlib.contextmanager
def _signals(run: Run) -> Iterator[None]:
    """SIGTERM and a first Ctrl-C: finish the step (drop a validation), save, leave. A second one interrupts at once."""

    def stop(number: int) -> None:
        run.signalled = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if run.interruptible:
            raise _StopValidationError

    with signals.handled(stop):
        yield


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
def _own_randomness() -> Iterator[None]:
    """Give the program its generators back as they were: the start of a run and each of its steps seed them."""
    before = np.random.get_state()  # noqa: NPY002 - the generator that transformers uses
    # Asking CUDA for its generators would start it, also for a training on the CPU.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    # torch knows of no quota.
    torch.set_num_threads(min(before, available()) if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
