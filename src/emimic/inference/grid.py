"""Options of a timeline, and the positions of its windows."""

import math
from dataclasses import dataclass
from typing import Final

from emimic.media.waveform import is_number
from emimic.task import SAMPLE_RATE, EmimicError

WINDOW: Final = 2.5
"""Seconds of one window; enough for a burst or a short sentence."""

HOP: Final = 0.2
"""Seconds between the centers of two windows."""

FRAME: Final = SAMPLE_RATE // 50
"""Samples per V/A/D frame: 50 frames per second."""


@dataclass(frozen=True, slots=True)
class TimelineOptions:
    """Options of a timeline.

    Attributes:
        window: Seconds of each window.
        hop: Seconds between windows.
        exact: Predict each window as a clip of its own, not from one pass of the encoder over the recording.
        vad_frames: V/A/D of each frame, 50 per second, not of each window.
    """

    window: float = WINDOW
    hop: float = HOP
    exact: bool = False
    vad_frames: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """Positions of windows in samples from the recording's start.

    Attributes:
        window: Seconds of a window.
        hop: Seconds between windows.

    Raises:
        EmimicError: A hop is shorter than a frame (0.02 s) or longer than a window.
    """

    window: float
    hop: float

    def __post_init__(self) -> None:
        if not (is_number(self.window) and is_number(self.hop)):
            raise EmimicError(
                f"window is {self.window!r} and hop {self.hop!r}; expected numbers of seconds. Give such as 2.5 and 0.2"
            )
        if not (math.isfinite(self.window) and FRAME / SAMPLE_RATE <= self.hop <= self.window):
            raise EmimicError(
                f"window is {self.window:g} s and hop {self.hop:g} s; the hop must be at least 0.02 s and no longer "
                "than the window, so that every sample is used"
            )

    def get_center(self, step: int) -> int:
        """Return the center of a step's window."""
        return round((step + 0.5) * self.hop * SAMPLE_RATE)

    def get_edge(self, step: int) -> int:
        """Return the start of the interval that a step represents; it ends where the next one starts."""
        return round(step * self.hop * SAMPLE_RATE)

    def get_window(self, step: int) -> tuple[int, int]:
        """Return a window's start and end, which may lie outside the recording."""
        half = round(self.window * SAMPLE_RATE / 2)
        return self.get_center(step) - half, self.get_center(step) + half

    def count_steps(self, total: int) -> int:
        """Return the number of steps with a center within `total` samples, at least one."""
        steps = int(total / (self.hop * SAMPLE_RATE)) + 2
        while steps > 1 and self.get_center(steps - 1) > total:
            steps -= 1
        return steps


@dataclass(frozen=True, slots=True)
class Window:
    """A step's window, cut at the recording's ends, in samples.

    Attributes:
        start: Its first sample.
        end: The sample after its last one.
        voiced: The step's interval contains a voice.
    """

    start: int
    end: int
    voiced: bool
