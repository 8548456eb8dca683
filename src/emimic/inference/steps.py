"""The values of one recording on a grid of steps, in whole milliseconds (NumPy only)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.files import one_line
from emimic.task import VAD

_COLUMNS: Final = frozenset({"Filename", "Seconds", "Start", "End", "Basis", "Novelty"})


@dataclass(frozen=True, slots=True)
class Steps:
    """Values that hold for stretches of a recording.

    total: the recording's length in ms, at least 1. times (step,): centers in seconds; since, until (step,): the
    stretch heard for each, in seconds. starts, ends (step,): the stretch each stands for, one hop around its center
    (the last one up to half a hop more), in whole ms; neighbours share an edge, none reaches beyond the recording.
    values (step, column): intensities and then VAD (the mean of a step's frames), NaN in a gap; names: of the
    columns, of which the first n_targets are intensities. voice_segments: (start, end) in ms, in order, apart.
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
    voice_segments: tuple[tuple[int, int], ...]

    def pieces(self, column: int) -> list[tuple[int, int, float]]:
        """(start ms, end ms, value) of a column's steps, without its gaps."""
        rows = zip(self.starts.tolist(), self.ends.tolist(), self.values[:, column].tolist(), strict=True)
        return [(start, end, value) for start, end, value in rows if start < end and not math.isnan(value)]


def grid(
    stretches: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    edges: NDArray[np.float64],
    intensities: NDArray[np.floating[Any]],
    vad: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    *,
    targets: tuple[str, ...],
    seconds: float,
    voice_segments: Sequence[tuple[float, float]],
) -> Steps:
    """Return the steps of a recording.

    Args:
        stretches: times, since and until of `Steps`.
        edges: (step + 1,) in seconds, between the steps.
        intensities: (step, target).
        vad: the frames' centers (frame,) in seconds and values (frame, 3); None when the model has not learned V/A/D.
        targets: names of the intensities.
        seconds: the recording's length.
        voice_segments: (start, end) in seconds.
    """
    times, since, until = stretches
    total = max(1, round(seconds * 1000))
    whole = np.rint(edges.clip(0.0, total / 1000) * 1000).astype(np.int64)
    columns, names = [finite(intensities)], targets
    if vad is not None:
        columns.append(_binned(whole / 1000, *vad))
        names += vad_names(targets)
    return Steps(
        total=total,
        times=times,
        since=since,
        until=until,
        starts=whole[:-1],
        ends=whole[1:],
        values=np.concatenate(columns, axis=1),
        names=tuple(map(one_line, names)),
        n_targets=len(targets),
        voice_segments=_apart(voice_segments, total),
    )


def timeline_edges(times: NDArray[np.float64], hop: float, seconds: float) -> NDArray[np.float64]:
    """Return the edges (step + 1,) in seconds of steps with these centers: midway between them, half a hop outside."""
    last = times[-1] + hop / 2
    # A rest shorter than half a hop has no step of its own: the last one stands for it too.
    last = seconds if last < seconds < last + hop / 2 else last
    return np.array([times[0] - hop / 2, *(times[:-1] + times[1:]) / 2, last])


def vad_names(targets: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the VAD columns; a model may have targets of these names as well."""
    return tuple(f"{name} (VAD)" if name in targets else name for name in VAD)


def target_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of columns beside columns of a table's own, which some targets may be called like."""
    return tuple(f"{name} (intensity)" if name in _COLUMNS else name for name in names)


def finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return float64 with NaN for infinities."""
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


def _apart(voice_segments: Sequence[tuple[float, float]], total: int) -> tuple[tuple[int, int], ...]:
    kept: list[tuple[int, int]] = []
    for since, until in sorted(voice_segments):
        start = max(round(since * 1000), kept[-1][1] if kept else 0)
        end = min(round(until * 1000), total)
        if start < end:
            kept.append((start, end))
    return tuple(kept)
