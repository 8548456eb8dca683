"""The second half of prediction: recordings that were decoded before, with a failure in place of a broken one."""

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
    """Decodes recordings, and predicts what it decoded; both may run in different threads.

    Attributes:
        engine: The model.
        reader: Decodes and prepares.
        targets: Names of the intensities.
    """

    def __init__(self, engine: Engine, reader: ClipReader) -> None:
        self.engine = engine
        self.reader = reader
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
            clip if isinstance(clip, Failure) else self.make_result(recording, clip, next(results))
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
        try:
            return compute_timeline(
                self.engine,
                _read_blocks(recording, file, []),
                options,
                name=path.stem if number is None else f"{path.stem} channel {number}",
                batch_seconds=batch_seconds,
                on_progress=on_progress,
            )
        except AudioError as error:  # removed or changed since
            return Failure(path, str(error))

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

        try:
            return self.find_sentences(
                name_words(path, number),
                lambda notes: _read_blocks(recording, None, notes),
                [],
                batch_seconds,
                on_progress=on_progress,
            )
        except AudioError as error:
            return Failure(path, str(error))

    def find_sentences(
        self, path: Path, read: Reader, notes: list[str], batch_seconds: float, **options: Any
    ) -> tuple[Speech, tuple[Sentence, ...]]:
        """Find the words of a recording, and predict each sentence.

        Args:
            path: Of the recording; its stem names the transcript.
            read: Reads the recording, which is read twice.
            notes: Receives the remarks.
            batch_seconds: Maximum seconds of audio per forward pass.
            options: Of `predict_sentences`.

        Raises:
            AudioError: The recording can't be used, or has no words with times.
            ModelError: The model takes no voice.
            SettingsError: There is no source of words.
        """
        self.check_audio()

        def prepare(sound: NDArray[np.float32], text: str) -> NDArray[np.float32] | Inputs:
            return self.reader.add_words(self.engine.spec.clip_format.prepare(sound).samples, text)

        speech = find_words(self.reader.words, path, read)
        assert speech.words is not None
        sentences = predict_sentences(
            self.engine, read(notes), speech.words, prepare=prepare, batch_seconds=batch_seconds, **options
        )
        return speech, sentences

    def check_audio(self) -> None:
        """Raise ModelError for a model without audio, which has nothing to predict over time from a voice."""
        if not self.engine.spec.audio:
            raise ModelError(
                "this model takes no voice, and timelines, sentences and streams are of the voice: predict its "
                "recordings as clips"
            )

    def make_result(self, recording: Recording, decoded: DecodedClip, prediction: Prediction) -> Result:
        """Return the result of a decoded recording; silence gives NaN."""
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


def _read_blocks(recording: Recording, file: Path | None, notes: list[str]) -> Iterator[NDArray[np.float32]]:
    """Yield a recording in blocks, (sample,) each. file: where it lies, if its path is only a name."""
    path, number = split_recording(recording)
    return decode.load_blocks(
        file or read_content(path),
        seconds=BLOCK,
        name=os.fspath(path),
        channel=number and number - 1,
        notes=notes,
    )
