"""Predictions of recordings that threads or other processes have decoded before; a failure is passed on."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.calibration import Calibration, Intervals
from emimic.inference.clip_reader import ClipReader, DecodedClip, name_words
from emimic.inference.engine import Engine
from emimic.inference.grid import TimelineOptions
from emimic.inference.inputs import read_content
from emimic.inference.recording import Recording, split_recording
from emimic.inference.results import Failure, Outcome, Result
from emimic.inference.sentences import Reader, Sentence, find_words, predict_sentences
from emimic.inference.stream import compute_timeline
from emimic.inference.timeline import Timeline
from emimic.inference.words import Speech
from emimic.media import decode
from emimic.model.inputs import Inputs
from emimic.prediction import Prediction
from emimic.task import AudioError, ModelError

BLOCK: Final = 10.0
"""Seconds of a long recording held at a time."""


class DecodedPredictor:
    """Reads recordings, and predicts what it read.

    Attributes:
        engine: The model.
        targets: Its intensities.
        reader: Of recordings for this model.
    """

    def __init__(self, engine: Engine, reader: ClipReader) -> None:
        self.engine, self.reader = engine, reader
        self.targets = engine.spec.targets

    @property
    def intervals(self) -> Intervals | None:
        """The model's prediction intervals, None without any."""
        calibration: Calibration | None = getattr(self.engine, "calibration", None)
        return None if calibration is None else calibration.intervals

    def read(self, recording: Recording, file: Path | None = None) -> DecodedClip | Failure:
        """Decode a recording for `predict_decoded`, see `ClipReader.read`."""
        return self.reader.read(recording, file)

    def predict_decoded(
        self,
        recordings: Sequence[Recording],
        decoded: Sequence[DecodedClip | Failure],
        *,
        batch_seconds: float,
    ) -> list[Outcome]:
        """Predict what `read` gave for these recordings; failures are passed on.

        Raises:
            ModelError: The model predicts NaN.
        """
        clips = [self.reader.make_input(clip) for clip in decoded if isinstance(clip, DecodedClip)]
        results = iter(self.engine.predict(clips, batch_seconds=batch_seconds) if clips else [])
        return [
            clip if isinstance(clip, Failure) else self._make_result(recording, clip, next(results))
            for recording, clip in zip(recordings, decoded, strict=True)
        ]

    def predict_decoded_timeline(
        self,
        recording: Recording,
        file: Path | None = None,
        *,
        options: TimelineOptions,
        batch_seconds: float,
        on_progress: Callable[[float], object] = lambda seconds: None,
    ) -> Timeline | Failure:
        """Predict over time a recording that `read` has decoded before, which gave the remarks about it.

        Args:
            recording: As in `read`.
            file: As in `read`.
            options: Of the timeline.
            batch_seconds: Maximum seconds of audio per forward pass.
            on_progress: Called after each block with the seconds done.
        """
        path, number = split_recording(recording)
        channel = number and number - 1
        try:
            return compute_timeline(
                self.engine,
                decode.load_blocks(
                    file or read_content(path),
                    seconds=BLOCK,
                    name=os.fspath(path),
                    channel=channel,
                    notes=[],
                ),
                options,
                name=path.stem if number is None else f"{path.stem} channel {number}",
                batch_seconds=batch_seconds,
                on_progress=on_progress,
            )
        except AudioError as error:  # removed or changed since
            return Failure(path, str(error))

    def _make_result(self, recording: Recording, decoded: DecodedClip, prediction: Prediction) -> Result:
        clip, (path, number) = decoded.clip, split_recording(recording)
        if decoded.silent:
            vad = None if prediction.vad is None else np.full_like(prediction.vad, np.nan)
            prediction = Prediction(np.full_like(prediction.intensities, np.nan), vad, prediction.times)
        return Result(
            path,
            self.targets,
            clip.seconds,
            clip.was_cut,
            clip.was_padded,
            prediction,
            was_silent=decoded.silent,
            channel=number,
            notes=decoded.notes,
            speech=decoded.speech,
            intervals=self.intervals,
        )

    def predict_decoded_sentences(
        self,
        recording: Recording,
        *,
        batch_seconds: float,
        on_progress: Callable[[float], object] = lambda seconds: None,
    ) -> tuple[Speech, tuple[Sentence, ...]] | Failure:
        """Find the words of a recording that `read` has decoded before, and predict each sentence.

        Args:
            recording: As in `read`.
            batch_seconds: Maximum seconds of audio per forward pass.
            on_progress: Called with the seconds done.
        """
        path, number = split_recording(recording)

        def read(remarks: list[str]) -> Iterator[NDArray[np.float32]]:
            return decode.load_blocks(
                read_content(path),
                seconds=BLOCK,
                name=os.fspath(path),
                channel=number and number - 1,
                notes=remarks,
            )

        try:
            name = name_words(path, number)
            return self._find_sentences(name, read, [], batch_seconds, on_progress=on_progress)
        except AudioError as error:
            return Failure(path, str(error))

    def _find_sentences(
        self, path: Path, read: Reader, notes: list[str], batch_seconds: float, **options: Any
    ) -> tuple[Speech, tuple[Sentence, ...]]:
        self._check_audio()

        def prepare(sound: NDArray[np.float32], text: str) -> NDArray[np.float32] | Inputs:
            return self.reader.add_words(self.engine.spec.clip_format.prepare(sound).samples, text)

        speech = find_words(self.reader.words, path, read)
        assert speech.words is not None
        sentences = predict_sentences(
            self.engine, read(notes), speech.words, prepare=prepare, batch_seconds=batch_seconds, **options
        )
        return speech, sentences

    def _check_audio(self) -> None:
        """Raise ModelError for a model without audio, which has nothing to predict over time from a voice."""
        if not self.engine.spec.audio:
            raise ModelError(
                "this model takes no voice, and timelines, sentences and streams are of the voice: predict its "
                "recordings as clips"
            )
