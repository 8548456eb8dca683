"""The challenge's baseline: a GRU over faces, a linear layer over the mean voice, the mean of their predictions.

Source: D. Kollias et al., "The 6th Affective Behavior Analysis in-the-wild (ABAW) Competition", CVPR Workshops 2024, as
the paper tells it (section 5, Table 1). Published: the features that come with the corpus (a ViT's of every face,
wav2vec 2.0's of the voice); a GRU of three layers over the first, a linear layer over the mean of the second; the mean
of both predictions. Test: .090 (vision), .240 (audio), .250 (both); validation isn't told.
Not published: the GRU's units (here `units`) and dropout (`dropout`), loss, rate and epochs: here the main system's.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from emimic.study.rivals import layers
from emimic.study.rivals.system import Options, System


class BaselineOptions(Options):
    """What the source leaves open."""

    units: int = Field(256, ge=1, description="of each of the GRU's layers")
    dropout: float = Field(0.0, ge=0, lt=1, description="between the GRU's layers")


class Vision(nn.Module):
    """The last output of a GRU of three layers -> linear layer."""

    roles = ("vision",)

    def __init__(self, features: int, targets: int, options: BaselineOptions) -> None:
        super().__init__()
        self.gru = nn.GRU(features, options.units, 3, batch_first=True, dropout=options.dropout)
        self.output = nn.Linear(options.units, targets)

    def forward(self, parts: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """{role: (batch, frame, feature)} -> (batch, target)"""
        return self.output(layers.last(self.gru, parts["vision"], masks["vision"]))  # type: ignore[no-any-return]


class Audio(nn.Module):
    """The mean over frames -> linear layer."""

    roles = ("audio",)

    def __init__(self, features: int, targets: int) -> None:
        super().__init__()
        self.output = nn.Linear(features, targets)

    def forward(self, parts: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """{role: (batch, frame, feature)} -> (batch, target)"""
        return self.output(layers.mean(parts["audio"], masks["audio"]))  # type: ignore[no-any-return]


def _members(options: Any, sizes: Mapping[str, int], targets: int) -> dict[str, nn.Module]:
    members: dict[str, nn.Module] = {}
    if "vision" in sizes:
        members["vision"] = Vision(sizes["vision"], targets, options)
    if "audio" in sizes:
        members["audio"] = Audio(sizes["audio"], targets)
    return members


SYSTEM = System(
    title="Baseline",
    source="CVPR-W 2024, Kollias et al.",
    published={"valid": None, "test": 0.250},
    modalities={"vision": "vit", "audio": "wav2vec2"},
    options=BaselineOptions,
    settings={},
    members=_members,
)
