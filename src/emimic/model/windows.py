"""The heads on windows of encoded frames: however much windows overlap, a frame is encoded once.

Sums over a window are matrix products of weights (window, frame) and frames (frame, feature), one product for all
poolings. Frames are centered first, so that variances, as differences of two sums, keep their digits.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from emimic.model import pooling
from emimic.model.model import EmiModel


@dataclass(frozen=True)
class WindowOutput:
    """Outputs of windows.

    Attributes:
        intensities: (window, target).
        pooled: (window, 2 * feature), mean and standard deviation over the window's frames.
        vad: (row, frame, 3), of the frames; None without the V/A/D head.
        vad_means: (window, 3), of the windows.
    """

    intensities: Tensor
    pooled: Tensor
    vad: Tensor | None
    vad_means: Tensor | None


@dataclass(frozen=True)
class Windows:
    """Windows of the frames of a batch of recordings.

    Attributes:
        rows: (window,), row of the batch.
        starts: (window,), first frame.
        ends: (window,), frame after the last one; beyond `starts`.
    """

    rows: Tensor
    starts: Tensor
    ends: Tensor

    def make_mask(self, frame_mask: Tensor) -> Tensor:
        """Return the windows' frames, (window, row * frame), for a mask (row, frame) of the same shape as theirs."""
        row = torch.arange(frame_mask.shape[0], device=frame_mask.device)
        frame = torch.arange(frame_mask.shape[1], device=frame_mask.device)[None]
        inside = (frame >= self.starts[:, None]) & (frame < self.ends[:, None])
        return ((row[None] == self.rows[:, None])[..., None] & inside[:, None]).flatten(1)

    def gather(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return each window's own frames, (window, frame, feature), and their mask, (window, frame)."""
        longest: Any = (self.ends - self.starts).amax()  # in a graph it is no number
        offset = torch.arange(longest, device=frames.device)
        mask = offset[None] < (self.ends - self.starts)[:, None]
        index = torch.where(mask, self.starts[:, None] + offset[None], 0)
        return frames[self.rows[:, None], index] * mask[..., None], mask


def regress_windows(model: EmiModel, hidden: Tensor, frame_mask: Tensor, windows: Windows) -> WindowOutput:
    """Return the outputs of windows. A window of all frames of a row has the outputs of `EmiModel.regress`.

    V/A/D of the frames are smoothed over the row, those of a window over its own frames alone, as a clip's are.

    Args:
        model: in evaluation mode, with targets.
        hidden: (row, frame, feature), of `EmiModel.encode`.
        frame_mask: (row, frame), true at real frames.
        windows: of them, with one real frame or more each; beyond the real frames they end early.
    """
    config = model.config
    ends = torch.minimum(windows.ends, frame_mask.sum(dim=1)[windows.rows])
    windows = Windows(windows.rows, windows.starts, ends)
    hidden, vad, frames = model.prepare_frames(hidden, frame_mask)
    inside = windows.make_mask(frame_mask)
    centers = frames.sum(dim=1) / frame_mask.sum(dim=1, keepdim=True)
    uniform = inside.to(frames.dtype)
    weights = [uniform / uniform.sum(dim=1, keepdim=True)]
    if model.config.attentive:
        scores = model.attention.compute_scores(frames).flatten()[None]
        weights.append(torch.where(inside, scores, torch.finfo(scores.dtype).min).softmax(dim=1))
    means, stds = _compute_moments(torch.cat(weights), (frames - centers[:, None]).flatten(0, 1))
    means = means + centers[windows.rows.repeat(len(weights))]
    count = windows.rows.shape[0]
    vectors = []
    for pool in model.poolings:
        if isinstance(pool, pooling.Mean):
            vectors.append(means[:count])
        elif isinstance(pool, pooling.MeanStd):
            vectors += [means[:count], stds[:count]]
        elif isinstance(pool, pooling.AttentiveStatistics):
            vectors += [means[count:], stds[count:]]
        else:
            vectors.append(pool(*windows.gather(frames)))
    means, stds = means[:count], stds[:count]
    plain = [part[:, : config.hidden_features] for part in (means, stds)]
    moments = torch.cat([model.select_probed(part) for part in plain], dim=-1) if config.domains else None
    intensities, _, _ = model.regress_vector(torch.cat(vectors, dim=-1), moments)
    vad_means = None if vad is None else _average_vad(model, hidden, windows)
    return WindowOutput(intensities, torch.cat(plain, dim=-1), vad, vad_means)


def _average_vad(model: EmiModel, hidden: Tensor, windows: Windows) -> Tensor:
    """Return the mean V/A/D of windows' frames, (window, 3)."""
    logits, mask = windows.gather(model.compute_vad_logits(hidden))
    vad = model.finish_vad(logits, mask) * mask[..., None]
    return vad.sum(dim=1) / mask.sum(dim=1, keepdim=True)


def _compute_moments(weights: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return means and standard deviations, (row, feature) each.

    Args:
        weights: (row, frame), with the sum 1.
        frames: (frame, feature).
    """
    means = weights @ frames
    return means, ((weights @ frames.square() - means.square()).clamp(min=0) + pooling.FLOOR).sqrt()
