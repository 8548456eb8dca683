"""The paper's own variants with vision: each modality's mean and last LSTM output, concatenated, its regression head.

Source: the paper, Table 1 and section 6.2. Published: faces through models of facial expression (LibreFace,
EfficientNet) or general ones (ConvNeXt, DINOv2), fine-tuned; vision alone .013 and vision with audio .198 on
validation, both below audio alone.
Not published: how a clip's faces become one vector, how the modalities are joined, which face model gave the figures.
Here each modality is pooled as the paper pools its audio (the mean over frames beside the last output of an LSTM, with
2 layers, as many units as a frame has features, dropout .1), and all is concatenated before the paper's head; training
is the main system's.

Image models run as ONNX here, so vision is frozen: features on disk. So is audio, unless it is fine-tuned with
`--set modalities.audio=waveform --set encoder=NAME`; the VAD that the paper has beside its frames is left out. The row
of vision alone: `--set 'modalities={"vision": "vit"}'`.
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


class Pooled(nn.Module):
    """Of every role the mean over frames and the last output of an LSTM -> dense, tanh, projection."""

    def __init__(self, sizes: Mapping[str, int], targets: int, options: OursOptions) -> None:
        super().__init__()
        self.roles = tuple(sizes)
        self.lstms = nn.ModuleDict(
            {
                role: nn.LSTM(
                    size,
                    options.lstm_units or size,
                    options.lstm_layers,
                    batch_first=True,
                    dropout=options.lstm_dropout if options.lstm_layers > 1 else 0.0,
                )
                for role, size in sizes.items()
            }
        )
        self.head = TanhHead(sum(size + (options.lstm_units or size) for size in sizes.values()), targets)

    def forward(self, parts: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """{role: (batch, frame, feature)} -> (batch, target)"""
        found = []
        for role in self.roles:
            lstm: nn.LSTM = self.lstms[role]  # type: ignore[assignment]
            found.append(layers.mean(parts[role], masks[role]))
            found.append(layers.last(lstm, parts[role], masks[role]))
        return self.head(torch.cat(found, dim=1))  # type: ignore[no-any-return]


SYSTEM = System(
    title="Ours, vision + audio",
    source="the paper, Table 1",
    published={"valid": 0.198, "test": None},
    modalities={"vision": "vit", "audio": "wav2vec2"},
    options=OursOptions,
    settings={},
    members=lambda options, sizes, targets: {"pooled": Pooled(sizes, targets, options)},
)
