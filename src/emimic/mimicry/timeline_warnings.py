"""Warnings about two timelines that make their comparison doubtful (NumPy only)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry.results import Alignment, Bools, Series

CROSSTALK: Final = 0.9
"""Correlation of two timelines at lag 0 from which one voice seems to be in both recordings."""

STREAK: Final = 3
"""Number of windows in a row from which that is reported."""

CONSTANT: Final = 1e-4
"""Standard deviation below which a dimension is constant; intensities reach from 0 to about 1."""


@dataclass(frozen=True, slots=True)
class Streaks:
    """Windows in a row in which two timelines are almost the same at lag 0.

    Attributes:
        longest: Number of windows in the longest one.
        fraction: Fraction of the valid windows that lie in streaks of `STREAK` or more.
    """

    longest: int
    fraction: float


def find_streaks(at_zero: Floats, is_best: Bools) -> Streaks:
    """Return the streaks of windows with a correlation of at least `CROSSTALK` at lag 0, their best lag.

    Args:
        at_zero: (window,) correlation at lag 0, NaN where undefined.
        is_best: (window,) True where lag 0 has the highest correlation.
    """
    same = np.concatenate([[False], np.nan_to_num(at_zero) >= CROSSTALK, [False]])
    same[1:-1] &= is_best
    edges = np.flatnonzero(np.diff(same.astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    in_streaks = int(lengths[lengths >= STREAK].sum())
    return Streaks(int(lengths.max(initial=0)), in_streaks / max(1, len(at_zero)))


def list_warnings(first: Series, second: Series, alignment: Alignment) -> list[str]:
    """Return sentences on constant timelines, and on streaks that suggest crosstalk."""
    notes = [describe_constant(series) for series in (first, second)]
    if alignment.windows is not None:
        notes.append(describe_heat_map(alignment.windows.by_lag))
    return [note for note in notes if note]


def describe_heat_map(by_lag: Floats) -> str | None:
    """Return a sentence on streaks of windows, None without any.

    Args:
        by_lag: (window, lag) correlation, NaN in windows without enough voice.
    """
    valid = by_lag[np.isfinite(by_lag).any(axis=1)]
    zero = by_lag.shape[1] // 2
    is_best = np.where(np.isfinite(valid), valid, -np.inf).argmax(axis=1) == zero
    streaks = find_streaks(valid[:, zero], is_best)
    if streaks.longest < STREAK:
        return None
    return (
        f"the timelines are almost the same at lag 0 in {streaks.fraction:.0%} of the windows, up to "
        f"{streaks.longest} in a row: one voice may be in both recordings (crosstalk)"
    )


def describe_constant(series: Series) -> str | None:
    """Return a sentence on dimensions that hardly change, None without any."""
    values = series.values[series.voiced]
    names = [name for name, std in zip(series.dimensions, values.std(axis=0), strict=True) if std < CONSTANT]
    return f"{series.name} hardly changes in {', '.join(names)}" if names else None
