"""What a model answers for one clip: the form in which every engine and both wings hand it on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prediction:
    """One clip's answer: intensities (target,), in [0, 1] from a calibrated model, else about it and not clipped; vad
    (frame, 3), arousal, dominance, valence, None unless the model's VAD head has learned VAD (one that started fresh is
    only a part of the model); times (frame,), the center of each frame in seconds; hidden (frame, feature), the
    encoder's last hidden states, when asked for; pooled (2 * feature,), their mean and standard deviation over the
    frames, within an engine only; novelty: distance to the training data, where beyond 1 lies one in a hundred clips
    like those, None when the model has no such score, and of silence."""

    intensities: NDArray[np.float32]
    vad: NDArray[np.float32] | None
    times: NDArray[np.float64]
    hidden: NDArray[np.float32] | None = None
    pooled: NDArray[np.float32] | None = None
    novelty: float | None = None

    @property
    def is_unlike_training(self) -> bool:
        """Whether the clip is known to be unlike the training data, so that its values deserve less trust."""
        return self.novelty is not None and self.novelty > 1.0
