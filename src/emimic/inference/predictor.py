"""The predictor: recordings in, results out, with timelines and streams; a broken file is skipped and reported."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from emimic import progress as bars
from emimic.inference import batch
from emimic.inference.blocks import Source, read_source
from emimic.inference.channels import split_channels
from emimic.inference.clip_reader import ClipReader
from emimic.inference.decoded import BLOCK, DecodedPredictor
from emimic.inference.engine import Engine, find_default_model, open_engine
from emimic.inference.grid import HOP, WINDOW, TimelineOptions
from emimic.inference.hub import is_on_hub
from emimic.inference.inputs import expand
from emimic.inference.local_backend import LocalBackend
from emimic.inference.recording import Recording
from emimic.inference.results import Failure, Result, Results, attach_intervals
from emimic.inference.sentences import Sentence
from emimic.inference.stream import Stream, compute_timeline
from emimic.inference.timeline import Timeline
from emimic.inference.words import WordSource
from emimic.media.source import get_label, is_one, resolve
from emimic.task import SAMPLE_RATE, add_note

_LOG: Final = logging.getLogger("emimic.predict")


class Predictor(DecodedPredictor):
    """A finished model that predicts recordings.

    Threads may share one. It is pickled by its model's path and options; unpickling opens the model again.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Engine | None = None,
        *,
        device: str | None = None,
        threads: int | None = None,
        streams: int = 1,
        words: WordSource | None = None,
        without: Sequence[str] = (),
    ) -> None:
        """Open a model.

        Args:
            model: An exported model or a training run (run by torch), as a folder; an Engine; or None for the model
                in the package.
            device: For a training run, as torch names it; None takes a GPU if there is one.
            threads: None takes all cores.
            streams: Number of batches computed in parallel, see `open_engine`.
            words: Where words of recordings come from, for `sentences` and a model that takes words; None: for the
                latter, the transcriber that its training named.
            without: "text" leaves a model's words out, "vision" its images, so that the rest decides.

        Raises:
            ModelError: The folder can't be used.
            SettingsError: The model has no branch of a name in `without`.
        """
        source, start = find_default_model() if model is None else model, time.perf_counter()
        engine: Engine = (
            open_engine(source, device=device, threads=threads, streams=streams)
            if isinstance(source, str | os.PathLike)
            else source
        )
        super().__init__(engine, ClipReader(engine, words, without))
        stored = _keep_source(model)
        self._options = {
            "model": stored, "device": device, "threads": threads, "streams": streams, "words": words,
            "without": tuple(without),
        }  # fmt: skip
        _LOG.info("opened the model %s in %.2f s", stored or "in the package", time.perf_counter() - start)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options.items() if value)
        return f"Predictor({options})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the model's absolute path (None for the one in the package) and the options.

        Raises:
            TypeError: The predictor was made from an Engine, not from a folder.
        """
        model = self._options["model"]
        if model is not None and not isinstance(model, str | os.PathLike):
            raise TypeError("a Predictor made of an Engine can't be pickled: make it of the model's folder")
        return self._options

    def __setstate__(self, options: dict[str, Any]) -> None:
        """Open the model again.

        Raises:
            ModelError: Its folder can't be used here.
        """
        self.__init__(**options)  # type: ignore[misc]

    def __call__(
        self, source: Source, *, sample_rate: float | None = None, name: str | os.PathLike[str] | None = None
    ) -> Result:
        """Predict one recording. Silence gives NaN.

        Args:
            source: A media file, its bytes, one opened with "rb", or an array (sample,) or (sample, channel),
                floating point in [-1, 1] or int16, int32, uint8.
            sample_rate: Of an array, in Hz.
            name: The result's path; by default the source's own.

        Raises:
            AudioError: The source can't be used.

        Warns:
            EmimicWarning: Each of the result's notes.
        """
        label = Path(get_label(source) if name is None else name)
        start, notes = time.perf_counter(), list[str]()
        source = resolve(source, str(label))
        blocks = read_source(source, self.engine.spec.max_seconds, sample_rate, label, notes)
        images = self.reader.read_images(source, str(label), notes)
        decoded = self.reader.prepare(label, blocks, notes, images)
        result = self._make_result(label, decoded, self.engine.predict([self.reader.make_input(decoded)])[0])
        for note in notes:
            add_note(note, None)
        _LOG.debug("%s: %.2f s of sound in %.3f s", label, result.seconds, time.perf_counter() - start)
        return result

    def predict_files(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        timeline: bool = False,
        channels: bool = False,
        window: float = WINDOW,
        hop: float = HOP,
        exact: bool = False,
        vad_frames: bool = False,
        batch_seconds: float = 30.0,
        workers: int = 2,
        progress: bool = False,
    ) -> Results:
        """Predict files; a broken one is in the results' `failed`, remarks are in each result's `notes`.

        Args:
            paths: Files, folders (their media files, recursively), patterns (`*`, `**`, `?`) and `-`, standard input.
            timeline: Also predict each recording over time, see `predict_timeline`.
            channels: Predict each channel of a recording with several, see `Result.channel`.
            window: Of timelines, see `predict_timeline`.
            hop: Of timelines, see `predict_timeline`.
            exact: Of timelines, see `predict_timeline`.
            vad_frames: Of timelines, see `predict_timeline`.
            batch_seconds: Maximum seconds of audio per forward pass.
            workers: Decoding threads.
            progress: Show a bar.

        Raises:
            ModelError: The model predicts NaN.
            AudioError: An element of `paths` is not a path.
        """
        options = TimelineOptions(window, hop, exact, vad_frames)
        if timeline:
            Stream(self.engine, options)  # reports invalid options before the work
        if self.reader.uses_words:
            _ = self.reader.words  # opened once, before threads use it
        backend = LocalBackend(self, options, batch_seconds, workers)
        inputs: list[Recording | Failure] = []
        files = expand([paths] if is_one(paths) else paths)  # type: ignore[list-item,arg-type]
        inputs += split_channels(list(files)) if channels else files
        outcomes, _ = batch.predict_files(
            backend,
            inputs,
            timeline=timeline,
            max_seconds=self.engine.spec.max_seconds,
            show_progress=progress,
        )
        return Results.from_outcomes(
            self.targets, [attach_intervals(outcome, self.intervals) for outcome in outcomes]
        )

    def predict_timeline(
        self,
        source: Source,
        *,
        window: float = WINDOW,
        hop: float = HOP,
        exact: bool = False,
        vad_frames: bool = False,
        voice_segments: bool = True,
        sample_rate: float | None = None,
        name: str | os.PathLike[str] | None = None,
        seconds: float | None = None,
        batch_seconds: float = 30.0,
        progress: bool = False,
        notes: list[str] | None = None,
    ) -> Timeline:
        """Predict a recording of any length over time, in constant memory.

        Every `hop` seconds the surrounding `window` seconds are predicted, from one pass of the encoder over the
        recording. A model that was exported as one graph, by an earlier emimic, predicts each window as a clip, as with
        `exact` (see `Timeline.method`).

        Args:
            source: As in a call.
            window: Seconds of each window.
            hop: Seconds between windows.
            exact: Predict each window as a clip of its own, many times slower.
            vad_frames: Predict V/A/D of each frame, 50 per second, not of each window.
            voice_segments: Detect voices; steps without one are NaN.
            sample_rate: As in a call.
            name: As in a call.
            seconds: Length of the recording, if known, for the bar of `progress`.
            batch_seconds: Maximum seconds of audio per forward pass.
            progress: Show a bar.
            notes: Receives the remarks; without it they are warnings.

        Raises:
            AudioError: The recording can't be used.
            EmimicError: The window or hop is invalid.
        """
        self._check_audio()
        remarks: list[str] = []
        label = Path(get_label(source) if name is None else name)
        with bars.make_bar(show=progress) as bar:
            task = bar.add_task(label.name, total=seconds)
            line = compute_timeline(
                self.engine,
                read_source(source, BLOCK, sample_rate, label, remarks),
                TimelineOptions(window, hop, exact, vad_frames),
                name=label.stem,
                voice_segments=voice_segments,
                batch_seconds=batch_seconds,
                on_progress=lambda done: bar.update(task, completed=done),
            )
        for remark in remarks:
            add_note(remark, notes)
        return replace(line, intervals=self.intervals)

    def predict_sentences(
        self,
        source: Source,
        *,
        sample_rate: float | None = None,
        name: str | os.PathLike[str] | None = None,
        batch_seconds: float = 30.0,
        notes: list[str] | None = None,
    ) -> tuple[Sentence, ...]:
        """Predict each sentence of a recording of any length, with the words that `Predictor(words=...)` finds.

        Args:
            source: As in a call.
            sample_rate: As in a call.
            name: As in a call; its stem names the transcript.
            batch_seconds: Maximum seconds of audio per forward pass.
            notes: Receives the remarks; without it they are warnings.

        Raises:
            AudioError: The recording can't be used, or has no words with times.
            ModelError: The transcriber fails, or the model predicts NaN.
            SettingsError: The predictor has no source of words.
        """
        label = Path(get_label(source) if name is None else name)
        remarks: list[str] = []
        _, sentences = self._find_sentences(
            label, lambda kept: read_source(source, BLOCK, sample_rate, label, kept), remarks, batch_seconds
        )
        for remark in remarks:
            add_note(remark, notes)
        return sentences

    def stream(
        self,
        *,
        window: float = WINDOW,
        hop: float = HOP,
        exact: bool = False,
        vad_frames: bool = False,
        sample_rate: float = SAMPLE_RATE,
        voice_segments: bool = True,
    ) -> Stream:
        """Predict a recording over time while it arrives: push chunks, take steps; see `Stream`, `predict_timeline`."""
        self._check_audio()
        options = TimelineOptions(window, hop, exact, vad_frames)
        return Stream(self.engine, options, sample_rate=sample_rate, voice_segments=voice_segments)


def _keep_source(model: Any) -> Any:
    """Return a model's source such that another process, in another folder, finds it."""
    if not isinstance(model, str | os.PathLike) or is_on_hub(model):
        return model
    return Path(model).absolute()
