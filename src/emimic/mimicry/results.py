"""What a comparison of two recordings says: plain dataclasses, and their JSON."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emimic.metrics import Floats
from emimic.mimicry.significance import Chance
from emimic.task import EmimicError

Bools: TypeAlias = NDArray[np.bool_]
Clock: TypeAlias = Literal["own", "common"]

SCHEMA: Final = "emimic/mimicry/1"
MEANING: Final = (
    "Similar predicted curves are not empathy, a lag is no cause, more than chance need not be mimicry."
)


class MimicryError(EmimicError):
    """Two recordings that can't be compared, or settings that make no sense."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to compare.

    clock: "own" warps (a seed and its mimic, each at a speed of its own); "common" correlates windows (two people in
    one conversation). window, lag: seconds of a window and of the longest lag, on a common clock. voice: the share of
    a window in which both must be heard. band: how far warping may leave the straight line, as a share of the length.
    draws: surrogates; level: the share of unrelated pairs that stay within the chance interval; seed: of the draws.
    Raises MimicryError for values that make no sense.
    """

    clock: Clock = "own"
    window: float = 5.0
    lag: float = 2.5
    voice: float = 0.3
    band: float = 0.25
    draws: int = 999
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        checks = (
            ("clock", self.clock in ("own", "common"), "own or common"),
            ("window", 0 < self.window < math.inf, "seconds above 0"),
            ("lag", 0 < self.lag < math.inf, "seconds above 0"),
            ("voice", 0 < self.voice <= 1, "a share above 0, at most 1"),
            ("band", 0 < self.band <= 1, "a share above 0, at most 1"),
            ("level", 0 < self.level < 1, "a share between 0 and 1, such as 0.95"),
            ("seed", self.seed >= 0, "0 or more"),
        )
        for name, fine, expected in checks:
            if not fine:
                raise MimicryError(f"{name} is {getattr(self, name)!r}; give {expected}")
        least = math.ceil(1 / (1 - self.level) - 1 - 1e-6)
        if self.draws < least:
            raise MimicryError(
                f"{self.draws} draws can't show a level of {self.level:g}; give {least} or more"
            )


@dataclass(frozen=True, slots=True)
class Curves:
    """A recording on its grid: times (step,) in seconds, a hop apart; values (step, dimension), NaN in gaps.

    A step is a gap in every dimension or in none.
    """

    name: str
    hop: float
    dimensions: tuple[str, ...]
    times: Floats
    values: Floats

    @property
    def heard(self) -> Bools:
        """Which steps have values: (step,)."""
        return np.asarray(np.isfinite(self.values[:, 0]))

    @property
    def voice(self) -> float:
        """Seconds of it that have values."""
        return float(self.heard.sum() * self.hop)

    def cut(self, steps: int) -> "Curves":
        """Its first steps."""
        return replace(self, times=self.times[:steps], values=self.values[:steps])


@dataclass(frozen=True, slots=True)
class Path:
    """How warping laid the mimic onto the seed.

    seed, mimic (place,): the seconds that lie on each other. cost: total, and normalized (0 for equal curves, 2 for
    unrelated ones that are not warped). lag: the median of mimic minus seed along the path, each counted from its
    first voice, in seconds. tempo: the seed's seconds of voice over the mimic's, above 1 for a quicker mimic.
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

    times (window,): centers, in seconds, of the windows that count. peaks, lags (window, dimension + 1): the highest
    correlation within the longest lag, and the seconds at which it lies; the last column is for the mean over the
    dimensions; NaN where a curve has no variance. without_voice: windows left out as too little is heard on both
    sides. without_variance (dimension,): of those that count, windows left out of a dimension.
    """

    times: Floats
    peaks: Floats
    lags: Floats
    without_voice: int
    without_variance: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lead:
    """Who leads, on a common clock; it says little where there is no more than chance.

    lag: where the mean of the windows' correlations peaks, in seconds; positive: the second follows the first.
    whole_lag, whole_peak: the same of the whole recording as one window. median_lag, mean_peak: of the windows'
    peaks. seed_leads, mimic_leads: the shares of windows that either leads (the rest has lag 0).
    """

    lag: float
    whole_lag: float
    whole_peak: float
    median_lag: float
    mean_peak: float
    seed_leads: float
    mimic_leads: float


@dataclass(frozen=True, slots=True)
class Found:
    """Similarities before they are judged: observed (dimension + 1,), draws (draw, dimension + 1), overall last."""

    observed: Floats
    draws: Floats
    path: Path | None = None
    windows: Windows | None = None
    leads: tuple[Lead, ...] = ()


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension's similarity in [-1, 1], NaN without variance, and its place among chance.

    similarity: on own clocks the correlation along the path, on a common one the peak, over lags, of the mean of the
    windows' correlations.
    """

    name: str
    similarity: float
    chance: Chance


@dataclass(frozen=True, slots=True)
class Comparison:
    """A pair of recordings.

    overall: the mean over the dimensions. path: on own clocks. windows, and leads of each dimension and, last,
    overall: on a common clock. chance: the draws are "surrogates" of the seed, or "recordings" in its place. notes:
    what to know before believing it.
    """

    seed: Curves
    mimic: Curves
    settings: Settings
    overall: Dimension
    dimensions: tuple[Dimension, ...]
    leads: tuple[Lead, ...]
    path: Path | None
    windows: Windows | None
    chance: Literal["surrogates", "recordings"]
    notes: tuple[str, ...]

    @property
    def leader(self) -> Literal["seed", "mimic", "together"] | None:
        """Who leads on a common clock; None on own clocks, and where there is no more than chance."""
        if not self.leads or not self.overall.chance.beyond:
            return None
        lag = self.leads[-1].lag
        return "seed" if lag > 0 else "mimic" if lag < 0 else "together"

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain types, as in the JSON: arrays are lists, NaN and infinity None, numbers rounded."""
        return {"schema": SCHEMA, "meaning": MEANING, **_plain(asdict(self)), "leader": self.leader}


@dataclass(frozen=True, slots=True)
class Report:
    """A seed and its mimics.

    together, together_dimensions: the mean over the mimics, None and () for a single one. failed: why a mimic has no
    comparison.
    """

    comparisons: tuple[Comparison, ...]
    together: Dimension | None
    together_dimensions: tuple[Dimension, ...]
    failed: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as `Comparison.to_dict`; what all comparisons share stands once."""
        pairs = [one.to_dict() for one in self.comparisons]
        shared = {key: pairs[0][key] for key in ("schema", "meaning", "settings")}
        return {
            **shared,
            "comparisons": [{key: value for key, value in one.items() if key not in shared} for one in pairs],
            "together": _plain(asdict(self.together)) if self.together else None,
            "together_dimensions": [_plain(asdict(one)) for one in self.together_dimensions],
            "failed": list(self.failed),
        }


def sentence(one: Comparison) -> str:
    """Return the finding in one line of plain words."""
    names = f"{one.seed.name} and {one.mimic.name}"
    p = f"p {one.overall.chance.p:.3f}"
    if not one.overall.chance.beyond:
        return f"{names}: no more alike than chance ({p})."
    found = f"{names}: more alike than chance ({p})"
    if one.path is not None:
        return f"{found}; the mimic goes at {one.path.tempo:.2f} times the seed's pace."
    lag = abs(one.leads[-1].lag)
    who = {"seed": one.seed.name, "mimic": one.mimic.name}.get(one.leader or "")
    return f"{found}; " + (f"{who} leads by {lag:.1f} s." if who else "neither leads.")


_SECONDS: Final = frozenset({"times", "seed", "mimic", "lags", "lag", "whole_lag", "median_lag"})
"""Fields that are seconds, which are rounded to the millisecond, where they hold numbers."""


def _plain(value: Any, digits: int = 5) -> Any:
    if isinstance(value, dict):
        return {key: _plain(member, 3 if key in _SECONDS else 5) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member, digits) for member in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist(), digits)
    if isinstance(value, float):
        return round(value, digits) if math.isfinite(value) else None
    return value
