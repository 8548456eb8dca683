"""The folder that `emimic predict --out` fills: tables, the field's formats, pictures, pages."""

from collections.abc import Sequence
from pathlib import Path

from emimic.files import write_atomic
from emimic.inference.inputs import read_content
from emimic.inference.results import Results
from emimic.media import decode
from emimic.output import formats
from emimic.output.html_video import Mode
from emimic.progress import shown


def check(kinds: Sequence[str]) -> None:
    """Raise EmimicError for an unknown format, before the long work."""
    for kind in kinds:
        formats.named(kind)


def write(
    results: Results,
    out: Path,
    kinds: Sequence[str],
    *,
    plot: bool,
    html: bool,
    video: Mode | None = None,
    progress: bool = False,
) -> list[str]:
    """Into the folder `out` intensities.csv, results.json and, for each recording, the formats in `kinds`; with plot
    its picture (PNG, SVG), with html its page, which shows its video too, linked or embedded.

    Each recording is read again for its waveform, block by block. Returns notes for the user that no result holds.
    Raises EmimicError (see `formats.write`, `pictures` and `page`) and OSError.
    """
    notes: list[str] = []
    formats.write_all(results, out, kinds, progress=progress)
    if not (plot or html):
        return notes
    from emimic.output import html_page, html_video, plots

    names = formats.unique((a.name for a in results.clips), taken=("intensities", "results"))
    clips = zip(results.clips, names, strict=True)
    for result, name in shown(clips, "pictures", total=len(results.clips), show=progress):
        source = read_content(result.path)
        channel = result.channel and result.channel - 1
        wave = plots.envelope(decode.blocks(source, name=str(result.path), channel=channel, notes=[]))
        if plot:
            write_atomic(out / f"{name}.png", plots.timeline(result, wave, form="png"))
            write_atomic(out / f"{name}.svg", plots.timeline(result, wave, form="svg"))
        if html:
            found: list[str] = []
            sound, media_type = html_page.playable(source, channel=channel, notes=found)
            notes += [note for note in found if note not in result.notes]
            shown_video, trouble = html_video.address(source, out, video) if video else (None, None)
            notes += [f"{result.path}: {trouble}"] if trouble else []
            text = html_page.page(result, sound, media_type, wave, video=shown_video)
            write_atomic(out / f"{name}.html", text)
    return notes
