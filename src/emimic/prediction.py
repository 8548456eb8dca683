"""What a model answers for one clip: the form in which every engine and both wings hand it on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prediction:
    """One clip's answer: intensities (target,), about [0, 1] and not clipped; vad (frame, 3), arousal, dominance,
    valence, None unless the model's VAD head has learnt VAD (one that started fresh is only a part of the model);
    times (frame,), the centre of each frame in seconds; hidden (frame, feature), the encoder's last hidden states, when
    asked for."""

    intensities: NDArray[np.float32]
    vad: NDArray[np.float32] | None
    times: NDArray[np.float64]
    hidden: NDArray[np.float32] | None = None
