"""NOVA: one annotation pair per dimension, `.annotation` (XML, CONTINUOUS) and `.annotation~` (score;confidence)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from emimic.files import write_atomically
from emimic.inference.results import Result
from emimic.output.formats.common import Format
from emimic.output.formats.names import make_safe, make_unique
from emimic.task import VAD

SLACK: Final = 1e-6  # seconds: rounding may put a step just before the line that it starts


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.<dimension>.annotation and `stem`.<dimension>.annotation~.

    There is one line per hop; for V/A/D of frames one line per frame. Line k is for k/sr to (k+1)/sr seconds. The
    confidence is 1 less the width of the prediction interval, or 1 if the model has none; in a silent step it is 0 and
    the score NaN, as for NOVA's unlabeled lines. Scores are clipped to the scheme's range, 0 to 1.
    """
    grid = result.to_steps()
    timeline = result.timeline
    hop = result.covered if timeline is None else timeline.hop
    series = [(hop, grid.times, grid.values[:, column]) for column in range(grid.n_targets)]
    vad = result.vad_frames
    if vad is not None:
        times, values = vad
        if not np.array_equal(times, grid.times):
            hop = float(np.median(np.diff(times))) if len(times) > 1 else grid.total / 1000
        series += [(hop, times, values[:, column]) for column in range(values.shape[1])]
    schemes = make_scheme_names(grid.names)
    written = []
    dimensions = (*result.targets, *VAD)[: len(series)]
    for scheme, dimension, (hop, times, values) in zip(schemes, dimensions, series, strict=True):
        scores = _make_lines(hop, times, values, grid.total / 1000)
        path = folder / f"{stem}.{make_safe(scheme)}.annotation"
        data = path.with_name(path.name + "~")
        # The scores first: a header without them would be taken for a complete annotation.
        confidence = _compute_confidence(result, dimension, scores)
        lines = zip(scores, confidence, strict=True)
        write_atomically(data, "".join("NaN;0\n" if np.isnan(s) else f"{s:.6g};{c:.3g}\n" for s, c in lines))
        write_atomically(path, _make_header(scheme, 1 / hop, len(scores)))
        written += [path, data]
    return written


def make_scheme_names(names: Iterable[str]) -> list[str]:
    """Return the names of the dimensions' schemes, such as empathic_pain."""
    return make_unique(name.lower().replace(" ", "_") for name in names)


def _compute_confidence(result: Result, dimension: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 less the width of the prediction interval of each score (line,); 1 without an interval."""
    if result.intervals is None:
        return np.ones(len(scores))
    low, high = result.intervals.compute([dimension], scores[:, None])[:, 0].T
    return np.where(np.isnan(high), 1.0, 1.0 - (high - low))


def _make_lines(
    hop: float, times: NDArray[np.float64], values: NDArray[np.float64], seconds: float
) -> NDArray[np.float64]:
    """Return one score per line for values (step,) at their centers, NaN where there is none."""
    lines = np.floor((times + SLACK) / hop).astype(np.int64)
    scores = np.full(max(int(seconds / hop + 0.5), lines.max(initial=0) + 1), np.nan)
    scores[lines] = values.clip(0.0, 1.0)
    return scores


def _make_header(scheme: str, rate: float, size: int) -> str:
    """Return the XML of an annotation of `size` lines, `rate` per second."""
    root = ElementTree.Element("annotation", {"ssi-v": "3"})
    ElementTree.SubElement(root, "info", {"ftype": "ASCII", "size": str(size)})
    ElementTree.SubElement(root, "meta", {"role": "", "annotator": "emimic"})
    # NOVA parses these numbers in the user's locale: integers need no decimal point.
    limits = {"sr": f"{rate:.10g}", "min": "0", "max": "1"}
    ElementTree.SubElement(root, "scheme", {"name": scheme, "type": "CONTINUOUS", **limits})
    ElementTree.indent(root)
    return '<?xml version="1.0" ?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


FORMAT: Final = Format("nova", "NOVA: one annotation pair per dimension", write, aliases=("annotation",))
