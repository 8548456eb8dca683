"""Training clips of other lengths, and mixtures of corpora: cropped, repeated, or joined with a second clip.

The change of a clip depends on the run's seed, the epoch and the clip alone. Its labels are known before anything is
decoded.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from emimic.data.augment import TimeMap
from emimic.data.items import Item
from emimic.task import SAMPLE_RATE

Wave = NDArray[np.float32]
Load = Callable[[Item], Wave]

SHORTEST: Final = 0.5
"""Minimum length of a crop in seconds."""
PAUSE: Final = 0.4
"""Maximum silence between two clips in seconds."""
BELOW: Final = 15.0
"""Maximum decibels by which a clip mixed into another is quieter."""

_LENGTHS, _MIXTURES = 1, 2  # seeds, so that neither change alters the draws of the other


@dataclass(frozen=True)
class Joins:
    """Changes to whole clips.

    Attributes:
        seed: seed of the run.
        max_seconds: maximum length of a joined clip.
        lengths: fraction of clips that are cropped, repeated, or joined with another one of the same corpus, class and
            speaker.
        mixed: fraction of the clips outside `corpora` that are joined with one of `partners`.
        corpora: names of the corpora of `partners`.
        partners: second clips of mixtures.
        alike: corpus, speaker and class -> the clips that may be joined with each other.
    """

    seed: int
    max_seconds: float
    lengths: float = 0.0
    mixed: float = 0.0
    corpora: Sequence[str] = ()
    partners: Sequence[Item] = ()
    alike: dict[tuple[object, ...], list[Item]] = field(default_factory=dict)

    @classmethod
    def from_items(
        cls,
        items: Sequence[Item],
        *,
        seed: int,
        max_seconds: float,
        lengths: float = 0.0,
        mixed: float = 0.0,
        corpora: Sequence[str] = (),
    ) -> "Joins":
        """Set up the changes for training clips."""
        alike: dict[tuple[object, ...], list[Item]] = {}
        for item in items if lengths else ():
            alike.setdefault(_get_kind(item), []).append(item)
        partners = [item for item in items if item.corpus in corpora] if mixed else []
        return cls(seed, max_seconds, lengths, mixed, corpora, partners, alike)

    def label(self, item: Item, epoch: int) -> Item:
        """Return a clip with its labels in an epoch, counted from 0.

        In a mixture, labels above 0 and unknown ones stay. A label of 0 becomes the larger of the two clips' labels, or
        unknown. V/A/D, class, order and domain are unknown.
        """
        second = self._choose_partner(item, self._seed(item, epoch, _MIXTURES))
        if second is None:
            return item
        labels = item.labels
        if labels is not None:
            other = np.full_like(labels, np.nan) if second.labels is None else second.labels
            labels = np.where(labels > 0, labels, np.maximum(labels, other)).astype(np.float32)
        return replace(item, labels=labels, vad=None, category=None, domain=None, columns={})

    def apply(self, samples: Wave, item: Item, epoch: int, load: Load) -> tuple[Wave, TimeMap]:
        """Return a clip as it is in an epoch, and the position of the recording in it.

        Args:
            samples: (sample,) of the clip at 16 kHz.
            item: the clip.
            epoch: counted from 0.
            load: returns the samples of another clip.
        """
        start = 0
        rng = self._seed(item, epoch, _LENGTHS)
        if rng.random() < self.lengths:
            samples, start = self._change_length(samples, item, rng, load)
        rng = self._seed(item, epoch, _MIXTURES)
        if (second := self._choose_partner(item, rng)) is not None:
            samples, later = _mix(samples, load(second), self._max_samples, rng)
            start += later
        return samples, TimeMap(start / SAMPLE_RATE)

    @property
    def _max_samples(self) -> int:
        """Maximum length of a joined clip in samples."""
        return round(self.max_seconds * SAMPLE_RATE)

    def _seed(self, item: Item, epoch: int, change: int) -> np.random.Generator:
        """Return the generator of a change to a clip in an epoch."""
        return np.random.default_rng(
            (self.seed, epoch, zlib.crc32(item.key.encode(errors="surrogateescape")), change)
        )

    def _choose_partner(self, item: Item, rng: np.random.Generator) -> Item | None:
        """Return the second clip of a mixture; None when the clip becomes none."""
        if not self.partners or item.corpus in self.corpora:
            return None
        return self.partners[int(rng.integers(len(self.partners)))] if rng.random() < self.mixed else None

    def _change_length(
        self, samples: Wave, item: Item, rng: np.random.Generator, load: Load
    ) -> tuple[Wave, int]:
        """Return a clip cropped, repeated or joined, and the sample at which it begins there."""
        kind = ("crop", "crop", "repeat", "join")[rng.integers(4)]
        if kind == "crop":
            shortest = min(len(samples), round(SHORTEST * SAMPLE_RATE))
            length = int(rng.integers(shortest, len(samples) + 1))
            first = int(rng.integers(len(samples) - length + 1))
            return samples[first : first + length], -first
        alike = self.alike.get(_get_kind(item), ()) if item.speaker else ()
        others = [other for other in alike if other.key != item.key]
        if kind == "join" and others:
            second = load(others[rng.integers(len(others))])
            return _join(samples, second, self._max_samples, rng, "after" if rng.random() < 0.5 else "before")
        size = int(rng.integers(len(samples), max(len(samples), self._max_samples) + 1))
        parts, length = [samples], len(samples)
        while length < size:
            parts += [_draw_pause(rng), samples]
            length += len(parts[-2]) + len(samples)
        return np.concatenate(parts)[:size], 0


def _get_kind(item: Item) -> tuple[object, ...]:
    """Return what is equal for clips that may be joined: corpus, speaker and class, or labels without a class."""
    kinds: tuple[object, ...] = (item.category, *item.columns.items())
    if item.category is None and not any(item.columns.values()):
        kinds = tuple(b"" if values is None else values.tobytes() for values in (item.labels, item.vad))
    return item.corpus, item.speaker, kinds


def _mix(samples: Wave, second: Wave, max_samples: int, rng: np.random.Generator) -> tuple[Wave, int]:
    """Return a clip with a second one before it, after it or mixed into it, and the sample at which it begins."""
    position = ("before", "after", "over")[rng.integers(3)]
    room = max_samples - len(samples) - round(PAUSE * SAMPLE_RATE)
    if position != "over" and room >= SHORTEST * SAMPLE_RATE:
        return _join(samples, second, max_samples, rng, "before" if position == "before" else "after")
    second = _match_level(second, samples) * np.float32(10 ** (-rng.uniform(0, BELOW) / 20))
    if len(second) > len(samples):
        first = int(rng.integers(len(second) - len(samples) + 1))
        second = second[first : first + len(samples)]
    mixed = samples.copy()
    first = int(rng.integers(len(samples) - len(second) + 1))
    mixed[first : first + len(second)] += second
    return mixed, 0


def _join(
    samples: Wave,
    second: Wave,
    max_samples: int,
    rng: np.random.Generator,
    position: Literal["before", "after"],
) -> tuple[Wave, int]:
    """Return a clip with a second one of its level before or after it, and the sample at which it begins.

    Only the second clip is cut: its end when it comes after, its beginning when it comes before.
    """
    pause = _draw_pause(rng)
    room = max(0, max_samples - len(samples) - len(pause))
    second = _match_level(second, samples)
    if position == "after":
        return np.concatenate([samples, pause, second[:room]]), 0
    second = second[max(0, len(second) - room) :]
    pause = pause if len(second) else pause[:0]
    return np.concatenate([second, pause, samples]), len(second) + len(pause)


def _draw_pause(rng: np.random.Generator) -> Wave:
    """Return silence of a random length."""
    return np.zeros(int(rng.uniform(0, PAUSE) * SAMPLE_RATE), np.float32)


def _match_level(samples: Wave, like: Wave) -> Wave:
    """Return samples with the root mean square of another clip; silence stays silence."""
    level, wanted = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (samples, like))
    return samples * np.float32(wanted / level) if level > 0 else samples
