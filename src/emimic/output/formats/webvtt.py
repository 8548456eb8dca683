"""WebVTT: about once a second the three strongest intensities as a caption, so that any video player shows them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emimic.files import write_atomic
from emimic.inference.results import Result
from emimic.inference.steps import Steps
from emimic.output.formats.common import library

_SHOWN = 3


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """`stem`.vtt; a gap has no caption."""
    webvtt = library("webvtt", "vtt")
    cues = [webvtt.Caption(_clock(start), _clock(end), text) for start, end, text in captions(result.steps())]
    path = folder / f"{stem}.vtt"
    write_atomic(path, webvtt.WebVTT(captions=cues).content.rstrip("\n") + "\n")
    return [path]


def captions(grid: Steps) -> list[tuple[int, int, str]]:
    """(start ms, end ms, text): each run of steps without a gap, in equal parts of about a second."""
    values = grid.values[:, : grid.n_targets]
    heard = np.flatnonzero(np.isfinite(values).all(axis=1) & (grid.starts < grid.ends))
    if not len(heard):
        return []
    found = []
    for run in np.split(heard, np.flatnonzero(np.diff(heard) > 1) + 1):
        ms = grid.ends[run[-1]] - grid.starts[run[0]]
        for part in np.array_split(run, min(max(1, round(ms / 1000)), len(run))):
            text = _text(grid.names, values[part].mean(axis=0))
            found.append((int(grid.starts[part[0]]), int(grid.ends[part[-1]]), text))
    return found


def _text(names: tuple[str, ...], values: NDArray[np.float64]) -> str:
    strongest = np.argsort(-values, kind="stable")[:_SHOWN]
    escaped = [n.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for n in names]
    return " · ".join(f"{escaped[i]} {max(values[i], 0.0):.2f}" for i in strongest)


def _clock(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}.{ms:03d}"
