"""Voice and face through LSTMs and text as one vector, concatenated, after the first place of ABAW 8.

It differs from that system, and has no published figure. Source: T. Hallmen et al., "Semantic Matters" (EMI challenge
of ABAW 8, 2025): Whisper's transcript embedded by GTE, wav2vec 2.0 frames with their V/A/D predictions through an LSTM,
ViT frames of faces through an LSTM, joined; .522 on validation (inferred from the challenge's results), .706 on test.
Not published: sizes, dropout, learning rate and epochs of the joined part, and predictions for a clip without a face or
without words. Chosen here: concatenation, the paper's LSTM (two layers, dropout .1), dense layers of 512, and a learned
vector in place of a missing modality. In training, modalities are also dropped at random, as the winner of ABAW 10 has
tokens for missing ones. V/A/D predictions beside the voice's frames are left out.
"""

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from emimic.baselines import layers
from emimic.baselines.system import System


class ConcatenatedLstmOptions(layers.JoinedOptions):
    """Values that the source doesn't publish."""

    units: int = Field(
        512, ge=1, description="units of each LSTM, of the text's dense layer, of the joined one"
    )
    lstm_layers: int = Field(2, ge=1, description="layers of each LSTM")
    lstm_dropout: float = Field(0.1, ge=0, lt=1, description="dropout between them")
    modality_dropout: float = Field(
        0.1, ge=0, lt=1, description="probability that a modality is dropped in training"
    )


def _make_branches(
    options: ConcatenatedLstmOptions, sizes: Mapping[str, int], targets: int
) -> dict[str, nn.Module]:
    encoders: dict[str, nn.Module] = {
        modality: layers.Pooled(size, options.units)
        if modality == "text"
        else layers.Last(size, options.units, layers=options.lstm_layers, dropout=options.lstm_dropout)
        for modality, size in sizes.items()
    }
    return {"joined": layers.Joined(encoders, options, targets)}


SYSTEM = System(
    title="Concatenation of LSTMs and text (after ABAW 8's first)",
    source="after Hallmen et al. 2025, Semantic Matters",
    published={"valid": None, "test": None},
    modalities={"text": "text", "audio": "wav2vec2", "face": "vit"},
    options=ConcatenatedLstmOptions,
    settings={"lr": 1e-4, "epochs": 30, "batch_size": 32},
    branches=_make_branches,
)
