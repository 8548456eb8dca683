"""Heads of the model: from a frame's or a clip's features to its outputs."""

import torch
from torch import Tensor, nn

from emimic.model.config import EmiConfig


class TanhHead(nn.Module):
    """Dense layer, tanh, projection (the layout of the audeering checkpoint's `classifier`, paper section 4).

    Args:
        features: input width.
        outputs: output width.
        dropout: before the dense layer and before the projection.
        units: width of the dense layer; None: as the input; 0: no dense layer.
    """

    def __init__(self, features: int, outputs: int, dropout: float = 0.0, units: int | None = None) -> None:
        super().__init__()
        units = features if units is None else units
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(features, units) if units else None
        self.out_proj = nn.Linear(units or features, outputs)

    def compute_hidden(self, features: Tensor) -> Tensor:
        """Return the projection's input, (..., unit), of (..., feature); without units the features themselves."""
        features = self.dropout(features)
        return features if self.dense is None else self.dropout(torch.tanh(self.dense(features)))

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., output) of (..., feature)."""
        return self.out_proj(self.compute_hidden(features))  # type: ignore[no-any-return]


class DomainHeads(nn.Module):
    """Classifier of a clip's domain, and linear layers for the targets that a domain predicts itself.

    The classifier reads the mean and standard deviation of a clip's (standardized) frames, the layers its mean alone,
    as ridge regression on frozen features does. On speech of few speakers such a layer transfers to other languages. A
    deeper head that also learns from other recordings does not.
    """

    def __init__(self, config: EmiConfig) -> None:
        super().__init__()
        features = len(config.probe_features)
        self.dropout = nn.Dropout(config.head_dropout)
        self.domain = nn.Linear(2 * features, len(config.domains))
        by_domain = config.domain_targets or {}
        self.own = nn.ModuleDict(
            {name: nn.Linear(features, len(targets)) for name, targets in by_domain.items()}
        )
        self.bounded = config.bounded
        # Domain -> its index, and the indices of its targets among all.
        self.indices = {
            name: (config.domains.index(name), [list(config.targets).index(target) for target in targets])
            for name, targets in by_domain.items()
        }

    def forward(self, intensities: Tensor, moments: Tensor, domains: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mix the regression head's intensities with the domains' own, by the probability of each domain.

        Args:
            intensities: (batch, target), of the regression head.
            moments: (batch, 2 * feature), mean and standard deviation of the frames.
            domains: (batch,), number of each clip's domain, or -1 where it is unknown; None: all unknown.

        Returns:
            Intensities (batch, target) and logits of the domains (batch, domain).
        """
        moments = self.dropout(moments)
        logits = self.domain(moments)
        weights = logits.softmax(dim=-1)
        if domains is not None:
            labels = nn.functional.one_hot(domains.clamp(min=0), logits.shape[1]).to(weights.dtype)
            weights = torch.where((domains >= 0)[:, None], labels, weights)
        common = intensities.unbind(dim=1)
        columns = list(common)
        for name, (domain, targets) in self.indices.items():
            predicted = self.own[name](moments[:, : moments.shape[1] // 2])
            predicted = predicted.sigmoid() if self.bounded else predicted
            for target, own in zip(targets, predicted.unbind(dim=1), strict=True):
                columns[target] = columns[target] + weights[:, domain] * (own - common[target])
        return torch.stack(columns, dim=1), logits
