"""The spec of an engine: its requirements on clips, and its outputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic.media import decode
from emimic.media.waveform import ClipFormat
from emimic.task import SAMPLE_RATE

CHECK_TEXT: Final = "Well done, I am so sorry!"
"""Words of the check clips of an exported model that takes some."""


@dataclass(frozen=True, slots=True)
class Spec:
    """An engine's requirements on clips, and its outputs.

    Attributes:
        targets: Names of the intensities.
        max_seconds: Clips are cut to this length.
        do_normalize: Clips are then brought to zero mean and unit variance.
        min_samples: Shorter clips are padded on the right to this length.
        hop: Samples between two frames.
        first: Samples to the center of the first frame.
        vad: The engine predicts V/A/D.
        exact_under_padding: If False, only clips of equal length may share a batch.
        text: The engine takes the words of a clip beside its samples.
        vision: The engine takes images of a recording.
        audio: The engine takes samples; without, only the others.
    """

    targets: tuple[str, ...]
    max_seconds: float
    do_normalize: bool
    min_samples: int
    hop: int
    first: float
    vad: bool
    exact_under_padding: bool = True
    text: bool = False
    vision: bool = False
    audio: bool = True

    @property
    def clip_format(self) -> ClipFormat:
        """The form of the engine's clips."""
        return ClipFormat(self.max_seconds, self.do_normalize, self.min_samples)

    def load(self, path: Path, *, notes: list[str]) -> NDArray[np.float32]:
        """Return a media file's clip (sample,), prepared for the engine.

        Args:
            path: The file.
            notes: Receives remarks about the file.

        Raises:
            AudioError: The file can't be used.
        """
        return self.clip_format.prepare(decode.load(path, max_seconds=self.max_seconds, notes=notes)).samples


def make_check_clip(spec: Spec, samples: int) -> NDArray[np.float32]:
    """Return a rising, trembling tone of `samples` samples, prepared by `spec`; the same on every machine."""
    time = np.arange(samples) / SAMPLE_RATE
    tone = 0.3 * np.sin(2 * np.pi * (150 + 90 * time) * time) * (1 + 0.5 * np.sin(30 * time))
    return spec.clip_format.prepare(tone + 0.05 * np.sin(11_000 * time + 3 * np.sin(40 * time))).samples
