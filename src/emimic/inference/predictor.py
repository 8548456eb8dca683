"""Recordings in, results out: files and folders, each broken one named and costing only itself; curves; streams."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from emimic import batching
from emimic import progress as bars
from emimic.inference import batch
from emimic.inference import channels as voices
from emimic.inference import timeline as curves
from emimic.inference.engine import Engine, default_model, open_engine
from emimic.inference.inputs import content, expand
from emimic.inference.results import Failure, Recording, Result, Results, Timeline, parts
from emimic.inference.stream import HOP, WINDOW, Stream
from emimic.media import decode
from emimic.media import source as sources
from emimic.media.waveform import check_format, resample
from emimic.prediction import Prediction
from emimic.task import SAMPLE_RATE, AudioError, add_note

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | NDArray[Any] | Sequence[float]
"""A media file, its content, one opened with "rb", or an array (which needs its sample rate)."""

SILENCE: Final = 10 ** (-65 / 20)
"""A recording whose samples all stay this close to one value (-65 dB of full scale) holds no voice: its result is
NaN."""

_LOG: Final = logging.getLogger("emimic.predict")

_BLOCK: Final = 10.0  # seconds of a long recording held at a time


class Predictor:
    """A finished model ready to hear recordings.

    model: an engine folder, a run folder (torch runs it), an Engine, or None for the model in the package. device: for
    a run, as torch names it; None takes a GPU where there is one. threads: None takes all cores; streams: into how
    many batches at once they are divided (see `open_engine`). Raises ModelError when the folder can't be used.

    Threads may share one. It is pickled by its model's path and options, and opens the model again where it arrives.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Engine | None = None,
        *,
        device: str | None = None,
        threads: int | None = None,
        streams: int = 1,
    ) -> None:
        chosen, start = default_model() if model is None else model, time.perf_counter()
        self.engine: Engine = (
            open_engine(chosen, device=device, threads=threads, streams=streams)
            if isinstance(chosen, str | os.PathLike)
            else chosen
        )
        self.targets = self.engine.spec.targets
        given = Path(model).absolute() if isinstance(model, str | os.PathLike) else model
        self._options = {"model": given, "device": device, "threads": threads, "streams": streams}
        _LOG.info("opened the model %s in %.2f s", given or "in the package", time.perf_counter() - start)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._options.items() if value is not None)
        return f"Predictor({given})"

    def __getstate__(self) -> dict[str, Any]:
        """The model's absolute path (None for the one in the package) and the options.

        Raises:
            TypeError: it was made of an Engine and not of a folder.
        """
        model = self._options["model"]
        if model is not None and not isinstance(model, Path):
            raise TypeError("a Predictor made of an Engine can't be pickled: make it of the model's folder")
        return self._options

    def __setstate__(self, options: dict[str, Any]) -> None:
        """Open the model again. Raises ModelError when its folder can't be used here."""
        self.__init__(**options)  # type: ignore[misc]

    def __call__(
        self, source: Source, *, sample_rate: float | None = None, name: str | os.PathLike[str] | None = None
    ) -> Result:
        """One recording's result.

        source: a media file, its bytes, one opened with "rb", or an array (sample,) or (sample, channel) with its
        sample_rate, floating point in [-1, 1] or int16, int32, uint8. name: what the result calls it. Silence is
        answered with NaN. Raises AudioError when it can't be used. Warns (EmimicWarning) of each of the result's notes.
        """
        label = Path(sources.label_of(source) if name is None else name)
        start, notes = time.perf_counter(), list[str]()
        heard = self._clip(_blocks(source, self.engine.spec.max_seconds, sample_rate, label, notes), notes)
        result = self._result(label, heard, self.engine.predict([heard.clip.samples])[0])
        for note in notes:
            add_note(note, None)
        _LOG.debug("%s: %.2f s of sound in %.3f s", label, result.seconds, time.perf_counter() - start)
        return result

    def files(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        timeline: bool = False,
        channels: bool = False,
        window: float = WINDOW,
        hop: float = HOP,
        batch_seconds: float = 30.0,
        workers: int = 2,
        progress: bool = False,
    ) -> Results:
        """Results for files, folders (their media files, in depth), patterns (`*`, `**`, `?`) and `-`, standard input.

        timeline: with curves over each whole recording, see `timeline`. channels: a result for each channel of a
        recording with several, see `Result.channel`. batch_seconds: most audio of one forward pass. workers: decoding
        threads. Never raises nor warns for a bad file, see `failed` and each result's `notes`; raises ModelError when
        the model results NaN, and AudioError for what is no path.
        """
        if timeline:
            self.stream(window=window, hop=hop)  # senseless options are told before the work
        hearer = Local(self, (window, hop), batch_seconds, workers)
        found: list[Recording | Failure] = []
        named = expand([paths] if sources.is_one(paths) else paths)  # type: ignore[list-item,arg-type]
        found += voices.split(list(named)) if channels else named
        told, _ = batch.hear(
            hearer, found, curves=timeline, max_seconds=self.engine.spec.max_seconds, progress=progress
        )
        return Results.of(self.targets, told)

    def timeline(
        self,
        source: Source,
        *,
        window: float = WINDOW,
        hop: float = HOP,
        voice_segments: bool = True,
        sample_rate: float | None = None,
        name: str | os.PathLike[str] | None = None,
        seconds: float | None = None,
        batch_seconds: float = 30.0,
        progress: bool = False,
        notes: list[str] | None = None,
    ) -> Timeline:
        """Curves over a whole recording of any length, which is never held whole.

        Every `hop` seconds the model's result for the `window` seconds around, heard as a clip of its own; VAD 50 times
        a second. voice_segments: find where a voice is heard, and leave gaps (NaN) elsewhere. source, sample_rate,
        name: as in a call. seconds: its length, if known, for the bar of `progress`. notes: gets the warnings
        without it. Raises AudioError when the recording can't be used, and EmimicError for a senseless window or hop.
        """
        own: list[str] = []
        label = Path(sources.label_of(source) if name is None else name)
        with bars.bar(show=progress) as bar:
            task = bar.add_task(label.name, total=seconds)
            line = curves.timeline(
                self.engine,
                _blocks(source, _BLOCK, sample_rate, label, own),
                name=label.stem,
                window=window,
                hop=hop,
                voice_segments=voice_segments,
                batch_seconds=batch_seconds,
                heard=lambda done: bar.update(task, completed=done),
            )
        for note in own:
            add_note(note, notes)
        return line

    def stream(
        self,
        *,
        window: float = WINDOW,
        hop: float = HOP,
        sample_rate: float = SAMPLE_RATE,
        voice_segments: bool = True,
    ) -> Stream:
        """The curves of a recording while it arrives: push chunks, take steps; see `Stream`."""
        return Stream(
            self.engine, window=window, hop=hop, sample_rate=sample_rate, voice_segments=voice_segments
        )

    def read(self, recording: Recording, place: Path | None = None) -> "Heard | Failure":
        """A file or its channel, or standard input, ready for `hear`. place: where it lies when its path is only what
        it is called."""
        path, number = parts(recording)
        notes: list[str] = []
        try:
            blocks = voices.blocks(
                place or content(path),
                seconds=self.engine.spec.max_seconds,
                name=os.fspath(path),
                channel=number and number - 1,
                notes=notes,
            )
            return self._clip(blocks, notes)
        except AudioError as error:
            return Failure(path, str(error))

    def hear(
        self, recordings: Sequence[Recording], read: "Sequence[Heard | Failure]", *, batch_seconds: float
    ) -> list[Result | Failure]:
        """What was read of these recordings -> their results. Raises ModelError when the model results NaN."""
        good = [one.clip.samples for one in read if isinstance(one, Heard)]
        results = iter(self.engine.predict(good, batch_seconds=batch_seconds) if good else [])
        return [
            one if isinstance(one, Failure) else self._result(recording, one, next(results))
            for recording, one in zip(recordings, read, strict=True)
        ]

    def curves(
        self,
        recording: Recording,
        place: Path | None = None,
        *,
        grid: tuple[float, float],
        batch_seconds: float,
        heard: Callable[[float], object] = lambda seconds: None,
    ) -> Timeline | Failure:
        """The curves on the grid (window, hop) of a recording that was read before. recording, place: as in `read`.
        heard: is told after each block how many seconds are done."""
        path, number = parts(recording)
        channel = number and number - 1
        try:
            return curves.timeline(
                self.engine,
                # The first reading has noted what there is to note.
                decode.blocks(
                    place or content(path), seconds=_BLOCK, name=os.fspath(path), channel=channel, notes=[]
                ),
                name=path.stem if number is None else f"{path.stem} channel {number}",
                window=grid[0],
                hop=grid[1],
                batch_seconds=batch_seconds,
                heard=heard,
            )
        except AudioError as error:  # gone or changed since
            return Failure(path, str(error))

    def _clip(self, blocks: Iterator[NDArray[np.float32]], notes: list[str]) -> "Heard":
        """Blocks of max_seconds -> the first one prepared; the others only count, and fill `notes`."""
        spec = self.engine.spec
        head = next(blocks)
        total = len(head) + sum(map(len, blocks))
        clip = decode.prepare(
            head, max_seconds=spec.max_seconds, normalize=spec.do_normalize, min_samples=spec.min_samples
        )
        whole = replace(clip, seconds=total / SAMPLE_RATE, was_cut=total > len(head))
        level = (head.max() - head.min()) / 2  # a constant, as of a muted sound card, is silence too
        return Heard(whole, silent=bool(level < SILENCE), notes=tuple(notes))

    def _result(self, recording: Recording, heard: "Heard", prediction: Prediction) -> Result:
        clip, (path, number) = heard.clip, parts(recording)
        if heard.silent:
            vad = None if prediction.vad is None else np.full_like(prediction.vad, np.nan)
            prediction = Prediction(np.full_like(prediction.intensities, np.nan), vad, prediction.times)
        return Result(
            path,
            self.targets,
            clip.seconds,
            clip.was_cut,
            clip.was_padded,
            prediction,
            was_silent=heard.silent,
            channel=number,
            notes=heard.notes,
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """A clip ready for the engine, whether it is silent, and what is to be said of its file."""

    clip: decode.Clip
    silent: bool
    notes: tuple[str, ...] = ()


def _blocks(
    source: Source, seconds: float, sample_rate: float | None, label: Path, notes: list[str]
) -> Iterator[NDArray[np.float32]]:
    """A recording in blocks of `seconds`, (sample,) each at 16 kHz, at least one."""
    name = str(label)
    known = sources.resolve(source, name)
    is_array = isinstance(known, np.ndarray)
    if is_array == (sample_rate is None):
        raise AudioError(
            f"{label}: an array doesn't tell its sample rate; give sample_rate=... in Hz"
            if is_array
            else f"{label}: a file tells its sample rate itself; leave sample_rate out"
        )
    if isinstance(known, np.ndarray):
        assert sample_rate is not None
        check_format(sample_rate, 1, name)
        whole = resample(sources.to_floats(known, name), sample_rate)
        size = round(seconds * SAMPLE_RATE)
        yield from (whole[start : start + size] for start in range(0, len(whole), size))
    else:
        if isinstance(known, str | os.PathLike) and not Path(os.fsdecode(known)).exists():
            name = os.fsdecode(known)  # as it was given: in the message about a URL all slashes matter
        yield from voices.blocks(known, seconds=seconds, name=name, notes=notes)


@dataclass(frozen=True, slots=True)
class Local:
    """Hears with this process's own engine while `workers` threads decode what comes next.

    grid: window and hop of curves, in seconds.
    """

    predictor: Predictor
    grid: tuple[float, float]
    batch_seconds: float
    workers: int

    def clips(self, groups: Sequence[Sequence[tuple[int, Recording]]]) -> batch.Batches[Result]:
        """See `batch.Hearer.clips`."""
        files = [[path for _, path in group] for group in groups]
        with closing(batching.as_read(self.predictor.read, files, workers=self.workers)) as batches:
            for number, read in batches:
                told = self.predictor.hear(files[number], read, batch_seconds=self.batch_seconds)
                yield [(row, one) for (row, _), one in zip(groups[number], told, strict=True)]

    def curves(
        self, results: Sequence[tuple[int, Result]], heard: Callable[[float], object]
    ) -> batch.Batches[Timeline]:
        """See `batch.Hearer.curves`."""
        for row, result in results:
            line = self.predictor.curves(
                result.recording, grid=self.grid, batch_seconds=self.batch_seconds, heard=heard
            )
            yield [(row, line)]
