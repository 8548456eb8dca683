"""Which frames a frame of Whisper's encoder attends to."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from emimic.model.transfer import get_host_mask


@dataclass(frozen=True)
class Attention:
    """The frames that a frame attends to in each layer.

    In chunks, a frame depends on its chunk alone, and positions are counted from the chunk's start. So the same sound
    has nearly the same hidden states in a long recording as in a short clip, wherever it stands there.

    Attributes:
        reach: On either side; None: all. It counts without chunks only.
        chunk: Frames of a chunk, which attend to each other alone; None: no chunks.
    """

    reach: int | None = None
    chunk: int | None = None

    def split(self, hidden: Tensor) -> Tensor:
        """Return chunks (batch * chunk, frame, feature) of (batch, frame, feature), the last ones padded with zeros."""
        if self.chunk is None:
            return hidden
        padded = nn.functional.pad(hidden, (0, 0, 0, self.chunk - 1))
        count = padded.shape[1] // self.chunk
        return padded[:, : count * self.chunk].reshape(-1, self.chunk, hidden.shape[2])

    def join(self, chunks: Tensor, frames: Tensor) -> Tensor:
        """Return (batch, frame, feature) of the chunks of `split`; frames: (batch, frame), the frame mask."""
        if self.chunk is None:
            return chunks
        return chunks.reshape(frames.shape[0], -1, chunks.shape[2])[:, : frames.shape[1]]

    def compute_bias(self, frames: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Return the attention bias (row of `split`, 1, frame, frame); None if all frames attend to all.

        Args:
            frames: (batch, frame), true at real frames.
            dtype: of the hidden states.
        """
        host = self.split(get_host_mask(frames)[..., None].to(dtype))[..., 0] > 0
        frames = self.split(frames[..., None].to(dtype))[..., 0] > 0
        reach = None if self.chunk is not None else self.reach
        if reach is None and bool(host.all()):
            return None
        hidden = ~frames[:, None, None, :]
        if reach is not None:
            number = torch.arange(frames.shape[1], device=frames.device)
            hidden = hidden | ((number[:, None] - number).abs() > reach)
        bias = torch.zeros(hidden.shape, dtype=dtype, device=frames.device)
        bias = bias.masked_fill(hidden, torch.finfo(dtype).min)
        return bias.expand(-1, 1, frames.shape[1], -1)


EVERYWHERE: Final = Attention()
"""Of all frames to all."""
