"""Losses: squared error (the paper's choice), cross-entropy, 1 - CCC, 1 - Pearson, and weighted sums of them.

The paper's section 6.2 rejects correlation as a loss, since it is undefined for a constant prediction. Here a variance
below `FLOOR` counts as `FLOOR`, so that the loss and its gradient stay finite. Above it the formula is unchanged.

A label that is NaN is missing: no loss includes it, and a target without any label adds nothing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from emimic.metrics import ScoreError
from emimic.task import SettingsError

FLOOR: Final = 1e-6
"""The smallest variance a correlation divides by: a standard deviation of .001 on the labels' [0, 1] scale.

The slope of a correlation is about 1 / (clips x standard deviation), so this also bounds the gradient.
"""


def compute_mse(predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean squared error over all labels that aren't missing; 0 without any.

    Args:
        predictions: (clip, target), any float type.
        labels: (clip, target), in [0, 1]; NaN where missing.
        weights: (clip,), factors >= 0 of the clips' errors; None: 1 for each. The sum is divided by the number of
            labels, so that a clip of weight 2 has twice the gradient.

    Returns:
        A scalar >= 0, in float32 at least.

    Raises:
        ScoreError: if the two shapes are not the same (clip, target), or there is no clip.
    """
    x, y, labeled = _check_pair(predictions, labels)
    errors = ((x - y) * labeled).square()
    return (errors if weights is None else errors * weights[:, None]).sum() / labeled.sum().clamp(min=1)


def compute_bce(predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of intensities as probabilities; unlike squared error it also orders small ones.

    Arguments and errors are those of `compute_mse`. Predictions are in [0, 1]; they are clipped to [1e-4, 1 - 1e-4].
    """
    x, y, labeled = _check_pair(predictions, labels)
    errors = nn.functional.binary_cross_entropy(x.clamp(1e-4, 1 - 1e-4), y, reduction="none") * labeled
    return (errors if weights is None else errors * weights[:, None]).sum() / labeled.sum().clamp(min=1)


def compute_ccc_loss(predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean over targets of 1 - CCC (Lin's, with variances over n), in [0, 2].

    Arguments and errors are those of `compute_mse`; the weights are those of the clips in means and variances. A
    target that is constant and equal on both sides has 1, without a gradient.
    """
    x, y, labeled = _check_pair(predictions, labels)
    x_var, y_var, cov, difference = _compute_moments(x, y, labeled, weights)
    total = x_var + y_var + difference.square()
    return _average(1 - 2 * cov / total.clamp(min=FLOOR), labeled)


def compute_pearson_loss(predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean over targets of 1 - rho (paper section 6.2, eq. 3, over eq. 1 and 2), in [0, 2].

    Arguments and errors are those of `compute_ccc_loss`. A target that is constant on either side has 1.
    """
    x, y, labeled = _check_pair(predictions, labels)
    x_var, y_var, cov, _ = _compute_moments(x, y, labeled, weights)
    stds = x_var.clamp(min=FLOOR).sqrt() * y_var.clamp(min=FLOOR).sqrt()
    return _average(1 - cov / stds, labeled)


def compute_frame_error(predictions: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return the squared error per frame, averaged over a clip's frames and features, and summed over clips.

    Args:
        predictions: (clip, frame, feature), any float type.
        truth: (clip, frame, feature).
        mask: (clip, frame), true at frames with a target; a clip without any adds nothing.

    Returns:
        A scalar >= 0 in float32.
    """
    errors = (predictions.float() - truth.float()).square().mean(dim=-1).masked_fill(~mask, 0.0)
    return (errors.sum(dim=1) / mask.sum(dim=1).clamp(min=1)).sum()


def compute_rank_loss(values: Tensor, ranks: Tensor, groups: Tensor, temperature: Tensor) -> Tensor:
    """Return the mean of softplus(-(higher - lower) / temperature) over all pairs of clips of one group and two ranks.

    Args:
        values: (clip, quantity), the predictions that are compared.
        ranks: (clip, quantity), the higher the stronger; NaN is excluded.
        groups: (clip,), integers; clips are compared within a group; -1 is excluded.
        temperature: (clip,) > 0, the same for a group's clips.

    Returns:
        A scalar >= 0 in float32 at least; 0 without any pair.
    """
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    same = (groups[:, None] == groups) & (groups >= 0)
    pairs = same[..., None] & (ranks[:, None] > ranks)  # false for NaN
    higher = (values[:, None] - values) / temperature[:, None, None]
    return (nn.functional.softplus(-higher) * pairs).sum() / pairs.sum().clamp(min=1)


LOSSES: Final[dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]]] = {
    "mse": compute_mse,
    "bce": compute_bce,
    "ccc": compute_ccc_loss,
    "pearson": compute_pearson_loss,
}
"""Name in a `Mix` -> loss."""

LABELWISE: Final = frozenset({"mse", "bce"})
"""Those that are means over labels: a batch's is the mean of its parts', weighted by their labels."""


@dataclass(frozen=True)
class Mix:
    """A weighted sum of losses, such as `Mix({"mse": 1.0, "pearson": 0.5})`.

    Call it with predictions and labels (clip, target), and perhaps weights (clip,); it returns a scalar tensor.

    Raises:
        SettingsError: on an unknown name, a weight that is negative or not finite, or no positive weight.
    """

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        unknown = [name for name in self.weights if name not in LOSSES]
        if unknown:
            raise SettingsError(
                f"unknown loss {', '.join(map(repr, unknown))}; known are {', '.join(LOSSES)}"
            )
        for name, weight in self.weights.items():
            if not math.isfinite(weight) or weight < 0:
                raise SettingsError(f"the weight of the loss {name!r} is {weight}; expected a number >= 0")
        if not any(self.weights.values()):
            raise SettingsError(f"found the loss weights {dict(self.weights)}; give at least one above 0")
        object.__setattr__(self, "weights", dict(self.weights))

    @property
    def decomposes(self) -> bool:
        """True if a batch's loss is the mean of its parts', weighted by their labels: without a correlation."""
        return all(name in LABELWISE for name, weight in self.weights.items() if weight)

    def __call__(self, predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the weighted sum, a scalar. Arguments and errors are those of `compute_mse`."""
        terms = [
            weight * LOSSES[name](predictions, labels, weights)
            for name, weight in self.weights.items()
            if weight
        ]
        return torch.stack(terms).sum()


def _check_pair(predictions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return predictions and labels in float32 at least, and the mask of labels; missing labels are 0.

    The squares of a bf16 difference would have two digits.
    """
    # A (clip, target) prediction against (clip,) labels would broadcast and train on nonsense.
    if predictions.shape != labels.shape or predictions.ndim != 2 or not len(predictions):
        raise ScoreError(
            f"predictions have shape {tuple(predictions.shape)} and labels {tuple(labels.shape)}; "
            "expected the same (clip, target) with at least one clip"
        )
    dtype = torch.promote_types(torch.promote_types(predictions.dtype, labels.dtype), torch.float32)
    labeled = ~labels.isnan()
    return predictions.to(dtype), labels.to(dtype).masked_fill(~labeled, 0.0), labeled.to(dtype)


def _compute_moments(
    x: Tensor, y: Tensor, labeled: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the variances of both sides, their covariance and the difference of their means, (target,) each."""
    part = labeled if weights is None else labeled * weights[:, None]
    n = part.sum(dim=0)
    part = part / torch.where(n > 0, n, 1.0)
    x_mean, y_mean = (x * part).sum(dim=0), (y * part).sum(dim=0)
    u, v = x - x_mean, y - y_mean
    variances = (part * u.square()).sum(dim=0), (part * v.square()).sum(dim=0)
    return *variances, (part * u * v).sum(dim=0), x_mean - y_mean


def _average(terms: Tensor, labeled: Tensor) -> Tensor:
    """Return the mean of terms (target,) over the targets with a label; 0 without any."""
    mask = labeled.any(dim=0).to(terms.dtype)
    return (terms * mask).sum() / mask.sum().clamp(min=1)
