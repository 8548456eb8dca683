"""The files of `emimic predict --out`: tables, timelines in other formats, plots, HTML pages."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from emimic.files import write_atomically
from emimic.inference.inputs import read_content
from emimic.inference.results import Results
from emimic.media import decode
from emimic.output import extras, formats
from emimic.output.formats import json_csv
from emimic.output.html_video import Mode
from emimic.progress import show_progress

PLOT: Final = "plot"
"""Key of the plots in `find_missing`, beside the formats' names."""


def check_formats(kinds: Sequence[str]) -> None:
    """Raise EmimicError for an unknown format, before the long work."""
    for kind in kinds:
        formats.resolve(kind)


def needs_intervals(kinds: Iterable[str]) -> bool:
    """Return True if a format is of prediction intervals, which only some models have."""
    return json_csv.INTERVALS.name in map(formats.resolve, kinds)


def find_missing(kinds: Iterable[str], *, plot: bool) -> dict[str, str]:
    """Return a message about the missing extra for each format, and for PLOT, that can't be written here."""
    missing = formats.describe_missing(kinds)
    if plot and (message := extras.PLOTS.describe_missing()):
        missing[PLOT] = message
    return missing


def write_files(
    results: Results,
    out: Path,
    kinds: Sequence[str],
    *,
    plot: bool,
    html: bool,
    video: Mode | None = None,
    progress: bool = False,
) -> list[str]:
    """Write the tables and results.json of all results, and each recording's files, into the folder `out`.

    Each recording is decoded again for its waveform, block by block.

    Args:
        results: of any number of recordings.
        out: the folder; made if it is missing.
        kinds: formats of each recording's timeline.
        plot: write a plot (PNG, SVG) of each recording.
        html: write an HTML page of each recording.
        video: show each recording's video in its page.
        progress: show progress bars on standard error.

    Returns:
        Notes for the user that no result contains.

    Raises:
        EmimicError: see `formats.write`, `plots.plot_result` and `html_page.make_page`.
        OSError: a recording can't be read.
    """
    notes: list[str] = []
    formats.write_all(results, out, kinds, progress=progress)
    if not (plot or html):
        return notes
    from emimic.output import html_page, html_sound, html_video, plots

    names = formats.make_unique((clip.name for clip in results.clips), taken=formats.TAKEN)
    clips = zip(results.clips, names, strict=True)
    for result, name in show_progress(clips, "plots", total=len(results.clips), show=progress):
        source = read_content(result.path)
        channel = result.channel and result.channel - 1
        wave = plots.compute_envelope(
            decode.load_blocks(source, name=str(result.path), channel=channel, notes=[])
        )
        if plot:
            write_atomically(out / f"{name}.png", plots.plot_result(result, wave, form="png"))
            write_atomically(out / f"{name}.svg", plots.plot_result(result, wave, form="svg"))
        if html:
            page_notes: list[str] = []
            sound, media_type = html_sound.make_playable(source, channel=channel, notes=page_notes)
            address, reason = html_video.make_address(source, out, video) if video else (None, None)
            page_notes += [f"{result.path}: {reason}"] if reason else []
            notes += [note for note in page_notes if note not in result.notes]
            text = html_page.make_page(result, sound, media_type, wave, video=address)
            write_atomically(out / f"{name}.html", text)
    return notes
