"""Voice and face through LSTMs and text as one vector, concatenated: in the manner of the first of ABAW 8.

It is not that system, and has no published figure. Source: T. Hallmen et al., "Semantic Matters" (EMI challenge of
ABAW 8, 2025): Whisper's transcript embedded by GTE, wav2vec 2.0 frames with their VAD predictions through an LSTM, ViT
frames of faces through an LSTM, joined; .522 on validation (inferred from the challenge's record), .706 on test.
Not published, or not found: sizes, dropout, learning rate and epochs of the joined part, and how a clip without a face
or without words is answered. Chosen here: concatenation, the paper's LSTM (two layers, dropout .1), dense layers of
512, and a learned vector in place of a modality that is missing, which is also drawn at random while learning (the
winner of ABAW 10 has tokens for that). VAD predictions beside the voice's frames are left out.
"""

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from emimic.baselines import layers
from emimic.baselines.system import System


class ConcatenatedLstmOptions(layers.JoinedOptions):
    """What was chosen where the source leaves it open."""

    units: int = Field(
        512, ge=1, description="units of each LSTM, of the text's dense layer, of the joined one"
    )
    lstm_layers: int = Field(2, ge=1, description="layers of each LSTM")
    lstm_dropout: float = Field(0.1, ge=0, lt=1, description="dropout between them")
    lacking: float = Field(
        0.1, ge=0, lt=1, description="how often a modality is taken for missing while learning"
    )


def _members(
    options: ConcatenatedLstmOptions, sizes: Mapping[str, int], targets: int
) -> dict[str, nn.Module]:
    branches: dict[str, nn.Module] = {
        role: layers.Pooled(size, options.units)
        if role == "text"
        else layers.Last(size, options.units, layers=options.lstm_layers, dropout=options.lstm_dropout)
        for role, size in sizes.items()
    }
    return {"joined": layers.Joined(branches, options, targets)}


SYSTEM = System(
    title="Concatenation of LSTMs and text (after ABAW 8's first)",
    source="after Hallmen et al. 2025, Semantic Matters",
    published={"valid": None, "test": None},
    modalities={"text": "text", "audio": "wav2vec2", "face": "vit"},
    options=ConcatenatedLstmOptions,
    settings={"lr": 1e-4, "epochs": 30, "batch_size": 32},
    members=_members,
)
