"""Yu et al. (2024): temporal convolutions over faces and action units, then a Transformer; convolutions over the voice.

Source: J. Yu, W. Zhu and J. Zhu, "Efficient Feature Extraction and Late Fusion Strategy for Audiovisual Emotional
Mimicry Intensity Estimation", CVPR Workshops 2024. Published: faces of 112 x 112 at 30 frames a second, features of a
ResNet-18 that learned on AffectNet, and action units; a temporal convolutional network (TCN), then a Transformer
encoder; sound at a peak of -3 dB, wav2vec 2.0's features, a TCN; MSE; the mean of both predictions: .328 on validation,
.359 on test.
Not published: every dimension, dropout, how frames become one vector, rate and epochs. Here: the fields of YuOptions,
the mean over frames, the main model's training. The fusion of the face's two channels isn't published either. Here each
has its own TCN and Transformer, and their means are concatenated, so that they need not have the same frames (0 for a
missing channel). The features' encoder is responsible for the voice's level.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from emimic.baselines import layers
from emimic.baselines.system import Options, System


class YuOptions(Options):
    """Values that the source doesn't publish."""

    units: int = Field(128, ge=8, multiple_of=8, description="channels of the TCNs and of the Transformer")
    blocks: int = Field(4, ge=1, description="blocks of a TCN, two convolutions each")
    kernel: int = Field(3, ge=1, description="kernel size of a convolution, in frames")
    layers: int = Field(2, ge=1, description="layers of the Transformer encoder")
    heads: Literal[1, 2, 4, 8] = Field(4, description="heads of its attention")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in the TCN and the Transformer")


class Channel(nn.Module):
    """TCN, with `attentive` a Transformer encoder, mean over frames."""

    def __init__(self, features: int, options: YuOptions, *, attentive: bool) -> None:
        super().__init__()
        units, dropout = options.units, options.dropout
        self.tcn = layers.Tcn(features, units, options.blocks, kernel=options.kernel, dropout=dropout)
        self.attention = (
            layers.Attention(units, units, layers=options.layers, heads=options.heads, dropout=dropout)
            if attentive
            else None
        )

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, frame, feature), (batch, frame) to (batch, unit), 0 without any frame."""
        hidden = self.tcn(frames, mask)
        if self.attention is not None:
            hidden = self.attention(hidden, mask)
        return layers.average(hidden, mask)


def _make_branches(options: YuOptions, sizes: Mapping[str, int], targets: int) -> dict[str, nn.Module]:
    branches: dict[str, nn.Module] = {}
    for name, modalities in (("vision", ("face", "units")), ("audio", ("audio",))):
        encoders = {
            modality: Channel(sizes[modality], options, attentive=name == "vision")
            for modality in modalities
            if modality in sizes
        }
        if encoders:
            branches[name] = layers.Branch(encoders, nn.Linear(len(encoders) * options.units, targets))
    return branches


SYSTEM = System(
    title="Yu et al.",
    source="CVPR-W 2024, Yu et al.",
    published={"valid": 0.328, "test": 0.359},
    modalities={"face": "resnet18", "units": "action-units", "audio": "wav2vec2"},
    options=YuOptions,
    settings={},
    branches=_make_branches,
)
