"""What `emimic predict` does, from its options to its summary."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from emimic.cpus import cores
from emimic.files import make_folder
from emimic.inference import batch
from emimic.inference import channels as voices
from emimic.inference.engine import check_model, default_model
from emimic.inference.inputs import expand
from emimic.inference.journal import NAME as JOURNAL
from emimic.inference.journal import Journal
from emimic.inference.predictor import Local, Predictor
from emimic.inference.results import Failure, Recording, Result, Results
from emimic.inference.stream import HOP, WINDOW, Step, Stream
from emimic.inference.timeline import assemble
from emimic.media import decode
from emimic.output import extras, terminal
from emimic.output.html_video import Mode
from emimic.task import SAMPLE_RATE, EmimicError
from emimic.wording import plural

FOLDER: Final = Path("emimic-out")
"""Where pictures, pages and formats go when no folder is given."""

MANY: Final = 16
"""Files from which on several batches at once, a core each, are quicker than one after the other on all cores."""


@dataclass(frozen=True, slots=True)
class Request:
    """The options of `emimic predict`. mic: seconds to listen, 0 for until Ctrl-C, None for files. window, hop: None is
    the usual one; either asks for curves."""

    files: tuple[str, ...]
    model: Path | None = None
    form: str = "table"
    out: Path | None = None
    timeline: bool = False
    window: float | None = None
    hop: float | None = None
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

    @property
    def folder(self) -> Path | None:
        """Where files are written, None when none are asked for."""
        return self.out or (FOLDER if self.plot or self.html or self.kinds else None)

    @property
    def curves(self) -> bool:
        """Whether any option asks for them."""
        shaped = self.window is not None or self.hop is not None
        return self.timeline or self.channels or self.plot or self.html or bool(self.kinds) or shaped

    @property
    def grid(self) -> tuple[float, float]:
        """Window and hop in seconds."""
        return WINDOW if self.window is None else self.window, HOP if self.hop is None else self.hop


def run(request: Request, tell: Callable[[str], object]) -> Results:
    """Hear, print, write, and `tell` lines about what happened. Raises EmimicError for what can't be done at all."""
    q = request
    lacking = _check(q)
    for reason in lacking.values():
        tell(f"emimic: {reason}; they are not written")
    kinds = [kind for kind in q.kinds if kind not in lacking]
    named = list(expand(q.files))
    found: list[Recording | Failure] = list(voices.split(named) if q.channels else named)
    threads = cores() if q.threads is None else q.threads
    streams = q.streams or (threads if q.curves or len(found) >= MANY else 1)
    predictor = Predictor(q.model, device=q.device, threads=threads, streams=streams)
    window, hop = q.grid
    if q.curves:
        predictor.stream(window=window, hop=hop)  # senseless options are told before the work
    with ExitStack() as stack:
        if q.mic is None:
            # Held until all is written: another process must not write to the same folder.
            journal = (
                None if q.folder is None else stack.enter_context(_journal(predictor, q, q.folder, tell))
            )
            told, tally = _from_files(predictor, q, found, journal)
            results = Results.of(predictor.targets, told)
            summary = tally.line(len(results.failed))
        else:
            results = _from_microphone(predictor, q, q.mic)
            summary = f"{len(results.clips)} heard, 0 failed"
        try:  # files first: printing can take long, or fail
            if q.folder is not None:
                _write(results, q, q.folder, kinds, tell, plot=q.plot and extras.PLOT not in lacking)
        finally:
            terminal.show(results, q.form)
    _remarks(results, predictor, q, tell)
    tell(summary)
    return results


def _write(
    results: Results,
    q: Request,
    folder: Path,
    kinds: list[str],
    tell: Callable[[str], object],
    *,
    plot: bool,
) -> None:
    """Write the files asked for, of the kinds that are available."""
    from emimic.output import write

    curves = q.curves or q.mic is not None  # which always has some
    kinds = kinds if q.kinds else ["csv"] if curves else []
    for note in write.write(
        results, folder, kinds, plot=plot, html=q.html, video=q.video, progress=q.progress
    ):
        tell(f"emimic: {note}")
    tell(f"files are in {folder}")


def missing(q: Request) -> dict[str, str]:
    """Return what was asked for and needs an extra that isn't installed -> which."""
    return extras.missing([*q.kinds, *([extras.PLOT] if q.plot else [])])


def _check_sources(q: Request) -> None:
    if (q.mic is None) == (not q.files):
        raise EmimicError(
            "give files, folders or -, or listen with --mic SECONDS"
            if q.mic is None
            else "--mic listens to the microphone; give either files or --mic"
        )
    if q.channels and q.mic is not None:
        raise EmimicError(
            "--channels takes recordings apart; the microphone is recorded in mono: leave it out"
        )


def _check(q: Request) -> dict[str, str]:
    """Say what can be said before a model is opened; return `missing`, without which the rest is done."""
    _check_sources(q)
    if q.ray is not None and (q.mic is not None or "-" in q.files):
        raise EmimicError("the workers of --ray hear files, and neither --mic nor standard input (-)")
    if q.ray is not None and q.ray.startswith("ray://"):
        raise EmimicError(
            f"--ray {q.ray} is a Ray client's address, which Ray Data can't use: run this on a machine of the cluster "
            "with --ray auto, or give HOST:PORT"
        )
    if q.ray is not None and q.device not in (None, "cpu"):
        raise EmimicError(f"the workers of --ray hear on the cpu; found --device {q.device}: leave it out")
    if q.model is not None:
        check_model(q.model)
    if q.folder is not None:
        from emimic.output import write

        if q.folder.exists() and not q.folder.is_dir():
            raise EmimicError(f"--out {q.folder} is a file; name a folder")
        write.check(q.kinds)
    for kind, asked in (("ray", q.ray is not None), ("mic", q.mic is not None)):
        if asked:
            extras.require(kind)
    return missing(q)


def _journal(predictor: Predictor, q: Request, folder: Path, tell: Callable[[str], object]) -> Journal:
    grid = q.grid if q.curves else None
    model = default_model() if q.model is None else q.model
    journal = Journal(folder, model, targets=predictor.targets, grid=grid, fresh=q.fresh)
    if journal.note:
        tell(f"emimic: {journal.note}")
    return journal


def _from_files(
    predictor: Predictor, q: Request, found: Sequence[Recording | Failure], journal: Journal | None
) -> tuple[list[Result | Failure], batch.Tally]:
    hearer: batch.Hearer = Local(predictor, q.grid, q.batch_seconds, q.workers)
    with ExitStack() as stack:
        if q.ray is not None:
            from emimic.inference.ray import Cluster, Work

            work = Work(q.model and q.model.absolute(), q.threads or 1, q.grid, q.batch_seconds)
            hearer = stack.enter_context(Cluster(q.ray, work, predictor.targets))
        return batch.hear(
            hearer, found, curves=q.curves, max_seconds=predictor.engine.spec.max_seconds,
            journal=journal, slim=True, progress=q.progress,
        )  # fmt: skip


def _remarks(results: Results, predictor: Predictor, q: Request, tell: Callable[[str], object]) -> None:
    """What a reader of the values should know."""
    for note in (note for result in results.clips for note in result.notes):
        tell(f"emimic: {note}")
    for failure in results.failed:
        tell(f"emimic: {failure.reason}")
    seconds = predictor.engine.spec.max_seconds
    cut = [result for result in results.clips if result.was_cut]
    means = [result for result in cut if result.headline.basis == "mean over time"]
    if means:
        tell(f"emimic: values of {plural(len(means), 'recording')} over {seconds:g} s are means over time")
    if len(cut) > len(means):
        n = plural(len(cut) - len(means), "recording")
        rest = "no voice is in them" if q.curves else "--timeline predicts all of them"
        tell(f"emimic: values of {n} over {seconds:g} s are about the first {seconds:g} s only; {rest}")
    # Of a recording over the cut, only a timeline shows that no voice is in the rest.
    read = [result for result in results.clips if not result.was_cut or result.timeline is not None]
    unheard = sum("silent" in result.marks or "no voice" in result.marks for result in read)
    if unheard:
        tell(f"emimic: no voice is in {plural(unheard, 'recording')} (marked in the table)")


def stopped(q: Request) -> str:
    """What Ctrl-C leaves behind, for the user."""
    if q.folder is None or q.mic is not None:
        return "stopped; nothing is kept (with --out FOLDER a run can go on)"
    return f"stopped; what was heard is kept in {q.folder / JOURNAL}: give the same command again to go on"


def _from_microphone(predictor: Predictor, q: Request, seconds: float) -> Results:
    """The recording is kept, as flac, only where files are asked for."""
    from emimic.inference import microphone

    steps: list[Step] = []
    streams: list[Stream] = []

    def stream_at(rate: float) -> Stream:
        window, hop = q.grid
        streams.append(predictor.stream(window=window, hop=hop, sample_rate=rate))
        return streams[-1]

    def arrived(step: Step) -> None:
        steps.append(step)
        meter(step)

    with microphone.Meter(predictor.targets, on=q.progress) as meter:
        samples = microphone.listen(stream_at, seconds=seconds or None, show=arrived)
    path = Path("<microphone>")
    if q.folder is not None:
        path = make_folder(q.folder) / time.strftime("microphone-%Y%m%d-%H%M%S.flac")
        decode.save(path, samples, codec="flac")
    result = predictor(samples, sample_rate=SAMPLE_RATE, name=path)
    line = assemble(streams[-1], steps, name=path.stem, targets=predictor.targets)
    return Results(predictor.targets, (replace(result, timeline=line),), ())
