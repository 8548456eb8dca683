"""Praat TextGrid: tiers for the voice segments, each dimension (one labeled interval per step), and sentences."""

from pathlib import Path
from typing import Final

from emimic.files import make_one_line, replace_atomically
from emimic.inference.results import Result
from emimic.output.extras import Extra
from emimic.output.formats.common import Format, import_library, list_tiers


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.TextGrid in Praat's long text form, UTF-8; a silent step is an interval without a label."""
    path = folder / f"{stem}.TextGrid"
    with replace_atomically(path) as temporary:
        temporary.write_text(render(result), encoding="utf-8")
    return [path]


def render(result: Result) -> str:
    """Return the tiers in Praat's long text form."""
    # Of praatio, pympi and textgrid only praatio doubles the quotes in a tier's name, as Praat requires.
    textgrid = import_library("praatio.textgrid", "textgrid")
    files = import_library("praatio.utilities.textgrid_io", "textgrid")
    total = max(1, round(result.seconds * 1000)) / 1000
    grids = textgrid.Textgrid()
    for name, pieces in list_tiers(result).items():
        seconds = [(start / 1000, end / 1000, make_one_line(text)) for start, end, text in pieces]
        grids.addTier(textgrid.IntervalTier(name, seconds, 0, total))
    tiers = [
        {
            "class": tier.tierType, "name": tier.name, "entries": tier.entries,
            "xmin": tier.minTimestamp, "xmax": tier.maxTimestamp,
        }
        for tier in grids.tiers
    ]  # fmt: skip
    fields = {"xmin": grids.minTimestamp, "xmax": grids.maxTimestamp, "tiers": tiers}
    text: str = files.getTextgridAsStr(fields, "long_textgrid", includeBlankSpaces=True)
    return text


FORMAT: Final = Format(
    "textgrid",
    "Praat TextGrid: one tier per dimension",
    write,
    aliases=("praat",),
    extra=Extra("formats", "Praat TextGrids", ("praatio",)),
    render=render,
)
