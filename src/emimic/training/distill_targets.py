"""Targets from a teacher's cached predictions of training clips, at the student's frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic.data.augment import TimeMap
from emimic.data.corpus import Item
from emimic.files import compute_sha256
from emimic.prediction import Prediction
from emimic.task import ModelError
from emimic.training import teacher_cache

Floats = NDArray[np.float32]

MEASURED: Final = 1000
"""Recordings whose hidden states give each feature's mean and std: half a million frames of short clips."""


@dataclass(frozen=True, slots=True)
class FrameTargets:
    """A teacher's predictions of a batch, at the student's frames.

    Attributes:
        mask: (clip, frame), false where the teacher has no prediction.
        vad: (clip, frame, 3), or None without V/A/D.
        hidden: (clip, frame, feature), standardized hidden states, or None without them.
    """

    mask: NDArray[np.bool_]
    vad: Floats | None
    hidden: Floats | None


class TeacherTargets:
    """The cached predictions of one teacher.

    Attributes:
        folder: of the teacher's predictions, see `teacher_cache`.
        teacher: its description.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.teacher = teacher_cache.read_teacher(folder)
        self._file = cache(lambda path: folder / f"{compute_sha256(path)}.npz")
        self._mean = self._std = np.zeros(0, np.float32)

    def has(self, item: Item) -> bool:
        """Return True if the teacher has predicted a recording of the same content."""
        return self._file(item.path).is_file()

    def read(self, item: Item, *, hidden: bool = False) -> Prediction:
        """Return the teacher's prediction, with hidden states if asked for. Raises ModelError without one."""
        return teacher_cache.read(self._file(item.path), hidden=hidden)

    def measure(self, items: Sequence[Item]) -> int:
        """Measure mean and std of each hidden feature on some of the clips; return the number of features."""
        total = square = np.zeros(1)
        count = 0
        for item in items[:: max(1, len(items) // MEASURED)]:
            states = self.read(item, hidden=True).hidden
            if states is None:
                raise ModelError(
                    f"{self.folder} holds no hidden states; run emimic distill, which writes them"
                )
            total = total + states.sum(axis=0, dtype=np.float64)
            square = square + np.square(states, dtype=np.float64).sum(axis=0)
            count += len(states)
        mean = total / count
        std = np.sqrt(np.maximum(square / count - np.square(mean), 0.0))
        self._mean = mean.astype(np.float32)
        self._std = np.maximum(std, 1e-5).astype(np.float32)
        return len(self._mean)

    def align(
        self,
        clips: Sequence[tuple[Item, TimeMap]],
        times: NDArray[np.float64],
        counts: Sequence[int],
        *,
        hidden: bool,
    ) -> FrameTargets:
        """Return a batch's targets at the student's frames.

        Args:
            clips: each with the times of its augmentation.
            times: (frame,), of the student's frames, in seconds of the augmented clip.
            counts: (clip,), real frames of each clip.
            hidden: include hidden states.
        """
        mask = np.zeros((len(clips), len(times)), np.bool_)
        batch: dict[str, Floats] = {}
        for row, ((item, time_map), count) in enumerate(zip(clips, counts, strict=True)):
            prediction = self.read(item, hidden=hidden)
            recorded = time_map.to_recording(times[:count])
            first, last = prediction.times[0], prediction.times[-1]
            # A frame is valid half the way to the next; a single one for its entire clip.
            reach = (prediction.times[1] - first) / 2 if len(prediction.times) > 1 else np.inf
            mask[row, :count] = (recorded >= first - reach) & (recorded <= last + reach)
            for name, values in (("vad", prediction.vad), ("hidden", prediction.hidden)):
                if values is None:
                    continue
                target = interpolate(prediction.times, values, recorded)
                rows = batch.setdefault(name, np.zeros((*mask.shape, target.shape[1]), np.float32))
                rows[row, :count] = target if name == "vad" else (target - self._mean) / self._std
        return FrameTargets(mask, batch.get("vad"), batch.get("hidden"))


def interpolate(times: NDArray[np.float64], values: Floats, at: NDArray[np.float64]) -> Floats:
    """Interpolate linearly; beyond either end, the value there.

    Args:
        times: (frame,), rising.
        values: (frame, feature).
        at: (time,).

    Returns:
        (time, feature).
    """
    position = np.interp(at, times, np.arange(len(times)))
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(times) - 1)
    weight = (position - low).astype(np.float32)[:, None]
    mixed: Floats = values[low] * (1 - weight) + values[high] * weight
    return mixed
