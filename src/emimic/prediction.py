"""The prediction of a model for one clip, as every engine returns it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one clip.

    Attributes:
        intensities: (target,), in [0, 1] from a calibrated model, else about that range and not clipped.
        vad: (frame, 3), arousal, dominance, valence; None unless the model's VAD head has been trained.
        times: (frame,), the center of each frame in seconds.
        hidden: (frame, feature), the encoder's last hidden states, on request.
        pooled: (2 * feature,), their mean and std over the frames; within an engine only.
        novelty: distance to the training data; 1 % of clips like those lie beyond 1. None for silence and for a model
            without such a score.
    """

    intensities: NDArray[np.float32]
    vad: NDArray[np.float32] | None
    times: NDArray[np.float64]
    hidden: NDArray[np.float32] | None = None
    pooled: NDArray[np.float32] | None = None
    novelty: float | None = None

    @property
    def is_unlike_training(self) -> bool:
        """True if the clip is unlike the training data, so that its values deserve less trust."""
        return self.novelty is not None and self.novelty > 1.0
