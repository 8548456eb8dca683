"""A grid shared by processes or machines as an Optuna study (only here): each run is one enqueued trial.

The study says who takes what; the runs themselves lie in the grid's folder, which all workers must see. Whether a
worker lives is told by the lock on its run, not by the study: a killed one's run is free at once and is taken again.
"""

import contextlib
import datetime
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from emimic.experiments.grid import PLACES, held, score_of, stoppable, work
from emimic.experiments.jobs import Grid, Job
from emimic.install import install
from emimic.task import SettingsError

if TYPE_CHECKING:
    import optuna

RUN: Final = "run"
"""The trial's attribute that names its run: cell/seed."""

POLL: Final = 2.0
"""Seconds between two looks at runs that others hold."""

GRACE: Final = 10.0
"""Seconds that a worker has from taking a trial to locking its run."""


def run(grid: Grid, storage: str, tell: Callable[[str], None]) -> None:
    """Take runs until none is open, and wait for those of other workers; raises Stopped as `grid.run`.

    storage: a database's URL (`sqlite:///FILE`, `postgresql://...`), else a file that becomes Optuna's journal.
    Raises SettingsError where it can't be opened.
    """
    begun = time.time_ns()
    with _alone(grid):  # two that make a database's tables at once break each other
        study = _open(grid, storage)
    tell(f"study {study.study_name} in {storage}")
    named = {_name(job): job for job in grid.jobs}
    with stoppable():
        waiting = False
        while left := {name: job for name, job in named.items() if not job.settled(grid.split, begun)}:
            if (trial := _next(study, grid, left)) is not None:
                _do(study, grid, named, trial, tell, begun)
            elif not waiting:
                tell(f"waiting for other workers: {', '.join(left)}")
            waiting = trial is None
            if waiting:
                time.sleep(POLL)


@contextlib.contextmanager
def _alone(grid: Grid) -> Iterator[None]:
    """One worker at a time, for the moment in which it looks at the study and changes it."""
    while True:
        with held(grid.out) as ours:
            if ours:
                yield
                return
        time.sleep(0.05)


def _name(job: Job) -> str:
    return f"{job.cell.name}/seed-{job.seed}"


def _open(grid: Grid, storage: str) -> "optuna.Study":
    """The study of exactly these runs, made if it isn't there."""
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError as error:
        raise SettingsError(f"a storage needs Optuna: {install('ablate')}, or leave it out") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    what = {
        _name(job): job.settings and job.settings.model_dump(mode="json", exclude=PLACES) for job in grid.jobs
    }
    digest = hashlib.sha256(json.dumps([grid.split, what], sort_keys=True).encode()).hexdigest()
    try:
        place: Any = storage
        if "://" not in storage:
            place = optuna.storages.JournalStorage(JournalFileBackend(storage))
        return optuna.create_study(
            storage=place, study_name=f"emimic-{digest[:8]}", direction="maximize", load_if_exists=True
        )
    except Exception as error:  # every database has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingsError(f"the storage {storage} can't be opened: {reason}") from error


def _next(study: "optuna.Study", grid: Grid, left: dict[str, Job]) -> "optuna.Trial | None":
    """The next waiting trial, now running; before, one is enqueued for every open run that nobody waits for or works
    on."""
    from optuna.trial import TrialState

    with _alone(grid):
        taken, waiting = set(), False
        for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)):
            name = trial.user_attrs.get(RUN, "")
            if trial.state is TrialState.RUNNING and name in left and _dead(trial, left[name]):
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            else:
                taken.add(name)
                waiting = waiting or trial.state is TrialState.WAITING
        for name, job in left.items():
            if name not in taken:
                study.enqueue_trial({}, user_attrs={RUN: name, "cell": job.cell.name, "seed": job.seed})
                waiting = True
        return study.ask() if waiting else None  # without one waiting, Optuna would make one up


def _dead(trial: "optuna.trial.FrozenTrial", job: Job) -> bool:
    """Whether nobody holds the run of a running trial."""
    started = trial.datetime_start
    if started is not None and datetime.datetime.now() - started < datetime.timedelta(seconds=GRACE):
        return False
    with held(job.folder) as free:
        return free


def _do(
    study: "optuna.Study", grid: Grid, named: dict[str, Job], trial: "optuna.Trial", tell: Callable[[str], None],
    begun: int,
) -> None:  # fmt: skip
    """Bring a trial's run to its score and tell the study."""
    from optuna.trial import TrialState

    value, reason = math.nan, "stopped"
    try:
        job = named[trial.user_attrs[RUN]]
        if work(grid, job, tell, begun=begun):
            value, reason = (
                score_of(job, grid.split),
                job.notes().get("reason", "its correlation is undefined"),
            )
        else:
            reason = "another process is at it"
            time.sleep(POLL)  # one that isn't of the study, or the trial would come back at once
    finally:
        if math.isnan(value):
            trial.set_user_attr("reason", reason)
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        else:
            study.tell(trial, value, skip_if_finished=True)
