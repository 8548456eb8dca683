"""The values to quote for a recording, by name, and their prediction intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.calibration import Intervals
from emimic.inference.timeline import round_values
from emimic.task import VAD

_DIGITS: Final = 6  # decimals of the values to quote, as in JSON and CSV


@dataclass(frozen=True, slots=True)
class Headline:
    """One value per dimension for a recording, and what the values describe.

    Attributes:
        basis: `whole clip`, `first 12 s` (of a longer recording) or `mean over time` (of its timeline).
        intensities: (target,), as in the prediction; NaN for silence.
        vad: (3,) arousal, dominance, valence; None if the model has not learned V/A/D.
    """

    basis: str
    intensities: NDArray[np.floating[Any]]
    vad: NDArray[np.floating[Any]] | None


def make_intervals(intervals: Intervals, targets: tuple[str, ...], headline: Headline) -> dict[str, Any]:
    """Return a headline's intervals, JSON-ready."""
    fields = {
        "level": intervals.level,
        "intensities": _name_intervals(intervals, targets, headline.intensities),
    }
    if headline.vad is not None:
        fields["vad"] = _name_intervals(intervals, VAD, headline.vad)
    return fields


def _name_intervals(
    intervals: Intervals, names: tuple[str, ...], values: NDArray[Any]
) -> dict[str, list[float | None]]:
    """Return [low, high] by name."""
    return dict(zip(names, map(round_values, intervals.compute(names, values)), strict=True))


def name_values(names: Sequence[str], values: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Return values by name, rounded to 6 decimals."""
    return {name: round(float(value), _DIGITS) for name, value in zip(names, values, strict=True)}
