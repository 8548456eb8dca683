"""Orders of a corpus's classes, as a step's clips need them for the rank loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from emimic.data.corpus import Item
from emimic.data.corpus_settings import RankSettings
from emimic.data.split_tables import some
from emimic.task import VAD, CorpusError, SettingsError
from emimic.training.corpora import Member


@dataclass(frozen=True, slots=True)
class Ranked:
    """A step's clips as `losses.rank_loss` takes them; columns: of the quantities, among targets and then V/A/D."""

    columns: list[int]
    ranks: Tensor
    groups: Tensor
    temperature: Tensor


@dataclass(frozen=True)
class Ranks:
    """The orders of a run: of each corpus, by the name its items have; names of the quantities that are ordered."""

    names: tuple[str, ...]
    columns: tuple[int, ...]
    orders: dict[str, RankSettings]
    heights: dict[tuple[str, str, str], float]
    """(corpus, quantity, class) -> its rank, the higher the stronger."""

    @classmethod
    def of(cls, members: Sequence[Member], items: Sequence[Item]) -> "Ranks":
        """Collect the orders of all corpora.

        Raises:
            SettingsError: if an order is of neither a target nor V/A/D.
            CorpusError: if an order has a class that no training clip is of.
        """
        targets = members[0].corpus.targets
        known = (*targets, *(name for name in VAD if name not in targets))
        places = {name: (*targets, *VAD).index(name) for name in known}
        orders: dict[str, RankSettings] = {}
        heights: dict[tuple[str, str, str], float] = {}
        for member in members:
            own = member.settings.ranks
            if own is None:
                continue
            corpus = member.name if len(members) > 1 else ""
            there = {item.cells[own.column] for item in items if item.corpus == corpus}
            orders[corpus] = own
            for name, groups in own.order.items():
                if name not in known:
                    raise SettingsError(
                        f"corpora.{member.name}.ranks.order is of {name!r}, expected some of {', '.join(known)}"
                    )
                if strange := [one for group in groups for one in group if one not in there]:
                    raise CorpusError(
                        f"{member.corpus.folder}: no training clip has {some(strange)} in the column {own.column!r}, "
                        f"which ranks.order.{name} names; found {some(sorted(there))}. Spell them as in the table"
                    )
                for height, group in enumerate(reversed(groups)):
                    heights |= {(corpus, name, one): float(height) for one in group}
        names = tuple(name for name in known if any(name in own.order for own in orders.values()))
        return cls(names, tuple(places[name] for name in names), orders, heights)

    def ranked(self, items: Sequence[Item], device: Any) -> Ranked:
        """Return the ranks of a step's clips, the same in every process."""
        numbers: dict[tuple[str, str], int] = {}
        ranks, groups, temperature = [], [], []
        for item in items:
            own = self.orders.get(item.corpus)
            kind = "" if own is None else item.cells.get(own.column, "")
            by = "" if own is None or own.by is None else item.cells.get(own.by, "")
            ranks.append([self.heights.get((item.corpus, name, kind), torch.nan) for name in self.names])
            compared = own is not None and (own.by is None or by)
            groups.append(numbers.setdefault((item.corpus, by), len(numbers)) if compared else -1)
            temperature.append(1.0 if own is None else own.temperature)
        return Ranked(
            list(self.columns),
            torch.tensor(ranks, device=device),
            torch.tensor(groups, device=device),
            torch.tensor(temperature, device=device),
        )
