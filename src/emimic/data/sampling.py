"""Which clips make an optimizer step: one corpus in a seeded order, or several in given fractions.

An epoch is once through the first corpus. Every order follows from the seed and a position alone, so that a resumed run
and every process of several find the same one.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Pool:
    """One corpus's clips as they are drawn.

    rows: its clips' places in the run's list. count: clips drawn in an epoch; None: all. name: tells corpora apart;
    the first has none. classes: of each clip, where classes are drawn equally often. together: of each clip, what the
    clips that are drawn one after another share.
    """

    rows: Sequence[int]
    count: int | None = None
    name: str = ""
    classes: Sequence[str] | None = None
    together: Sequence[str] | None = None

    def draw(self, *, seed: int, epoch: int) -> list[int]:
        """Return the rows of an epoch, in order; epochs continue each other."""
        size = len(self.rows)
        count = size if self.count is None else self.count
        start = epoch * count
        found: list[int] = []
        for cycle in range(start // max(1, size), -(-(start + count) // max(1, size))):
            found += self._cycle(seed, cycle)
        skipped = start % size if size else 0
        return [self.rows[place] for place in found[skipped : skipped + count]]

    def _cycle(self, seed: int, cycle: int) -> list[int]:
        """As many places as there are clips: each once, or, by classes, each class equally often over the cycles."""
        tag = (zlib.crc32(self.name.encode(errors="surrogateescape")),) if self.name else ()
        if self.together is None and self.classes is None:
            return _permutation((seed, cycle, *tag), len(self.rows))
        groups = _grouped(self.together, range(len(self.rows)))
        found: list[int] = []
        for number in _permutation((seed, cycle, *tag), len(groups)):
            places = groups[number]
            first = cycle * len(places)
            found += self._balanced((seed, *tag, number), places, range(first, first + len(places)))
        return found

    def _balanced(self, words: tuple[int, ...], places: list[int], positions: range) -> list[int]:
        """The draws at the positions of an endless sequence: a clip of each class in turn, each clip equally often."""
        classes = _grouped(self.classes, places)
        found = []
        for position in positions:
            turn, at = divmod(position, len(classes))
            number = _permutation((*words, 1, turn), len(classes))[at]
            again, at = divmod(turn, len(classes[number]))
            found.append(classes[number][_permutation((*words, 2, number, again), len(classes[number]))[at]])
        return found


@lru_cache(maxsize=4096)
def _permutation(words: tuple[int, ...], size: int) -> list[int]:
    order: list[int] = np.random.default_rng(words).permutation(size).tolist()
    return order


def _grouped(names: Sequence[str] | None, places: Sequence[int]) -> list[list[int]]:
    """The places by name, sorted by it; without names all in one group."""
    if names is None:
        return [list(places)]
    groups: dict[str, list[int]] = {}
    for place in places:
        groups.setdefault(names[place], []).append(place)
    return [groups[name] for name in sorted(groups)]


def steps(pools: Sequence[Pool], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """An epoch's optimizer steps as lists of rows: the pools' draws spread evenly over the epoch."""
    drawn = [pool.draw(seed=seed, epoch=epoch) for pool in pools]
    places = [
        ((i + 0.5) / len(rows), number, i) for number, rows in enumerate(drawn) for i in range(len(rows))
    ]
    order = [drawn[number][i] for _, number, i in sorted(places)]
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def rows_of_copies(pools: Sequence[Pool], copies: int, *, seed: int, epochs: int) -> list[list[int]]:
    """Return, for each copy of the clips, the rows drawn by the epochs that use it: epoch n uses copy n % copies."""
    found: list[set[int]] = [set() for _ in range(copies)]
    for epoch in range(epochs):
        for pool in pools:
            found[epoch % copies].update(pool.draw(seed=seed, epoch=epoch))
    return [sorted(rows) for rows in found]


def counts(clips: Sequence[int], fractions: Sequence[float | None]) -> list[int]:
    """Clips that each corpus gives to an epoch, which is once through the first.

    Args:
        clips: clips of each corpus, above 0.
        fractions: of all clips that come from it, above 0; None: a part of the rest in proportion to its clips.

    Raises:
        ValueError: if the fractions come to more than 1, to less without a corpus for the rest, or leave nothing
            for one.
    """
    given = math.fsum(fraction for fraction in fractions if fraction is not None)
    rest = sum(count for count, fraction in zip(clips, fractions, strict=True) if fraction is None)
    if given > 1 + 1e-9 or (rest and given > 1 - 1e-9) or (not rest and given < 1 - 1e-9):
        raise ValueError(
            f"the fractions given come to {given:g}, expected 1 where each corpus has one, else less than 1"
        )
    parts = [
        count / rest * (1 - given) if fraction is None else fraction
        for count, fraction in zip(clips, fractions, strict=True)
    ]
    return [max(1, round(part / parts[0] * clips[0])) for part in parts]
