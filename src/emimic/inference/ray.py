"""Prediction on a Ray cluster: the same engine in Ray Data's pool of actors (Ray only here).

Workers receive paths, not audio: the cluster shares a file system, and a video would cross the network twice to give
six numbers. A batch's results don't depend on the worker. Ray Data restarts a dead actor and repeats its batch.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from emimic.inference.batch import Batches, reduce_frames
from emimic.inference.grid import TimelineOptions
from emimic.inference.journal import pack, pack_timeline, unpack, unpack_timeline
from emimic.inference.predictor import Predictor
from emimic.inference.recording import Channel, Recording, split_recording
from emimic.inference.results import Failure, Result
from emimic.inference.timeline import Timeline
from emimic.inference.words import WordSource
from emimic.install import install
from emimic.task import EmimicError, ModelError
from emimic.version import __version__

TOGETHER: Final = 300.0
"""Seconds of recordings per job for timelines; a longer recording is a job of its own."""


@dataclass(frozen=True, slots=True)
class Work:
    """Options of every actor.

    Attributes:
        model: The model's folder; None for the one in the package.
        threads: Threads of each actor.
        options: Of timelines.
        batch_seconds: Maximum seconds of audio per forward pass.
        words: Where words come from, see `Predictor`.
        without: Branches that are left out.
        version: Version of emimic that every worker must have.
    """

    model: Path | None
    threads: int
    options: TimelineOptions
    batch_seconds: float
    words: WordSource | None = None
    without: tuple[str, ...] = ()
    version: str = __version__


class Worker:
    """The predictor of an actor: jobs in, outcomes out, both as JSON. Errors are returned; the driver raises them."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.error: str | None = None
        if work.version != __version__:
            self.error = (
                f"a worker has emimic {__version__}, this is {work.version}: install one on all machines"
            )
            return
        try:
            self.predictor = Predictor(
                work.model, threads=work.threads, words=work.words, without=work.without
            )
        except EmimicError as error:
            self.error = f"on a worker: {error}"

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Return {"outcomes": one JSON text per job} for Ray Data's batch {"item": jobs}."""
        return {"outcomes": [json.dumps(self._do(json.loads(job))) for job in batch["item"]]}

    def _do(self, job: dict[str, Any]) -> dict[str, Any]:
        try:
            if self.error is not None:
                raise ModelError(self.error)
            if "timelines" in job:
                return {"outcomes": self._predict_timelines(job["timelines"])}
            return {"outcomes": self._predict_clips(job["clips"])}
        except ModelError as error:
            return {"error": str(error)}

    def _predict_clips(self, tasks: list["_Task"]) -> list[Any]:
        recordings = [_make_recording(name, number) for _, name, _, number in tasks]
        files = [Path(file) for _, _, file, _ in tasks]
        decoded = [
            self.predictor.read(recording, file) for recording, file in zip(recordings, files, strict=True)
        ]
        outcomes = self.predictor.predict_decoded(recordings, decoded, batch_seconds=self.work.batch_seconds)
        return [
            [
                row,
                {"reason": outcome.reason} if isinstance(outcome, Failure) else pack(reduce_frames(outcome)),
            ]
            for (row, *_), outcome in zip(tasks, outcomes, strict=True)
        ]

    def _predict_timelines(self, tasks: list["_Task"]) -> list[Any]:
        outcomes = []
        for row, name, file, number in tasks:
            line = self.predictor.predict_decoded_timeline(
                _make_recording(name, number),
                Path(file),
                options=self.work.options,
                batch_seconds=self.work.batch_seconds,
            )
            outcomes.append(
                [row, {"reason": line.reason} if isinstance(line, Failure) else pack_timeline(line)]
            )
        return outcomes


class Cluster:
    """A `batch.Backend` on a Ray cluster, with one actor for every `work.threads` CPUs.

    Ray is started or connected at the first prediction, and left at the end of the `with` block.
    """

    def __init__(self, address: str, work: Work, targets: tuple[str, ...]) -> None:
        """Set the cluster.

        Args:
            address: "auto" (the cluster of this machine), "local" (one on this machine, for this run) or HOST:PORT.
                Not ray://, which Ray Data doesn't support: the driver must be in the cluster.
            work: Options of every actor.
            targets: Names of the model's intensities.
        """
        self.address, self.work, self.targets = address, work, targets
        self._ray: Any = None
        self._quiet = redirect_stdout(sys.stderr)  # Ray's threads print messages about its workers there

    def __enter__(self) -> Self:
        self._quiet.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._ray is not None:
                self._ray.shutdown()
        finally:
            self._quiet.__exit__(kind, error, trace)

    def predict_clips(self, groups: Sequence[Sequence[tuple[int, Recording]]]) -> Batches[Result]:
        """Yield results, see `batch.Backend.predict_clips`. Raises as `predict_timelines`."""
        recordings = {row: recording for group in groups for row, recording in group}
        jobs = [{"clips": [_make_task(row, recording) for row, recording in group]} for group in groups]
        for outcomes in self._run(jobs):
            yield [
                (row, _get_failure(entry, recordings[row]) or unpack(entry, recordings[row], self.targets))
                for row, entry in outcomes
            ]

    def predict_timelines(
        self, results: Sequence[tuple[int, Result]], on_progress: Callable[[float], object]
    ) -> Batches[Timeline]:
        """Yield timelines, see `batch.Backend.predict_timelines`; `on_progress` is never called.

        Raises:
            EmimicError: Ray is not installed, or the cluster doesn't respond or fails.
            ModelError: The model can't be used.
        """
        recordings = {row: result.recording for row, result in results}
        jobs = [
            {"timelines": [_make_task(row, recordings[row]) for row in rows]} for rows in _group_rows(results)
        ]
        for outcomes in self._run(jobs):
            yield [
                (row, _get_failure(entry, recordings[row]) or unpack_timeline(entry, self.targets))
                for row, entry in outcomes
            ]

    def _run(self, jobs: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
        """Yield the outcomes of each job, in any order."""
        if not jobs:
            return
        if self._ray is None:
            self._ray = _connect(self.address)
        data, threads = self._ray.data, self.work.threads
        context = data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        nodes = [node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]]
        slots = sum(int(cpus // threads) for cpus in nodes)
        if not slots:
            raise EmimicError(
                f"no machine of the cluster has {threads} CPUs (found {nodes}): give --threads less"
            )
        # One job per block and call of an actor. Ray Data restarts actors and repeats their jobs.
        rows = data.from_items([json.dumps(job) for job in jobs], override_num_blocks=len(jobs)).map_batches(
            Worker,
            fn_constructor_args=(self.work,),
            batch_size=1,
            num_cpus=threads,
            compute=data.ActorPoolStrategy(size=min(slots, len(jobs))),
        )
        try:
            for row in rows.iter_rows():
                reply = json.loads(row["outcomes"])
                if "error" in reply:
                    raise ModelError(reply["error"])
                yield reply["outcomes"]
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[-300:]
            raise EmimicError(f"the Ray cluster gave up: ...{reason}") from error


def _connect(address: str) -> Any:
    """Return the module ray, connected."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no usage reports; read when Ray starts
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise EmimicError(f"--ray needs Ray ({error.name} isn't installed): {install('ray')}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # if a node is slow to start, Ray raises a plain one
        reason = " ".join(str(error).split())[:300]
        raise EmimicError(
            f"no Ray cluster responds at {address!r} ({reason}): start one, or use --ray local"
        ) from error
    return ray


_Task = tuple[int, str, str, int | None]
"""A recording for a worker: its row among the inputs, its name, its absolute path, its channel's number."""


def _make_task(row: int, recording: Recording) -> _Task:
    path, number = split_recording(recording)
    return row, str(path), os.path.abspath(path), number  # noqa: PTH100 - links stay


def _make_recording(name: str, number: int | None) -> Recording:
    return Path(name) if number is None else Channel(Path(name), number)


def _group_rows(results: Sequence[tuple[int, Result]]) -> list[list[int]]:
    """Return consecutive rows in groups of about TOGETHER seconds."""
    groups: list[list[int]] = []
    filled = TOGETHER
    for row, result in results:
        if filled + result.seconds > TOGETHER:
            groups.append([])
            filled = 0.0
        groups[-1].append(row)
        filled += result.seconds
    return groups


def _get_failure(entry: dict[str, Any], recording: Recording) -> Failure | None:
    return Failure(split_recording(recording)[0], entry["reason"]) if "reason" in entry else None
