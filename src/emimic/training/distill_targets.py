"""What a teacher's answers on disk say of training clips, on the student's frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic.data.augment import Clock
from emimic.data.corpus import Item
from emimic.files import sha256
from emimic.prediction import Prediction
from emimic.task import ModelError
from emimic.training import teacher_cache

Floats = NDArray[np.float32]

MEASURED: Final = 1000
"""Recordings whose hidden states give each feature's mean and spread: half a million frames of short clips."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A batch as the teacher heard it, at the student's frames: known (clip, frame), false where it heard nothing;
    vad (clip, frame, 3) and hidden (clip, frame, feature), standardized; None where the teacher has none."""

    known: NDArray[np.bool_]
    vad: Floats | None
    hidden: Floats | None


class Lessons:
    """The answers of one teacher, in `place`: see `answers`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.teacher = teacher_cache.described(place)
        self._file = cache(lambda path: place / f"{sha256(path)}.npz")
        self._centre = self._spread = np.zeros(0, np.float32)

    def knows(self, item: Item) -> bool:
        """Whether the teacher has answered this very recording."""
        return self._file(item.path).is_file()

    def of(self, item: Item, *, hidden: bool = False) -> Prediction:
        """The teacher's answer. Raises ModelError when there is none."""
        return teacher_cache.read(self._file(item.path), hidden=hidden)

    def measure(self, items: Sequence[Item]) -> int:
        """Learn each hidden feature's mean and spread from the answers to some of these; returns how many features."""
        total = square = np.zeros(1)
        count = 0
        for item in items[:: max(1, len(items) // MEASURED)]:
            states = self.of(item, hidden=True).hidden
            if states is None:
                raise ModelError(
                    f"{self.place} holds no hidden states; run emimic distill, which writes them"
                )
            total = total + states.sum(axis=0, dtype=np.float64)
            square = square + np.square(states, dtype=np.float64).sum(axis=0)
            count += len(states)
        center = total / count
        spread = np.sqrt(np.maximum(square / count - np.square(center), 0.0))
        self._centre = center.astype(np.float32)
        self._spread = np.maximum(spread, 1e-5).astype(np.float32)
        return len(self._centre)

    def lesson(
        self,
        heard: Sequence[tuple[Item, Clock]],
        times: NDArray[np.float64],
        counts: Sequence[int],
        *,
        hidden: bool,
    ) -> Lesson:
        """A batch's lesson. heard: clips, and the clock of each as the student hears it. times (frame,): of the
        student's frames, in seconds of the clip. counts: the real frames of each clip. hidden: whether hidden states
        are wanted."""
        known = np.zeros((len(heard), len(times)), np.bool_)
        batch: dict[str, Floats] = {}
        for row, ((item, clock), count) in enumerate(zip(heard, counts, strict=True)):
            answer = self.of(item, hidden=hidden)
            wanted = clock.recorded(times[:count])
            first, last = answer.times[0], answer.times[-1]
            # A frame speaks for half the way to the next; a single one for its whole clip.
            reach = (answer.times[1] - first) / 2 if len(answer.times) > 1 else np.inf
            known[row, :count] = (wanted >= first - reach) & (wanted <= last + reach)
            for name, values in (("vad", answer.vad), ("hidden", answer.hidden)):
                if values is None:
                    continue
                found = between(answer.times, values, wanted)
                place = batch.setdefault(name, np.zeros((*known.shape, found.shape[1]), np.float32))
                place[row, :count] = found if name == "vad" else (found - self._centre) / self._spread
        return Lesson(known, batch.get("vad"), batch.get("hidden"))


def between(times: NDArray[np.float64], values: Floats, wanted: NDArray[np.float64]) -> Floats:
    """values (frame, feature) at rising times (frame,) -> linearly interpolated at wanted times, (time, feature);
    beyond either end, the value there."""
    place = np.interp(wanted, times, np.arange(len(times)))
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, len(times) - 1)
    share = (place - low).astype(np.float32)[:, None]
    mixed: Floats = values[low] * (1 - share) + values[high] * share
    return mixed
