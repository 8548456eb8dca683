"""Settings of a comparison."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from emimic.task import EmimicError

Method: TypeAlias = Literal["dtw", "windowed"]
Coupling: TypeAlias = Literal["positive", "negative", "both"]


class MimicryError(EmimicError):
    """Two recordings that can't be compared, or invalid settings."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a comparison.

    Attributes:
        alignment: "dtw" warps (a seed and its mimic, each at its own speed); "windowed" correlates windows (two
            people in one conversation).
        window: Seconds of a window (windowed).
        lag: Seconds of the longest lag (windowed).
        voice: Minimum fraction of a window that is voiced on both sides (windowed).
        band: Maximum distance of the warping path from the straight line, as a fraction of the length (dtw).
        draws: Number of surrogates.
        level: Fraction of unrelated pairs within the chance interval.
        seed: Of the random draws.
        coupling: The sign of the similarities that are tested: "positive", "negative" (one calms down as the other
            gets excited) or "both" (windowed).

    Raises:
        MimicryError: A value is invalid.
    """

    alignment: Method = "dtw"
    window: float = 5.0
    lag: float = 2.5
    voice: float = 0.3
    band: float = 0.25
    draws: int = 999
    level: float = 0.95
    seed: int = 0
    coupling: Coupling = "positive"

    def __post_init__(self) -> None:
        checks = (
            ("alignment", self.alignment in ("dtw", "windowed"), "dtw or windowed"),
            ("window", 0 < self.window < math.inf, "seconds above 0"),
            ("lag", 0 < self.lag < math.inf, "seconds above 0"),
            ("voice", 0 < self.voice <= 1, "a fraction above 0, at most 1"),
            ("band", 0 < self.band <= 1, "a fraction above 0, at most 1"),
            ("level", 0 < self.level < 1, "a fraction between 0 and 1, such as 0.95"),
            ("seed", self.seed >= 0, "0 or more"),
            ("coupling", self.coupling in ("positive", "negative", "both"), "positive, negative or both"),
        )
        for name, valid, expected in checks:
            if not valid:
                raise MimicryError(f"{name} is {getattr(self, name)!r}; give {expected}")
        if self.alignment == "dtw" and self.coupling != "positive":
            raise MimicryError(
                f"coupling is {self.coupling!r}, and warping looks for positive similarity; use the alignment windowed"
            )
        minimum = math.ceil(1 / (1 - self.level) - 1 - 1e-6)
        if self.draws < minimum:
            raise MimicryError(
                f"{self.draws} draws can't show a level of {self.level:g}; give {minimum} or more"
            )
