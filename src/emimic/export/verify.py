"""Comparison of an exported graph with torch."""

from typing import Any, Final

import numpy as np

from emimic.inference.engine import Spec, predict_clips
from emimic.inference.runtimes import Runtime
from emimic.inference.spec import CHECK_TEXT, make_check_clip
from emimic.model.inputs import Inputs
from emimic.task import SAMPLE_RATE, ModelError

TOLERANCE: Final = {"float32": 1e-4, "int8": 0.03}
"""Maximum difference of float32 from torch, and of the check clips' predictions on another machine from those at export
(in 8 bits a last bit can change a rounding)."""


def list_lengths(spec: Spec) -> list[int]:
    """Return the samples of the shortest clip, an odd one, and the longest."""
    longest = round(spec.max_seconds * SAMPLE_RATE)
    return [spec.min_samples, min(max(spec.min_samples, 20_011), longest), longest]


def verify(model: Any, runtime: Runtime, spec: Spec) -> float:
    """Return the largest difference from torch at three lengths, each alone and in a batch."""
    clips: list[Any] = [make_check_clip(spec, samples) for samples in list_lengths(spec)]
    if spec.text:
        # Without words, with few, and with more tokens than the graph was traced with.
        texts = (None, CHECK_TEXT, " ".join([CHECK_TEXT] * 4))
        tokenize = model.branches["text"].tokenize
        clips = [Inputs(clip, {"text": tokenize(text)}) for clip, text in zip(clips, texts, strict=True)]
    references = [model.predict([clip])[0] for clip in clips]
    # If padding is not allowed, `predict_clips` makes pairs of equal length instead.
    together = predict_clips(runtime, spec, [*clips, *clips], batch_seconds=1e9)
    alone = [predict_clips(runtime, spec, [clip])[0] for clip in clips]
    largest = 0.0
    for reference, exported in zip(references * 3, together + alone, strict=True):
        largest = max(largest, _subtract(reference.intensities, exported.intensities))
        if spec.vad:
            largest = max(largest, _subtract(reference.vad, exported.vad))
    if not largest <= TOLERANCE["float32"]:
        raise ModelError(
            f"the exported {model.config.encoder_config.model_type} graph differs from torch by {largest:.2g}, at most "
            f"{TOLERANCE['float32']:g} is allowed: nothing was written. Use the run itself, and report this"
        )
    return largest


def _subtract(first: Any, second: Any) -> float:
    """Return the largest absolute difference of two arrays; infinity if their shapes differ."""
    return float(np.abs(first - second).max()) if first.shape == second.shape else float("inf")
