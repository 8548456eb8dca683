"""What training minimizes: squared error (the paper's choice), 1 - CCC, 1 - Pearson, and mixes of them.

The paper's section 6.2 gave up correlation as a loss because a constant prediction has no variance, so the
loss is undefined. Here a variance below `FLOOR` counts as `FLOOR`: the loss and its gradient stay finite, and
above it the formula is untouched.

A label that is NaN is missing: it takes no part in any loss, and a target without any label adds nothing.
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


def mse(predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared error over the labels there are; 0 where there is none.

    Args:
        predictions: (clip, target), any float type.
        labels: (clip, target), in [0, 1]; NaN where missing.
        weights: (clip,), factors >= 0 of the clips' errors; the mean is over the number of labels all the same, so that
            a clip of weight 2 has twice the gradient. None: 1 for each.

    Returns:
        A scalar >= 0, in float32 at least.

    Raises:
        ScoreError: if the two shapes are not the same (clip, target), or there is no clip.
    """
    x, y, known = _pair(predictions, labels)
    errors = ((x - y) * known).square()
    return (errors if weights is None else errors * weights[:, None]).sum() / known.sum().clamp(min=1)


def bce(predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of intensities as probabilities: unlike squared error it also orders the small ones.

    Takes and raises what `mse` does; predictions in [0, 1], of which those beyond [1e-4, 1 - 1e-4] count as these.
    """
    x, y, known = _pair(predictions, labels)
    errors = nn.functional.binary_cross_entropy(x.clamp(1e-4, 1 - 1e-4), y, reduction="none") * known
    return (errors if weights is None else errors * weights[:, None]).sum() / known.sum().clamp(min=1)


def ccc_loss(predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over targets of 1 - CCC (Lin's, with variances over n), in [0, 2].

    Takes and raises what `mse` does; the weights are those of the clips in means and variances.
    1 where both sides are constant and equal: nothing is learned there.
    """
    x, y, known = _pair(predictions, labels)
    x_var, y_var, cov, apart = _moments(x, y, known, weights)
    total = x_var + y_var + apart.square()
    return _mean(1 - 2 * cov / total.clamp(min=FLOOR), known)


def pearson_loss(predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over targets of 1 - rho (paper section 6.2, eq. 3, over eq. 1 and 2), in [0, 2].

    Takes and raises what `ccc_loss` does. 1 for a target that is constant on either side.
    """
    x, y, known = _pair(predictions, labels)
    x_var, y_var, cov, _ = _moments(x, y, known, weights)
    spread = x_var.clamp(min=FLOOR).sqrt() * y_var.clamp(min=FLOOR).sqrt()
    return _mean(1 - cov / spread, known)


def framewise(predictions: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Squared error over the known frames of each clip and their features, its mean in a clip, summed over clips.

    Args:
        predictions, truth: (clip, frame, feature), any float type.
        known: (clip, frame), bool; a clip without any adds nothing.

    Returns:
        A scalar >= 0 in float32.
    """
    errors = (predictions.float() - truth.float()).square().mean(dim=-1).masked_fill(~known, 0.0)
    return (errors.sum(dim=1) / known.sum(dim=1).clamp(min=1)).sum()


def rank_loss(values: Tensor, ranks: Tensor, groups: Tensor, temperature: Tensor) -> Tensor:
    """Return the mean of softplus(-(higher - lower) / temperature) over all pairs of clips of one group and two ranks.

    Args:
        values: (clip, quantity), the predictions that are compared.
        ranks: (clip, quantity), the higher the stronger; NaN takes no part.
        groups: (clip,), integers; clips are compared within a group; -1 takes no part.
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
    "mse": mse,
    "bce": bce,
    "ccc": ccc_loss,
    "pearson": pearson_loss,
}
"""The names a `Mix` knows."""


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
        """Whether a batch's loss is its parts' mean, weighted by their labels: true without a correlation."""
        return all(name in ("mse", "bce") for name, weight in self.weights.items() if weight)

    def __call__(self, predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mix for predictions and labels (clip, target): a scalar. Takes and raises what `mse` does."""
        terms = [
            weight * LOSSES[name](predictions, labels, weights)
            for name, weight in self.weights.items()
            if weight
        ]
        return torch.stack(terms).sum()


def _pair(predictions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both sides in float32 at least (the squares of a bf16 difference have two digits), and which labels are known.

    Labels that are missing come back as 0.
    """
    # A (clip, target) prediction against (clip,) labels would broadcast and train on nonsense.
    if predictions.shape != labels.shape or predictions.ndim != 2 or not len(predictions):
        raise ScoreError(
            f"predictions have shape {tuple(predictions.shape)} and labels {tuple(labels.shape)}; "
            "expected the same (clip, target) with at least one clip"
        )
    dtype = torch.promote_types(torch.promote_types(predictions.dtype, labels.dtype), torch.float32)
    known = ~labels.isnan()
    return predictions.to(dtype), labels.to(dtype).masked_fill(~known, 0.0), known.to(dtype)


def _moments(
    x: Tensor, y: Tensor, known: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Over the known clips: variances of both sides, their covariance, the difference of means, each (target,)."""
    if weights is not None:
        return _weighted_moments(x, y, known * weights[:, None])
    n = known.sum(dim=0).clamp(min=1)
    x_mean, y_mean = (x * known).sum(dim=0) / n, (y * known).sum(dim=0) / n
    u, v = (x - x_mean) * known, (y - y_mean) * known
    return u.square().sum(dim=0) / n, v.square().sum(dim=0) / n, (u * v).sum(dim=0) / n, x_mean - y_mean


def _weighted_moments(x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `_moments`; weights (clip, target), 0 where a label is missing."""
    n = weights.sum(dim=0)
    part = weights / torch.where(n > 0, n, 1.0)
    x_mean, y_mean = (x * part).sum(dim=0), (y * part).sum(dim=0)
    u, v = x - x_mean, y - y_mean
    variances = (part * u.square()).sum(dim=0), (part * v.square()).sum(dim=0)
    return *variances, (part * u * v).sum(dim=0), x_mean - y_mean


def _mean(terms: Tensor, known: Tensor) -> Tensor:
    """Mean of terms (target,) over the targets with a label; 0 without any."""
    there = known.any(dim=0).to(terms.dtype)
    return (terms * there).sum() / there.sum().clamp(min=1)
