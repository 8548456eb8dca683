"""Training clips of other lengths, and mixtures of corpora: cut, repeated, or joined with a second clip.

What happens to a clip in an epoch follows from the run's seed, the epoch and the clip alone, and its labels are known
before anything is decoded.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from emimic.data.augment import Clock
from emimic.data.corpus import Item
from emimic.task import SAMPLE_RATE

Wave = NDArray[np.float32]
Load = Callable[[Item], Wave]

SHORTEST: Final = 0.5
"""Seconds that a crop has at least."""
PAUSE: Final = 0.4
"""Seconds of silence between two clips at most."""
BELOW: Final = 15.0
"""Decibels at most by which a clip that lies over another is below it."""

_LENGTHS, _MIXTURES = 1, 2  # so that neither change alters what the other draws


@dataclass(frozen=True)
class Joins:
    """Changes to whole clips.

    lengths: of the clips, the fraction that is cropped, repeated, or joined with another one of the same corpus, class
    and speaker. mixed: of the clips of other corpora than `corpora`, the fraction joined with one of `partners`, which
    are theirs. alike: what a clip shares with those it may be joined with -> these.
    """

    seed: int
    max_seconds: float
    lengths: float = 0.0
    mixed: float = 0.0
    corpora: Sequence[str] = ()
    partners: Sequence[Item] = ()
    alike: dict[tuple[object, ...], list[Item]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        items: Sequence[Item],
        *,
        seed: int,
        max_seconds: float,
        lengths: float = 0.0,
        mixed: float = 0.0,
        corpora: Sequence[str] = (),
    ) -> "Joins":
        """Set up the changes for training clips; corpora: those that mixtures take the second clip from."""
        alike: dict[tuple[object, ...], list[Item]] = {}
        for item in items if lengths else ():
            alike.setdefault(_sort(item), []).append(item)
        partners = [item for item in items if item.corpus in corpora] if mixed else []
        return cls(seed, max_seconds, lengths, mixed, corpora, partners, alike)

    def labelled(self, item: Item, epoch: int) -> Item:
        """Return the clip with its labels in an epoch, counted from 0.

        Of a mixture, a label above 0 and an unknown one stay; where a label is 0, the second clip's counts: unknown,
        or the larger of the two. V/A/D, class, order and domain are unknown.
        """
        second = self._partner(item, self._drawn(item, epoch, _MIXTURES))
        if second is None:
            return item
        labels = item.labels
        if labels is not None:
            other = np.full_like(labels, np.nan) if second.labels is None else second.labels
            labels = np.where(labels > 0, labels, np.maximum(labels, other)).astype(np.float32)
        return replace(item, labels=labels, vad=None, category=None, domain=None, cells={})

    def timed(self, samples: Wave, item: Item, epoch: int, load: Load) -> tuple[Wave, Clock]:
        """Return the samples (sample,) at 16 kHz as they are heard in an epoch, and where the recording lies in them.

        load: gives the samples of another clip.
        """
        start = 0
        rng = self._drawn(item, epoch, _LENGTHS)
        if rng.random() < self.lengths:
            samples, start = self._of_length(samples, item, rng, load)
        rng = self._drawn(item, epoch, _MIXTURES)
        if (second := self._partner(item, rng)) is not None:
            samples, later = _mixture(samples, load(second), self._most, rng)
            start += later
        return samples, Clock(start / SAMPLE_RATE)

    @property
    def _most(self) -> int:
        return round(self.max_seconds * SAMPLE_RATE)

    def _drawn(self, item: Item, epoch: int, change: int) -> np.random.Generator:
        return np.random.default_rng(
            (self.seed, epoch, zlib.crc32(item.key.encode(errors="surrogateescape")), change)
        )

    def _partner(self, item: Item, rng: np.random.Generator) -> Item | None:
        """The second clip of a mixture, if the clip becomes one."""
        if not self.partners or item.corpus in self.corpora:
            return None
        return self.partners[int(rng.integers(len(self.partners)))] if rng.random() < self.mixed else None

    def _of_length(self, samples: Wave, item: Item, rng: np.random.Generator, load: Load) -> tuple[Wave, int]:
        """The clip cropped, repeated or joined, and the sample at which it begins there."""
        kind = ("crop", "crop", "repeat", "join")[rng.integers(4)]
        if kind == "crop":
            shortest = min(len(samples), round(SHORTEST * SAMPLE_RATE))
            length = int(rng.integers(shortest, len(samples) + 1))
            first = int(rng.integers(len(samples) - length + 1))
            return samples[first : first + length], -first
        others = [one for one in self.alike.get(_sort(item), ()) if one.key != item.key and item.speaker]
        if kind == "join" and others:
            second = load(others[rng.integers(len(others))])
            return _beside(samples, second, self._most, rng, "after" if rng.random() < 0.5 else "before")
        wanted = int(rng.integers(len(samples), max(len(samples), self._most) + 1))
        parts, length = [samples], len(samples)
        while length < wanted:
            parts += [_pause(rng), samples]
            length += len(parts[-2]) + len(samples)
        return np.concatenate(parts)[:wanted], 0


def _sort(item: Item) -> tuple[object, ...]:
    """What clips that may be joined share: corpus, speaker and class, or their labels where no class is known."""
    kinds: tuple[object, ...] = (item.category, *item.cells.items())
    if item.category is None and not any(item.cells.values()):
        kinds = tuple(b"" if one is None else one.tobytes() for one in (item.labels, item.vad))
    return item.corpus, item.speaker, kinds


def _mixture(samples: Wave, second: Wave, most: int, rng: np.random.Generator) -> tuple[Wave, int]:
    """The clip with a second one before, after or over it, and the sample at which it begins."""
    place = ("before", "after", "over")[rng.integers(3)]
    room = most - len(samples) - round(PAUSE * SAMPLE_RATE)
    if place != "over" and room >= SHORTEST * SAMPLE_RATE:
        return _beside(samples, second, most, rng, "before" if place == "before" else "after")
    second = _as_loud(second, samples) * np.float32(10 ** (-rng.uniform(0, BELOW) / 20))
    if len(second) > len(samples):
        first = int(rng.integers(len(second) - len(samples) + 1))
        second = second[first : first + len(samples)]
    mixed = samples.copy()
    first = int(rng.integers(len(samples) - len(second) + 1))
    mixed[first : first + len(second)] += second
    return mixed, 0


def _beside(
    samples: Wave, second: Wave, most: int, rng: np.random.Generator, place: Literal["before", "after"]
) -> tuple[Wave, int]:
    """The clip with a second one of its level before or after it, and the sample at which it begins.

    The second is cut, not the clip: its end when it comes after, its beginning when it comes before.
    """
    pause = _pause(rng)
    room = max(0, most - len(samples) - len(pause))
    second = _as_loud(second, samples)
    if place == "after":
        return np.concatenate([samples, pause, second[:room]]), 0
    second = second[max(0, len(second) - room) :]
    pause = pause if len(second) else pause[:0]
    return np.concatenate([second, pause, samples]), len(second) + len(pause)


def _pause(rng: np.random.Generator) -> Wave:
    return np.zeros(int(rng.uniform(0, PAUSE) * SAMPLE_RATE), np.float32)


def _as_loud(samples: Wave, like: Wave) -> Wave:
    """With the root mean square of another clip; silence stays silence."""
    own, wanted = (float(np.sqrt(np.mean(np.square(one, dtype=np.float64)))) for one in (samples, like))
    return samples * np.float32(wanted / own) if own > 0 else samples
