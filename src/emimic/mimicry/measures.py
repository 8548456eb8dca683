"""Measures of the coupling of two voices, beside the peak correlation: each a function of arrays (NumPy only).

docs/mimicry.md has the formulas and their sources.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry import coherence
from emimic.mimicry.alignment import average
from emimic.mimicry.lag_profile import LagProfile, append_mean, find_extreme, make_profile, to_z
from emimic.mimicry.results import Coupling, Settings
from emimic.mimicry.windows import Stack, WindowGrid, correlate_windows

Side: TypeAlias = Literal["high", "low", "both", "coupling"]
Unit: TypeAlias = Literal["r", "z", "fraction"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of a pair.

    Attributes:
        name: In tables.
        side: Values that count against chance: high, low, both, or those of the coupling that is asked for.
        unit: r, a correlation, of which tests and means take Fisher's z; z, which is one already; or a fraction.
        meaning: In words.
    """

    name: str
    side: Side
    unit: Unit
    meaning: str


MEASURES: Final = (
    Measure("similarity", "coupling", "r", "extreme, over lags, of the mean correlation, of the coupling's sign"),
    Measure("peak", "high", "r", "maximum, over lags, of the windows' mean correlation"),
    Measure("trough", "low", "r", "minimum, over lags, of the windows' mean correlation: negative coupling"),
    Measure("lag_zero", "coupling", "z", "mean over windows of Fisher's z at lag 0"),
    Measure("all_lags", "coupling", "z", "mean over windows and lags of Fisher's z"),
    Measure("absolute", "high", "z", "mean over windows and lags of |z|"),
    Measure("lead", "both", "z", "mean z at positive lags minus that at negative ones; above 0: the first leads"),
    Measure("lead_windows", "both", "fraction", "fraction of windows that the first leads minus that of the second"),
    Measure("influence_first", "coupling", "r", "partial correlation of the second voice with the first one's past"),
    Measure("influence_second", "coupling", "r", "partial correlation of the first voice with the second one's past"),
    Measure("influence_net", "both", "z", "z of influence_first minus z of influence_second"),
    Measure("coherence_slow", "high", "fraction", "coherence, 0.06 to 0.16 Hz"),
    Measure("coherence_fast", "high", "fraction", "coherence, 0.16 to 0.4 Hz"),
)  # fmt: skip
"""All measures, in the order of the tables; the first is the one that is tested first."""

NAMES: Final = tuple(measure.name for measure in MEASURES)


@dataclass(frozen=True, slots=True)
class Measured:
    """The measures of several pairs.

    Attributes:
        values: (pair, dimension + 1) by name, the mean over dimensions last (or of the mean over dimensions).
        lags: (pair, dimension + 1) steps of the similarity's lag.
        profile: Means at each lag.
    """

    values: dict[str, Floats]
    lags: Floats
    profile: LagProfile


def compute_lag_zero(z: Floats) -> Floats:
    """Return the mean z at lag 0: rMEA's `lag_zero` (Kleinbub and Ramseyer 2021, Psychotherapy Research 31, 817-830).

    Args:
        z: (..., lag, dimension) mean over windows of Fisher's z, from the longest negative to the longest positive lag.
    """
    return np.asarray(z[..., z.shape[-2] // 2, :])


def compute_all_lags(z: Floats) -> Floats:
    """Return the mean over lags of the mean z, or of the mean |z|.

    It is SUSY's Z (Tschacher and Meier 2020, Psychotherapy Research 30, 558-573), and of |z| rMEA's `all_lags`.

    Args:
        z: (..., lag, dimension), see `compute_lag_zero`.
    """
    return average(z, -2)


def compute_lead(z: Floats) -> Floats:
    """Return the mean z over positive lags minus that over negative ones: rMEA's `s1_lead` minus `s2_lead`.

    Above 0 the first voice leads. Between -2 and 2 times the z of a correlation.

    Args:
        z: (..., lag, dimension), see `compute_lag_zero`.
    """
    reach = z.shape[-2] // 2
    return np.asarray(average(z[..., reach + 1 :, :], -2) - average(z[..., :reach, :], -2))


def measure_profile(profile: LagProfile, coupling: Coupling) -> tuple[dict[str, Floats], Floats]:
    """Return the measures (pair, dimension + 1) of a lag profile by name, and the similarity's lag in steps."""
    similarity, lags = find_extreme(profile.correlation, coupling)
    values = {
        "similarity": similarity,
        "peak": find_extreme(profile.correlation, "positive")[0],
        "trough": find_extreme(profile.correlation, "negative")[0],
        "lag_zero": compute_lag_zero(profile.z),
        "all_lags": compute_all_lags(profile.z),
        "absolute": compute_all_lags(profile.absolute),
        "lead": compute_lead(profile.z),
        "lead_windows": profile.first_leads - profile.second_leads,
    }
    return values, lags


def measure(firsts: Stack, second: Stack, settings: Settings, hop: float) -> Measured:
    """Return all measures of each first recording with the second one, but the influences.

    Args:
        firsts: Recordings or surrogates.
        second: One recording.
        settings: Of the comparison.
        hop: Seconds between steps.
    """
    grid = WindowGrid.from_settings(settings, hop)
    shape = (len(firsts), 2 * grid.reach + 1, firsts.values.shape[2])
    profile = make_profile(correlate_windows(firsts, second, grid), shape, settings.coupling)
    values, lags = measure_profile(profile, settings.coupling)
    for name, band in coherence.compute_bands(firsts, second, hop).items():
        values[f"coherence_{name}"] = append_mean(band)
    return Measured(values, lags, profile)


def name_influences(forward: Floats, backward: Floats) -> dict[str, Floats]:
    """Return the influences (pair, dimension + 1) by name.

    Args:
        forward: (pair, dimension) influence of the first voice on the second, see `influence.compute_influence`.
        backward: (pair, dimension) the reverse.
    """
    return {
        "influence_first": append_mean(forward),
        "influence_second": append_mean(backward),
        "influence_net": append_mean(to_z(forward) - to_z(backward)),
    }


def get_sign(measure: Measure, coupling: Coupling) -> Literal["high", "low", "both"]:
    """Return the values of a measure that count against chance: high, low or both."""
    if measure.side != "coupling":
        return measure.side
    sides: dict[Coupling, Literal["high", "low", "both"]] = {
        "positive": "high", "negative": "low", "both": "both",
    }  # fmt: skip
    return sides[coupling]


def to_scale(measure: Measure, values: Floats) -> Floats:
    """Return values on the scale of means and tests: Fisher's z of correlations, other measures as they are."""
    return to_z(values) if measure.unit == "r" else values
