"""Zhang et al. (2024): a Transformer encoder for face, voice and words each, concatenated; models of folds vote.

Source: W. Zhang et al. (Netease Fuxi), "Affective Behavior Analysis via Integrating Multi-Modal Knowledge", CVPR
Workshops 2024, and its released script. Published: features of a masked autoencoder that learned on 262 million faces;
of the voice (the paper: VGGish; the script: wav2vec 2.0 base); embeddings of Whisper's transcripts; 32 faces of a clip,
at most 320 frames of sound and 128 of text; a Transformer encoder for each, concatenated, a head; MSE; Adam with decays
0 and .99, rate 1e-4 for the branches of sound and text and 1e-6 for the rest, cosine with restarts (5, 2): after 5, 15,
35, ... epochs; models that each went without one fold of the speakers vote: .463 on validation, .718 on test.
Not published: width, layers and heads of the encoders, dropout, how frames become one vector, batch, epochs and folds.
Here: the fields of ZhangOptions; the mean over frames; 32 clips a batch; 35 epochs, three runs of the cosine; votes are
the mean. The autoencoder isn't trained along, its features are on disk; so what learns at 1e-6 is the face's encoder
and the head, which are fresh here: `--set lr=1e-4` learns all at one rate.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from emimic.baselines import layers
from emimic.baselines.inputs import evenly, first
from emimic.baselines.system import Options, System


class ZhangOptions(Options):
    """What the source leaves open, and what it says."""

    folds: int = Field(5, ge=1, description="models that vote, each without the speakers of one fold")
    faces: int = Field(32, ge=1, description="of the faces, so many spread over the clip are read")
    audio_frames: int = Field(320, ge=1, description="of the voice, no more than so many frames are read")
    text_frames: int = Field(128, ge=1, description="of the words, no more than so many frames are read")
    units: int = Field(128, ge=8, multiple_of=8, description="of each Transformer encoder")
    layers: int = Field(2, ge=1, description="of each Transformer encoder")
    heads: Literal[1, 2, 4, 8] = Field(4, description="of its attention")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the Transformer encoders")


class Encoded(nn.Module):
    """The mean over what a Transformer encoder makes of frames."""

    def __init__(self, features: int, options: ZhangOptions) -> None:
        super().__init__()
        self.encoder = layers.Attention(
            features, options.units, layers=options.layers, heads=options.heads, dropout=options.dropout
        )

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(batch, frame, feature), (batch, frame) -> (batch, unit), 0 without any frame."""
        return layers.mean(self.encoder(frames, mask), mask)


def _members(options: ZhangOptions, sizes: Mapping[str, int], targets: int) -> dict[str, nn.Module]:
    branches = {role: Encoded(size, options) for role, size in sizes.items()}
    return {"fused": layers.Member(branches, nn.Linear(len(branches) * options.units, targets))}


SYSTEM = System(
    title="Zhang et al.",
    source="CVPR-W 2024, Zhang et al.",
    published={"valid": 0.463, "test": 0.718},
    modalities={"face": "face-mae", "audio": "wav2vec2", "text": "text"},
    options=ZhangOptions,
    shorten=lambda options: {
        "face": evenly(options.faces),
        "audio": first(options.audio_frames),
        "text": first(options.text_frames),
    },
    settings={
        "lr": 1e-6,
        "rates": {"audio": 1e-4, "text": 1e-4},
        "betas": (0.0, 0.99),
        "weight_decay": 0.0,
        "schedule": "restarts",
        "warmup_epochs": 0.0,
        "epochs": 35,
        "patience": None,
    },
    members=_members,
)
