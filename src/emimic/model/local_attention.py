"""Attention of limited reach with learned biases for distances, in chunks of frames (`relative_frames` of Whisper).

A chunk attends to itself and to the frames within reach on either side, so time and memory grow with the frames, not
with their square. An exported graph has the same operations.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers.models.whisper.modeling_whisper import WhisperAttention

CHUNK: Final = 64
"""Frames that attend together."""


class LocalAttention(WhisperAttention):  # type: ignore[misc]
    """Whisper's self-attention of an encoder's layer, with the biases of `compute_biases` as its mask."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, None]:
        """Return (batch, frame, feature) of the same, and no weights."""
        bias: Any = attention_mask
        frames, reach = hidden_states.shape[1], self.config.relative_frames
        index, padding = _index_keys(frames, reach, hidden_states.device)
        query = nn.functional.pad(self.q_proj(hidden_states) * self.scaling, (0, 0, 0, padding))
        # (batch, chunk, head, frame or key, feature of a head)
        query = query.unflatten(1, (-1, CHUNK)).unflatten(-1, (self.num_heads, -1)).transpose(2, 3)
        key, value = (
            nn.functional.pad(project(hidden_states), (0, 0, reach, padding + reach))[:, index]
            .unflatten(-1, (self.num_heads, -1))
            .transpose(2, 3)
            for project in (self.k_proj, self.v_proj)
        )
        weights = (query @ key.transpose(-1, -2) + bias).softmax(dim=-1)
        weights = nn.functional.dropout(weights, self.dropout, self.training)
        mixed = (weights @ value).transpose(2, 3).flatten(3).flatten(1, 2)[:, :frames]
        return self.out_proj(mixed), None


def compute_biases(table: Tensor, frames: Tensor, limit: Any, dtype: torch.dtype) -> list[Tensor]:
    """Return each layer's biases of `LocalAttention`, (batch, chunk, head, CHUNK, key).

    Args:
        table: (layer, head, 2 * reach + 1), by how many frames a key is later than the attending frame.
        frames: (batch, frame), true at real frames.
        limit: frames on either side that a frame attends to, at most the reach.
        dtype: of the hidden states.
    """
    reach = table.shape[-1] // 2
    index, padding = _index_keys(frames.shape[1], reach, frames.device)
    key = torch.arange(CHUNK + 2 * reach, device=frames.device)
    distance = key - reach - torch.arange(CHUNK, device=frames.device)[:, None]
    real = nn.functional.pad(frames.to(dtype), (reach, padding + reach))[:, index] > 0
    visible = real[:, :, None, None] & (distance.abs() <= limit)
    column, lowest = distance.clamp(-reach, reach) + reach, torch.finfo(dtype).min
    return [torch.where(visible, bias[:, column].to(dtype), lowest) for bias in table.unbind()]


def _index_keys(frames: Any, reach: int, device: torch.device) -> tuple[Tensor, Any]:
    """Return the keys of each chunk, (chunk, key), and how many frames the last chunk is short of.

    Keys are counted from `reach` frames before the first one.
    """
    chunks = (frames + CHUNK - 1) // CHUNK
    first = torch.arange(chunks, device=device) * CHUNK
    return first[:, None] + torch.arange(CHUNK + 2 * reach, device=device), chunks * CHUNK - frames
