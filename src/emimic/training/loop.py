"""Training loop: set up, fit, validate, keep the best; interruptible at any step, resumable bit by bit."""

import contextlib
import logging
import math
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from emimic.cpus import read_launcher_variable
from emimic.data import loader, sampling
from emimic.files import hold, name_errors
from emimic.progress import make_bar
from emimic.task import VAD, SettingsError
from emimic.training import checkpoint, signals, step, validation
from emimic.training import setup as runs
from emimic.training.process import flush_denormals, restore_generators, use_tf32, use_threads
from emimic.training.result import Result
from emimic.training.settings import TrainSettings, check_new
from emimic.training.setup import TENSORBOARD, Run

_LOG: Final = logging.getLogger("emimic.train")


def train(
    folder: Path | Sequence[Path],
    out: Path,
    settings: TrainSettings | None = None,
    *,
    resume: bool = False,
    show: bool = True,
) -> Result:
    """Train on the corpus in `folder` (paper section 4).

    A first SIGTERM or SIGINT saves after the current step and returns with `signal` set.

    Args:
        folder: a corpus, or several, of which the first defines an epoch; `settings.corpora` weights them.
        out: the run folder.
        settings: None: the paper's, or with `resume` the run's own. With a `teacher`, its predictions must be cached
            already (`emimic distill` writes them).
        resume: continue the run in `out`, if there is one.
        show: show progress bars.

    Raises:
        EmimicError: if the corpus, the settings or the run folder can't be used, another training uses that folder,
            or the loss is no longer finite.
    """
    with _lock(out):
        settings = _read_settings(out, settings, resume=resume)
        return _train(folder, out, settings, resume=resume, show=show)


@contextlib.contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Lock a run folder against other trainings; the first of several processes does."""
    if read_launcher_variable("RANK", 0):
        yield
        return
    with hold(out / checkpoint.LOCK) as locked:
        if not locked:
            raise SettingsError(
                f"{out} is in use: another training writes to it. Wait for it to end, or name another folder"
            )
        yield


def _read_settings(out: Path, settings: TrainSettings | None, *, resume: bool) -> TrainSettings:
    """Return the settings of a run. Raises SettingsError where its folder and `resume` don't fit together."""
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
    with flush_denormals(), use_tf32(), use_threads(settings.threads), restore_generators():
        run = runs.open_run(folder, out, settings, resume=resume, show=show)
        with _handle_signals(run):
            try:
                _fit(run)
            finally:
                run.writer.wait()
            if run.progress.finished and run.valid is not None and run.fabric.is_global_zero:
                fused = validation.search_fusion(run, run.valid)
            if run.progress.finished and run.fabric.is_global_zero:
                shutil.rmtree(out / checkpoint.FROZEN, ignore_errors=True)
    run.fabric.barrier()
    progress = run.progress
    return Result(
        folder=out,
        targets=tuple(run.model.config.targets) or VAD,
        history=tuple(progress.history),
        best_epoch=progress.best_epoch,
        signal=run.stopped_by,
        fused=fused,
        left_out=run.left_out,
    )


# The loop


def _fit(run: Run) -> None:
    settings, progress = run.settings, run.progress
    count = sum(len(pool.rows) if pool.count is None else pool.count for pool in run.pools)
    per_epoch = math.ceil(count / settings.batch_size)
    log = contextlib.nullcontext() if run.log is None else contextlib.closing(run.log)
    with log, make_bar(show=run.show) as shown:
        task = shown.add_task("training", total=settings.epochs * per_epoch)

        def update(text: str) -> None:
            shown.update(task, completed=progress.total_steps, description=text)

        while progress.epoch < settings.epochs and not progress.finished:
            _train_epoch(run, per_epoch, update)
            if run.stopped_by is not None:
                return
            try:
                _end_epoch(run)
            except validation.StopValidationError:
                run.stopped_by = run.signalled
                return
        progress.finished = True


def _train_epoch(run: Run, per_epoch: int, update: Callable[[str], None]) -> None:
    """Take the rest of an epoch's steps, from `progress.step` on; `update` shows a text."""
    settings, progress, fabric = run.settings, run.progress, run.fabric
    steps = sampling.plan_steps(run.pools, settings.batch_size, seed=settings.seed, epoch=progress.epoch)
    steps = steps[progress.step :]
    mine = [rows[fabric.global_rank :: fabric.world_size] for rows in steps]
    run.model.train()
    decoded = loader.decode_ahead(run.train, mine, workers=settings.workers, epoch=progress.epoch)
    waiting: list[tuple[torch.Tensor, list[int], int]] = []
    for rows, own, clips in zip(steps, mine, decoded, strict=True):
        step.seed(settings.seed, progress.total_steps, fabric.global_rank)
        fraction = step.compute_rate(progress.total_steps, per_epoch, settings)
        for group in run.optimizer.param_groups:
            group["lr"] = group["peak"] * fraction
        loss = step.take(run, rows, own, clips)
        progress.step += 1
        progress.total_steps += 1
        waiting.append((loss, rows, progress.total_steps))
        run.stopped_by = _agree_on_signal(run)
        due = progress.step == per_epoch or progress.total_steps % settings.checkpoint_steps == 0
        saves = due or run.stopped_by is not None
        # The last step's loss is read after the next one was queued, so that a GPU always has work.
        while len(waiting) > (0 if saves else 1):
            _log_step(run, *waiting.pop(0), update)
        if saves:
            _save(run)  # also before the validation, which may take long
        if run.stopped_by is not None:
            return


def _log_step(
    run: Run, loss: torch.Tensor, rows: list[int], number: int, update: Callable[[str], None]
) -> None:
    """Read the loss of step `number` and add it to the epoch's. Raises EmimicError if it isn't finite."""
    progress, value = run.progress, step.check_finite(run, loss, rows, number)
    progress.loss_sum += value * len(rows)
    progress.loss_clips += len(rows)
    update(f"epoch {progress.epoch + 1} loss {progress.loss_sum / progress.loss_clips:.4f}")
    if run.log is not None:
        with name_errors(run.folder / TENSORBOARD):
            run.log.add_scalar("loss/step", value, number)


def _end_epoch(run: Run) -> None:
    """Validate, keep the best, decide whether to stop, save."""
    progress, settings = run.progress, run.settings
    entry: dict[str, Any] = {
        "epoch": progress.epoch + 1,
        "steps": progress.total_steps,
        "loss": progress.loss_sum / progress.loss_clips,
    }
    if run.valid is not None:
        entry |= validation.validate(run, run.valid)
    if run.fabric.world_size > 1:
        entry = run.fabric.broadcast(entry)  # else a last bit that differs could stop one process only
    score = entry.get("watched")
    # Without a score the newest model is kept.
    better = score is None or progress.best_score is None or score > progress.best_score
    if better:
        progress.best_score, progress.best_epoch = score, progress.epoch + 1
        if run.fabric.is_global_zero:
            run.writer.wait()  # a model is never newer than the state before it
            checkpoint.write_model(run.folder, run.model, run.average)
    progress.history.append(entry)
    progress.epoch, progress.step = progress.epoch + 1, 0
    progress.loss_sum, progress.loss_clips = 0.0, 0
    waited = progress.epoch - (progress.best_epoch or progress.epoch)
    watched = run.valid is not None and settings.patience is not None
    progress.finished = progress.epoch == settings.epochs or (watched and waited >= (settings.patience or 0))
    _log_epoch(run, entry)
    _save(run)


def _log_epoch(run: Run, entry: dict[str, Any]) -> None:
    _LOG.info(
        "epoch %d: loss %.4f, validation Pearson %s", entry["epoch"], entry["loss"], entry.get("pearson")
    )
    if run.log is not None:
        with name_errors(run.folder / TENSORBOARD):
            run.log.add_scalar("loss/epoch", entry["loss"], entry["epoch"])
            for name, value in validation.list_scores(entry).items():
                if value is not None:
                    run.log.add_scalar(f"pearson/{name}", value, entry["epoch"])
            run.log.flush()


# Around the loop


def _save(run: Run) -> None:
    if run.fabric.is_global_zero:
        state = checkpoint.copy_state(run.folder, run.progress, run.model, run.optimizer, run.average)
        run.writer.write(state)


def _agree_on_signal(run: Run) -> int | None:
    """Return the signal to stop by, once any process has received one: all must stop at the same step."""
    if run.fabric.world_size == 1:
        return run.signalled
    number = torch.tensor(float(run.signalled or 0), device=run.fabric.device)
    return int(run.fabric.all_reduce(number, reduce_op="max")) or None


@contextlib.contextmanager
def _handle_signals(run: Run) -> Iterator[None]:
    """Stop at SIGTERM and a first Ctrl-C: finish the step (abort a validation), save. A second one interrupts."""

    def stop(number: int) -> None:
        run.signalled = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if run.interruptible:
            raise validation.StopValidationError

    with signals.handle(stop):
        yield
