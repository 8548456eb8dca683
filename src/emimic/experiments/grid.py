"""A grid of rows x seeds: each a training run in its own folder, so all other commands work on it.

The folder of a run is OUT/<row>/seed-<k>. In it, `grid.json` notes how long the run took, or why it failed. Finished
runs are skipped, interrupted ones resume from their checkpoint, and failed ones are tried again. A lock on each run's
folder lets several commands work on one OUT.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from emimic.evaluation.evaluate import evaluate
from emimic.experiments import corpus_check
from emimic.experiments.jobs import Grid, Job, Row
from emimic.files import hold, write_atomically
from emimic.task import EmimicError, SettingsError
from emimic.training import checkpoint, signals
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

LOCK: Final = ".lock"
PATH_SETTINGS: Final = {"features"}
"""Settings that are paths and don't change what is learned: OUT may be moved."""


class Stopped(BaseException):
    """A signal that ends the grid; every run is saved, and the same command resumes it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number


def plan(
    folder: Path,
    out: Path,
    rows: Sequence[Row],
    seeds: Sequence[int],
    common: TrainSettings,
    defaults: Mapping[str, Any] | None = None,
    **options: Any,
) -> Grid:
    """Return the runs of a grid, checked against those on disk.

    Args:
        folder: the corpus.
        out: the folder of all runs.
        rows: the rows; their settings take precedence over `common`.
        seeds: of each row.
        common: the user's settings, of all rows; they take precedence over `defaults`.
        defaults: settings that the user may override.
        **options: of `Grid`.

    Raises:
        SettingsError: if a run on disk has other settings, or a row or seed appears twice.
    """
    for what, values in (("seeds", seeds), ("rows", [row.name for row in rows])):
        if not values or len(set(values)) < len(values):
            raise SettingsError(f"found the {what} {list(values)}; expected one or more, each once")
    user = common.model_dump(exclude_unset=True)
    jobs = []
    for seed in seeds:  # a first score for every row comes before a second for any
        for row in rows:
            settings = {**(defaults or {}), **row.defaults, **user, **row.settings, "seed": seed}
            if row.settings.keys() & {"encoder", "encoder_config"}:
                for name in {"encoder", "encoder_config", "encoder_layers"} - row.settings.keys():
                    settings[name] = None
            jobs.append(_make_job(out, row, seed, settings))
    for job in jobs:
        _check(job)
    return Grid(folder, out, tuple(jobs), **options)


def _make_job(out: Path, row: Row, seed: int, values: dict[str, Any]) -> Job:
    folder = out / row.name / f"seed-{seed}"
    if row.unavailable:
        return Job(row, seed, folder, None, row.unavailable)
    try:
        settings = TrainSettings.model_validate(values)
    except (ValidationError, SettingsError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        return Job(row, seed, folder, None, reason)
    if settings.freeze_encoder and settings.audio and settings.features is None:
        settings = settings.model_copy(update={"features": str(out.resolve() / "features")})
    return Job(row, seed, folder, settings)


def _check(job: Job) -> None:
    if job.settings is None or not (job.folder / checkpoint.SETTINGS).exists():
        return
    stored = checkpoint.read_settings(job.folder)
    if names := [
        name
        for name in TrainSettings.model_fields
        if name not in PATH_SETTINGS and getattr(stored, name) != getattr(job.settings, name)
    ]:
        raise SettingsError(
            f"{job.folder} was started with other settings ({', '.join(names)} differ); run the grid with those, or "
            "in another folder"
        )


def run_jobs(grid: Grid, log: Callable[[str], None]) -> None:
    """Train and score every run that isn't done, one after another.

    A run that fails is logged, noted in its folder, and skipped.

    Raises:
        Stopped: on SIGTERM or Ctrl-C.
    """
    begun = time.time_ns()
    with raise_on_signal():
        for job in grid.jobs:
            _run_job(grid, job, log, begun=begun)


def _run_job(grid: Grid, job: Job, log: Callable[[str], None], *, begun: int) -> None:
    """Train and score one run, unless it is done, another process holds it, or it has failed since `begun` (ns)."""
    if job.is_settled(grid.split, begun):
        return
    with hold(job.folder / LOCK) as acquired:
        if not acquired:
            log(f"{job.row.name} seed {job.seed}: another process is at it")
            return
        if job.is_settled(grid.split, begun):
            return
        log(f"{job.row.name} seed {job.seed}")
        try:
            _complete(grid, job)
        except (EmimicError, OSError, RuntimeError, ImportError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            job.update_notes(reason=reason)
            log(f"{job.row.name} seed {job.seed} failed: {reason}")


def _complete(grid: Grid, job: Job) -> None:
    """Train to the end, and score."""
    if job.settings is None:
        raise SettingsError(job.reason)
    if "reason" in job.read_notes():  # of a former attempt
        job.update_notes(reason=None)
    if not job.finished:
        started = time.monotonic()
        try:
            if grid.processes > 1:
                _train_by_torchrun(grid, job, job.settings)
            else:
                _train(grid, job, job.settings)
        finally:
            seconds = job.read_notes().get("seconds", 0.0) + time.monotonic() - started
            job.update_notes(seconds=round(seconds, 1))
    stored = checkpoint.read_settings(job.folder)
    scored = job.read_notes().get("scored", {})
    digest = corpus_check.digest_split(grid.folder, job.folder, grid.split)
    job.update_notes(scored={**scored, grid.split: digest})
    evaluate(
        job.folder, grid.folder, split=grid.split, batch_seconds=stored.seconds_in_batch, workers=stored.workers,
        progress=grid.show, cached=stored.freeze_encoder and stored.audio, draw=False,
    )  # fmt: skip


def _train(grid: Grid, job: Job, settings: TrainSettings) -> None:
    stored = job.folder / checkpoint.SETTINGS
    # `plan` has compared them; those on disk name the folder where the features were at the start.
    result = train(
        grid.folder, job.folder, None if stored.exists() else settings, resume=True, show=grid.show
    )
    if result.signal is not None:
        raise Stopped(result.signal)


def _train_by_torchrun(grid: Grid, job: Job, settings: TrainSettings) -> None:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(grid.processes)]
    words += ["-m", "emimic", "train", str(grid.folder), "--out", str(job.folder), "--resume", "--quiet"]
    if not (job.folder / checkpoint.SETTINGS).exists():
        file = job.folder / "settings.yaml"
        write_atomically(file, yaml.safe_dump(settings.model_dump(mode="json")))
        words += ["--config", str(file)]
    child = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, stderr = child.communicate()
    except BaseException:
        child.terminate()  # its processes finish their step and save
        child.wait()
        raise
    if child.returncode:
        messages = [line for line in stderr.splitlines() if line.startswith("emimic: ")]
        raise EmimicError(
            messages[-1].removeprefix("emimic: ") if messages else f"torchrun ended with {child.returncode}"
        )


@contextlib.contextmanager
def raise_on_signal() -> Iterator[None]:
    """Raise Stopped on SIGTERM and Ctrl-C; a training saves first."""

    def stop(number: int) -> None:
        raise Stopped(number)

    with signals.handle(stop):
        yield
