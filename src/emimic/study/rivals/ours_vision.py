"""The paper's own variants with vision: each modality's mean and last LSTM output, concatenated, its regression head.

Source: the paper, Table 1 and section 6.2. Published: faces through models of facial expression (LibreFace,
EfficientNet) or general ones (ConvNeXt, DINOv2), fine-tuned; vision alone .013 and vision with audio .198 on
validation, both below audio alone.
Not published: how a clip's faces become one vector, how the modalities are joined, which face model gave the figures.
Here each modality is pooled as the paper pools its audio (the mean over frames beside the last output of an LSTM, with
2 layers, as many units as a frame has features, dropout .1), and all is concatenated before the paper's head; training
is the main system's.

Image models run as ONNX here, so vision is frozen: features on disk. So is audio, unless it is fine-tuned with
`--set modalities.audio=waveform` (and `--set encoder=NAME` for another than the paper's); the VAD that the paper has
beside its frames is left out. The row of vision alone: `--set 'modalities={"vision": "vit"}'`. Only a later row of the
table says "w/ Dropout", so the published figures may be without: `--set rival_options.lstm_dropout=0`.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from emimic.model import TanhHead
from emimic.study.rivals import layers
from emimic.study.rivals.system import Options, System


class OursOptions(Options):
    """The paper's audio, for every modality."""

    lstm_layers: int = Field(2, ge=1, description="layers of each LSTM [released code]")
    lstm_units: int | None = Field(
        None, ge=1, description="units of each LSTM; null: as many as a frame has features [released code]"
    )
    lstm_dropout: float = Field(0.1, ge=0, lt=1, description="dropout between an LSTM's layers (section 5)")


class MeanAndLast(nn.Module):
    """The mean over frames beside an LSTM's last output, as the paper pools its audio."""

    def __init__(self, features: int, options: OursOptions) -> None:
        super().__init__()
        units = options.lstm_units or features
        self.last = layers.Last(features, units, layers=options.lstm_layers, dropout=options.lstm_dropout)
        self.size = features + units

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, frame, feature), (batch, frame) -> (batch, feature + unit)."""
        return torch.cat([layers.mean(frames, mask), self.last(frames, mask)], dim=1)


def _members(options: OursOptions, sizes: Mapping[str, int], targets: int) -> dict[str, nn.Module]:
    branches = {role: MeanAndLast(size, options) for role, size in sizes.items()}
    head = TanhHead(sum(branch.size for branch in branches.values()), targets)
    return {"pooled": layers.Member(branches, head)}


SYSTEM = System(
    title="the paper's, vision and audio",
    source="the paper, Table 1",
    published={"valid": 0.198, "test": None},
    modalities={"vision": "vit", "audio": "wav2vec2"},
    options=OursOptions,
    settings={"encoder": "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"},
    members=_members,
)
