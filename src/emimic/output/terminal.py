"""Results in the terminal: a row a clip, a bar an intensity; over time a small curve in its place."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emimic.files import printable
from emimic.inference.results import UNLIKE, Result, Results
from emimic.progress import BAR_CHARACTERS, BAR_WIDTH, text_bar
from emimic.task import VAD

_CURVE: Final = " ▁▂▃▄▅▆▇█"
_ASCII_CURVE: Final = " .:-=+*%#"
"""For a terminal whose encoding lacks them (Windows in cp1252, LC_ALL=C)."""
_UNLIKE: Final = "?"
_SHORT: Final = {UNLIKE: _UNLIKE}
_BROKEN: Final = {
    "Admiration": "Admi-\nration", "Amusement": "Amuse-\nment", "Determination": "Determi-\nnation",
    "Empathic Pain": "Empathic\nPain", "Excitement": "Excite-\nment",
    "Dominance": "Domi-\nnance",
}  # fmt: skip
"""Names that are wider than a bar, in two lines, so that the six fit a window of 80 columns."""


def show(results: Results, form: str) -> None:
    """Print results as `table`, `csv` (with curves a row a step) or `json` on standard output."""
    if form != "table":
        from emimic.output import formats

        curves = any(result.timeline is not None for result in results.clips)
        as_csv = formats.steps_to_csv if curves else formats.to_csv
        print(as_csv(results) if form == "csv" else formats.to_json(results), end="")  # noqa: T201
    elif results.clips:
        console = Console()
        # What there is room for: in a narrower window cells would be cropped and columns vanish.
        for bars, vad in ((True, True), (True, False), (False, False)):
            drawn = table(
                results, bars=bars, vad=vad, ascii_only=not _shows(console, BAR_CHARACTERS + _CURVE)
            )
            if not console.is_terminal or _width(console, drawn) <= console.width:
                break
        console.width = max(console.width, _width(console, drawn))  # lines that wrap lose nothing
        console.print(drawn)


def table(results: Results, *, bars: bool = True, vad: bool = True, ascii_only: bool = False) -> Table:
    """A row a clip: name, length, intensities, and means of VAD where the model has learned it; the strongest is bold.

    bars: draw each intensity from 0 to 1 below its number or, where there is a timeline, its curve over the recording
    (blank is silence). vad: False leaves VAD out, which the caption then says. ascii_only: draw with ASCII characters.
    """
    curves = any(result.timeline is not None for result in results.clips)
    drawn = "curves" if curves else "bars"
    known = any(result.prediction.vad is not None for result in results.clips)
    bases = {result.headline.basis for result in results.clips if result.was_cut}
    caption = "intensities of a whole clip" + (f"; {drawn} from 0 to 1" if bars else "")
    if bases:
        caption += f"; of longer recordings, as marked: {' or '.join(sorted(bases))}"
    caption += "" if vad or not known else f"; {', '.join(VAD).lower()} in a wider window, or --format json"
    if any(UNLIKE in result.marks for result in results.clips):
        caption += f"; {_UNLIKE}: {UNLIKE}, its values deserve less trust"
    made = Table(caption=caption, caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    made.add_column("Filename", min_width=10, max_width=None if bars else 16, overflow="fold")
    made.add_column("s", justify="right", no_wrap=True)
    for name in (*results.targets, *(VAD if vad and known else ())):
        head = _BROKEN.get(name, escape(name))
        made.add_column(
            head, min_width=BAR_WIDTH if bars else 6, max_width=None if bars else 8, overflow="fold"
        )
    for name, result in zip(results.names, results.clips, strict=True):
        headline = result.headline
        marks = [mark for mark in result.marks if mark != headline.basis]
        # The last cells of a row may be missing; then rich leaves them blank.
        made.add_row(
            # What the values are about stands below the name, where there is room for it.
            escape(printable(name)) + (f"\n[dim]{headline.basis}[/dim]" if result.was_cut else ""),
            "\n".join([f"{result.seconds:.1f}", *(_SHORT.get(mark, mark) for mark in marks)]),
            *_intensities(result, bars=bars, ascii_only=ascii_only),
            *([] if headline.vad is None or not vad else [_number(v) for v in headline.vad]),
        )
    return made


def curve(values: NDArray[np.floating[Any]], *, ascii_only: bool = False) -> str:
    """Values (step,) from 0 to 1 as a small curve, each character the mean of its stretch; silence is blank."""
    parts = np.array_split(values, min(BAR_WIDTH, len(values)))
    means = [float(np.nanmean(part)) if np.isfinite(part).any() else None for part in parts]
    levels = _ASCII_CURVE if ascii_only else _CURVE
    top = len(levels) - 2  # the least value is seen too
    return "".join(
        " " if mean is None else levels[1 + round(min(max(mean, 0.0), 1.0) * top)] for mean in means
    )


def _intensities(result: Result, *, bars: bool, ascii_only: bool) -> list[str]:
    values = result.headline.intensities
    cells = []
    for i, value in enumerate(values):
        text = f"[bold]{_number(value)}[/bold]" if i == int(np.argmax(values)) else _number(value)
        line = result.timeline
        drawn = (
            text_bar(float(value), ascii_only=ascii_only)
            if line is None
            else curve(line.intensities[:, i], ascii_only=ascii_only)
        )
        cells.append(f"{text}\n{drawn}" if bars else text)
    return cells


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "-"


def _shows(console: Console, text: str) -> bool:
    """Whether the terminal's encoding has these characters."""
    try:
        text.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _width(console: Console, drawn: Table) -> int:
    """The least columns in which nothing of a table is cropped."""
    return console.measure(drawn, options=console.options.update(width=1000)).minimum
