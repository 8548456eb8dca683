"""ELAN's time series viewer: timelines as CSV, their configuration (`_tsconf.xml`), and an .eaf linked to both."""

from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np

from emimic.files import write_atomically
from emimic.inference.results import Result
from emimic.inference.steps import Steps
from emimic.output.extras import Extra
from emimic.output.formats import elan
from emimic.output.formats.common import SENTENCES, VOICE_SEGMENTS, Format, list_tiers

_PROVIDER: Final = "mpi.eudico.client.annotator.timeseries.csv.CSVServiceProvider"
_COLORS: Final = (
    "0,90,181", "220,50,32", "0,128,64", "146,84,0", "111,45,168", "0,0,0", "0,140,149", "200,0,120", "110,110,110",
)  # fmt: skip


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write `stem`-series.csv, `stem`-series_tsconf.xml and `stem`-series.eaf.

    The .eaf has the voice segments and the sentences, if any, as annotations, and no annotation per step. ELAN finds
    them by absolute paths.
    """
    grid = result.to_steps()
    name = f"{stem}-series"
    table, config, document = (folder / f"{name}{end}" for end in (".csv", "_tsconf.xml", ".eaf"))
    tiers = {
        tier: pieces for tier, pieces in list_tiers(result).items() if tier in (VOICE_SEGMENTS, SENTENCES)
    }
    links = ((table, "text/plain"), (config, "text/xml"))
    text = elan.render_tiers(result, tiers, folder if result.path.is_file() else None, links)
    write_atomically(table, _make_table(grid))
    write_atomically(config, _make_config(grid, table))
    write_atomically(document, text)
    return [document, table, config]


def _make_table(grid: Steps) -> str:
    """Return one line per step: seconds of its center, and the values, NaN in silence, which ELAN leaves empty.

    The reader of ELAN skips lines that start with `#`, and takes numbers with a point for seconds.
    """
    lines = [f"# {','.join(('Seconds', *grid.names))}"]
    lines += [
        ",".join([f"{time:.3f}", *("NaN" if np.isnan(value) else f"{value:.5f}" for value in values)])
        for time, values in zip(grid.times, grid.values, strict=True)
    ]
    return "\n".join(lines) + "\n"


def _make_config(grid: Steps, table: Path) -> str:
    """Return the XML that describes the timelines: one track per dimension, from 0 to 1.

    The sample type is discontinuous: ELAN rounds the rate of a continuous one to a whole number per second.
    """
    root = ElementTree.Element("timeseries", {"version": "1.0"})
    source = ElementTree.SubElement(
        root,
        "tracksource",
        {"sample-type": "Discontinuous Rate", "source-url": elan.make_address(table), "time-column": "0"},
    )
    ElementTree.SubElement(source, "property", {"key": "provider", "value": _PROVIDER})
    for column, name in enumerate(grid.names):
        track = ElementTree.SubElement(source, "track", {"derivative": "0", "name": name})
        ElementTree.SubElement(track, "property", {"key": "detect-range", "value": "false"})
        position = ElementTree.SubElement(track, "sample-position")
        ElementTree.SubElement(position, "pos", {"row": "0", "col": str(column + 1)})
        ElementTree.SubElement(track, "description").text = f"{name}, predicted by emimic"
        ElementTree.SubElement(track, "units")
        ElementTree.SubElement(track, "range", {"min": "0.0", "max": "1.0"})
        ElementTree.SubElement(track, "color").text = _COLORS[column % len(_COLORS)]
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


FORMAT: Final = Format(
    "elan-series",
    "ELAN: lines for its time series viewer, linked to the recording",
    write,
    aliases=("tsconf", "eaf-series"),
    extra=Extra("formats", "ELAN files", ("pympi",)),
)
