"""Many recordings: what is known already is taken, the rest is heard batch by batch and kept as it comes.

Which clips are heard together depends on their places among the inputs alone, and not on what other batches cost or
whether a run was killed between them: company moves a result's last bits.
"""

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias, TypeVar

from emimic import batching
from emimic import progress as bars
from emimic.inference.journal import Journal, Stamp, stamp
from emimic.inference.results import Failure, Recording, Result, Timeline
from emimic.prediction import Prediction

GROUP: Final = 64
"""Files that are read, heard and kept together: enough to fill batches of similar length, little to lose or to hold."""

_LOG: Final = logging.getLogger("emimic.predict")

Told = Result | Failure
Kind = TypeVar("Kind", Result, Timeline)
Batches: TypeAlias = Generator[list[tuple[int, Kind | Failure]], None, None]
"""Results or curves with their places among the inputs, as they come."""


class Hearer(Protocol):
    """Where recordings are heard. Both ways give each place its result, group by group in any order."""

    def clips(self, groups: Sequence[Sequence[tuple[int, Recording]]]) -> Batches[Result]:
        """(place, recording) in groups -> the same places with their results."""
        ...

    def curves(
        self, results: Sequence[tuple[int, Result]], heard: Callable[[float], object]
    ) -> Batches[Timeline]:
        """(place, result) -> the places with their curves. heard: may be told how many seconds of the next are done."""
        ...


@dataclass(slots=True)
class Tally:
    """What a run did: results heard in it and kept from before, the seconds of audio it heard, and how long it took."""

    heard: int = 0
    kept: int = 0
    audio: float = 0.0
    wall: float = 0.0

    def line(self, failed: int) -> str:
        """For the user: what became of the files, and how fast."""
        told = f"{self.heard + self.kept} heard"
        if self.kept:
            told += f" ({self.kept} of them kept from before)"
        told += f", {failed} failed"
        if self.heard:
            clips, seconds = self.heard / self.wall, self.audio / self.wall
            told += f"; {_rate(clips, 1)} clips/s, {_rate(seconds, 0)} x real time"
        return told


def _rate(value: float, digits: int) -> str:
    """Return a number with its decimals, a small one with two significant digits: never 0 for what is above it."""
    return f"{value:.{digits}f}" if value >= 10 ** (1 - digits) else f"{value:.2g}"


def hear(
    hearer: Hearer,
    found: Sequence[Recording | Failure],
    *,
    curves: bool,
    max_seconds: float,
    journal: Journal | None = None,
    slim: bool = False,
    progress: bool = False,
) -> tuple[list[Told], Tally]:
    """What became of each file, in the order of `found`.

    curves: with curves over whole recordings. max_seconds: what a clip is cut at. journal: knows what was heard before,
    and is told what is heard. slim: keep no VAD frames, see `slimmed`.
    """
    start, tally = time.perf_counter(), Tally()
    marks = [None if journal is None or isinstance(path, Failure) else stamp(path) for path in found]
    told: dict[int, Told] = {}
    for row, path in enumerate(found):
        if isinstance(path, Failure):
            told[row] = path
        elif journal is not None and (known := journal.clip(marks[row], path)) is not None:
            told[row] = known
    new = set(range(len(found))) - set(told)
    _hear_clips(hearer, found, marks, told, journal, slim=slim, progress=progress)
    if curves:
        new |= _hear_curves(hearer, marks, told, journal, progress=progress)
    for row, one in told.items():
        if isinstance(one, Result):
            tally.heard += row in new
            tally.kept += row not in new
            tally.audio += (one.seconds if curves else min(one.seconds, max_seconds)) * (row in new)
    tally.wall = time.perf_counter() - start
    for one in told.values():
        if isinstance(one, Failure):
            _LOG.warning("%s", one.reason)
        else:
            _LOG.debug("%s: %.2f s of sound", one.path, one.seconds)
    _LOG.info("%s", tally.line(sum(isinstance(one, Failure) for one in told.values())))
    return [told[row] for row in range(len(found))], tally


def _hear_clips(
    hearer: Hearer,
    found: Sequence[Recording | Failure],
    marks: Sequence[Stamp | None],
    told: dict[int, Told],
    journal: Journal | None,
    *,
    slim: bool,
    progress: bool,
) -> None:
    """Fills `told` with the rows it lacks."""
    groups = [
        [(row, path) for row in rows if row not in told and not isinstance(path := found[row], Failure)]
        for rows in batching.chunks(len(found), GROUP)
    ]
    batches = hearer.clips([group for group in groups if group])
    with closing(batches), bars.counted(unit="clips/s", show=progress) as bar:
        task = bar.add_task("hearing", total=len(found), completed=len(told))
        for batch in batches:
            for row, one in batch:
                told[row] = slimmed(one) if slim and isinstance(one, Result) else one
            if journal is not None:
                kept = [(marks[row], told[row]) for row, _ in batch]
                journal.add_clips([(mark, one) for mark, one in kept if mark and isinstance(one, Result)])
            bar.update(task, advance=len(batch))


def _hear_curves(
    hearer: Hearer,
    marks: Sequence[Stamp | None],
    told: dict[int, Told],
    journal: Journal | None,
    *,
    progress: bool,
) -> set[int]:
    """Gives the results in `told` their curves; which rows had to be heard for it."""
    missing: dict[int, Result] = {}
    for row, one in told.items():
        if isinstance(one, Result):
            line = None if journal is None else journal.curves(marks[row])
            if line is None:
                missing[row] = one
            else:
                told[row] = replace(one, timeline=line)
    done = 0.0
    batches = hearer.curves(
        sorted(missing.items()), lambda seconds: bar.update(task, completed=done + seconds)
    )
    with closing(batches), bars.counted(unit="x real time", show=progress) as bar:
        task = bar.add_task("curves, s", total=sum(one.seconds for one in missing.values()))
        for batch in batches:
            for row, got in batch:
                told[row] = got if isinstance(got, Failure) else replace(missing[row], timeline=got)
                done += missing[row].seconds
            if journal is not None:
                lines = [(marks[row], got) for row, got in batch]
                journal.add_curves([(mark, got) for mark, got in lines if mark and isinstance(got, Timeline)])
            bar.update(task, completed=done)
    return set(missing)


def slimmed(result: Result) -> Result:
    """The result with one frame, the mean of all, in the middle of what was heard: what tables and files show of a
    clip, in a hundredth of the memory."""
    one = result.prediction
    middle = (one.times[:1] + one.times[-1:]) / 2
    vad = None if one.vad is None else one.vad.mean(axis=0, keepdims=True)
    return replace(result, prediction=Prediction(one.intensities, vad, middle, novelty=one.novelty))
