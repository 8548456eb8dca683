"""What `emimic mimicry` does: hear the recordings, compare, print a table, write the JSON and the pictures."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emimic.files import make_folder, printable, write_atomic
from emimic.inference.inputs import expand
from emimic.inference.predictor import Predictor
from emimic.inference.results import Channel, Failure, Recording, Result, Results, Timeline
from emimic.media import decode
from emimic.mimicry.compare import compare_all
from emimic.mimicry.results import MEANING, Dimension, Lead, MimicryError, Report, Settings, sentence
from emimic.output import extras
from emimic.output import write as outputs
from emimic.output.formats.names import safe, unique
from emimic.task import SAMPLE_RATE, AudioError

FOLDER: Final = Path("emimic-out")
"""Where files go when no folder is given."""


@dataclass(frozen=True, slots=True)
class Request:
    """The options of `emimic mimicry`. channels: compare the seed's first two; the case too when there is no mimic.

    against: a folder (or files) of recordings that have nothing to do with the seed. out: a folder for files. kinds,
    plot, html: also write each recording's own timeline, as `emimic predict` does.
    """

    seed: Path
    mimics: tuple[Path, ...] = ()
    channels: bool = False
    against: Path | None = None
    settings: Settings = field(default_factory=Settings)
    model: Path | None = None
    out: Path | None = None
    device: str | None = None
    threads: int | None = None
    progress: bool = False
    kinds: tuple[str, ...] = ()
    plot: bool = False
    html: bool = False

    @property
    def timelines(self) -> bool:
        """Whether files of each recording are wanted, and not only of the pairs."""
        return self.plot or self.html or bool(self.kinds)

    @property
    def folder(self) -> Path | None:
        """Where files are written, None when none are asked for."""
        return self.out or (FOLDER if self.timelines else None)


def run(request: Request, tell: Callable[[str], object]) -> Report:
    """Hear, compare, print, write, and `tell` lines about what happened.

    Raises EmimicError for what can't be done at all; of several mimics a bad one costs only itself.
    """
    if request.channels and request.mimics:
        raise MimicryError("--channels compares two channels of one file; give either it or a MIMIC")
    out = request.folder
    if out is not None and out.exists() and not out.is_dir():
        raise MimicryError(f"--out {out} is a file; name a folder")
    outputs.check(request.kinds)
    if out is not None:
        make_folder(out)  # before the work
    predictor = Predictor(request.model, device=request.device, threads=request.threads)
    lacking = extras.missing([extras.PLOT, *request.kinds]) if out is not None else {}
    for reason in lacking.values():
        tell(f"emimic: {reason}; they are not written")

    failed: list[str] = []
    notes: list[str] = []

    def hear(path: Path) -> Timeline:
        return predictor.timeline(path, progress=request.progress, notes=notes)

    settings = request.settings
    if request.mimics:
        read: list[tuple[Recording, Timeline]] = [(request.seed, hear(request.seed))]
        read += _each(hear, request.mimics, failed)
        if len(read) == 1:
            raise MimicryError("; ".join(failed))
    else:
        settings = replace(settings, clock="common")
        read = _channels(predictor, request, notes)
    seed, *mimics = (line for _, line in read)
    others = _others(request, hear, failed) if request.against else []
    report = compare_all(seed, mimics, settings=settings, others=others)
    report = replace(report, failed=(*failed, *report.failed))
    try:  # files first: printing can fail
        if out is not None:
            write(report, out, pictures=extras.PLOT not in lacking)
            if request.timelines:
                notes += _write_timelines(request, out, predictor, read, lacking)
            tell(f"files are in {out}")
    finally:
        show(report)
    _remarks(report, notes, tell)
    return report


def _remarks(report: Report, notes: Sequence[str], tell: Callable[[str], object]) -> None:
    for reason in (*notes, *report.failed):
        tell(f"emimic: {reason}")


def _write_timelines(
    request: Request,
    out: Path,
    predictor: Predictor,
    read: Sequence[tuple[Recording, Timeline]],
    lacking: dict[str, str],
) -> list[str]:
    """Each recording's own files, of the kinds that are available, as `emimic predict` writes them; notes."""
    clips = tuple(_result(predictor, *one) for one in read)
    results = Results(read[0][1].targets, clips, ())
    kinds = [kind for kind in request.kinds if kind not in lacking]
    plot = request.plot and extras.PLOT not in lacking
    return outputs.write(results, out, kinds, plot=plot, html=request.html, progress=request.progress)


def _result(predictor: Predictor, recording: Recording, line: Timeline) -> Result:
    """The clip's prediction beside its timeline, as `emimic predict` gives them."""
    (one,) = predictor.hear([recording], [predictor.read(recording)], batch_seconds=30.0)
    if isinstance(one, Failure):  # gone or changed since
        raise AudioError(one.reason)
    return replace(one, timeline=line)


def _each(
    hear: Callable[[Path], Timeline], paths: Sequence[Path], failed: list[str]
) -> list[tuple[Path, Timeline]]:
    heard = []
    for path in paths:
        try:
            heard.append((path, hear(path)))
        except AudioError as error:
            failed.append(str(error))
    return heard


def _others(request: Request, hear: Callable[[Path], Timeline], failed: list[str]) -> list[Timeline]:
    """The recordings to compare against, without the pair's own files, should they lie in that folder."""
    assert request.against is not None
    own = {path.resolve() for path in (request.seed, *request.mimics)}
    found = list(expand([request.against]))
    failed += [one.reason for one in found if isinstance(one, Failure)]
    paths = [one for one in found if isinstance(one, Path) and one.resolve() not in own]
    heard = _each(hear, paths, failed)
    if not heard:
        raise MimicryError(
            f"{request.against}: no recording to compare against; give others, or leave --against out"
        )
    return [line for _, line in heard]


def _channels(predictor: Predictor, request: Request, notes: list[str]) -> list[tuple[Recording, Timeline]]:
    """The first two channels of the seed, one by one."""
    waves = [
        decode.load(request.seed, channel=0, notes=notes),
        decode.load(request.seed, channel=1, notes=[]),
    ]
    if np.array_equal(waves[0], waves[1]):
        raise MimicryError(
            f"{request.seed}: both channels are the same, a mono recording in two; give a file for each voice"
        )
    lines = [
        predictor.timeline(
            wave,
            sample_rate=SAMPLE_RATE,
            name=Path(f"{request.seed.stem} channel {number}.wav"),  # of a name the stem is kept
            progress=request.progress,
        )
        for number, wave in enumerate(waves, 1)
    ]
    return [(Channel(request.seed, number), line) for number, line in enumerate(lines, 1)]


def write(report: Report, out: Path, *, pictures: bool = True) -> None:
    """Into the folder `out`: mimicry.json, and with `pictures` one of each pair (PNG, SVG), named after the pair."""
    make_folder(out)
    text = json.dumps(report.to_dict(), allow_nan=False, ensure_ascii=False)
    write_atomic(out / "mimicry.json", text + "\n")
    if not pictures:
        return
    from emimic.mimicry.plots import picture

    # Each name is shortened before they are joined: a long one would push the other out.
    pairs = [f"{safe(one.seed.name, 75)} and {safe(one.mimic.name, 75)}" for one in report.comparisons]
    names = unique(pairs, taken=("mimicry",))
    for one, name in zip(report.comparisons, names, strict=True):
        write_atomic(out / f"{name}.png", picture(one))
        write_atomic(out / f"{name}.svg", picture(one, form="svg"))


def show(report: Report) -> None:
    """The table on standard output: a row a dimension for one pair, a row a mimic for several."""
    console = Console()
    made = table(report)
    caption, made.caption = made.caption, None  # which would wrap at the width of a narrow table
    needed = console.measure(made, options=console.options.update(width=1000)).maximum
    console.width = max(console.width, needed)  # lines that wrap lose nothing
    console.print(made)
    console.print(caption, style="italic", soft_wrap=True)
    for one in report.comparisons:
        console.print(escape(printable(sentence(one))), soft_wrap=True)
        for note in one.notes:
            console.print(escape(printable(f"  note: {note}")), soft_wrap=True)
    console.print(MEANING, soft_wrap=True)


def table(report: Report) -> Table:
    """Similarity, what chance reaches, p, and on a common clock the lag and who leads how many windows."""
    first = report.comparisons[0]
    single = len(report.comparisons) == 1
    title = f"{first.seed.name} and {first.mimic.name}" if single else f"{first.seed.name} and its mimics"
    draws = "surrogates" if first.chance == "surrogates" else "other recordings"
    caption = f"Chance: {first.settings.level:.0%} of {draws} stay below; * beyond it"
    made = Table(
        title=escape(printable(title)), title_justify="left", caption=caption, caption_justify="left"
    )
    made.add_column("Dimension" if single else "Overall", no_wrap=True)
    lags = ["Lag (s)", "First leads", "Second leads"] if first.leads else []
    for name in ("Similarity", "Chance", "p", *lags):
        made.add_column(name, justify="right")
    if single:
        leads = first.leads or (None,) * (len(first.dimensions) + 1)
        for one, lead in zip((*first.dimensions, first.overall), leads, strict=True):
            made.add_row(*_row(one.name, one, lead), end_section=one is first.dimensions[-1])
    else:
        for pair in report.comparisons:
            made.add_row(
                *_row(pair.mimic.name, pair.overall, pair.leads[-1] if pair.leads else None),
                end_section=pair is report.comparisons[-1],
            )
        if report.together is not None:
            made.add_row(*_row("Mean", report.together, None))
    return made


def _row(name: str, one: Dimension, lead: Lead | None) -> list[str]:
    """A row's cells; what is beyond chance is bold and starred."""
    star = "*" if one.chance.beyond else " "
    value = f"{_number(one.similarity)}{star}"
    cells: list[str] = [
        escape(printable(name)),
        f"[bold]{value}[/bold]" if one.chance.beyond else value,
        _number(one.chance.high),
        "-" if not np.isfinite(one.chance.p) else f"{one.chance.p:.3f}",
    ]
    if lead is not None:
        shares = (
            [f"{lead.seed_leads:.0%}", f"{lead.mimic_leads:.0%}"]
            if np.isfinite(lead.seed_leads)
            else ["-", "-"]
        )
        cells += [_number(lead.lag, "+.1f"), *shares]
    return cells


def _number(value: float, form: str = ".2f") -> str:
    return format(value, form) if np.isfinite(value) else "-"
