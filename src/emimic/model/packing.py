"""Clips side by side in one sequence: each is encoded with its neighbors' sound around it, as in a long recording.

A timeline in one pass reads windows out of such sequences. A model that learned from clips alone has never met sound
beyond a window's edges, nor a clip that doesn't start at the encoder's first position.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emimic.model import encoders
from emimic.model.model import EmiModel
from emimic.model.transfer import get_host_mask, move_mask
from emimic.task import SAMPLE_RATE


@dataclass(frozen=True)
class Packing:
    """Positions of clips in rows.

    Attributes:
        rows: (clip,), row of each clip.
        starts: (clip,), its first unit there, a frame or a sample.
        counts: (clip,), its units.
    """

    rows: tuple[int, ...]
    starts: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def plan(cls, counts: Sequence[int], longest: int) -> "Packing":
        """Return clips in their order, in as few rows as possible of at most `longest` units; a longer one is alone."""
        rows, starts, row, end = [], [], 0, 0
        for count in counts:
            if end and end + count > longest:
                row, end = row + 1, 0
            rows.append(row)
            starts.append(end)
            end += count
        return cls(tuple(rows), tuple(starts), tuple(counts))

    def scale(self, factor: int) -> "Packing":
        """Return the same in units of which each present one has `factor`."""
        starts, counts = ([factor * n for n in part] for part in (self.starts, self.counts))
        return Packing(self.rows, tuple(starts), tuple(counts))

    def pack(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows (row, unit, ...) and their mask (row, unit) of padded clips (clip, unit, ...)."""
        width = max(start + count for start, count in zip(self.starts, self.counts, strict=True))
        packed = values.new_zeros(self.rows[-1] + 1, width, *values.shape[2:])
        mask = torch.zeros(packed.shape[:2], dtype=torch.bool)
        for clip, (row, start, count) in enumerate(zip(self.rows, self.starts, self.counts, strict=True)):
            packed[row, start : start + count] = values[clip, :count]
            mask[row, start : start + count] = True
        return packed, move_mask(mask, values.device)

    def unpack(self, packed: Tensor) -> tuple[Tensor, Tensor]:
        """Return padded clips (clip, unit, ...) and their mask (clip, unit) of rows (row, unit, ...)."""
        parts = [
            packed[row, start : start + count]
            for row, start, count in zip(self.rows, self.starts, self.counts, strict=True)
        ]
        mask = torch.arange(max(self.counts))[None] < torch.tensor(self.counts)[:, None]
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), move_mask(mask, packed.device)


def encode_in_context(
    model: EmiModel,
    values: Tensor,
    mask: Tensor,
    seconds: float,
    *,
    encode: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    started: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return hidden states (clip, frame, feature) and mask (clip, frame) of clips encoded side by side.

    Args:
        model: with a Whisper encoder.
        values: (clip, sample), of whose last incomplete frame no state is returned.
        mask: (clip, sample), true at real samples.
        seconds: maximum length of a sequence.
        encode: of the model; None: `EmiModel.encode`.
        started: values and mask are the outputs of `EmiModel.encode_frozen`.
    """
    hop = encoders.compute_hop(model.config.encoder_config)
    units = 1 if started else hop
    counts = [int(count) // units for count in get_host_mask(mask).sum(dim=1).tolist()]
    packing = Packing.plan(counts, int(seconds * SAMPLE_RATE) // hop)
    packed, real = packing.scale(units).pack(values)
    hidden = model.encode_rest(packed, real) if started else (encode or model.encode)(packed, real)[0]
    return packing.unpack(hidden)
