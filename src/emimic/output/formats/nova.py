"""NOVA annotation pairs, one a dimension: `.annotation` (XML, CONTINUOUS) and `.annotation~` (score;confidence)."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from emimic.files import write_atomic
from emimic.inference.results import Result
from emimic.output.formats.names import safe, unique

_SLACK = 1e-6  # seconds: floating-point steps that should fall on a line's start may fall just before it


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """`stem`.<dimension>.annotation and `stem`.<dimension>.annotation~; intensities a line a hop, VAD a line a frame.

    Line k holds for the stretch from k/sr to (k+1)/sr seconds. Confidence is 1, in a gap 0 with the score NaN, as NOVA
    writes what is not labelled. Scores are clipped to the range that the scheme names, 0 to 1.
    """
    grid = result.steps()
    line = result.timeline
    hop = result.covered if line is None else line.hop
    curves = [(hop, grid.times, grid.values[:, column]) for column in range(grid.n_targets)]
    vad = result.vad_frames
    if vad is not None:
        times, values = vad
        hop = float(np.median(np.diff(times))) if len(times) > 1 else grid.total / 1000
        curves += [(hop, times, values[:, column]) for column in range(values.shape[1])]
    schemes = unique(name.lower().replace(" ", "_") for name in grid.names)
    written = []
    for scheme, (hop, times, values) in zip(schemes, curves, strict=True):
        scores = _lines(hop, times, values, grid.total / 1000)
        path = folder / f"{stem}.{safe(scheme)}.annotation"
        data = path.with_name(path.name + "~")
        # The scores first: a header without them would be taken for a whole annotation.
        write_atomic(data, "".join("NaN;0\n" if np.isnan(s) else f"{s:.6g};1\n" for s in scores))
        write_atomic(path, _header(scheme, 1 / hop, len(scores)))
        written += [path, data]
    return written


def _lines(
    hop: float, times: NDArray[np.float64], values: NDArray[np.float64], seconds: float
) -> NDArray[np.float64]:
    """Values at their centers (step,) -> (line,) from the recording's start to its end, NaN where there is none."""
    where = np.floor((times + _SLACK) / hop).astype(np.int64)
    scores = np.full(max(int(seconds / hop + 0.5), where.max(initial=0) + 1), np.nan)
    scores[where] = values.clip(0.0, 1.0)
    return scores


def _header(scheme: str, rate: float, size: int) -> str:
    root = ElementTree.Element("annotation", {"ssi-v": "3"})
    ElementTree.SubElement(root, "info", {"ftype": "ASCII", "size": str(size)})
    ElementTree.SubElement(root, "meta", {"role": "", "annotator": "emimic"})
    # NOVA reads these numbers in the user's language: whole ones need no decimal point.
    limits = {"sr": f"{rate:.10g}", "min": "0", "max": "1"}
    ElementTree.SubElement(root, "scheme", {"name": scheme, "type": "CONTINUOUS", **limits})
    ElementTree.indent(root)
    return '<?xml version="1.0" ?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
