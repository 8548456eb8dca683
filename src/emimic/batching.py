"""Length buckets: grouping clips into batches, padding them, and reading them ahead. NumPy only.

Zero-padding takes memory and harms training (paper section 6.2). Sorted by length, clips of a batch are nearly equal,
and a mask marks the real samples.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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


def plan(lengths: Sequence[int], *, budget: int, equal: bool = False) -> list[list[int]]:
    """Group clips into batches of similar length.

    Args:
        lengths: samples (or frames) of each clip.
        budget: maximum samples of a batch after padding; a longer clip is a batch by itself.
        equal: put only clips of the same length in a batch, for encoders that padding would change.

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


def split_rows(count: int, size: int = CHUNK) -> list[range]:
    """Return the rows 0 to count - 1 as ranges of `size`, the last one possibly shorter."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def read_ahead(
    read: Callable[[Name], Read], groups: Sequence[Sequence[Name]], *, workers: int
) -> Iterator[list[Read]]:
    """Yield each group's items as read by `read` in threads, in order; the next two groups are read meanwhile."""
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[list[Future[Read]]] = deque()
        waiting = iter(groups)
        try:
            while True:
                while len(ahead) < 3 and (group := next(waiting, None)) is not None:
                    ahead.append([pool.submit(read, name) for name in group])
                if not ahead:
                    return
                yield [future.result() for future in ahead.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def read_as_ready(
    read: Callable[[Name], Read], groups: Sequence[Sequence[Name]], *, workers: int
) -> Generator[tuple[int, list[Read]], None, None]:
    """Yield each group, with its number, as soon as it is read: a slow item delays its group alone.

    At most three groups are being read or wait, besides the one that was yielded.
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
                pending = {number: [f for f in futures if not f.done()] for number, futures in ahead.items()}
                ready = next((number for number, futures in pending.items() if not futures), None)
                if ready is None:
                    wait([f for futures in pending.values() for f in futures], return_when=FIRST_COMPLETED)
                else:
                    yield ready, [future.result() for future in ahead.pop(ready)]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
