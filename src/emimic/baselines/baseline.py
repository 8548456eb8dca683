"""The challenge's baseline: a GRU over faces, a linear layer over the mean voice, the mean of their predictions.

Source: D. Kollias et al., "The 6th Affective Behavior Analysis in-the-wild (ABAW) Competition", CVPR Workshops 2024, as
reported by the paper (section 5, Table 1). Published: the features that come with the corpus (a ViT's of every face,
wav2vec 2.0's of the voice); a GRU of three layers over the first, a linear layer over the mean of the second; the mean
of both predictions. Test: .090 (vision), .240 (audio), .250 (both); validation isn't published.
Not published: the GRU's units (here `units`) and dropout (`dropout`), loss, rate and epochs: here the main model's.
"""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn

from emimic.baselines import layers
from emimic.baselines.system import Options, System


class BaselineOptions(Options):
    """Values that the source doesn't publish."""

    units: int = Field(256, ge=1, description="of each of the GRU's layers")
    dropout: float = Field(0.0, ge=0, lt=1, description="between the GRU's layers")


class Recurrent(nn.Module):
    """The last output of a GRU of three layers."""

    def __init__(self, features: int, options: BaselineOptions) -> None:
        super().__init__()
        self.gru = nn.GRU(features, options.units, 3, batch_first=True, dropout=options.dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, frame, feature), (batch, frame) to (batch, unit)."""
        return layers.get_last_output(self.gru, frames, mask)


def _make_branches(options: BaselineOptions, sizes: Mapping[str, int], targets: int) -> dict[str, nn.Module]:
    branches: dict[str, nn.Module] = {}
    if size := sizes.get("vision"):
        encoder = Recurrent(size, options)
        branches["vision"] = layers.Branch({"vision": encoder}, nn.Linear(options.units, targets))
    if size := sizes.get("audio"):
        branches["audio"] = layers.Branch({"audio": layers.Pool(layers.average)}, nn.Linear(size, targets))
    return branches


SYSTEM = System(
    title="Baseline",
    source="CVPR-W 2024, Kollias et al.",
    published={"valid": None, "test": 0.250},
    modalities={"vision": "vit", "audio": "wav2vec2"},
    options=BaselineOptions,
    settings={},
    branches=_make_branches,
)
