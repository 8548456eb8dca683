"""Length buckets: grouping clips into batches, padding them, and reading them ahead. NumPy only.

Zero-padding takes memory and harms training (paper section 6.2). Sorted by length, clips of a batch are nearly equal,
and a mask marks the real samples.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from emimic.task import SAMPLE_RATE, EmimicError

CHUNK = 128
"""Clips read together for prediction: enough to fill length buckets, few enough for any memory."""

Name = TypeVar("Name")
Read = TypeVar("Read")


def compute_budget(seconds: float, hop: int = 1) -> int:
    """Return the samples (or frames of `hop` samples) in a batch of `seconds`, at least 1.

    Raises:
        EmimicError: `seconds` is no finite number.
    """
    if isinstance(seconds, str) or not math.isfinite(seconds):
        raise EmimicError(
            f"batch_seconds is {seconds!r}, expected seconds of audio. Give a number such as 30"
        )
    return max(1, int(seconds * SAMPLE_RATE / hop))


def plan(
    lengths: Sequence[int],
    *,
    budget: int,
    equal: bool = False,
    costs: Sequence[int] = (),
    limit: int = 0,
) -> list[list[int]]:
    """Group clips into batches of similar length.

    Args:
        lengths: samples (or frames) of each clip.
        budget: maximum samples of a batch after padding; a longer clip is a batch by itself.
        equal: put only clips of the same length in a batch, for encoders that padding would change.
        costs: frames of each clip, which aren't padded; none by default.
        limit: maximum frames of a batch; a clip with more is a batch by itself.

    Returns:
        The indices of each batch, longest clips first, so that memory peaks in the first batch.
    """
    if budget < 1:
        raise ValueError(f"the budget of a batch is {budget} samples; it must be at least 1")
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        if batches:
            longest = lengths[batches[-1][0]]
            fits = longest * (len(batches[-1]) + 1) <= budget
            fits = fits and (not costs or sum(costs[row] for row in (*batches[-1], i)) <= limit)
            if fits and (not equal or lengths[i] == longest):
                batches[-1].append(i)
                continue
        batches.append([i])
    return batches


def pad(clips: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pad clips (sample, ...) with zeros at the end.

    Returns:
        The batch (batch, sample, ...), and its mask (batch, sample), True at real samples.
    """
    if not clips:
        raise ValueError("a batch needs at least one clip")
    longest = max(len(clip) for clip in clips)
    values = np.zeros((len(clips), longest, *clips[0].shape[1:]), dtype=clips[0].dtype)
    mask = np.zeros((len(clips), longest), dtype=np.bool_)
    for row, clip in enumerate(clips):
        values[row, : len(clip)] = clip
        mask[row, : len(clip)] = True
    return values, mask


def split(jobs: Sequence[Name], size: int = CHUNK) -> list[Sequence[Name]]:
    """Return jobs in groups of `size`, the last one possibly smaller."""
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def read_groups(
    read: Callable[[Name], Read], groups: Sequence[Sequence[Name]], *, workers: int, in_order: bool = True
) -> Generator[tuple[int, list[Read]], None, None]:
    """Yield each group's number and its items as read by `read` in threads; the next groups are read meanwhile.

    This is the one place that reads ahead. For models of torch `data.loader.read_batches` adds the batches; the
    predictor and the teacher run engines, which make their own, as the base install has no torch.

    Args:
        read: called with each name, in threads.
        groups: names; at most three groups are being read or wait, besides the one that was yielded.
        workers: number of threads.
        in_order: yield groups in order; else as soon as they are read, so that a slow item delays its group alone.
    """
    with ThreadPoolExecutor(workers) as pool:
        ahead: dict[int, list[Future[Read]]] = {}
        waiting = iter(enumerate(groups))
        try:
            while True:
                while len(ahead) < 3 and (group := next(waiting, None)) is not None:
                    ahead[group[0]] = [pool.submit(read, name) for name in group[1]]
                if not ahead:
                    return
                number = min(ahead) if in_order else _wait_for_any(ahead)
                yield number, [future.result() for future in ahead.pop(number)]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _wait_for_any(groups: Mapping[int, Sequence[Future[Any]]]) -> int:
    """Return the number of the first group that is done, once there is one."""
    while True:
        pending = {number: [f for f in futures if not f.done()] for number, futures in groups.items()}
        for number, futures in pending.items():
            if not futures:
                return number
        wait(chain.from_iterable(pending.values()), return_when=FIRST_COMPLETED)
