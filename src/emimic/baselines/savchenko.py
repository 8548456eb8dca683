"""Savchenko (2024): statistics of frozen face and voice features, one sigmoid layer each, weighted late fusion.

Source: A. V. Savchenko, "HSEmotion Team at the 6th ABAW Competition: Facial Expressions, Valence-Arousal and Emotion
Intensity Prediction", CVPR Workshops 2024, and its released code. Published there: every 5th face, its 8 expression
scores, valence and arousal from a frozen multi-task network; wav2vec2-base-960h's last hidden states; mean, standard
deviation, minimum and maximum of each over the clip; a dense layer of 6 sigmoids with L2 1/512; Adam with 1e-3, batches
of 512, 100 epochs, loss 1 - mean Pearson; joined with .1 (face) and .9 (voice): .289 on validation, .331 on test; voice
alone .236.
Not published: the step of the search for weights (here .1), and whether features were standardized (here not).
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import nn

from emimic.baselines import layers
from emimic.baselines.inputs import take_every
from emimic.baselines.system import Options, System


class SavchenkoOptions(Options):
    """Values of the source, and values that it doesn't publish."""

    fusion: Literal["mean", "global", "emotion"] = Field(
        "global",
        description="weights searched on validation: one pair for all emotions, as published, or one each",
    )
    face_step: int = Field(5, ge=1, description="every n-th face is read")


def _make_branches(_: SavchenkoOptions, sizes: Mapping[str, int], targets: int) -> dict[str, nn.Module]:
    """Return, for face and voice, four statistics over a clip -> dense layer -> sigmoid."""
    return {
        modality: layers.Branch(
            {modality: layers.Pool(layers.compute_statistics)},
            nn.Sequential(nn.Linear(4 * size, targets), nn.Sigmoid()),
        )
        for modality, size in sizes.items()
    }


SYSTEM = System(
    title="Savchenko",
    source="CVPR-W 2024, Savchenko",
    published={"valid": 0.289, "test": 0.331},
    modalities={"face": "face-descriptors", "audio": "wav2vec2"},
    options=SavchenkoOptions,
    shorten=lambda options: {"face": take_every(options.face_step)},
    settings={
        "loss": {"pearson": 1.0},
        "lr": 1e-3,
        "weight_decay": 0.0,
        "l2": 1 / 512,
        "batch_size": 512,
        "epochs": 100,
        "patience": None,
        "schedule": "constant",
        "warmup_epochs": 0.0,
    },
    branches=_make_branches,
)
