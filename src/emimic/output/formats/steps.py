"""One answer on a grid of steps, in whole milliseconds: what formats of one value a step are written from (NumPy)."""

import importlib
import math
import re
from dataclasses import dataclass
from pathlib import PurePath
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.inference.results import Answer, Region
from emimic.install import install
from emimic.prediction import Prediction
from emimic.task import VAD, EmimicError

REGIONS: Final = "voice regions"
"""Name of the tier or table of the stretches in which a voice is heard."""

_BREAKS: Final = re.compile("[\t\n\r]+")  # of targets' names: readers of Praat's form go line by line
_COLUMNS: Final = frozenset({"Filename", "Seconds", "Start", "End", "Basis", "Novelty"})

# What XML 1.0 can't hold, and lone surrogates (a file name that is not UTF-8), which UTF-8 can't.
_UNWRITABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Steps:
    """Values that hold for stretches of a recording.

    total: the recording's length in ms, at least 1. times (step,): centres in seconds; since, until (step,): the
    stretch heard for each, in seconds. starts, ends (step,): the stretch each stands for, one hop around its centre
    (the last one up to half a hop more), in whole ms; neighbours share an edge, none reaches beyond the recording.
    values (step, column): intensities and then VAD (the mean of a step's frames), NaN in a gap; names: of the
    columns, of which the first n_targets are intensities. regions: (start, end) in ms, in order, apart.
    """

    total: int
    times: NDArray[np.float64]
    since: NDArray[np.float64]
    until: NDArray[np.float64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    values: NDArray[np.float64]
    names: tuple[str, ...]
    n_targets: int
    regions: tuple[tuple[int, int], ...]

    def pieces(self, column: int) -> list[tuple[int, int, float]]:
        """(start ms, end ms, value) of a column's steps, without its gaps."""
        rows = zip(self.starts.tolist(), self.ends.tolist(), self.values[:, column].tolist(), strict=True)
        return [(start, end, value) for start, end, value in rows if start < end and not math.isnan(value)]


def steps(answer: Answer) -> Steps:
    """The timeline's steps; without a timeline one step over what was heard of the clip."""
    line = answer.timeline
    total = max(1, round(answer.seconds * 1000))
    if line is None:
        until = np.array([answer.covered])
        times, since, intensities = until / 2, np.zeros(1), answer.prediction.intensities[None]
        edges = np.array([0.0, until[0]])
    else:
        times, since, until, intensities = line.times, line.starts, line.ends, line.intensities
        between = (times[:-1] + times[1:]) / 2
        last = times[-1] + line.hop / 2
        # A rest shorter than half a hop has no step of its own: the last one stands for it too.
        last = line.seconds if last < line.seconds < last + line.hop / 2 else last
        edges = np.array([times[0] - line.hop / 2, *between, last])
    grid = np.rint(edges.clip(0.0, total / 1000) * 1000).astype(np.int64)
    columns, names = [_finite(intensities)], answer.targets
    vad = frames(answer)
    if vad is not None:
        columns.append(_binned(grid / 1000, *vad))
        names += vad_names(answer.targets)
    return Steps(
        total=total,
        times=times,
        since=since,
        until=until,
        starts=grid[:-1],
        ends=grid[1:],
        values=np.concatenate(columns, axis=1),
        names=tuple(map(one_line, names)),
        n_targets=len(answer.targets),
        regions=_apart(() if line is None else line.regions, total),
    )


def frames(answer: Answer) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Centres (frame,) in seconds and VAD (frame, 3), NaN in a gap; None when the model has not learnt VAD."""
    one = answer.timeline or answer.prediction
    times = one.times if isinstance(one, Prediction) else one.vad_times
    return None if one.vad is None or times is None else (times, _finite(one.vad))


def vad_names(targets: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the VAD columns; a model may have targets of these names as well."""
    return tuple(f"{name} (VAD)" if name in targets else name for name in VAD)


def target_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of columns beside columns of a table's own, which some targets may be called like."""
    return tuple(f"{name} (intensity)" if name in _COLUMNS else name for name in names)


def writable(text: object) -> str:
    """Text that XML and UTF-8 can hold; each character that they can't becomes U+FFFD."""
    return _UNWRITABLE.sub("�", str(text))


def one_line(name: str) -> str:
    """A target's name as formats hold it."""
    return _BREAKS.sub(" ", writable(name))


def label(value: float) -> str:
    """A value as people read it: three decimals, no minus zero."""
    return f"{round(value, 3) + 0.0:.3f}"


def media_name(path: PurePath) -> str:
    """The recording's file name, for a format that names it."""
    return writable(path.name) or "recording"


def library(name: str, kind: str) -> ModuleType | Any:
    """A library that only some formats need.

    Raises:
        EmimicError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise EmimicError(
            f"the format {kind!r} is written by {package}, which is not installed: {install('service')}"
        ) from error


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, np.nan).astype(np.float64)


def _binned(
    edges: NDArray[np.float64], times: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean over the frames (frame, dimension) between each two edges -> (step, dimension); NaN where there are none."""
    step = np.searchsorted(edges, times, side="right") - 1
    known = (step >= 0) & (step < len(edges) - 1) & np.isfinite(values).all(axis=1)
    sums = np.zeros((len(edges) - 1, values.shape[1]))
    counts = np.zeros((len(edges) - 1, 1))
    np.add.at(sums, step[known], values[known])
    np.add.at(counts, step[known], 1)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _apart(regions: tuple[Region, ...], total: int) -> tuple[tuple[int, int], ...]:
    kept: list[tuple[int, int]] = []
    for region in sorted(regions, key=lambda r: r.start):
        start = max(round(region.start * 1000), kept[-1][1] if kept else 0)
        end = min(round(region.end * 1000), total)
        if start < end:
            kept.append((start, end))
    return tuple(kept)
