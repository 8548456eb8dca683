"""The best published model on audio alone: WavLM fine-tuned end to end, a TCN over 0.2 s, attentive statistics.

Source: public notebooks of one participant, one seed, unreviewed. There: WavLM-large, the first 20 s of a clip, frames
averaged in groups of 0.2 s, a linear layer to 192, 6 dilated TCN blocks, attentive-statistics pooling, targets
z-scored, MSE; 1e-5 for the encoder and 1e-4 for the rest, batches of 32, best epoch the 10th: .417 on validation.
Not published: the blocks' kernel and dropout, the pooling's units, the layers after it (here one linear layer), and the
schedule (here the main model's). With `modalities.audio` a feature folder, the encoder is frozen.
"""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn

from emimic.baselines import layers
from emimic.baselines.system import Options, System
from emimic.features.store import WAVEFORM
from emimic.model.pooling import AttentiveStatistics


class WavlmTcnOptions(Options):
    """Values of the source, and values that it doesn't publish."""

    group: int = Field(10, ge=1, description="frames averaged into one: 10 of 20 ms are 0.2 s")
    units: int = Field(192, ge=1, description="channels of the TCN")
    blocks: int = Field(6, ge=1, description="blocks of the TCN; each doubles the dilation")
    kernel: int = Field(3, ge=1, description="kernel size of its convolutions")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in its blocks")
    pooling_units: int = Field(128, ge=1, description="units of the pooling's attention")


class GroupedTcn(nn.Module):
    """Frames -> means of groups -> TCN -> attentive statistics."""

    def __init__(self, features: int, options: WavlmTcnOptions) -> None:
        super().__init__()
        self.group = options.group
        self.tcn = layers.Tcn(
            features, options.units, options.blocks, kernel=options.kernel, dropout=options.dropout
        )
        self.pool = AttentiveStatistics(options.units, options.pooling_units)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, frame, feature), (batch, frame) to (batch, 2 x unit)."""
        frames, mask = layers.average_groups(frames, mask, self.group)
        return self.pool(self.tcn(frames, mask), mask)  # type: ignore[no-any-return]


def _make_branches(options: WavlmTcnOptions, sizes: Mapping[str, int], targets: int) -> dict[str, nn.Module]:
    encoders = {modality: GroupedTcn(size, options) for modality, size in sizes.items()}
    return {"audio": layers.Branch(encoders, nn.Linear(2 * options.units, targets))}


SYSTEM = System(
    title="WavLM, TCN, attentive statistics",
    source="a participant's notebooks, unreviewed",
    published={"valid": 0.417, "test": None},
    unsure="unreviewed",
    modalities={"audio": WAVEFORM},
    options=WavlmTcnOptions,
    settings={
        "encoder": "microsoft/wavlm-large",
        "max_seconds": 20.0,
        "standardize_targets": True,
        "lr": 1e-4,
        "encoder_lr": 1e-5,
        "epochs": 10,
        "batch_size": 32,
    },
    branches=_make_branches,
)
