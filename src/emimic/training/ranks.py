"""Orders of a corpus's classes, for the rank loss over a step's clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from emimic.data.corpus import Item
from emimic.data.corpus_settings import RankSettings
from emimic.data.split_tables import list_some
from emimic.task import VAD, CorpusError, SettingsError
from emimic.training.corpora import RunCorpus


@dataclass(frozen=True, slots=True)
class Ranked:
    """Ranks of a step's clips, for `losses.rank_loss`; columns: of the quantities, in targets then V/A/D."""

    columns: list[int]
    ranks: Tensor
    groups: Tensor
    temperature: Tensor


@dataclass(frozen=True)
class Ranks:
    """Orders of a run.

    Attributes:
        names: of the ordered quantities.
        columns: theirs, in targets then V/A/D.
        orders: corpus, by its items' name -> its order.
        heights: (corpus, quantity, class) -> its rank, the higher the stronger.
    """

    names: tuple[str, ...]
    columns: tuple[int, ...]
    orders: dict[str, RankSettings]
    heights: dict[tuple[str, str, str], float]

    @classmethod
    def from_corpora(cls, corpora: Sequence[RunCorpus], items: Sequence[Item]) -> "Ranks":
        """Collect the orders of all corpora.

        Args:
            corpora: of the run.
            items: the training clips of all.

        Raises:
            SettingsError: if an order is of neither a target nor V/A/D.
            CorpusError: if an order has a class that no training clip is of.
        """
        targets = corpora[0].corpus.targets
        quantities = (*targets, *(name for name in VAD if name not in targets))
        columns = {name: (*targets, *VAD).index(name) for name in quantities}
        orders: dict[str, RankSettings] = {}
        heights: dict[tuple[str, str, str], float] = {}
        for run_corpus in corpora:
            ranks = run_corpus.settings.ranks
            if ranks is None:
                continue
            corpus = run_corpus.name if len(corpora) > 1 else ""
            classes = {item.columns[ranks.column] for item in items if item.corpus == corpus}
            orders[corpus] = ranks
            for name, groups in ranks.order.items():
                if name not in quantities:
                    raise SettingsError(
                        f"corpora.{run_corpus.name}.ranks.order is of {name!r}, "
                        f"expected some of {', '.join(quantities)}"
                    )
                if unknown := [kind for group in groups for kind in group if kind not in classes]:
                    raise CorpusError(
                        f"{run_corpus.corpus.folder}: no training clip has {list_some(unknown)} in the column "
                        f"{ranks.column!r}, which ranks.order.{name} names; found {list_some(sorted(classes))}. "
                        "Spell them as in the table"
                    )
                for height, group in enumerate(reversed(groups)):
                    heights |= {(corpus, name, kind): float(height) for kind in group}
        names = tuple(name for name in quantities if any(name in ranks.order for ranks in orders.values()))
        return cls(names, tuple(columns[name] for name in names), orders, heights)

    def select(self, items: Sequence[Item], device: Any) -> Ranked:
        """Return the ranks of a step's clips, the same in every process."""
        numbers: dict[tuple[str, str], int] = {}
        ranks, groups, temperature = [], [], []
        for item in items:
            order = self.orders.get(item.corpus)
            kind = "" if order is None else item.columns.get(order.column, "")
            by = "" if order is None or order.by is None else item.columns.get(order.by, "")
            ranks.append([self.heights.get((item.corpus, name, kind), torch.nan) for name in self.names])
            compared = order is not None and (order.by is None or by)
            groups.append(numbers.setdefault((item.corpus, by), len(numbers)) if compared else -1)
            temperature.append(1.0 if order is None else order.temperature)
        return Ranked(
            list(self.columns),
            torch.tensor(ranks, device=device),
            torch.tensor(groups, device=device),
            torch.tensor(temperature, device=device),
        )
