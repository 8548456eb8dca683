"""Results as JSON and CSV, with versioned schemas.

JSON (`schema` is SCHEMA, described by schema.json beside this file): an object with `targets`, `clips` and `failed`.
Clips have these fields:

- `Filename` (the file's stem), `file` (the path), `seconds`, `was_cut`, `was_padded`, and `was_silent`, whose values
  are null.
- `intensities` by name; `vad_mean`, if the model predicts V/A/D.
- `headline`: the values to quote, with their `basis`. For a recording over the cut this is the mean over its timeline,
  if it has one.
- `novelty` and `unlike_training_data` (novelty above 1), if the model has such a score and the clip is not silent.
- `timeline`, on request; a silent step is null. `channel`, counted from 1, if one was predicted alone.
- `words` (text and source) and `sentences` (text, start, end, intensities, vad), on request.
- `notes`: a list of remarks on the file (late start, gap, damage, two voices, cut, silence), possibly empty.

Times are seconds, to the millisecond.

CSV has no field for a version: its header is its schema. A CSV of many results has Filename, the targets, V/A/D means,
Novelty, Basis (whole clip, first 12 s, or mean over time: see `Headline`) and Notes (separated by "; "). The CSV of a
timeline has one row per step: Seconds (its center), Start and End of its window, then targets and V/A/D (of the window,
or the mean over the step's frames). For several recordings, a column Filename comes first. The CSV of sentences has one
row per sentence: Filename, Start, End, Text, then targets and V/A/D. The CSV of prediction intervals has the times of
the timeline's CSV, then for each value its low and its high end. Silence has empty fields. Filename is the file's stem;
where stems are equal, the file's name or path.

Within a version, fields and columns are only added (columns on the right). Removing one, or changing its meaning, makes
a new version.
"""

import csv
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.files import CsvText, make_writable, write_atomically
from emimic.inference.results import Result, Results
from emimic.inference.steps import make_target_names, make_vad_names
from emimic.output.formats.common import Format
from emimic.task import VAD, ModelError

# A list of numbers, which json.dumps puts on separate lines; strings contain no line breaks, so none matches.
_NUMBERS: Final = re.compile(r"\[\n([-+.\deE,\snul]*)\]")


def to_csv(results: Results) -> str:
    """Return a CSV with one row per result.

    The columns are `Filename`, the headline's targets and V/A/D, `Novelty`, `Basis` (see `Headline`) and `Notes` (see
    `Result.remarks`). V/A/D and `Novelty` need a model that predicts them. `Words` come last, where they were used.
    """
    vad = any(clip.prediction.vad is not None for clip in results.clips)
    novelty = any(clip.prediction.novelty is not None for clip in results.clips)
    header = [
        "Filename",
        *make_target_names(results.targets),
        *(make_vad_names(results.targets) if vad else ()),
    ]
    header += ["Novelty"] if novelty else []
    words = any(clip.speech is not None for clip in results.clips)
    header += ["Basis", "Notes", *(["Words"] if words else [])]
    rows = []
    for name, clip in zip(results.names, results.clips, strict=True):
        head = clip.headline
        means = [math.nan] * len(VAD) if head.vad is None else head.vad
        score = math.nan if clip.prediction.novelty is None else clip.prediction.novelty
        values = [*head.intensities, *(means if vad else ()), *([score] if novelty else ())]
        text = [] if not words else ["" if clip.speech is None else clip.speech.text]
        rows.append([name, *_format_fields(values), head.basis, "; ".join(clip.remarks), *text])
    return _make_csv(header, rows)


def to_json(results: Results) -> str:
    """Return JSON of all results and failures; the module's docstring describes it."""
    text = json.dumps(results.to_dict(), indent=1, allow_nan=False)
    return _NUMBERS.sub(lambda numbers: f"[{' '.join(numbers[1].split())}]", text) + "\n"


def write_json(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.json, as `to_json` with one clip."""
    path = folder / f"{stem}.json"
    write_atomically(path, render_json(result))
    return [path]


def render_json(result: Result) -> str:
    """Return `to_json` with one clip."""
    return to_json(Results(targets=result.targets, clips=(result,), failed=()))


def write_csv(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.csv with one row per step."""
    path = folder / f"{stem}.csv"
    write_atomically(path, render_csv(result))
    return [path]


def render_csv(result: Result) -> str:
    """Return a CSV with one row per step."""
    return _make_csv(*_tabulate_steps(result))


def write_intervals(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.intervals.csv with one row per step."""
    path = folder / f"{stem}.intervals.csv"
    write_atomically(path, render_intervals(result))
    return [path]


def render_intervals(result: Result) -> str:
    """Return a CSV of prediction intervals with one row per step.

    Raises:
        ModelError: The model has no prediction intervals.
    """
    if result.intervals is None:
        raise ModelError(
            f"{result.path}: the model has no prediction intervals, expected one calibrated with labeled clips "
            "(emimic calibrate). Leave the format intervals out."
        )
    header, rows = _tabulate_steps(result)
    ends = result.intervals.compute((*result.targets, *VAD)[: len(header) - 3], result.to_steps().values)
    names = [f"{name} {end}" for name in header[3:] for end in ("low", "high")]
    pairs = zip(rows, ends.reshape(len(rows), -1), strict=True)
    return _make_csv([*header[:3], *names], [[*row[:3], *_format_fields(values)] for row, values in pairs])


def to_steps_csv(results: Results) -> str:
    """Return a CSV with one row per step of each recording: `Filename`, then as in `write_csv`."""
    tables = [_tabulate_steps(result) for result in results.clips]
    header = max((head for head, _ in tables), key=len, default=[])
    rows = [[name, *row] for name, (_, steps) in zip(results.names, tables, strict=True) for row in steps]
    return _make_csv(["Filename", *header], rows)


def to_sentences_csv(results: Results) -> str:
    """Return a CSV with one row per sentence: Filename, Start, End, Text, then targets and V/A/D."""
    vad = any(sentence.vad is not None for clip in results.clips for sentence in clip.sentences or ())
    names = [*results.targets, *(make_vad_names(results.targets) if vad else ())]
    header = ["Filename", "Start", "End", "Text", *make_target_names(tuple(names))]
    rows = [
        [
            name, f"{sentence.start:.3f}", f"{sentence.end:.3f}", sentence.text,
            *_format_fields([*sentence.intensities, *(() if sentence.vad is None else sentence.vad)]),
        ]
        for name, clip in zip(results.names, results.clips, strict=True)
        for sentence in clip.sentences or ()
    ]  # fmt: skip
    return _make_csv(header, rows)


def _tabulate_steps(result: Result) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of one recording's steps."""
    grid = result.to_steps()
    windows = zip(grid.times, grid.since, grid.until, strict=True)
    times = [[f"{second:.4f}" for second in window] for window in windows]
    rows = [[*time, *_format_fields(values)] for time, values in zip(times, grid.values, strict=True)]
    return ["Seconds", "Start", "End", *make_target_names(grid.names)], rows


def _format_fields(values: Iterable[Any]) -> list[str]:
    """Return numbers with six decimals, and an empty text for NaN."""
    return [f"{v:.6f}" if np.isfinite(v) else "" for v in values]


def _make_csv(header: Sequence[str], rows: list[list[str]]) -> str:
    """Return a CSV with characters that UTF-8 can hold."""
    text = CsvText()
    writer = csv.writer(text)
    writer.writerows([map(make_writable, row) for row in (header, *rows)])
    return text.getvalue()


JSON: Final = Format("json", "JSON with a schema: everything", write_json, render=render_json)
CSV: Final = Format("csv", "CSV: one row per step", write_csv, render=render_csv)
INTERVALS: Final = Format(
    "intervals", "CSV: the prediction intervals of each step", write_intervals, render=render_intervals
)
