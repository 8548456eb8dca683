"""Praat TextGrid: tiers for the voice segments, each dimension (one labeled interval per step), and sentences."""

from pathlib import Path
from typing import Final

from emimic.files import make_one_line, replace_atomically
from emimic.inference.results import Result
from emimic.output.extras import Extra
from emimic.output.formats.common import Format, import_library, list_tiers


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.TextGrid in Praat's long text form, UTF-8; a silent step is an interval without a label."""
    # Of praatio, pympi and textgrid only praatio doubles the quotes in a tier's name, as Praat requires.
    textgrid = import_library("praatio.textgrid", "textgrid")
    tiers = list_tiers(result)
    total = max(1, round(result.seconds * 1000))
    grids = textgrid.Textgrid()
    for name, pieces in tiers.items():
        seconds = [(start / 1000, end / 1000, make_one_line(text)) for start, end, text in pieces]
        grids.addTier(textgrid.IntervalTier(name, seconds, 0, total / 1000))
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
