"""A clip as a model with several branches takes it: its voice, and a sequence for each further branch. NumPy only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, slots=True)
class Inputs:
    """The inputs of one clip.

    Attributes:
        audio: (sample,), or hidden states (frame, feature); empty for a model without audio.
        further: branch -> (step, ...); without any step where the clip has no such input.
    """

    audio: Array
    further: Mapping[str, Array]

    def __len__(self) -> int:
        """Return the length by which clips are grouped into batches: of the voice, else of the longest sequence."""
        return len(self.audio) or max(map(len, self.further.values()), default=0)

    def replace_audio(self, change: Callable[[Array], Array]) -> "Inputs":
        """Return the inputs with changed audio."""
        return replace(self, audio=change(self.audio))


def get_audio(clip: Array | Inputs) -> Array:
    """Return the voice of a clip."""
    return clip.audio if isinstance(clip, Inputs) else clip


def change_audio(clip: Array | Inputs, change: Callable[[Array], Array]) -> Array | Inputs:
    """Return a clip with changed audio."""
    return clip.replace_audio(change) if isinstance(clip, Inputs) else change(clip)


def get_further(clip: Array | Inputs, branch: str) -> Array:
    """Return a branch's sequence, (step, ...); (0,) where the clip has none."""
    return clip.further.get(branch, np.zeros(0)) if isinstance(clip, Inputs) else np.zeros(0)
