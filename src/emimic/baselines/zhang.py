"""Zhang et al. (2024): a Transformer encoder for face, voice and words each, concatenated; models of folds vote.

Source: W. Zhang et al. (Netease Fuxi), "Affective Behavior Analysis via Integrating Multi-Modal Knowledge", CVPR
Workshops 2024, and its released script. Published: features of a masked autoencoder that learned on 262 million faces;
of the voice (the paper: VGGish; the script: wav2vec 2.0 base); embeddings of Whisper's transcripts; 32 faces of a clip,
at most 320 frames of sound and 128 of text; a Transformer encoder for each, concatenated, a head; MSE; Adam with decays
0 and .99, rate 1e-4 for the branches of sound and text and 1e-6 for the rest, cosine with restarts (5, 2): after 5, 15,
35, ... epochs; a vote of models, each trained without one fold of the speakers: .463 on validation, .718 on test.
Not published: width, layers and heads of the encoders, dropout, how frames become one vector, batch, epochs and folds.
Here: the fields of ZhangOptions; the mean over frames; batches of 32; 35 epochs, three runs of the cosine; the vote is
the mean. The autoencoder isn't trained, its features are on disk. So the rate of 1e-6 is that of the face's
Transformer and of the head, which start from scratch here: `--set lr=1e-4` trains all at one rate.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from emimic.baselines import layers
from emimic.baselines.inputs import take_evenly, take_first
from emimic.baselines.system import Options, System


class ZhangOptions(Options):
    """Values of the source, and values that it doesn't publish."""

    folds: int = Field(5, ge=1, description="number of models, each trained without the speakers of one fold")
    faces: int = Field(32, ge=1, description="number of faces that are read, evenly spaced over the clip")
    audio_frames: int = Field(320, ge=1, description="maximum number of frames of the voice that are read")
    text_frames: int = Field(128, ge=1, description="maximum number of frames of the text that are read")
    units: int = Field(128, ge=8, multiple_of=8, description="units of each Transformer encoder")
    layers: int = Field(2, ge=1, description="layers of each Transformer encoder")
    heads: Literal[1, 2, 4, 8] = Field(4, description="heads of its attention")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in the Transformer encoders")


class Encoded(nn.Module):
    """The mean over the outputs of a Transformer encoder."""

    def __init__(self, features: int, options: ZhangOptions) -> None:
        super().__init__()
        self.encoder = layers.Attention(
            features, options.units, layers=options.layers, heads=options.heads, dropout=options.dropout
        )

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, frame, feature), (batch, frame) to (batch, unit), 0 without any frame."""
        return layers.average(self.encoder(frames, mask), mask)


def _make_branches(options: ZhangOptions, sizes: Mapping[str, int], targets: int) -> dict[str, nn.Module]:
    encoders = {modality: Encoded(size, options) for modality, size in sizes.items()}
    return {"fused": layers.Branch(encoders, nn.Linear(len(encoders) * options.units, targets))}


SYSTEM = System(
    title="Zhang et al.",
    source="CVPR-W 2024, Zhang et al.",
    published={"valid": 0.463, "test": 0.718},
    modalities={"face": "face-mae", "audio": "wav2vec2", "text": "text"},
    options=ZhangOptions,
    shorten=lambda options: {
        "face": take_evenly(options.faces),
        "audio": take_first(options.audio_frames),
        "text": take_first(options.text_frames),
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
    branches=_make_branches,
)
