"""Values of one recording on a grid of steps in whole milliseconds (NumPy only)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.files import make_one_line
from emimic.task import VAD

_COLUMNS: Final = frozenset({"Filename", "Seconds", "Start", "End", "Basis", "Novelty"})


@dataclass(frozen=True, slots=True)
class Steps:
    """Values of consecutive intervals of a recording.

    Attributes:
        total: Length of the recording in ms, at least 1.
        times: (step,) centers in seconds.
        since: (step,) start in seconds of the window that was predicted.
        until: (step,) end in seconds of that window.
        starts: (step,) start in ms of the interval that the step represents, one hop around its center.
        ends: (step,) its end in ms; the last one is up to half a hop longer. Neighbors share an edge.
        values: (step, column) intensities, then V/A/D (of the window, or the mean of the step's frames); NaN if silent.
        names: Names of the columns.
        n_targets: Number of columns that are intensities.
        voice_segments: (start, end) in ms, in order, without overlap.
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

    def list_pieces(self, column: int) -> list[tuple[int, int, float]]:
        """Return (start ms, end ms, value) of a column's steps, without the silent ones."""
        rows = zip(self.starts.tolist(), self.ends.tolist(), self.values[:, column].tolist(), strict=True)
        return [(start, end, value) for start, end, value in rows if start < end and not math.isnan(value)]


def build_steps(
    windows: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
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
        windows: times, since and until of `Steps`.
        edges: (step + 1,) in seconds, between the steps.
        intensities: (step, target).
        vad: Times (frame,) in seconds and values (frame, 3), of the steps or of frames, which are averaged in each
            step; None if the model has not learned V/A/D.
        targets: Names of the intensities.
        seconds: Length of the recording.
        voice_segments: (start, end) in seconds.
    """
    times, since, until = windows
    total = max(1, round(seconds * 1000))
    milliseconds = np.rint(edges.clip(0.0, total / 1000) * 1000).astype(np.int64)
    columns, names = [mask_infinite(intensities)], targets
    if vad is not None:
        of_steps = np.array_equal(vad[0], times)
        columns.append(vad[1] if of_steps else _average_frames(milliseconds / 1000, *vad))
        names += make_vad_names(targets)
    return Steps(
        total=total,
        times=times,
        since=since,
        until=until,
        starts=milliseconds[:-1],
        ends=milliseconds[1:],
        values=np.concatenate(columns, axis=1),
        names=tuple(map(make_one_line, names)),
        n_targets=len(targets),
        voice_segments=_separate(voice_segments, total),
    )


def compute_edges(times: NDArray[np.float64], hop: float, seconds: float) -> NDArray[np.float64]:
    """Return the edges (step + 1,) in seconds of steps with these centers: midway between them, half a hop outside."""
    last = times[-1] + hop / 2
    # A remainder shorter than half a hop has no step; the last step represents it too.
    last = seconds if last < seconds < last + hop / 2 else last
    return np.array([times[0] - hop / 2, *(times[:-1] + times[1:]) / 2, last])


def make_vad_names(targets: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of the V/A/D columns, distinct from targets of the same name."""
    return tuple(f"{name} (VAD)" if name in targets else name for name in VAD)


def make_target_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of the targets' columns, distinct from a table's other columns."""
    return tuple(f"{name} (intensity)" if name in _COLUMNS else name for name in names)


def mask_infinite(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return float64 values with NaN for infinities."""
    return np.where(np.isfinite(values), values, np.nan).astype(np.float64)


def _average_frames(
    edges: NDArray[np.float64], times: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean (step, dimension) of the frames (frame, dimension) between two edges; NaN without any."""
    step = np.searchsorted(edges, times, side="right") - 1
    valid = (step >= 0) & (step < len(edges) - 1) & np.isfinite(values).all(axis=1)
    sums = np.zeros((len(edges) - 1, values.shape[1]))
    counts = np.zeros((len(edges) - 1, 1))
    np.add.at(sums, step[valid], values[valid])
    np.add.at(counts, step[valid], 1)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _separate(voice_segments: Sequence[tuple[float, float]], total: int) -> tuple[tuple[int, int], ...]:
    """Return segments in ms, in order, without overlap, within the recording."""
    separate: list[tuple[int, int]] = []
    for since, until in sorted(voice_segments):
        start = max(round(since * 1000), separate[-1][1] if separate else 0)
        end = min(round(until * 1000), total)
        if start < end:
            separate.append((start, end))
    return tuple(separate)
