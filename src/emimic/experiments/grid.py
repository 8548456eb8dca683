"""A grid of cells x seeds: each a plain training run in its own folder, so every other verb works on it.

DIR/<cell>/seed-<k> is the run; beside it `grid.json` keeps what it took, or why it failed. What is finished stays, what
was interrupted goes on from its checkpoint, what failed is tried once more. A run is held by a lock on its folder, so
that several commands may work on one DIR.
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
from emimic.experiments.jobs import Cell, Grid, Job
from emimic.files import lock, make_folder, naming, write_atomic
from emimic.task import EmimicError, SettingsError
from emimic.training import checkpoint, signals
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

LOCK: Final = ".lock"
PLACES: Final = {"features"}
"""Settings that say where something lies, not what is learned: a DIR may be moved."""


class Stopped(BaseException):
    """A signal ends the grid; every run is saved, and the same command goes on."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number


def plan(
    folder: Path,
    out: Path,
    cells: Sequence[Cell],
    seeds: Sequence[int],
    given: TrainSettings,
    base: Mapping[str, Any] | None = None,
    **options: Any,
) -> Grid:
    """The runs of a grid, checked against what is on disk. Raises SettingsError where a run there has others.

    A cell's settings go over the given ones (those the user set), and these over `base`.
    """
    for what, found in (("seeds", seeds), ("cells", [cell.name for cell in cells])):
        if not found or len(set(found)) < len(found):
            raise SettingsError(f"found the {what} {list(found)}; expected one or more, each once")
    asked = given.model_dump(exclude_unset=True)
    jobs = []
    for seed in seeds:  # a first answer for every row comes before the second for any
        for cell in cells:
            values = {**(base or {}), **cell.beneath, **asked, **cell.settings, "seed": seed}
            if cell.settings.keys() & {"encoder", "encoder_config"}:
                for name in {"encoder", "encoder_config", "encoder_layers"} - cell.settings.keys():
                    values[name] = None
            jobs.append(_job(out, cell, seed, values))
    for job in jobs:
        _check(job)
    return Grid(folder, out, tuple(jobs), **options)


def _job(out: Path, cell: Cell, seed: int, values: dict[str, Any]) -> Job:
    place = out / cell.name / f"seed-{seed}"
    if cell.lacking:
        return Job(cell, seed, place, None, cell.lacking)
    try:
        settings = TrainSettings.model_validate(values)
    except (ValidationError, SettingsError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        return Job(cell, seed, place, None, first)
    if settings.freeze_encoder and settings.features is None:
        settings = settings.model_copy(update={"features": str(out.resolve() / "features")})
    return Job(cell, seed, place, settings)


def _check(job: Job) -> None:
    if job.settings is None or not (job.folder / checkpoint.SETTINGS).exists():
        return
    stored = checkpoint.read_settings(job.folder)
    if names := [
        name
        for name in TrainSettings.model_fields
        if name not in PLACES and getattr(stored, name) != getattr(job.settings, name)
    ]:
        raise SettingsError(
            f"{job.folder} was started with other settings ({', '.join(names)} differ); run the grid with those, or "
            "in another folder"
        )


def run(grid: Grid, tell: Callable[[str], None]) -> None:
    """Every run that isn't done, one after another; raises Stopped on SIGTERM or Ctrl-C.

    A run that can't be had is told, noted in its folder, and passed over.
    """
    begun = time.time_ns()
    with stoppable():
        for job in grid.jobs:
            _settle(grid, job, tell, begun=begun)


def _settle(grid: Grid, job: Job, tell: Callable[[str], None], *, begun: int) -> None:
    """Bring one run to its score, unless it is, or another process is at it, or has failed since `begun` (ns)."""
    if job.settled(grid.split, begun):
        return
    with held(job.folder) as ours:
        if not ours:
            tell(f"{job.cell.name} seed {job.seed}: another process is at it")
            return
        if job.settled(grid.split, begun):
            return
        tell(f"{job.cell.name} seed {job.seed}")
        try:
            _bring(grid, job)
        except (EmimicError, OSError, RuntimeError, ImportError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            job.note(reason=reason)
            tell(f"{job.cell.name} seed {job.seed} can't be had: {reason}")


def _bring(grid: Grid, job: Job) -> None:
    """Train to the end, and score."""
    if job.settings is None:
        raise SettingsError(job.reason)
    if "reason" in job.notes():  # of an attempt before
        job.note(reason=None)
    if not job.finished:
        started = time.monotonic()
        try:
            if grid.processes > 1:
                _torchrun(grid, job, job.settings)
            else:
                _train(grid, job, job.settings)
        finally:
            seconds = job.notes().get("seconds", 0.0) + time.monotonic() - started
            job.note(seconds=round(seconds, 1))
    ran = checkpoint.read_settings(job.folder)
    noted = job.notes().get("scored", {})
    job.note(scored={**noted, grid.split: corpus_check.scored_on(grid.folder, job.folder, grid.split)})
    evaluate(
        job.folder, grid.folder, split=grid.split, batch_seconds=ran.batch_seconds, workers=ran.workers,
        progress=grid.show, cached=ran.freeze_encoder, draw=False,
    )  # fmt: skip


def _train(grid: Grid, job: Job, settings: TrainSettings) -> None:
    stored = job.folder / checkpoint.SETTINGS
    # `plan` has compared them; those on disk know where the features lay when it was started.
    result = train(
        grid.folder, job.folder, None if stored.exists() else settings, resume=True, show=grid.show
    )
    if result.signal is not None:
        raise Stopped(result.signal)


def _torchrun(grid: Grid, job: Job, settings: TrainSettings) -> None:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(grid.processes)]
    words += ["-m", "emimic", "train", str(grid.folder), "--out", str(job.folder), "--resume", "--quiet"]
    if not (job.folder / checkpoint.SETTINGS).exists():
        file = job.folder / "settings.yaml"
        write_atomic(file, yaml.safe_dump(settings.model_dump(mode="json")))
        words += ["--config", str(file)]
    child = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, said = child.communicate()
    except BaseException:
        child.terminate()  # its processes finish their step and save
        child.wait()
        raise
    if child.returncode:
        own = [line for line in said.splitlines() if line.startswith("emimic: ")]
        raise EmimicError(
            own[-1].removeprefix("emimic: ") if own else f"torchrun ended with {child.returncode}"
        )


@contextlib.contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold a run's folder for as long as the block, or the process, lasts; False where another process does."""
    make_folder(folder)
    with naming(folder / LOCK):
        file = (folder / LOCK).open("ab")
    with file:
        yield lock(file)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and Ctrl-C raise Stopped; inside a training they let it save first."""

    def stop(number: int) -> None:
        raise Stopped(number)

    with signals.handle(stop):
        yield
