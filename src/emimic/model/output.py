"""Outputs of the model: of a batch as tensors, of a clip as arrays."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers.utils import ModelOutput

from emimic.model.transfer import get_host_mask
from emimic.prediction import Prediction


@dataclass
class EmiOutput(ModelOutput):  # type: ignore[misc]
    """Outputs of a batch.

    Attributes:
        loss: mean squared error of the intensities, a scalar; None without labels.
        intensities: (batch, target), in [0, 1] with a bounded model, else unbounded.
        frame_mask: (batch, frame), true at real frames.
        vad: (batch, frame, 3), in the order arousal, dominance, valence; None without the V/A/D head.
        categories: (batch, category), logits of the auxiliary task, while training; None without one.
        domains: (batch, domain), logits; None without domains.
        pooled: (batch, 2 * feature), mean and standard deviation over real frames; None while training.
    """

    loss: Tensor | None = None
    # transformers requires a default for every field but the first; these two are always set.
    intensities: Tensor = None  # type: ignore[assignment]
    frame_mask: Tensor = None  # type: ignore[assignment]
    vad: Tensor | None = None
    categories: Tensor | None = None
    domains: Tensor | None = None
    pooled: Tensor | None = None


def split_output(
    output: EmiOutput,
    hidden: Tensor | None,
    frame_times: Callable[[int], NDArray[np.float64]],
    predicts_vad: bool,
) -> list[Prediction]:
    """Return one Prediction per row of a batch, without its padded frames.

    Args:
        output: of the batch.
        hidden: (batch, frame, feature), hidden states to include; None: none.
        frame_times: from a number of frames to their centers in seconds, (frame,).
        predicts_vad: include the V/A/D head's outputs.
    """
    counts = get_host_mask(output.frame_mask).sum(dim=1).tolist()
    return [
        Prediction(
            intensities=_to_array(output.intensities[row]),
            vad=_to_array(output.vad[row, :count]) if predicts_vad and output.vad is not None else None,
            times=frame_times(count),
            hidden=None if hidden is None else _to_array(hidden[row, :count]),
            pooled=None if output.pooled is None else _to_array(output.pooled[row]),
        )
        for row, count in enumerate(counts)
    ]


def _to_array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.float().cpu().numpy()
