"""Prediction of many recordings: stored results are reused, the rest is predicted and stored batch by batch.

The clips that share a batch depend only on their positions among the inputs, never on other batches or interruptions:
the last bits of a result depend on the other clips of its batch.
"""

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias, TypeVar

from emimic import batching, progress
from emimic.inference.journal import Journal, Stamp, stamp
from emimic.inference.recording import Recording
from emimic.inference.results import Failure, Outcome, Result, Sentence, Speech, Timeline
from emimic.prediction import Prediction

GROUP: Final = 64
"""Files that are decoded, predicted and stored together: enough to fill batches of similar length, few to lose."""

_LOG: Final = logging.getLogger("emimic.predict")

Predicted = TypeVar("Predicted", Result, Timeline)
Batches: TypeAlias = Generator[list[tuple[int, Predicted | Failure]], None, None]
"""Batches of (row, result or timeline) as they are finished; row: the position among the inputs."""


class Backend(Protocol):
    """Where recordings are predicted. Both methods yield each row once, in any order."""

    def predict_clips(self, groups: Sequence[Sequence[tuple[int, Recording]]]) -> Batches[Result]:
        """Yield the results of (row, recording) in groups."""
        ...

    def predict_timelines(
        self, results: Sequence[tuple[int, Result]], on_progress: Callable[[float], object]
    ) -> Batches[Timeline]:
        """Yield the timelines of (row, result). on_progress: may be called with the seconds done of the next one."""
        ...


@dataclass(slots=True)
class Tally:
    """Counts of a run.

    Attributes:
        predicted: Results computed in this run.
        resumed: Results taken from the journal.
        audio: Seconds of audio predicted in this run.
        wall: Seconds that the run took.
    """

    predicted: int = 0
    resumed: int = 0
    audio: float = 0.0
    wall: float = 0.0

    def summarize(self, failed: int) -> str:
        """Return one line for the user: the counts, and the speed."""
        text = f"{self.predicted + self.resumed} predicted"
        if self.resumed:
            text += f" ({self.resumed} of them from the journal)"
        text += f", {failed} failed"
        if self.predicted:
            clips, seconds = self.predicted / self.wall, self.audio / self.wall
            text += f"; {_format_rate(clips, 1)} clips/s, {_format_rate(seconds, 0)} x real time"
        return text


def _format_rate(value: float, digits: int) -> str:
    """Return a number with its decimals, a small one with two significant digits: never 0 for a positive number."""
    return f"{value:.{digits}f}" if value >= 10 ** (1 - digits) else f"{value:.2g}"


def predict_files(
    backend: Backend,
    inputs: Sequence[Recording | Failure],
    *,
    timeline: bool,
    max_seconds: float,
    journal: Journal | None = None,
    slim: bool = False,
    show_progress: bool = False,
) -> tuple[list[Outcome], Tally]:
    """Predict recordings, and return their outcomes in the order of the inputs.

    Args:
        backend: Where they are predicted.
        inputs: Recordings; failures are passed on.
        timeline: Also predict each recording over time.
        max_seconds: Clips are cut at this length.
        journal: Gives earlier results and stores new ones.
        slim: Drop the V/A/D frames, see `reduce_frames`.
        show_progress: Show a bar.
    """
    start, tally = time.perf_counter(), Tally()
    marks = [
        None if journal is None or isinstance(recording, Failure) else stamp(recording)
        for recording in inputs
    ]
    outcomes: dict[int, Outcome] = {}
    for row, recording in enumerate(inputs):
        if isinstance(recording, Failure):
            outcomes[row] = recording
        elif journal is not None and (stored := journal.get_clip(marks[row], recording)) is not None:
            outcomes[row] = stored
    new = set(range(len(inputs))) - set(outcomes)
    _add_clips(backend, inputs, marks, outcomes, journal, slim=slim, show_progress=show_progress)
    if timeline:
        new |= _add_timelines(backend, marks, outcomes, journal, show_progress=show_progress)
    for row, outcome in outcomes.items():
        if isinstance(outcome, Result):
            tally.predicted += row in new
            tally.resumed += row not in new
            tally.audio += (outcome.seconds if timeline else min(outcome.seconds, max_seconds)) * (row in new)
    tally.wall = time.perf_counter() - start
    for outcome in outcomes.values():
        if isinstance(outcome, Failure):
            _LOG.warning("%s", outcome.reason)
        else:
            _LOG.debug("%s: %.2f s of sound", outcome.path, outcome.seconds)
    _LOG.info("%s", tally.summarize(sum(isinstance(outcome, Failure) for outcome in outcomes.values())))
    return [outcomes[row] for row in range(len(inputs))], tally


def _add_clips(
    backend: Backend,
    inputs: Sequence[Recording | Failure],
    marks: Sequence[Stamp | None],
    outcomes: dict[int, Outcome],
    journal: Journal | None,
    *,
    slim: bool,
    show_progress: bool,
) -> None:
    """Predict the rows that `outcomes` doesn't hold yet."""
    groups = [
        [(row, path) for row in rows if row not in outcomes and not isinstance(path := inputs[row], Failure)]
        for rows in batching.split(range(len(inputs)), GROUP)
    ]
    batches = backend.predict_clips([group for group in groups if group])
    with closing(batches), progress.make_counting_bar(unit="clips/s", show=show_progress) as bar:
        task = bar.add_task("predicting", total=len(inputs), completed=len(outcomes))
        for batch in batches:
            for row, outcome in batch:
                outcomes[row] = reduce_frames(outcome) if slim and isinstance(outcome, Result) else outcome
            if journal is not None:
                results = [(marks[row], outcomes[row]) for row, _ in batch]
                journal.add_clips(
                    [(mark, result) for mark, result in results if mark and isinstance(result, Result)]
                )
            bar.update(task, advance=len(batch))


def _add_timelines(
    backend: Backend,
    marks: Sequence[Stamp | None],
    outcomes: dict[int, Outcome],
    journal: Journal | None,
    *,
    show_progress: bool,
) -> set[int]:
    """Add timelines to the results in `outcomes`; return the rows that had to be predicted."""
    missing: dict[int, Result] = {}
    for row, outcome in outcomes.items():
        if isinstance(outcome, Result):
            line = None if journal is None else journal.get_timeline(marks[row])
            if line is None:
                missing[row] = outcome
            else:
                outcomes[row] = replace(outcome, timeline=line)
    done = 0.0
    batches = backend.predict_timelines(
        sorted(missing.items()), lambda seconds: bar.update(task, completed=done + seconds)
    )
    with closing(batches), progress.make_counting_bar(unit="x real time", show=show_progress) as bar:
        task = bar.add_task("timelines, s", total=sum(result.seconds for result in missing.values()))
        for batch in batches:
            for row, timeline in batch:
                outcomes[row] = (
                    timeline if isinstance(timeline, Failure) else replace(missing[row], timeline=timeline)
                )
                done += missing[row].seconds
            if journal is not None:
                lines = [(marks[row], line) for row, line in batch]
                journal.add_timelines(
                    [(mark, line) for mark, line in lines if mark and isinstance(line, Timeline)]
                )
            bar.update(task, completed=done)
    return set(missing)


def add_sentences(
    predict: Callable[[Recording, Callable[[float], object]], tuple[Speech, tuple[Sentence, ...]] | Failure],
    outcomes: Sequence[Outcome],
    *,
    key: str,
    journal: Journal | None = None,
    show_progress: bool = False,
) -> list[Outcome]:
    """Return outcomes with the words and sentences of each result.

    Args:
        predict: Predicts the sentences of a recording; it may call the function with the seconds done.
        outcomes: Of `predict_files`.
        key: Changes with what decides on words.
        journal: Gives earlier sentences and stores new ones.
        show_progress: Show a bar.
    """
    completed: list[Outcome] = []
    total = sum(outcome.seconds for outcome in outcomes if isinstance(outcome, Result))
    done = 0.0
    with progress.make_counting_bar(unit="x real time", show=show_progress) as bar:
        task = bar.add_task("sentences, s", total=total)

        def update(seconds: float) -> None:
            bar.update(task, completed=done + seconds)

        for outcome in outcomes:
            if isinstance(outcome, Failure):
                completed.append(outcome)
                continue
            mark = None if journal is None else stamp(outcome.recording)
            stored = None if journal is None else journal.get_sentences(mark, key)
            predicted = predict(outcome.recording, update) if stored is None else stored
            if isinstance(predicted, Failure):
                completed.append(predicted)
            else:
                if journal is not None and mark is not None and stored is None:
                    journal.add_sentences(mark, key, *predicted)
                completed.append(replace(outcome, speech=predicted[0], sentences=predicted[1]))
            done += outcome.seconds
            update(0.0)
    return completed


def reduce_frames(result: Result) -> Result:
    """Return the result with one V/A/D frame, the mean of all, at the center of the clip.

    Tables and files show the same values, in a hundredth of the memory.
    """
    prediction = result.prediction
    center = (prediction.times[:1] + prediction.times[-1:]) / 2
    vad = None if prediction.vad is None else prediction.vad.mean(axis=0, keepdims=True)
    return replace(
        result, prediction=Prediction(prediction.intensities, vad, center, novelty=prediction.novelty)
    )
