"""Voice and face attended to by the words: text-anchored attention, the first place of ABAW 10.

Source: the results of the EMI challenge of ABAW 10 (USTC, "TAEMI", first): text, audio and vision; attention with the
text as its anchor, and tokens for missing modalities: .708 on test; its validation figure is unknown.
Not published: features, sizes, number of layers and heads, training. Chosen here: each modality's frames are projected
to 256 units, with sinusoids. The words' tokens are the queries of one layer of attention of four heads to each other
modality, added to them and normalized. The means over the tokens of the text and of what it attended to are
concatenated -> dense layer of 256, ReLU, dropout -> targets. A learned token stands for the frames of a missing
modality, the text's too; in training, modalities are also dropped. Without text, the first modality is the anchor.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from emimic.baselines import layers
from emimic.baselines.system import System

ANCHOR = "text"


class TextAnchoredOptions(layers.JoinedOptions):
    """Values that the source doesn't publish."""

    units: int = Field(256, ge=1, description="units of each modality's frames, and of the joined layer")
    heads: int = Field(4, ge=1, description="heads of the attention; a divisor of units")
    modality_dropout: float = Field(
        0.1, ge=0, lt=1, description="probability that a modality is dropped in training"
    )


class TextAnchored(nn.Module):
    """Attention from the text's tokens to each other modality -> predictions."""

    def __init__(self, sizes: Mapping[str, int], options: TextAnchoredOptions, targets: int) -> None:
        super().__init__()
        units = options.units
        self.modalities = tuple(sizes)
        self.anchor = ANCHOR if ANCHOR in sizes else self.modalities[0]
        others = [modality for modality in self.modalities if modality != self.anchor]
        self.encoders = nn.ModuleDict({modality: nn.Linear(size, units) for modality, size in sizes.items()})
        self.missing = nn.ParameterDict({modality: torch.zeros(units) for modality in self.modalities})
        self.attention = nn.ModuleDict(
            {
                modality: nn.MultiheadAttention(units, options.heads, options.dropout, batch_first=True)
                for modality in others
            }
        )
        self.norms = nn.ModuleDict({modality: nn.LayerNorm(units) for modality in others})
        self.output = nn.Sequential(
            nn.Linear(units * len(sizes), units),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(units, targets),
        )
        self.modality_dropout = options.modality_dropout if others else 0.0

    def forward(self, parts: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """Map {modality: (batch, frame, feature)}, {modality: (batch, frame)} to (batch, target)."""
        query, real = self._prepare(self.anchor, parts[self.anchor], masks[self.anchor])
        vectors = [layers.average(query, real)]
        for modality, attention in self.attention.items():
            keys, present = self._prepare(modality, parts[modality], masks[modality])
            attended, _ = attention(query, keys, keys, key_padding_mask=~present, need_weights=False)
            vectors.append(layers.average(self.norms[modality](query + attended), real))
        return self.output(torch.cat(vectors, dim=1))  # type: ignore[no-any-return]

    def _prepare(self, modality: str, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return a modality's frames (batch, frame, unit) and mask, a learned token where a clip has none."""
        hidden = self.encoders[modality](frames)
        hidden = hidden + layers.make_sinusoids(hidden.shape[1], hidden.shape[2]).to(hidden)
        present = mask.any(dim=1, keepdim=True)
        if self.training and self.modality_dropout:
            present = present & (torch.rand(present.shape, device=present.device) >= self.modality_dropout)
        first = torch.arange(mask.shape[1], device=mask.device) == 0
        return torch.where(present[..., None], hidden, self.missing[modality]), torch.where(
            present, mask, first
        )


def _make_branches(
    options: TextAnchoredOptions, sizes: Mapping[str, int], targets: int
) -> dict[str, nn.Module]:
    return {"joined": TextAnchored(sizes, options, targets)}


SYSTEM = System(
    title="Text-anchored attention (ABAW 10, first)",
    source="USTC, ABAW 10, TAEMI",
    published={"valid": None, "test": 0.708},
    modalities={"text": "text", "audio": "wav2vec2", "face": "vit"},
    options=TextAnchoredOptions,
    settings={"lr": 1e-4, "epochs": 30, "batch_size": 32},
    branches=_make_branches,
)
