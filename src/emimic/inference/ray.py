"""Recordings heard on many machines: the same engine in Ray Data's pool of actors (Ray only here).

Workers are sent paths, not sound: what a cluster shares is a file system, and a video would cross the network twice to
give six numbers. What a batch's results are doesn't depend on where it is heard. Ray Data restarts an actor that died
and hears its batch again.
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

from emimic.inference.batch import Batches, slimmed
from emimic.inference.journal import packed, packed_curves, unpacked, unpacked_curves
from emimic.inference.predictor import Predictor
from emimic.inference.results import Channel, Failure, Recording, Result, Timeline, parts
from emimic.install import install
from emimic.task import EmimicError, ModelError
from emimic.version import __version__

TOGETHER: Final = 300.0
"""Seconds of recordings whose curves are asked of an actor at a time; a longer recording goes alone."""


@dataclass(frozen=True, slots=True)
class Work:
    """What every actor is told: the model's folder (None: the one in the package), threads of each actor, and the
    options of `Predictor.files`."""

    model: Path | None
    threads: int
    grid: tuple[float, float]
    batch_seconds: float
    version: str = __version__


class Worker:
    """Lives in an actor: jobs in, as JSON; results out. What goes wrong is told, and the driver raises it."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.trouble: str | None = None
        if work.version != __version__:
            self.trouble = (
                f"a worker has emimic {__version__}, this is {work.version}: install one on all machines"
            )
            return
        try:
            self.predictor = Predictor(work.model, threads=work.threads)
        except EmimicError as error:
            self.trouble = f"on a worker: {error}"

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Ray Data's batch {"item": jobs} -> {"told": results to each job}."""
        return {"told": [json.dumps(self._told(json.loads(job))) for job in batch["item"]]}

    def _told(self, job: dict[str, Any]) -> dict[str, Any]:
        try:
            if self.trouble is not None:
                raise ModelError(self.trouble)
            return {"results": self._curves(job["curves"]) if "curves" in job else self._clips(job["clips"])}
        except ModelError as error:
            return {"trouble": str(error)}

    def _clips(self, files: list["_Placed"]) -> list[Any]:
        recordings = [_recording(name, number) for _, name, _, number in files]
        places = [Path(place) for _, _, place, _ in files]
        read = [self.predictor.read(*one) for one in zip(recordings, places, strict=True)]
        told = self.predictor.hear(recordings, read, batch_seconds=self.work.batch_seconds)
        return [
            [row, {"reason": one.reason} if isinstance(one, Failure) else packed(slimmed(one))]
            for (row, *_), one in zip(files, told, strict=True)
        ]

    def _curves(self, files: list["_Placed"]) -> list[Any]:
        told = []
        for row, name, place, number in files:
            one = self.predictor.curves(
                _recording(name, number),
                Path(place),
                grid=self.work.grid,
                batch_seconds=self.work.batch_seconds,
            )
            told.append([row, {"reason": one.reason} if isinstance(one, Failure) else packed_curves(one)])
        return told


class Cluster:
    """A `bulk.Hearer` on the Ray cluster at `address`: "auto" (the one this machine belongs to), "local" (one made for
    this run on this machine) or HOST:PORT. One actor for every `work.threads` CPUs it has.

    Not ray://, through which Ray Data doesn't work: what drives it must be in the cluster. Ray is started or asked when
    there is something to hear, and left at the end of the `with` block.
    """

    def __init__(self, address: str, work: Work, targets: tuple[str, ...]) -> None:
        self.address, self.work, self.targets = address, work, targets
        self._ray: Any = None
        self._quiet = redirect_stdout(sys.stderr)  # Ray's threads print there what befalls its workers

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

    def clips(self, groups: Sequence[Sequence[tuple[int, Recording]]]) -> Batches[Result]:
        """See `bulk.Hearer.clips`. Raises as `curves`."""
        recordings = {row: one for group in groups for row, one in group}
        jobs = [{"clips": [_placed(row, one) for row, one in group]} for group in groups]
        for found in self._run(jobs):
            yield [
                (row, _failure(told, recordings[row]) or unpacked(told, recordings[row], self.targets))
                for row, told in found
            ]

    def curves(
        self, results: Sequence[tuple[int, Result]], heard: Callable[[float], object]
    ) -> Batches[Timeline]:
        """See `bulk.Hearer.curves`; `heard` is told nothing.

        Raises EmimicError when Ray isn't installed, the cluster doesn't result or gives up; ModelError as an engine.
        """
        recordings = {row: result.recording for row, result in results}
        jobs = [{"curves": [_placed(row, recordings[row]) for row in rows]} for rows in _together(results)]
        for found in self._run(jobs):
            yield [
                (row, _failure(told, recordings[row]) or unpacked_curves(told, self.targets))
                for row, told in found
            ]

    def _run(self, jobs: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
        """The results to each job, in any order."""
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
        # A job a block: what an actor hears at a time. Ray Data restarts actors and tries their jobs again by itself.
        told = data.from_items([json.dumps(job) for job in jobs], override_num_blocks=len(jobs)).map_batches(
            Worker,
            fn_constructor_args=(self.work,),
            batch_size=1,
            num_cpus=threads,
            compute=data.ActorPoolStrategy(size=min(slots, len(jobs))),
        )
        try:
            for row in told.iter_rows():
                found = json.loads(row["told"])
                if "trouble" in found:
                    raise ModelError(found["trouble"])
                yield found["results"]
        except self._ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[-300:]
            raise EmimicError(f"the Ray cluster gave up: ...{reason}") from error


def _connect(address: str) -> Any:
    """The module ray, connected."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported home; read when Ray starts
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
    except Exception as error:  # where a node is slow to start, Ray raises a plain one
        reason = " ".join(str(error).split())[:300]
        raise EmimicError(
            f"no Ray cluster results at {address!r} ({reason}): start one, or use --ray local"
        ) from error
    return ray


_Placed = tuple[int, str, str, int | None]
"""A recording for a worker: its place among the inputs, its name, where it lies, its channel's number."""


def _placed(row: int, recording: Recording) -> _Placed:
    """With an absolute path, as a worker's folder is another."""
    path, number = parts(recording)
    return row, str(path), os.path.abspath(path), number  # noqa: PTH100 - links stay


def _recording(name: str, number: int | None) -> Recording:
    return Path(name) if number is None else Channel(Path(name), number)


def _together(results: Sequence[tuple[int, Result]]) -> list[list[int]]:
    """Neighbouring rows in groups of about TOGETHER seconds."""
    groups: list[list[int]] = []
    filled = TOGETHER
    for row, result in results:
        if filled + result.seconds > TOGETHER:
            groups.append([])
            filled = 0.0
        groups[-1].append(row)
        filled += result.seconds
    return groups


def _failure(told: dict[str, Any], recording: Recording) -> Failure | None:
    return Failure(parts(recording)[0], told["reason"]) if "reason" in told else None
