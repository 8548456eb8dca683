"""Length buckets: which clips share a batch, how they are padded and read ahead (NumPy only; both wings use it).

The paper found zero-padding to cost memory and to harm training (section 6.2): sorted by length, clips that share
a batch are nearly equal, and the mask says which samples are real.
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
"""Clips read together for answers: enough to fill length buckets, little enough for any memory."""

Name = TypeVar("Name")
Read = TypeVar("Read")


def budget(seconds: float, hop: int = 1) -> int:
    """Return the samples (or frames of `hop` samples) that a batch of some seconds holds, at least 1.

    Raises:
        EmimicError: they are no finite number.
    """
    if isinstance(seconds, str) or not math.isfinite(seconds):
        raise EmimicError(
            f"batch_seconds is {seconds!r}, expected seconds of audio. Give a number such as 30"
        )
    return max(1, int(seconds * SAMPLE_RATE / hop))


def plan(lengths: Sequence[int], *, budget: int, equal: bool = False) -> list[list[int]]:
    """Group clips into batches of similar length.

    lengths: samples (or frames) of each clip. budget: the most samples of a batch after padding; a clip longer
    than the budget makes a batch of its own. equal: only clips of exactly one length share a batch, for encoders
    that padding would change. Returns the indices of each batch, longest first, so that memory peaks at once.
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
    """Right-pad with zeros: (sample, ...) each -> (batch, sample, ...) and a mask (batch, sample), true where real."""
    if not clips:
        raise ValueError("a batch needs at least one clip")
    longest = max(len(clip) for clip in clips)
    values = np.zeros((len(clips), longest, *clips[0].shape[1:]), dtype=clips[0].dtype)
    mask = np.zeros((len(clips), longest), dtype=np.bool_)
    for row, clip in enumerate(clips):
        values[row, : len(clip)] = clip
        mask[row, : len(clip)] = True
    return values, mask


def chunks(count: int, size: int = CHUNK) -> list[range]:
    """The rows 0 to count - 1, `size` at a time."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def read_ahead(
    read: Callable[[Name], Read], groups: Sequence[Sequence[Name]], *, workers: int
) -> Iterator[list[Read]]:
    """`read` of every member of each group in turn, in threads, the next two groups being read meanwhile."""
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[list[Future[Read]]] = deque()
        waiting = iter(groups)
        try:
            while True:
                while len(ahead) < 3 and (group := next(waiting, None)) is not None:
                    ahead.append([pool.submit(read, member) for member in group])
                if not ahead:
                    return
                yield [future.result() for future in ahead.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def as_read(
    read: Callable[[Name], Read], groups: Sequence[Sequence[Name]], *, workers: int
) -> Generator[tuple[int, list[Read]], None, None]:
    """As `read_ahead`, but a group comes, with its number, once it is read: a slow member holds up its own group alone.

    At most three groups are being read or wait, besides the one handed out.
    """
    with ThreadPoolExecutor(workers) as pool:
        ahead: dict[int, list[Future[Read]]] = {}
        waiting = iter(enumerate(groups))
        try:
            while True:
                while len(ahead) < 3 and (group := next(waiting, None)) is not None:
                    ahead[group[0]] = [pool.submit(read, member) for member in group[1]]
                if not ahead:
                    return
                open_ones = {number: [f for f in own if not f.done()] for number, own in ahead.items()}
                ready = next((number for number, own in open_ones.items() if not own), None)
                if ready is None:
                    wait(
                        [future for own in open_ones.values() for future in own], return_when=FIRST_COMPLETED
                    )
                else:
                    yield ready, [future.result() for future in ahead.pop(ready)]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
