"""Praat TextGrid: a tier for the voice segments, then one tier per dimension with one labeled interval per step."""

from pathlib import Path
from typing import Final

from emimic.files import replace_atomically
from emimic.inference.results import Result
from emimic.output.extras import Extra
from emimic.output.formats.common import VOICE_SEGMENTS, Format, format_value, import_library


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.TextGrid in Praat's long text form, UTF-8; a silent step is an interval without a label."""
    # Of praatio, pympi and textgrid only praatio doubles the quotes in a tier's name, as Praat requires.
    textgrid = import_library("praatio.textgrid", "textgrid")
    grid = result.to_steps()
    tiers = {VOICE_SEGMENTS: [(start, end, "voice") for start, end in grid.voice_segments]}
    for column, name in enumerate(grid.names):
        tiers[name] = [(start, end, format_value(value)) for start, end, value in grid.list_pieces(column)]
    grids = textgrid.Textgrid()
    for name, pieces in tiers.items():
        seconds = [(start / 1000, end / 1000, text) for start, end, text in pieces]
        grids.addTier(textgrid.IntervalTier(name, seconds, 0, grid.total / 1000))
    path = folder / f"{stem}.TextGrid"
    with replace_atomically(path) as temporary:
        grids.save(str(temporary), format="long_textgrid", includeBlankSpaces=True)
    return [path]


FORMAT: Final = Format(
    "textgrid",
    "Praat TextGrid: one tier per dimension",
    write,
    aliases=("praat",),
    extra=Extra("formats", "Praat TextGrids", ("praatio",)),
)
