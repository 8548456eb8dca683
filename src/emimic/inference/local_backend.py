"""Predictions of many recordings in this process."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from emimic import batching
from emimic.inference import batch
from emimic.inference.decoded import DecodedPredictor
from emimic.inference.grid import TimelineOptions
from emimic.inference.recording import Recording
from emimic.inference.results import Result
from emimic.inference.timeline import Timeline


@dataclass(frozen=True, slots=True)
class LocalBackend:
    """A `batch.Backend` in this process, where `workers` threads decode ahead.

    Attributes:
        predictor: Of the clips.
        options: Of timelines.
        batch_seconds: Maximum seconds of audio per forward pass.
        workers: Threads that decode.
    """

    predictor: DecodedPredictor
    options: TimelineOptions
    batch_seconds: float
    workers: int

    def predict_clips(self, groups: Sequence[Sequence[tuple[int, Recording]]]) -> batch.Batches[Result]:
        """Yield results, see `batch.Backend.predict_clips`."""
        files = [[path for _, path in group] for group in groups]
        reading = batching.read_groups(self.predictor.read, files, workers=self.workers, in_order=False)
        with closing(reading) as batches:
            for number, decoded in batches:
                outcomes = self.predictor.predict_decoded(
                    files[number], decoded, batch_seconds=self.batch_seconds
                )
                yield [(row, outcome) for (row, _), outcome in zip(groups[number], outcomes, strict=True)]

    def predict_timelines(
        self, results: Sequence[tuple[int, Result]], on_progress: Callable[[float], object]
    ) -> batch.Batches[Timeline]:
        """Yield timelines, see `batch.Backend.predict_timelines`."""
        for row, result in results:
            line = self.predictor.predict_decoded_timeline(
                result.recording,
                options=self.options,
                batch_seconds=self.batch_seconds,
                on_progress=on_progress,
            )
            yield [(row, line)]
