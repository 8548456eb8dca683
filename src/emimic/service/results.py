"""What the service wing hands out: the answer for a file, curves over time, failures (NumPy only)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emimic.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of a recording in which a voice is heard, in seconds from its start."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Curves of one recording; a silent stretch is a gap (NaN), never a value.

    name: what the recording is called (a file's stem). seconds: its whole length. targets: names of the intensities.
    window, hop: seconds. times (step,): the centre of each window in seconds, a hop apart; starts, ends (step,): the
    stretch each was heard over (a window is shorter at a recording's two ends). intensities (step, target), about
    [0, 1]: the model's answer for that stretch heard as a clip of its own. vad_times (frame,): centres of the VAD
    frames in seconds, 50 a second; vad (frame, 3): arousal, dominance, valence; both None when the model has not
    learnt VAD. regions: where a voice is heard.
    """

    name: str
    seconds: float
    targets: tuple[str, ...]
    window: float
    hop: float
    times: NDArray[np.float64]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    intensities: NDArray[np.float32]
    vad_times: NDArray[np.float64] | None
    vad: NDArray[np.float32] | None
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One recording's answer.

    path: the file as given (for an array or standard input, a name). targets: names of the intensities. seconds: its
    length before the cut at the model's max_seconds (was_cut); was_padded: it was shorter than the encoder's smallest
    input. prediction: intensities (target,), about [0, 1] and not clipped, and VAD over frames. timeline: curves over
    the whole recording, when asked for.
    """

    path: Path
    targets: tuple[str, ...]
    seconds: float
    was_cut: bool
    was_padded: bool
    prediction: Prediction
    timeline: Timeline | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A file without an answer, and why (the reason names the file)."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of a list of files: answers in the order of the inputs, and the failures."""

    targets: tuple[str, ...]
    clips: tuple[Answer, ...]
    failed: tuple[Failure, ...]
