"""Results of comparing two recordings: plain dataclasses, and their JSON."""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emimic.metrics import Floats
from emimic.mimicry.settings import Coupling as Coupling
from emimic.mimicry.settings import MimicryError as MimicryError
from emimic.mimicry.settings import Settings as Settings
from emimic.mimicry.significance import Chance

Bools: TypeAlias = NDArray[np.bool_]

SCHEMA: Final = "emimic/mimicry/1"
MEANING: Final = (
    "Similar predicted timelines are not empathy, a lag is no cause, more than chance need not be mimicry."
)


@dataclass(frozen=True, slots=True)
class Series:
    """A recording's dimensions on its grid. A step is silent (NaN) in every dimension or in none.

    Attributes:
        name: Of the recording.
        hop: Seconds between steps.
        dimensions: Names.
        times: (step,) in seconds.
        values: (step, dimension).
    """

    name: str
    hop: float
    dimensions: tuple[str, ...]
    times: Floats
    values: Floats

    @property
    def voiced(self) -> Bools:
        """Steps (step,) that have values."""
        return np.asarray(np.isfinite(self.values[:, 0]))

    @property
    def voice(self) -> float:
        """Seconds that have values."""
        return float(self.voiced.sum() * self.hop)

    def cut(self, steps: int) -> "Series":
        """Return the first steps."""
        return replace(self, times=self.times[:steps], values=self.values[:steps])


@dataclass(frozen=True, slots=True)
class Path:
    """The warping path from the mimic to the seed.

    Attributes:
        seed: (position,) seconds of the seed.
        mimic: (position,) the seconds aligned with them.
        cost: Total cost.
        normalized: Cost over both lengths: 0 for equal series, 2 for unrelated ones without warping.
        lag: Median of mimic minus seed along the path in seconds, each counted from its first voice.
        tempo: The seed's seconds of voice over the mimic's, above 1 for a faster mimic.
    """

    seed: Floats
    mimic: Floats
    cost: float
    normalized: float
    lag: float
    tempo: float


@dataclass(frozen=True, slots=True)
class Windows:
    """Windowed cross-correlation. A positive lag: the second recording (the mimic) follows the first (the seed).

    Attributes:
        times: (window,) centers of the valid windows in seconds.
        peaks: (window, dimension + 1) maximum correlation within the longest lag (of the coupling's sign), last the
            mean over the dimensions; NaN without variance.
        lags: (window, dimension + 1) the seconds at which it lies.
        by_lag: (window, lag) correlation at each lag, the mean over the dimensions.
        without_voice: Number of windows omitted for too little voice on both sides.
        without_variance: (dimension,) number of valid windows without variance.
    """

    times: Floats
    peaks: Floats
    lags: Floats
    by_lag: Floats
    without_voice: int
    without_variance: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lead:
    """The leader of two simultaneous recordings; meaningless unless the similarity exceeds chance.

    Attributes:
        lag: Seconds at which the windows' mean correlation peaks; positive: the second follows the first.
        whole_lag: The same of the entire recording as one window.
        whole_peak: The correlation there.
        median_lag: Median of the windows' lags.
        mean_peak: Mean of the windows' peaks.
        seed_leads: Fraction of windows that the seed leads.
        mimic_leads: Fraction that the mimic leads (the rest has lag 0).
    """

    lag: float
    whole_lag: float
    whole_peak: float
    median_lag: float
    mean_peak: float
    seed_leads: float
    mimic_leads: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """Similarities before they are judged.

    Attributes:
        observed: (dimension + 1,) overall last.
        draws: (draw, dimension + 1) the same by chance.
        path: Of dtw.
        windows: Of windowed.
        leads: Of windowed, one per dimension and overall last.
        measures: Of windowed: observed (dimension + 1,) and by chance (draw, dimension + 1), by name.
        profile: Of windowed: mean correlation, overall, at each lag (lag,), and that of the draws (draw, lag).
    """

    observed: Floats
    draws: Floats
    path: Path | None = None
    windows: Windows | None = None
    leads: tuple[Lead, ...] = ()
    measures: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    profile: tuple[Floats, Floats] | None = None


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension's similarity among chance.

    Attributes:
        name: Of the dimension.
        similarity: In [-1, 1], NaN without variance: the correlation along the path (dtw), or the peak, over lags, of
            the windows' mean correlation (windowed; with negative coupling its minimum, with both the value of the
            largest magnitude).
        chance: The similarities of unrelated draws.
    """

    name: str
    similarity: float
    chance: Chance


@dataclass(frozen=True, slots=True)
class MeasureResult:
    """A measure of one pair beside the similarity, see `measures.MEASURES`.

    Attributes:
        name: Of the measure.
        values: (dimension + 1,), overall last; NaN where undefined.
        p: (dimension + 1,) not corrected for the number of dimensions or measures.
    """

    name: str
    values: Floats
    p: Floats


@dataclass(frozen=True, slots=True)
class LagLines:
    """The mean correlation at each lag, overall, and those by chance.

    Attributes:
        lags: (lag,) in seconds; positive: the second recording follows.
        observed: (lag,).
        low: (lag,) below which 2.5 % of the draws lie.
        high: (lag,) above which 2.5 % lie.
    """

    lags: Floats
    observed: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of a pair of recordings.

    Attributes:
        seed: The first recording.
        mimic: The second recording.
        settings: Of the comparison.
        overall: Mean over the dimensions.
        dimensions: Each dimension.
        leads: Of windowed, one per dimension and overall last.
        path: Of dtw.
        windows: Of windowed.
        chance: The draws are "surrogates" of the seed, or "recordings" in its place.
        notes: Remarks that the numbers need.
        measures: Of windowed: the measures beside the similarity.
        lag_lines: Of windowed: the correlation at each lag.
    """

    seed: Series
    mimic: Series
    settings: Settings
    overall: Dimension
    dimensions: tuple[Dimension, ...]
    leads: tuple[Lead, ...]
    path: Path | None
    windows: Windows | None
    chance: Literal["surrogates", "recordings"]
    notes: tuple[str, ...]
    measures: tuple[MeasureResult, ...] = ()
    lag_lines: LagLines | None = None

    @property
    def leader(self) -> Literal["seed", "mimic", "together"] | None:
        """The leader (windowed); None for dtw, or if the similarity does not exceed chance."""
        if not self.leads or not self.overall.chance.beyond:
            return None
        lag = self.leads[-1].lag
        return "seed" if lag > 0 else "mimic" if lag < 0 else "together"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: arrays are lists, NaN and infinity None, numbers rounded."""
        return {"schema": SCHEMA, "meaning": MEANING, **_make_plain(asdict(self)), "leader": self.leader}


@dataclass(frozen=True, slots=True)
class Report:
    """The comparisons of a seed with its mimics, or of the pairs of several voices.

    Attributes:
        comparisons: One per mimic.
        together: The mean over the mimics; None for a single one.
        together_dimensions: The same by dimension.
        failed: Errors of mimics without a comparison.
        rho: Of more than two voices, whose pairs are the comparisons: the cluster phase of all, see `group_phase`.
        rho_dimensions: The same by dimension.
    """

    comparisons: tuple[Comparison, ...]
    together: Dimension | None
    together_dimensions: tuple[Dimension, ...]
    failed: tuple[str, ...] = ()
    rho: Dimension | None = None
    rho_dimensions: tuple[Dimension, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, see `Comparison.to_dict`; common fields appear once."""
        pairs = [comparison.to_dict() for comparison in self.comparisons]
        shared = {key: pairs[0][key] for key in ("schema", "meaning", "settings")}
        return {
            **shared,
            "comparisons": [{key: pair[key] for key in pair if key not in shared} for pair in pairs],
            "together": _make_plain(asdict(self.together)) if self.together else None,
            "together_dimensions": [_make_plain(asdict(dimension)) for dimension in self.together_dimensions],
            "failed": list(self.failed),
            "rho": _make_plain(asdict(self.rho)) if self.rho else None,
            "rho_dimensions": [_make_plain(asdict(dimension)) for dimension in self.rho_dimensions],
        }


def summarize(comparison: Comparison) -> str:
    """Return the finding as one sentence."""
    seed, mimic = comparison.seed.name, comparison.mimic.name
    p = f"p {comparison.overall.chance.p:.3f}"
    if not comparison.overall.chance.beyond:
        return f"{seed} and {mimic}: no more alike than chance ({p})."
    text = f"{seed} and {mimic}: more alike than chance ({p})"
    if comparison.path is not None:
        return f"{text}; the mimic goes at {comparison.path.tempo:.2f} times the seed's pace."
    lag = abs(comparison.leads[-1].lag)
    leader = {"seed": seed, "mimic": mimic}.get(comparison.leader or "")
    return f"{text}; " + (f"{leader} leads by {lag:.1f} s." if leader else "neither leads.")


_SECONDS: Final = frozenset({"times", "seed", "mimic", "lags", "lag", "whole_lag", "median_lag"})
"""Fields in seconds, whose numbers are rounded to the millisecond."""


def _make_plain(value: Any, digits: int = 5) -> Any:
    if isinstance(value, dict):
        return {key: _make_plain(item, 3 if key in _SECONDS else 5) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_make_plain(item, digits) for item in value]
    if isinstance(value, np.ndarray):
        return _make_plain(value.tolist(), digits)
    if isinstance(value, float):
        return round(value, digits) if math.isfinite(value) else None
    return value
