"""Praat TextGrid: a tier for the voice segments, then one a dimension with an interval a step, its value as label."""

from pathlib import Path

from emimic.files import atomic
from emimic.inference.results import Result
from emimic.output.formats.common import VOICE_SEGMENTS, label, library


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """`stem`.TextGrid in Praat's long text form, UTF-8; a gap is an interval without a label."""
    # Of praatio, pympi and textgrid only praatio doubles the quotes in a tier's name, as Praat wants.
    textgrid = library("praatio.textgrid", "textgrid")
    grid = result.steps()
    tiers = {VOICE_SEGMENTS: [(start, end, "voice") for start, end in grid.voice_segments]}
    for column, name in enumerate(grid.names):
        tiers[name] = [(start, end, label(value)) for start, end, value in grid.pieces(column)]
    whole = textgrid.Textgrid()
    for name, pieces in tiers.items():
        seconds = [(start / 1000, end / 1000, text) for start, end, text in pieces]
        whole.addTier(textgrid.IntervalTier(name, seconds, 0, grid.total / 1000))
    path = folder / f"{stem}.TextGrid"
    with atomic(path) as temporary:
        whole.save(str(temporary), format="long_textgrid", includeBlankSpaces=True)
    return [path]
