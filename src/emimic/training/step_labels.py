"""Labels of a step's clips, on the host, and those of a part of it, on the model's device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from emimic.baselines.model import BaselineModel
from emimic.model.transfer import move
from emimic.training.clips import get_labels, get_vad
from emimic.training.ranks import Ranked
from emimic.training.setup import Run

NONE: Final = -100
"""Class and domain of a clip without one."""


@dataclass(frozen=True)
class Part:
    """Labels of some clips of a step on the model's device, and which fraction of the step's each kind is.

    Attributes:
        targets: (clip, target), NaN where missing.
        weights: (clip,), of the clips' losses; None where all are 1.
        fraction: known targets of the part / those of the step; 0 without any.
        vad: V/A/D (clip, 3), 0 where missing, and factors of their errors (clip, 3): 0 where missing, else the clip's
            weight, divided by the step's labels. None without any label in the part.
        categories: (clip,), or NONE.
        category_count: clips of the step with a class, at least 1.
        domains: (clip,), NONE where unknown; None for a model without domains.
        domain_count: clips of the step with a domain, at least 1.
    """

    targets: Tensor
    weights: Tensor | None
    fraction: float
    vad: tuple[Tensor, Tensor] | None
    categories: Tensor
    category_count: int
    domains: Tensor | None
    domain_count: int


@dataclass(frozen=True)
class Labels:
    """Labels of one step's clips, on the host, so that choosing and counting them waits for no GPU.

    Attributes:
        targets: (clip, target), NaN where missing; of a baseline (clip, branch x fold x target).
        vad: (clip, 3), NaN where missing.
        categories: (clip,), or NONE.
        weights: (clip,), of the clips' losses; None where all are 1.
        vad_weights: (clip,), of the clips' V/A/D losses; None where all are 1.
        ranks: for a rank loss, or None.
        domains: (clip,), NONE where unknown; None for a model without domains.
    """

    targets: Tensor
    vad: Tensor
    categories: Tensor
    weights: Tensor | None
    vad_weights: Tensor | None
    ranks: Ranked | None
    domains: Tensor | None

    @classmethod
    def from_rows(cls, run: Run, rows: Sequence[int]) -> "Labels":
        """Return the labels of rows of the run's training clips."""
        items = [run.train.relabel(run.train.items[row], run.progress.epoch) for row in rows]
        targets = torch.from_numpy(np.stack([get_labels(item) for item in items]))
        if isinstance(run.model, BaselineModel):
            targets = run.model.expand_targets(targets, items)
        number = {name: i for i, name in enumerate(run.model.config.categories)}
        domain = {name: i for i, name in enumerate(getattr(run.model.config, "domains", ()))}
        return cls(
            targets,
            torch.from_numpy(np.stack([get_vad(item) for item in items])),
            torch.tensor([number.get(item.category or "", NONE) for item in items]),
            _make_factors([item.weight for item in items]),
            _make_factors([item.vad_weight for item in items]),
            None if run.ranks is None else run.ranks.select(items, torch.device("cpu")),
            torch.tensor([domain.get(item.domain or "", NONE) for item in items]) if domain else None,
        )

    def select(self, rows: list[int], device: torch.device) -> Part:
        """Return the labels of some of the clips on a device."""
        targets, vad = self.targets[rows], self.vad[rows]
        labeled = ~vad.isnan()
        factors = labeled.float()
        if self.vad_weights is not None:
            factors = factors * self.vad_weights[rows, None]
        known = ~self.targets.isnan()
        count = int((~self.vad.isnan()).sum()) if labeled.any() else 0  # of the step
        return Part(
            targets=move(targets, device),
            weights=None if self.weights is None else move(self.weights[rows], device),
            fraction=int(known[rows].sum()) / max(1, int(known.sum())),
            vad=(move(vad.nan_to_num(), device), move(factors / count, device)) if count else None,
            categories=move(self.categories[rows], device),
            category_count=max(1, int((self.categories != NONE).sum())),
            domains=None if self.domains is None else move(self.domains[rows], device),
            domain_count=1 if self.domains is None else max(1, int((self.domains != NONE).sum())),
        )

    def move_all(self, device: torch.device) -> "Labels":
        """Return what a loss over the entire step needs on a device: targets, weights and ranks."""
        ranks = self.ranks
        if ranks is not None:
            ranks = replace(
                ranks,
                ranks=move(ranks.ranks, device),
                groups=move(ranks.groups, device),
                temperature=move(ranks.temperature, device),
            )
        weights = None if self.weights is None else move(self.weights, device)
        return replace(self, targets=move(self.targets, device), weights=weights, ranks=ranks)


def _make_factors(values: Sequence[float]) -> Tensor | None:
    return None if all(value == 1 for value in values) else torch.tensor(values)
