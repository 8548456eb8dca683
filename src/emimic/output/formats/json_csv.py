"""Results as JSON and CSV, in forms with a version.

JSON (`schema` is SCHEMA; described by schema.json beside this file): an object with `targets`, `clips` and `failed`.
A clip has `Filename` (the file's stem), `file` (as given), `seconds`, `was_cut`, `was_padded`, `was_silent` (then its
values are null), `intensities` by name; `vad_mean` when the model has learned VAD; `headline`, the values to quote with
their `basis` (of a recording over the cut the mean over its timeline, where it has one); `novelty` and
`unlike_training_data` (novelty beyond 1) when it has such a score and the clip is not silent; `timeline` when curves
were asked for; `channel`, counted from 1, when one was predicted alone; `notes`, a list of what to know of the file
(late start, gap, damage, two voices, cut, silence), empty without any. A gap is null. Times are seconds, to the
millisecond.

CSV has no place for a version: its header is its schema. Of many results: Filename, the targets, VAD means, Novelty,
Basis (whole clip, first 12 s, or mean over time: see `Headline`), Notes (with "; " between them).
Of one recording's curves: a row a step with Seconds (its center), Start and End (the stretch heard), then targets and
VAD (the mean of the step's frames); of several recordings' the same behind a column Filename. A gap is an empty cell.
Filename is the file's stem; where stems meet, the file's name or path.

The rule for both: within a version, fields are only added (columns on the right); what goes or changes its meaning
makes a new version.
"""

import csv
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.files import CsvText, writable, write_atomic
from emimic.inference.results import Result, Results
from emimic.inference.steps import target_names, vad_names
from emimic.task import VAD

# A list of numbers that json.dumps has put on lines of their own; strings hold no line breaks, so none is touched.
_NUMBERS: Final = re.compile(r"\[\n([-+.\deE,\snul]*)\]")


def to_csv(results: Results) -> str:
    """One row a result: `Filename`, the headline's targets, its VAD when the model has learned VAD, `Novelty` when it
    has such a score, `Basis`: what the values are about (see `Headline`), `Notes` (see `Result.remarks`)."""
    vad = any(a.prediction.vad is not None for a in results.clips)
    novelty = any(a.prediction.novelty is not None for a in results.clips)
    header = ["Filename", *target_names(results.targets), *(vad_names(results.targets) if vad else ())]
    header += ["Novelty"] if novelty else []
    header += ["Basis", "Notes"]
    rows = []
    for name, a in zip(results.names, results.clips, strict=True):
        head = a.headline
        means = [math.nan] * len(VAD) if head.vad is None else head.vad
        score = math.nan if a.prediction.novelty is None else a.prediction.novelty
        cells = [*_cells(head.intensities), *(_cells(means) if vad else [])]
        rows.append([name, *cells, *(_cells([score]) if novelty else []), head.basis, "; ".join(a.remarks)])
    return _csv(header, rows)


def to_json(results: Results) -> str:
    """Every result with its flags and its timeline if it has one, every failure with its reason; see the module."""
    text = json.dumps(results.to_dict(), indent=1, allow_nan=False)
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def write_json(result: Result, folder: Path, stem: str) -> list[Path]:
    """`stem`.json: the form of `to_json` with one clip."""
    path = folder / f"{stem}.json"
    write_atomic(path, to_json(Results(targets=result.targets, clips=(result,), failed=())))
    return [path]


def write_csv(result: Result, folder: Path, stem: str) -> list[Path]:
    """`stem`.csv: one row a step."""
    header, rows = _steps(result)
    path = folder / f"{stem}.csv"
    write_atomic(path, _csv(header, rows))
    return [path]


def steps_to_csv(results: Results) -> str:
    """One row a step of each recording: `Filename`, then as in `write_csv`."""
    tables = [_steps(result) for result in results.clips]
    header = max((head for head, _ in tables), key=len, default=[])
    rows = [[name, *row] for name, (_, own) in zip(results.names, tables, strict=True) for row in own]
    return _csv(["Filename", *header], rows)


def _steps(result: Result) -> tuple[list[str], list[list[str]]]:
    """Header and rows of one recording's steps."""
    grid = result.steps()
    stretches = zip(grid.times, grid.since, grid.until, strict=True)
    times = [[f"{second:.4f}" for second in stretch] for stretch in stretches]
    rows = [[*time, *_cells(values)] for time, values in zip(times, grid.values, strict=True)]
    return ["Seconds", "Start", "End", *target_names(grid.names)], rows


def _cells(values: Iterable[Any]) -> list[str]:
    return [f"{v:.6f}" if np.isfinite(v) else "" for v in values]


def _csv(header: Sequence[str], rows: list[list[str]]) -> str:
    text = CsvText()
    writer = csv.writer(text)
    writer.writerows([map(writable, row) for row in (header, *rows)])
    return text.getvalue()
