"""The folder that `emimic predict --out` fills: tables, the field's formats, pictures, pages."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from emimic import audio
from emimic.files import write_atomic
from emimic.install import install
from emimic.progress import shown
from emimic.service import formats
from emimic.service.page_video import Mode
from emimic.service.paths import content
from emimic.service.results import Answers
from emimic.task import EmimicError


def check(kinds: Sequence[str], *, plot: bool) -> None:
    """Before the long work: raises EmimicError for an unknown format, or without matplotlib for pictures."""
    for kind in kinds:
        formats.named(kind)
    if plot and find_spec("matplotlib") is None:
        raise EmimicError(f"--plot draws with matplotlib, which is not installed: {install('service')}")


def write(
    answers: Answers,
    out: Path,
    kinds: Sequence[str],
    *,
    plot: bool,
    html: bool,
    video: Mode | None = None,
    progress: bool = False,
) -> list[str]:
    """Into the folder `out` intensities.csv, answers.json and, for each recording, the formats in `kinds`; with plot
    its picture (PNG, SVG), with html its page, which shows its video too, linked or embedded. Returns notes for the
    user.

    Each recording is read again for its waveform, block by block. Raises EmimicError (see `formats.write`, `pictures`
    and `page`) and OSError.
    """
    formats.write_all(answers, out, kinds, progress=progress)
    notes: list[str] = []
    if not (plot or html):
        return notes
    from emimic.service import page, page_video, pictures

    names = formats.unique((a.name for a in answers.clips), taken=("intensities", "answers"))
    clips = zip(answers.clips, names, strict=True)
    for answer, name in shown(clips, "pictures", total=len(answers.clips), show=progress):
        source = content(answer.path)
        channel = answer.channel and answer.channel - 1
        wave = pictures.envelope(audio.blocks(source, name=str(answer.path), channel=channel))
        if plot:
            write_atomic(out / f"{name}.png", pictures.timeline(answer, wave, form="png"))
            write_atomic(out / f"{name}.svg", pictures.timeline(answer, wave, form="svg"))
        if html:
            sound, media_type = page.playable(source, channel=channel)
            shown_video, note = page_video.address(source, out, video) if video else (None, None)
            notes += [f"{answer.path}: {note}"] if note else []
            text = page.page(answer, sound, media_type, wave, video=shown_video)
            write_atomic(out / f"{name}.html", text)
    return notes
