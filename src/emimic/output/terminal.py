"""Results in the terminal: one row per clip, with a bar or a small timeline for each intensity."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emimic.files import make_printable
from emimic.inference.results import UNLIKE, Result, Results, Timeline
from emimic.progress import BAR_CHARACTERS, BAR_WIDTH, draw_bar
from emimic.task import VAD

_LEVELS: Final = " ▁▂▃▄▅▆▇█"
_ASCII_LEVELS: Final = " .:-=+*%#"
"""For encodings without the characters of _LEVELS (Windows in cp1252, LC_ALL=C)."""
_UNLIKE: Final = "?"
_QUOTED: Final = 40
"""Characters of the words that are shown below a name."""

_SHORT: Final = {UNLIKE: _UNLIKE}
_BROKEN: Final = {
    "Admiration": "Admi-\nration", "Amusement": "Amuse-\nment", "Determination": "Determi-\nnation",
    "Empathic Pain": "Empathic\nPain", "Excitement": "Excite-\nment",
    "Dominance": "Domi-\nnance",
}  # fmt: skip
"""Names wider than a bar, in two lines, so that the six targets fit 80 columns."""


def show(results: Results, form: str) -> None:
    """Print results as `table`, `csv` (a row per clip, step or sentence) or `json` on standard output."""
    if form != "table":
        from emimic.output import formats

        has_timelines = any(result.timeline is not None for result in results.clips)
        has_sentences = any(result.sentences is not None for result in results.clips)
        as_csv = formats.to_steps_csv if has_timelines else formats.to_csv
        as_csv = formats.to_sentences_csv if has_sentences else as_csv
        print(as_csv(results) if form == "csv" else formats.to_json(results), end="")  # noqa: T201
    elif results.clips:
        console = Console()
        # Leave out columns and bars in a narrow window, where they would be cropped.
        for bars, vad in ((True, True), (True, False), (False, False)):
            ascii_only = not _can_encode(console, BAR_CHARACTERS + _LEVELS)
            make = make_table if results.clips[0].sentences is None else make_sentence_table
            table = make(results, bars=bars, vad=vad, ascii_only=ascii_only)
            if not console.is_terminal or _measure_width(console, table) <= console.width:
                break
        console.width = max(console.width, _measure_width(console, table))  # lines that wrap lose nothing
        console.print(table)


def make_table(results: Results, *, bars: bool = True, vad: bool = True, ascii_only: bool = False) -> Table:
    """Return a table with one row per clip: name, length, intensities (the highest is bold), and V/A/D means if any.

    Args:
        results: of any number of clips.
        bars: draw each intensity from 0 to 1 below its number or, if there is one, its timeline (blank: silence).
        vad: False leaves V/A/D out; the caption then names them.
        ascii_only: draw with ASCII characters.
    """
    has_timelines = any(result.timeline is not None for result in results.clips)
    drawn = "timelines" if has_timelines else "bars"
    has_vad = any(result.prediction.vad is not None for result in results.clips)
    bases = {result.headline.basis for result in results.clips if result.was_cut}
    caption = "intensities of a whole clip" + (f"; {drawn} from 0 to 1" if bars else "")
    if bases:
        caption += f"; of longer recordings, as marked: {' or '.join(sorted(bases))}"
    caption += "" if vad or not has_vad else f"; {', '.join(VAD).lower()} in a wider window, or --format json"
    if any(UNLIKE in result.marks for result in results.clips):
        caption += f"; {_UNLIKE}: {UNLIKE}, its values deserve less trust"
    table = Table(caption=caption, caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("Filename", min_width=10, max_width=None if bars else 16, overflow="fold")
    table.add_column("s", justify="right", no_wrap=True)
    _add_value_columns(table, (*results.targets, *(VAD if vad and has_vad else ())), bars=bars)
    for name, result in zip(results.names, results.clips, strict=True):
        headline = result.headline
        marks = [mark for mark in result.marks if mark != headline.basis]
        # Rich leaves missing columns at the end of a row blank.
        table.add_row(
            # The basis of the values is below the name, where there is space for it.
            escape(make_printable(name)) + _describe(result),
            "\n".join([f"{result.seconds:.1f}", *(_SHORT.get(mark, mark) for mark in marks)]),
            *_draw_values(headline.intensities, result.timeline, bars=bars, ascii_only=ascii_only),
            *([] if headline.vad is None or not vad else [_format(v) for v in headline.vad]),
        )
    return table


def make_sentence_table(
    results: Results, *, bars: bool = True, vad: bool = True, ascii_only: bool = False
) -> Table:
    """Return a table with one row per sentence: recording, times, words, intensities, and V/A/D means if any.

    Arguments are as in `make_table`.
    """
    has_vad = any(s.vad is not None for result in results.clips for s in result.sentences or ())
    caption = "intensities of each sentence's sound" + ("; bars from 0 to 1" if bars else "")
    caption += "" if vad or not has_vad else f"; {', '.join(VAD).lower()} in a wider window, or --format json"
    table = Table(caption=caption, caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("Filename", min_width=10, max_width=None if bars else 16, overflow="fold")
    table.add_column("from", justify="right", no_wrap=True)
    table.add_column("to", justify="right", no_wrap=True)
    table.add_column("words", min_width=12, max_width=40 if bars else 20, overflow="fold")
    _add_value_columns(table, (*results.targets, *(VAD if vad and has_vad else ())), bars=bars)
    for name, result in zip(results.names, results.clips, strict=True):
        for sentence in result.sentences or ():
            table.add_row(
                escape(make_printable(name)),
                f"{sentence.start:.1f}",
                f"{sentence.end:.1f}",
                escape(make_printable(sentence.text)),
                *_draw_values(sentence.intensities, bars=bars, ascii_only=ascii_only),
                *([] if sentence.vad is None or not vad else [_format(v) for v in sentence.vad]),
            )
    return table


def _add_value_columns(table: Table, names: Sequence[str], *, bars: bool) -> None:
    for name in names:
        head = _BROKEN.get(name, escape(name))
        table.add_column(
            head, min_width=BAR_WIDTH if bars else 6, max_width=None if bars else 8, overflow="fold"
        )


def draw_line(values: NDArray[np.floating[Any]], *, ascii_only: bool = False) -> str:
    """Draw values (step,) from 0 to 1 as block characters, each the mean of some steps; silence is blank."""
    parts = np.array_split(values, min(BAR_WIDTH, len(values)))
    means = [float(np.nanmean(part)) if np.isfinite(part).any() else None for part in parts]
    levels = _ASCII_LEVELS if ascii_only else _LEVELS
    top = len(levels) - 2  # the lowest level is visible too
    return "".join(
        " " if mean is None else levels[1 + round(min(max(mean, 0.0), 1.0) * top)] for mean in means
    )


def _describe(result: Result) -> str:
    """Return what stands below a recording's name: the basis of its values, and the words that are used."""
    lines = [result.headline.basis] if result.was_cut else []
    if result.speech is not None:
        words = make_printable(result.speech.text)
        lines.append(f'"{words[:_QUOTED]}{"..." if len(words) > _QUOTED else ""}"' if words else "no words")
    return "".join(f"\n[dim]{escape(line)}[/dim]" for line in lines)


def _draw_values(
    values: NDArray[np.floating[Any]], timeline: Timeline | None = None, *, bars: bool, ascii_only: bool
) -> list[str]:
    """Return the texts of a row's intensities, (target,)."""
    texts = []
    for i, value in enumerate(values):
        text = f"[bold]{_format(value)}[/bold]" if i == int(np.argmax(values)) else _format(value)
        drawn = (
            draw_bar(float(value), ascii_only=ascii_only)
            if timeline is None
            else draw_line(timeline.intensities[:, i], ascii_only=ascii_only)
        )
        texts.append(f"{text}\n{drawn}" if bars else text)
    return texts


def _format(value: float) -> str:
    """Return a number with two decimals, NaN as a dash."""
    return f"{value:.2f}" if np.isfinite(value) else "-"


def _can_encode(console: Console, text: str) -> bool:
    """Return True if the terminal's encoding has these characters."""
    try:
        text.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _measure_width(console: Console, table: Table) -> int:
    """Return the minimum number of columns that crops nothing of a table."""
    return console.measure(table, options=console.options.update(width=1000)).minimum
