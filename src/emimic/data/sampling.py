"""Sampling of the clips of each optimizer step: one corpus in a seeded order, or several in given fractions.

An epoch is one pass through the first corpus. Every order depends on the seed and a position alone, so that a resumed
run and all processes of a run have the same one.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Pool:
    """The clips of one corpus, in the order in which they are drawn.

    Attributes:
        rows: indices of its clips in the run's list.
        count: clips drawn in an epoch; None for all.
        name: distinguishes the orders of corpora; the first has none.
        classes: the class of each clip, when classes are drawn equally often.
        together: a value of each clip; clips with the same value are drawn one after another.
    """

    rows: Sequence[int]
    count: int | None = None
    name: str = ""
    classes: Sequence[str] | None = None
    together: Sequence[str] | None = None

    def draw(self, *, seed: int, epoch: int) -> list[int]:
        """Return the rows of an epoch in order; each epoch continues the one before."""
        size = len(self.rows)
        count = size if self.count is None else self.count
        start = epoch * count
        drawn: list[int] = []
        for cycle in range(start // max(1, size), -(-(start + count) // max(1, size))):
            drawn += self._draw_cycle(seed, cycle)
        skipped = start % size if size else 0
        return [self.rows[index] for index in drawn[skipped : skipped + count]]

    def _draw_cycle(self, seed: int, cycle: int) -> list[int]:
        """Return as many indices as there are clips: each once, or each class equally often over the cycles."""
        tag = (zlib.crc32(self.name.encode(errors="surrogateescape")),) if self.name else ()
        if self.together is None and self.classes is None:
            return _permute((seed, cycle, *tag), len(self.rows))
        groups = _group(self.together, range(len(self.rows)))
        drawn: list[int] = []
        for number in _permute((seed, cycle, *tag), len(groups)):
            indices = groups[number]
            first = cycle * len(indices)
            drawn += self._balance((seed, *tag, number), indices, range(first, first + len(indices)))
        return drawn

    def _balance(self, words: tuple[int, ...], indices: list[int], positions: range) -> list[int]:
        """Return the draws at positions of an endless sequence: one clip of each class in turn, each equally often."""
        classes = _group(self.classes, indices)
        drawn = []
        for position in positions:
            turn, offset = divmod(position, len(classes))
            number = _permute((*words, 1, turn), len(classes))[offset]
            round_, offset = divmod(turn, len(classes[number]))
            drawn.append(classes[number][_permute((*words, 2, number, round_), len(classes[number]))[offset]])
        return drawn


@lru_cache(maxsize=4096)
def _permute(words: tuple[int, ...], size: int) -> list[int]:
    """Return the numbers below `size` in an order that `words` seed."""
    order: list[int] = np.random.default_rng(words).permutation(size).tolist()
    return order


def _group(names: Sequence[str] | None, indices: Sequence[int]) -> list[list[int]]:
    """Return the indices in groups of equal names, sorted by name; without names all in one group."""
    if names is None:
        return [list(indices)]
    groups: dict[str, list[int]] = {}
    for index in indices:
        groups.setdefault(names[index], []).append(index)
    return [groups[name] for name in sorted(groups)]


def plan_steps(pools: Sequence[Pool], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Return an epoch's optimizer steps as lists of rows, with the pools' draws distributed evenly over the epoch."""
    drawn = [pool.draw(seed=seed, epoch=epoch) for pool in pools]
    positions = [
        ((i + 0.5) / len(rows), number, i) for number, rows in enumerate(drawn) for i in range(len(rows))
    ]
    order = [drawn[number][i] for _, number, i in sorted(positions)]
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def list_copy_rows(pools: Sequence[Pool], copies: int, *, seed: int, epochs: int) -> list[list[int]]:
    """Return the rows that the epochs using each copy of the clips draw: epoch n uses copy n % copies."""
    drawn: list[set[int]] = [set() for _ in range(copies)]
    for epoch in range(epochs):
        for pool in pools:
            drawn[epoch % copies].update(pool.draw(seed=seed, epoch=epoch))
    return [sorted(rows) for rows in drawn]


def count_clips(clips: Sequence[int], fractions: Sequence[float | None]) -> list[int]:
    """Return the number of clips of each corpus in an epoch, which is one pass through the first.

    Args:
        clips: number of clips of each corpus, above 0.
        fractions: fraction of an epoch's clips from each corpus, above 0; None for a part of the rest in proportion
            to its clips.

    Raises:
        ValueError: the fractions add up to more than 1, to less without a corpus for the rest, or leave nothing
            for one.
    """
    total = math.fsum(fraction for fraction in fractions if fraction is not None)
    rest = sum(count for count, fraction in zip(clips, fractions, strict=True) if fraction is None)
    if total > 1 + 1e-9 or (rest and total > 1 - 1e-9) or (not rest and total < 1 - 1e-9):
        raise ValueError(
            f"the fractions given come to {total:g}, expected 1 where each corpus has one, else less than 1"
        )
    parts = [
        count / rest * (1 - total) if fraction is None else fraction
        for count, fraction in zip(clips, fractions, strict=True)
    ]
    return [max(1, round(part / parts[0] * clips[0])) for part in parts]
