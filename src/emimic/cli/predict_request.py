"""The work of `emimic predict`, from its options to its summary."""

import time
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from emimic.cpus import count_cores
from emimic.files import make_folder
from emimic.inference import batch, channels
from emimic.inference.engine import check_model, find_default_model
from emimic.inference.grid import HOP, WINDOW, TimelineOptions
from emimic.inference.hub import find_model
from emimic.inference.inputs import expand
from emimic.inference.journal import NAME as JOURNAL
from emimic.inference.journal import Journal
from emimic.inference.local_backend import LocalBackend
from emimic.inference.predictor import Predictor
from emimic.inference.recording import Recording
from emimic.inference.results import Failure, Result, Results, attach_intervals
from emimic.inference.stream import Step, Stream, assemble_timeline
from emimic.inference.words import WordSource
from emimic.media import decode
from emimic.output import extras, terminal, write
from emimic.output.html_video import Mode
from emimic.task import SAMPLE_RATE, EmimicError
from emimic.wording import pluralize

FOLDER: Final = Path("emimic-out")
"""Default folder for plots, HTML pages and formats."""

MANY: Final = 16
"""Number of files from which on batches in parallel, one per core, are faster than one batch on all cores."""


@dataclass(frozen=True, slots=True)
class Request:
    """The options of `emimic predict`.

    mic: seconds to record, 0 for until Ctrl-C, None for files. words: where words come from. window, hop: in seconds,
    None for the default; either requests a timeline, as do exact and vad_frames (see `TimelineOptions`).
    """

    files: tuple[str, ...]
    model: Path | None = None
    form: str = "table"
    out: Path | None = None
    timeline: bool = False
    window: float | None = None
    hop: float | None = None
    exact: bool = False
    vad_frames: bool = False
    plot: bool = False
    html: bool = False
    video: Mode | None = None
    kinds: tuple[str, ...] = ()
    mic: float | None = None
    threads: int | None = None
    streams: int | None = None
    batch_seconds: float = 30.0
    workers: int = 2
    device: str | None = None
    progress: bool = False
    fresh: bool = False
    channels: bool = False
    ray: str | None = None
    sentences: bool = False
    words: WordSource | None = None
    without: tuple[str, ...] = ()

    @property
    def folder(self) -> Path | None:
        """The folder for files, None where no option requests any."""
        return self.out or (FOLDER if self.plot or self.html or self.kinds else None)

    @property
    def timelines(self) -> bool:
        """True if any option requests timelines."""
        is_optional = self.window is not None or self.hop is not None or self.exact or self.vad_frames
        return self.timeline or self.channels or self.plot or self.html or bool(self.kinds) or is_optional

    @property
    def options(self) -> TimelineOptions:
        """The options of timelines."""
        window, hop = WINDOW if self.window is None else self.window, HOP if self.hop is None else self.hop
        return TimelineOptions(window, hop, self.exact, self.vad_frames)


def run(request: Request, log: Callable[[str], object]) -> Results:
    """Predict, print and write files; `log` gets lines about what happened.

    Raises:
        EmimicError: options that can't be combined, a missing extra, an unusable model or folder.
    """
    unavailable = _check(request)
    for reason in unavailable.values():
        log(f"emimic: {reason}; they are not written")
    files = list(expand(request.files))
    recordings: list[Recording | Failure] = list(
        channels.split_channels(files) if request.channels else files
    )
    threads = count_cores() if request.threads is None else request.threads
    streams = request.streams or (threads if request.timelines or len(recordings) >= MANY else 1)
    predictor = Predictor(
        request.model, device=request.device, threads=threads, streams=streams, words=request.words,
        without=request.without,
    )  # fmt: skip
    _check_use(predictor, request)
    if request.timelines:
        Stream(predictor.engine, request.options)  # invalid options are reported before the work
    with ExitStack() as stack:
        if request.mic is None:
            # Held until all is written: another process must not write to the same folder.
            journal = None
            if request.folder is not None:
                journal = stack.enter_context(open_journal(predictor, request, request.folder, log))
            clips, tally = predict_recordings(predictor, request, recordings, journal)
            if request.sentences:
                clips = _add_sentences(predictor, request, clips, journal)
            results = Results.from_outcomes(
                predictor.targets, [attach_intervals(outcome, predictor.intervals) for outcome in clips]
            )
            summary = tally.summarize(len(results.failed))
        else:
            results = _predict_microphone(predictor, request, request.mic)
            summary = f"{len(results.clips)} predicted, 0 failed"
        try:  # files first: printing can take long, or fail
            if request.folder is not None:
                _write(results, request, request.folder, unavailable, log)
        finally:
            terminal.show(results, request.form)
    _log_remarks(results, predictor, request, log)
    log(summary)
    return results


def _write(
    results: Results,
    request: Request,
    folder: Path,
    unavailable: Container[str],
    log: Callable[[str], object],
) -> None:
    """Write the requested files, of the kinds that are available."""
    kinds = [kind for kind in request.kinds if kind not in unavailable]
    has_timelines = request.timelines or request.mic is not None
    if has_timelines and not request.kinds:
        kinds = ["csv"]
    plot = request.plot and write.PLOT not in unavailable
    for note in write.write_files(
        results, folder, kinds, plot=plot, html=request.html, video=request.video, progress=request.progress
    ):
        log(f"emimic: {note}")
    log(f"files are in {folder}")


def find_missing(request: Request) -> dict[str, str]:
    """Return the requested kinds of files whose extra isn't installed, each with a message."""
    return write.find_missing(request.kinds, plot=request.plot)


def _check_sources(request: Request) -> None:
    """Raise EmimicError unless there are either files or a microphone."""
    if (request.mic is None) == (not request.files):
        raise EmimicError(
            "give files, folders or -, or record with --mic SECONDS"
            if request.mic is None
            else "--mic records from the microphone; give either files or --mic"
        )
    if request.channels and request.mic is not None:
        raise EmimicError("--channels splits recordings; the microphone is recorded in mono: leave it out")


def _check(request: Request) -> dict[str, str]:
    """Check the options before a model is opened; return `find_missing`, whose files will not be written."""
    _check_sources(request)
    _check_words(request)
    if request.ray is not None:
        check_ray(request, request.ray)
    if request.model is not None:
        check_model(request.model)
    if request.folder is not None:
        if request.folder.exists() and not request.folder.is_dir():
            raise EmimicError(f"--out {request.folder} is a file; name a folder")
        write.check_formats(request.kinds)
    if request.ray is not None:
        extras.RAY.require()
    if request.mic is not None:
        extras.MIC.require()
    return find_missing(request)


def check_ray(request: Request, address: str) -> None:
    """Raise EmimicError for options that --ray can't be combined with."""
    if request.mic is not None or "-" in request.files:
        raise EmimicError("--ray predicts files only, neither --mic nor standard input (-)")
    if address.startswith("ray://"):
        raise EmimicError(
            f"--ray {address} is a Ray client's address, which Ray Data can't use: run this on a machine of the "
            "cluster with --ray auto, or give HOST:PORT"
        )
    if request.device not in (None, "cpu"):
        raise EmimicError(f"--ray predicts on the cpu; found --device {request.device}: leave it out")


def open_journal(
    predictor: Predictor, request: Request, folder: Path, log: Callable[[str], object]
) -> Journal:
    """Return the journal of an output folder."""
    options = request.options if request.timelines else None
    model = find_default_model() if request.model is None else find_model(request.model)
    words = predictor.reader.words.key if predictor.reader.uses_words else ""
    journal = Journal(
        folder, model, targets=predictor.targets, options=options, fresh=request.fresh,
        words=" ".join(filter(None, [words, *request.without])),
    )  # fmt: skip
    if journal.note:
        log(f"emimic: {journal.note}")
    return journal


def predict_recordings(
    predictor: Predictor,
    request: Request,
    recordings: Sequence[Recording | Failure],
    journal: Journal | None,
) -> tuple[list[Result | Failure], batch.Tally]:
    """Predict recordings here or on a Ray cluster."""
    backend: batch.Backend = LocalBackend(predictor, request.options, request.batch_seconds, request.workers)
    with ExitStack() as stack:
        if request.ray is not None:
            from emimic.inference.ray import Cluster, Work

            model = request.model and request.model.absolute()
            work = Work(
                model,
                request.threads or 1,
                request.options,
                request.batch_seconds,
                request.words,
                request.without,
            )
            backend = stack.enter_context(Cluster(request.ray, work, predictor.targets))
        return batch.predict_files(
            backend, recordings, timeline=request.timelines, max_seconds=predictor.engine.spec.max_seconds,
            journal=journal, slim=True, show_progress=request.progress,
        )  # fmt: skip


def _add_sentences(
    predictor: Predictor, request: Request, clips: Sequence[Result | Failure], journal: Journal | None
) -> list[Result | Failure]:
    """Return the outcomes with the sentences of each result."""
    return batch.add_sentences(
        lambda recording, on_progress: predictor.predict_decoded_sentences(
            recording, batch_seconds=request.batch_seconds, on_progress=on_progress
        ),
        clips,
        key=predictor.reader.words.key,
        journal=journal,
        show_progress=request.progress,
    )


def _check_words(request: Request) -> None:
    """Raise EmimicError for options about words that don't fit each other."""
    if request.sentences and request.words is None:
        raise EmimicError(
            "--sentences found no source of words, expected one: --transcriber MODEL (Whisper), or --transcripts FOLDER"
        )
    if request.sentences and (request.mic is not None or request.ray is not None):
        option = "--ray" if request.mic is None else "--mic"
        raise EmimicError(f"--sentences predicts files on this machine: leave out {option}")


def _check_use(predictor: Predictor, request: Request) -> None:
    """Open the source of words where they are used, before threads do; raise EmimicError for what can't be used."""
    if predictor.intervals is None and write.needs_intervals(request.kinds):
        raise EmimicError(
            f"--formats has intervals, and {request.model or 'the model'} has none: leave it out, or run emimic "
            "calibrate with labeled clips"
        )
    if request.sentences or predictor.reader.uses_words:
        _ = predictor.reader.words
    elif request.words is not None:
        raise EmimicError(
            "--transcriber and --transcripts give words to --sentences, or to a model that takes some, and this one "
            "uses the voice alone: leave them out"
        )


def _log_remarks(
    results: Results, predictor: Predictor, request: Request, log: Callable[[str], object]
) -> None:
    """Log what a reader of the values should know: notes, failures, cuts and silence."""
    for remark in (*_describe_words(results, predictor, request), *_describe_images(predictor, request)):
        log(f"emimic: {remark}")
    for note in (note for result in results.clips for note in result.notes):
        log(f"emimic: {note}")
    for failure in results.failed:
        log(f"emimic: {failure.reason}")
    seconds = predictor.engine.spec.max_seconds
    cut = [result for result in results.clips if result.was_cut]
    means = [result for result in cut if result.headline.basis == "mean over time"]
    if means:
        log(f"emimic: values of {pluralize(len(means), 'recording')} over {seconds:g} s are means over time")
    if len(cut) > len(means):
        n = pluralize(len(cut) - len(means), "recording")
        rest = "no voice is in them" if request.timelines else "--timeline predicts all of them"
        log(f"emimic: values of {n} over {seconds:g} s are about the first {seconds:g} s only; {rest}")
    # Of a recording over the cut, only a timeline shows that no voice is in the rest.
    covered = [result for result in results.clips if not result.was_cut or result.timeline is not None]
    n_silent = sum("silent" in result.marks or "no voice" in result.marks for result in covered)
    if n_silent:
        log(f"emimic: no voice is in {pluralize(n_silent, 'recording')} (marked in the table)")


def _describe_words(results: Results, predictor: Predictor, request: Request) -> list[str]:
    """Return what the user should know of the words: where they come from, or that they are left out."""
    if not predictor.reader.uses_words:
        return ["words are left out"] if "text" in request.without else []
    source = predictor.reader.words.source
    named = [str(part) for part in (source.transcripts, source.transcriber) if part is not None]
    alone = "; timelines are of the voice alone" if request.timelines else ""
    remarks = [
        f"the model takes the words too, from {' or '.join(named)}; --without text leaves them out{alone}"
    ]
    if missing := sum(result.speech is None or not result.speech.text for result in results.clips):
        remarks.append(f"no words were found for {pluralize(missing, 'recording')}")
    return remarks


def _describe_images(predictor: Predictor, request: Request) -> list[str]:
    """Return what the user should know of the images of a model that takes some."""
    if not predictor.reader.uses_images:
        return ["images are left out"] if "vision" in request.without else []
    leave = "; --without vision leaves them out" if predictor.engine.spec.audio else ""
    alone = "; timelines are without them" if request.timelines else ""
    return [f"the model takes the images of a recording, too{leave}{alone}"]


def describe_stop(request: Request) -> str:
    """Return what Ctrl-C leaves behind, for the user."""
    if request.folder is None or request.mic is not None:
        return "stopped; nothing is kept (with --out FOLDER a run can go on)"
    return f"stopped; results so far are in {request.folder / JOURNAL}: give the same command again to go on"


def _predict_microphone(predictor: Predictor, request: Request, seconds: float) -> Results:
    """Record and predict; the recording is saved as flac where files are requested."""
    from emimic.inference import microphone

    steps: list[Step] = []
    streams: list[Stream] = []

    def open_stream(rate: float) -> Stream:
        streams.append(Stream(predictor.engine, request.options, sample_rate=rate))
        return streams[-1]

    def show(step: Step) -> None:
        steps.append(step)
        meter(step)

    with microphone.Meter(predictor.targets, on=request.progress) as meter:
        samples = microphone.listen(open_stream, seconds=seconds or None, show=show)
    path = Path("<microphone>")
    if request.folder is not None:
        path = make_folder(request.folder) / time.strftime("microphone-%Y%m%d-%H%M%S.flac")
        decode.save(path, samples, codec="flac")
    result = predictor(samples, sample_rate=SAMPLE_RATE, name=path)
    timeline = assemble_timeline(streams[-1], steps, name=path.stem, targets=predictor.targets)
    return Results(
        predictor.targets, (replace(result, timeline=replace(timeline, intervals=predictor.intervals)),), ()
    )
