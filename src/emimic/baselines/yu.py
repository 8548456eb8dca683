"""Yu et al. (2024): temporal convolutions over faces and action units, then a Transformer; convolutions over the voice.

Source: J. Yu, W. Zhu and J. Zhu, "Efficient Feature Extraction and Late Fusion Strategy for Audiovisual Emotional
Mimicry Intensity Estimation", CVPR Workshops 2024. Published: faces of 112 x 112 at 30 frames a second, features of a
ResNet-18 that learned on AffectNet, and action units; a temporal convolutional network (TCN), then a Transformer
encoder; sound at a peak of -3 dB, wav2vec 2.0's features, a TCN; MSE; the mean of both predictions: .328 on validation,
.359 on test.
Not published: every dimension, dropout, how frames become one vector, rate and epochs. Here: the fields of YuOptions,
the mean over frames, the main system's training. How the two channels of the face come together is open, too: here each
has a TCN and a Transformer of its own and their means are concatenated, so that they need not have the same frames (0
for one that a clip lacks). The voice's level is left to the features' encoder.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from emimic.baselines import layers
from emimic.baselines.system import Options, System


class YuOptions(Options):
    """What the source leaves open."""

    units: int = Field(128, ge=8, multiple_of=8, description="channels of the TCNs and of the Transformer")
    blocks: int = Field(4, ge=1, description="of a TCN, two convolutions each")
    kernel: int = Field(3, ge=1, description="frames that one convolution hears")
    layers: int = Field(2, ge=1, description="of the Transformer encoder")
    heads: Literal[1, 2, 4, 8] = Field(4, description="of its attention")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the TCN and the Transformer")


class Channel(nn.Module):
    """TCN, where asked for a Transformer encoder, mean over frames."""

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
        """(batch, frame, feature), (batch, frame) -> (batch, unit), 0 without any frame."""
        hidden = self.tcn(frames, mask)
        if self.attention is not None:
            hidden = self.attention(hidden, mask)
        return layers.mean(hidden, mask)


def _members(options: YuOptions, sizes: Mapping[str, int], targets: int) -> dict[str, nn.Module]:
    members: dict[str, nn.Module] = {}
    for name, roles in (("vision", ("face", "units")), ("audio", ("audio",))):
        branches = {
            role: Channel(sizes[role], options, attentive=name == "vision") for role in roles if role in sizes
        }
        if branches:
            members[name] = layers.Member(branches, nn.Linear(len(branches) * options.units, targets))
    return members


SYSTEM = System(
    title="Yu et al.",
    source="CVPR-W 2024, Yu et al.",
    published={"valid": 0.328, "test": 0.359},
    modalities={"face": "resnet18", "units": "action-units", "audio": "wav2vec2"},
    options=YuOptions,
    settings={},
    members=_members,
)
