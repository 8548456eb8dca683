"""Concatenation with MSE + Pearson and averaged weights, after the second place of ABAW 10.

Source: the results of the EMI challenge of ABAW 10 (CASIA, second): features of text, voice and face concatenated, MSE
mixed with 1 - Pearson, an exponential moving average of the weights: .479 on validation, .674 on test.
Not published: the features, how frames are pooled, sizes, weights of the mix, decay. Chosen here: mean and standard
deviation over frames, dense layers of 256, equal weights, a decay of .999, batches of 64.
"""

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from emimic.baselines import layers
from emimic.baselines.system import System


class ConcatenatedOptions(layers.JoinedOptions):
    """Values that the source doesn't publish."""

    units: int = Field(256, ge=1, description="units of each modality's dense layer, and of the joined one")
    std: bool = Field(True, description="the standard deviation over frames beside their mean")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout before the output")


def _make_branches(
    options: ConcatenatedOptions, sizes: Mapping[str, int], targets: int
) -> dict[str, nn.Module]:
    encoders: dict[str, nn.Module] = {
        modality: layers.Pooled(size, options.units, std=options.std) for modality, size in sizes.items()
    }
    return {"joined": layers.Joined(encoders, options, targets)}


SYSTEM = System(
    title="Concatenation, MSE + Pearson, EMA (ABAW 10, second)",
    source="CASIA, ABAW 10",
    published={"valid": 0.479, "test": 0.674},
    modalities={"text": "text", "audio": "wav2vec2", "face": "vit"},
    options=ConcatenatedOptions,
    settings={
        "loss": {"mse": 1.0, "pearson": 1.0},
        "ema": 0.999,
        "lr": 1e-4,
        "epochs": 30,
        "batch_size": 64,
    },
    branches=_make_branches,
)
