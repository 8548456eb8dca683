"""Estimate of a training's cost from a few of its steps, before it starts (`emimic train --dry-run`)."""

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from emimic.data import loader, sampling
from emimic.task import SettingsError
from emimic.training import setup as runs
from emimic.training import step
from emimic.training.process import flush_denormals, restore_generators, use_tf32, use_threads
from emimic.training.settings import TrainSettings
from emimic.training.setup import Run

STEPS: Final = 4
"""Steps taken; the first one is not timed, since it allocates memory."""


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a training on this machine.

    Attributes:
        device: torch's name.
        precision: of the run.
        parameters: of the model.
        trained: parameters that are trained.
        clips: of an epoch.
        steps: of an epoch.
        epochs: at most.
        flop: floating-point operations of the matrix products of a mean step, forward and backward.
        step_seconds: median time of a step, decoding aside.
        decode_seconds: median time in which the clips of a step are read by one worker.
        memory: highest use so far, in bytes: of the process (0 on Windows), or allocated on the GPU.
    """

    device: str
    precision: str
    parameters: int
    trained: int
    clips: int
    steps: int
    epochs: int
    flop: float
    step_seconds: float
    decode_seconds: float
    memory: int

    def to_text(self) -> str:
        """Return the estimate in lines."""
        epoch = self.steps * self.step_seconds
        lines = [
            f"device {self.device}, precision {self.precision}",
            f"parameters {self.parameters:,}, trained {self.trained:,}",
            f"steps {self.steps} an epoch ({self.clips} clips), {self.epochs} epochs at most",
            f"a step: {self.flop / 1e12:.3g} TFLOP, {self.step_seconds:.3g} s "
            f"({self.flop / max(self.step_seconds, 1e-9) / 1e9:.0f} GFLOP/s), "
            f"its clips are read in {self.decode_seconds:.3g} s by one worker",
            f"memory {self.memory / 2**30:.2f} GiB",
            f"an epoch: {epoch / 60:.1f} min, all epochs: {epoch * self.epochs / 3600:.2f} h, without validation",
        ]
        return "\n".join(lines)


def estimate(folder: Path | Sequence[Path], settings: TrainSettings, *, show: bool = True) -> Estimate:
    """Take a few steps of a training in a temporary folder and return what all of it would cost.

    Layers that are solved before the first step are trained instead, and outputs of frozen layers are computed in each
    step instead of once (`frozen_copies`).

    Args:
        folder: a corpus, or several.
        settings: of the run.
        show: show the report of the corpus.

    Raises:
        EmimicError: if the corpus or the settings can't be used, or the encoder is frozen: its features are computed
            once, which a few steps don't show.
    """
    if settings.freeze_encoder:
        raise SettingsError(
            "freeze_encoder computes features once, before the first step; a dry run estimates steps: leave one out"
        )
    changed = {"frozen_copies": 0, "domain_ridge": None, "vad_ridge": None}
    with (
        tempfile.TemporaryDirectory() as out,
        flush_denormals(),
        use_tf32(),
        use_threads(settings.threads),
        restore_generators(),
    ):
        run = runs.open_run(
            folder, Path(out) / "run", settings.model_copy(update=changed), resume=False, show=show
        )
        try:
            return _measure(run)
        finally:
            if run.log is not None:
                run.log.close()


def _measure(run: Run) -> Estimate:
    settings, fabric = run.settings, run.fabric
    groups = sampling.plan_steps(run.pools, settings.batch_size, seed=settings.seed, epoch=0)
    run.model.train()
    flop, walls, reads = 0.0, [], []
    taken = [groups[number % len(groups)] for number in range(STEPS)]
    for number, rows in enumerate(taken):
        own = rows[fabric.global_rank :: fabric.world_size]
        start = time.perf_counter()
        clips = next(iter(loader.decode_ahead(run.train, [own], workers=1)))
        reads.append(time.perf_counter() - start)
        step.seed(settings.seed, number, fabric.global_rank)
        start = time.perf_counter()
        if number:
            step.take(run, rows, own, clips)
            _synchronize(fabric.device)
            walls.append(time.perf_counter() - start)
        else:
            with FlopCounterMode(display=False) as counter:
                step.take(run, rows, own, clips)
            flop = float(counter.get_total_flops())
    parameters = list(run.model.parameters())
    return Estimate(
        device=str(fabric.device),
        precision=settings.precision,
        parameters=sum(p.numel() for p in parameters),
        trained=sum(p.numel() for p in parameters if p.requires_grad),
        clips=sum(map(len, groups)),
        steps=math.ceil(sum(map(len, groups)) / settings.batch_size),
        epochs=settings.epochs,
        flop=flop,
        step_seconds=statistics.median(walls),
        decode_seconds=statistics.median(reads),
        memory=_measure_memory(fabric.device),
    )


def _synchronize(device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _measure_memory(device: Any) -> int:
    """Return the highest memory use in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":  # without a counter in the standard library
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
