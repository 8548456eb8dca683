"""NOVA's and SSI's streams: all dimensions of a recording in one `.stream` (XML) and `.stream~` (float32)."""

from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from emimic.files import write_atomically
from emimic.inference.results import Result
from emimic.inference.steps import Steps
from emimic.output.formats.common import Format
from emimic.output.formats.nova import SLACK


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.stream and `stem`.stream~: one row per hop from the recording's start, NaN in silence.

    Row k is for k/sr to (k+1)/sr seconds. The dimensions are in the order of the header's `names`. Values are not
    clipped.
    """
    grid = result.to_steps()
    hop = result.covered if result.timeline is None else result.timeline.hop
    values = make_rows(grid, hop)
    path = folder / f"{stem}.stream"
    data = path.with_name(path.name + "~")
    # The values first: a header without them would be taken for a complete stream.
    write_atomically(data, values.tobytes())
    write_atomically(path, _make_header(grid.names, hop, len(values)))
    return [path, data]


def make_rows(grid: Steps, hop: float) -> NDArray[np.float32]:
    """Return the values (row, dimension) of a recording from its start, one row every `hop` seconds."""
    rows = np.floor((grid.times + SLACK) / hop).astype(np.int64)
    count = max(int(grid.total / 1000 / hop + 0.5), int(rows.max(initial=0)) + 1)
    values: NDArray[np.float32] = np.full((count, len(grid.names)), np.nan, dtype="<f4")
    values[rows] = grid.values
    return values


def _make_header(names: tuple[str, ...], hop: float, count: int) -> str:
    """Return the XML of a stream of `count` rows, one every `hop` seconds."""
    root = ElementTree.Element("stream", {"ssi-v": "2"})
    info = {"ftype": "BINARY", "sr": f"{1 / hop:.10g}", "dim": str(len(names)), "byte": "4", "type": "FLOAT"}
    ElementTree.SubElement(root, "info", {**info, "delim": ";"})
    ElementTree.SubElement(root, "meta", {"type": "feature", "names": ";".join(names)})
    times = {"from": "0.000", "to": f"{count * hop:.3f}"}
    ElementTree.SubElement(root, "chunk", {**times, "byte": "0", "num": str(count)})
    ElementTree.indent(root)
    return '<?xml version="1.0" ?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


FORMAT: Final = Format("stream", "NOVA: all dimensions as one stream", write, aliases=("ssi", "nova-stream"))
