"""The work of `emimic mimicry`: predict the recordings, compare them, print a table, write the JSON and the plots."""

import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emimic.files import make_folder, make_printable, write_atomically
from emimic.inference.inputs import expand
from emimic.inference.predictor import Predictor
from emimic.inference.recording import Channel, Recording
from emimic.inference.results import Failure, Result, Results, Timeline
from emimic.media import decode
from emimic.mimicry.compare import compare_all
from emimic.mimicry.results import MEANING, Dimension, Lead, MimicryError, Report, Settings, summarize
from emimic.output import write
from emimic.output.formats.names import make_safe, make_unique
from emimic.task import SAMPLE_RATE, AudioError

FOLDER: Final = Path("emimic-out")
"""Default folder for files."""


@dataclass(frozen=True, slots=True)
class Request:
    """The options of `emimic mimicry`.

    channels: compare the seed's first two channels; the default without a mimic. against: a folder of recordings
    unrelated to the seed. out: a folder for files. kinds, plot, html: also write each recording's timeline, as
    `emimic predict` does.
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
        """True if files of each recording are requested, beside those of the pairs."""
        return self.plot or self.html or bool(self.kinds)

    @property
    def folder(self) -> Path | None:
        """The folder for files, None where no option requests any."""
        return self.out or (FOLDER if self.timelines else None)


def run(request: Request, log: Callable[[str], object]) -> Report:
    """Predict, compare, print and write files; `log` gets lines about what happened.

    Of several mimics, an unreadable one is skipped and reported.

    Raises:
        EmimicError: options that can't be combined, an unusable model or folder, no readable recordings.
    """
    out = _check(request)
    predictor = Predictor(request.model, device=request.device, threads=request.threads)
    unavailable = write.find_missing(request.kinds, plot=True) if out is not None else {}
    for reason in unavailable.values():
        log(f"emimic: {reason}; they are not written")

    failed: list[str] = []
    notes: list[str] = []

    def predict(path: Path) -> Timeline:
        return predictor.predict_timeline(path, progress=request.progress, notes=notes)

    settings = request.settings
    if request.mimics:
        lines: list[tuple[Recording, Timeline]] = [(request.seed, predict(request.seed))]
        lines += _predict_each(predict, request.mimics, failed)
        if len(lines) == 1:
            raise MimicryError("; ".join(failed))
    else:
        settings = replace(settings, alignment="windowed")
        lines = _predict_channels(predictor, request, notes)
    seed, *mimics = (line for _, line in lines)
    others = _predict_others(request, request.against, predict, failed) if request.against else []
    report = compare_all(seed, mimics, settings=settings, others=others)
    report = replace(report, failed=(*failed, *report.failed))
    try:  # files first: printing can fail
        if out is not None:
            write_report(report, out, plots=write.PLOT not in unavailable)
            if request.timelines:
                notes += _write_timelines(request, out, predictor, lines, unavailable)
            log(f"files are in {out}")
    finally:
        show(report)
    for reason in (*notes, *report.failed):
        log(f"emimic: {reason}")
    return report


def _check(request: Request) -> Path | None:
    """Check the options before the work; return the folder for files, which then exists."""
    if request.channels and request.mimics:
        raise MimicryError("--channels compares two channels of one file; give either it or a MIMIC")
    out = request.folder
    if out is not None and out.exists() and not out.is_dir():
        raise MimicryError(f"--out {out} is a file; name a folder")
    write.check_formats(request.kinds)
    if out is not None:
        make_folder(out)
    return out


def _write_timelines(
    request: Request,
    out: Path,
    predictor: Predictor,
    lines: Sequence[tuple[Recording, Timeline]],
    unavailable: Container[str],
) -> list[str]:
    """Write each recording's files, of the kinds that are available, as `emimic predict` does; return notes."""
    clips = tuple(_predict_clip(predictor, *line) for line in lines)
    results = Results(lines[0][1].targets, clips, ())
    kinds = [kind for kind in request.kinds if kind not in unavailable]
    plot = request.plot and write.PLOT not in unavailable
    return write.write_files(results, out, kinds, plot=plot, html=request.html, progress=request.progress)


def _predict_clip(predictor: Predictor, recording: Recording, timeline: Timeline) -> Result:
    """Return the clip's prediction with its timeline, as `emimic predict` does."""
    (result,) = predictor.predict_decoded([recording], [predictor.read(recording)], batch_seconds=30.0)
    if isinstance(result, Failure):  # removed or changed since
        raise AudioError(result.reason)
    return replace(result, timeline=timeline)


def _predict_each(
    predict: Callable[[Path], Timeline], paths: Sequence[Path], failed: list[str]
) -> list[tuple[Path, Timeline]]:
    """Return the timeline of each readable recording; `failed` gets the reasons of the others."""
    lines = []
    for path in paths:
        try:
            lines.append((path, predict(path)))
        except AudioError as error:
            failed.append(str(error))
    return lines


def _predict_others(
    request: Request, against: Path, predict: Callable[[Path], Timeline], failed: list[str]
) -> list[Timeline]:
    """Return the timelines of the unrelated recordings, without the pair's own files if they are in that folder."""
    pair = {path.resolve() for path in (request.seed, *request.mimics)}
    recordings = list(expand([against]))
    failed += [failure.reason for failure in recordings if isinstance(failure, Failure)]
    paths = [path for path in recordings if isinstance(path, Path) and path.resolve() not in pair]
    lines = _predict_each(predict, paths, failed)
    if not lines:
        raise MimicryError(f"{against}: no recording to compare against; give others, or leave --against out")
    return [line for _, line in lines]


def _predict_channels(
    predictor: Predictor, request: Request, notes: list[str]
) -> list[tuple[Recording, Timeline]]:
    """Return the timelines of the seed's first two channels."""
    waves = [
        decode.load(request.seed, channel=0, notes=notes),
        decode.load(request.seed, channel=1, notes=[]),
    ]
    if np.array_equal(waves[0], waves[1]):
        raise MimicryError(
            f"{request.seed}: both channels are the same, a mono recording in two; give a file for each voice"
        )
    lines = [
        predictor.predict_timeline(
            wave,
            sample_rate=SAMPLE_RATE,
            name=Path(f"{request.seed.stem} channel {number}.wav"),  # a timeline is named by the stem
            progress=request.progress,
        )
        for number, wave in enumerate(waves, 1)
    ]
    return [(Channel(request.seed, number), line) for number, line in enumerate(lines, 1)]


def write_report(report: Report, out: Path, *, plots: bool = True) -> None:
    """Write mimicry.json into the folder `out` and, with `plots`, one plot per pair (PNG, SVG), named after it."""
    make_folder(out)
    text = json.dumps(report.to_dict(), allow_nan=False, ensure_ascii=False)
    write_atomically(out / "mimicry.json", text + "\n")
    if not plots:
        return
    from emimic.mimicry.plots import draw_comparison

    # Each name is shortened before they are joined: a long one would push the other out.
    pairs = [
        f"{make_safe(pair.seed.name, 75)} and {make_safe(pair.mimic.name, 75)}" for pair in report.comparisons
    ]
    names = make_unique(pairs, taken=("mimicry",))
    for pair, name in zip(report.comparisons, names, strict=True):
        write_atomically(out / f"{name}.png", draw_comparison(pair))
        write_atomically(out / f"{name}.svg", draw_comparison(pair, form="svg"))


def show(report: Report) -> None:
    """Print the table, a sentence on each pair, its notes, and what the numbers mean."""
    console = Console()
    table = make_table(report)
    caption, table.caption = table.caption, None  # which would wrap at the width of a narrow table
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    console.width = max(console.width, needed)  # lines that wrap lose nothing
    console.print(table)
    console.print(caption, style="italic", soft_wrap=True)
    for pair in report.comparisons:
        console.print(escape(make_printable(summarize(pair))), soft_wrap=True)
        for note in pair.notes:
            console.print(escape(make_printable(f"  note: {note}")), soft_wrap=True)
    console.print(MEANING, soft_wrap=True)


def make_table(report: Report) -> Table:
    """Return the similarities beside chance and p: one row per dimension for one pair, one row per mimic for several.

    With windowed alignment, a row also has the lag and the fractions of windows that either leads.
    """
    first = report.comparisons[0]
    is_single = len(report.comparisons) == 1
    title = f"{first.seed.name} and {first.mimic.name}" if is_single else f"{first.seed.name} and its mimics"
    draws = "surrogates" if first.chance == "surrogates" else "other recordings"
    caption = f"Chance: {first.settings.level:.0%} of {draws} stay below; * beyond it"
    table = Table(
        title=escape(make_printable(title)), title_justify="left", caption=caption, caption_justify="left"
    )
    table.add_column("Dimension" if is_single else "Overall", no_wrap=True)
    lags = ["Lag (s)", "First leads", "Second leads"] if first.leads else []
    for name in ("Similarity", "Chance", "p", *lags):
        table.add_column(name, justify="right")
    if is_single:
        leads = first.leads or (None,) * (len(first.dimensions) + 1)
        for dimension, lead in zip((*first.dimensions, first.overall), leads, strict=True):
            table.add_row(
                *_format_row(dimension.name, dimension, lead), end_section=dimension is first.dimensions[-1]
            )
    else:
        for pair in report.comparisons:
            lead = pair.leads[-1] if pair.leads else None
            table.add_row(
                *_format_row(pair.mimic.name, pair.overall, lead), end_section=pair is report.comparisons[-1]
            )
        if report.together is not None:
            table.add_row(*_format_row("Mean", report.together, None))
    return table


def _format_row(name: str, dimension: Dimension, lead: Lead | None) -> list[str]:
    """Return a row's texts; a similarity beyond chance is bold and starred."""
    chance = dimension.chance
    value = f"{_format(dimension.similarity)}{'*' if chance.beyond else ' '}"
    texts = [
        escape(make_printable(name)),
        f"[bold]{value}[/bold]" if chance.beyond else value,
        _format(chance.high),
        _format(chance.p, ".3f"),
    ]
    if lead is not None:
        texts += [
            _format(lead.lag, "+.1f"),
            _format(lead.seed_leads, ".0%"),
            _format(lead.mimic_leads, ".0%"),
        ]
    return texts


def _format(value: float, form: str = ".2f") -> str:
    """Return a number as text, NaN as a dash."""
    return format(value, form) if np.isfinite(value) else "-"
