"""Frozen faces and voice, each pooled as the paper pools its voice, concatenated, in place of the paper's vision rows.

It is none of the paper's rows and has no published figure. Source: the paper, Table 1 and section 6.2, which publishes
.013 for vision alone and .198 for vision with audio (validation), with its own face models (LibreFace, EfficientNet;
ConvNeXt, DINOv2), partly fine-tuned. It doesn't publish how a clip's faces become one vector, how the modalities are
joined, or which face model gave the figures. Here each modality is pooled as the paper pools its audio: the mean over
frames beside the last output of an LSTM, with 2 layers, as many units as a frame has features, dropout .1. All is
concatenated before the paper's head; training is the main model's.

Image models run as ONNX here, so vision is frozen: features on disk. So is audio, unless it is fine-tuned with
`--set modalities.audio=waveform` (and `--set encoder=NAME` for another than the paper's). The V/A/D predictions that
the paper has beside its frames are left out. Vision alone: `--set 'modalities={"vision": "vit"}'`.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from emimic.baselines import layers
from emimic.baselines.system import Options, System
from emimic.model.heads import TanhHead


class VisionLstmOptions(Options):
    """Options of the paper's audio model, for every modality."""

    lstm_layers: int = Field(2, ge=1, description="layers of each LSTM [released code]")
    lstm_units: int | None = Field(
        None, ge=1, description="units of each LSTM; null: as many as a frame has features [released code]"
    )
    lstm_dropout: float = Field(0.1, ge=0, lt=1, description="dropout between an LSTM's layers (section 5)")


class MeanAndLast(nn.Module):
    """The mean over frames beside an LSTM's last output, as the paper pools its audio."""

    def __init__(self, features: int, options: VisionLstmOptions) -> None:
        super().__init__()
        units = options.lstm_units or features
        self.last = layers.Last(features, units, layers=options.lstm_layers, dropout=options.lstm_dropout)
        self.size = features + units

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, frame, feature), (batch, frame) to (batch, feature + unit)."""
        return torch.cat([layers.average(frames, mask), self.last(frames, mask)], dim=1)


def _make_branches(
    options: VisionLstmOptions, sizes: Mapping[str, int], targets: int
) -> dict[str, nn.Module]:
    encoders = {modality: MeanAndLast(size, options) for modality, size in sizes.items()}
    head = TanhHead(sum(encoder.size for encoder in encoders.values()), targets)
    return {"pooled": layers.Branch(encoders, head)}


SYSTEM = System(
    title="Mean and LSTM of frozen faces and voice, concatenated",
    source="after the paper, section 6.2",
    published={"valid": None, "test": None},
    modalities={"vision": "vit", "audio": "wav2vec2"},
    options=VisionLstmOptions,
    settings={"encoder": "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"},
    branches=_make_branches,
)
