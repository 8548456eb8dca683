"""Voice and face through LSTMs and the text's CLS vector, concatenated: the first place of ABAW 8, as released.

Source: T. Hallmen et al., "Semantic Matters: Multimodal Features for Affective Analysis" (EMI challenge of ABAW 8,
2025): .522 on validation (inferred from the challenge's results), .706 on test. Published by its code: wav2vec 2.0
frames with their V/A/D predictions (1027) through an LSTM of as many units, image features (1280) through one of 768,
the CLS vector of GTE over Whisper's transcript (768); their 2563 values -> dense layer of 1027, tanh, six outputs; no
global vector (the mean over frames).
Not published: training settings, and predictions for a clip without a face or without words. Chosen here: the paper's
training, an LSTM of two layers with dropout .1 (as in the same authors' earlier release), zeros for a missing modality.
Encoders are frozen: make the voice's frames with `emimic features --kind speech --set vad=true`, the text with
`--kind text --set pool=cls`. Frames without V/A/D have an LSTM of their own size.
"""

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from emimic.baselines import layers
from emimic.baselines.system import Options, System
from emimic.model.heads import TanhHead


class SemanticMattersOptions(Options):
    """Values that the source publishes in its code, and those of its LSTMs."""

    head_units: int = Field(1027, ge=1, description="units of the dense layer [released code]")
    face_units: int = Field(768, ge=1, description="units of the LSTM over images [released code]")
    lstm_layers: int = Field(2, ge=1, description="layers of each LSTM")
    lstm_dropout: float = Field(0.1, ge=0, lt=1, description="dropout between them")


def _make_branches(
    options: SemanticMattersOptions, sizes: Mapping[str, int], targets: int
) -> dict[str, nn.Module]:
    def make_lstm(size: int, units: int) -> layers.Last:
        return layers.Last(size, units, layers=options.lstm_layers, dropout=options.lstm_dropout)

    encoders: dict[str, nn.Module] = {}
    width = 0
    for modality, size in sizes.items():
        units = options.face_units if modality == "face" else size
        encoders[modality] = layers.Pool(layers.average) if modality == "text" else make_lstm(size, units)
        width += units
    output = TanhHead(width, targets, units=options.head_units)
    return {"joined": layers.Branch(encoders, output)}


SYSTEM = System(
    title="Semantic Matters: LSTMs of voice and face, CLS of text (ABAW 8, first)",
    source="Hallmen et al. 2025, Semantic Matters",
    published={"valid": 0.522, "test": 0.706},
    modalities={"text": "text", "audio": "wav2vec2", "face": "vit"},
    options=SemanticMattersOptions,
    settings={"lr": 1e-4, "epochs": 30, "batch_size": 32},
    branches=_make_branches,
    unsure="validation inferred",
)
