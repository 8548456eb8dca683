"""What runs a finished model: one protocol; ONNX Runtime for an engine folder, torch for a run that is not exported."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from emimic.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Spec:
    """What an engine needs of a clip and what it answers.

    targets: names of the intensities. max_seconds: clips are cut to this length. do_normalize: then brought to zero
    mean and unit variance. min_samples: shorter clips are padded on the right to it. hop, first: samples from a frame
    to the next, and to the centre of the first. vad: whether it answers VAD. exact_under_padding: False when only
    clips of equal length may share a batch.
    """

    targets: tuple[str, ...]
    max_seconds: float
    do_normalize: bool
    min_samples: int
    hop: int
    first: float
    vad: bool
    exact_under_padding: bool = True


class Engine(Protocol):
    """A finished model. Clips are prepared as `spec` says: (sample,) float32 at 16 kHz each."""

    spec: Spec

    def predict(
        self, clips: Sequence[NDArray[Any]], *, batch_seconds: float = 60.0
    ) -> list[Prediction]:
        """One Prediction a clip, in the same order; padding and company in a batch change nothing.

        Raises ModelError when an answer is NaN or infinite (damaged weights).
        """
        ...
