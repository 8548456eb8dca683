"""Answers as a table in the terminal, CSV, JSON, curve files and pictures."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from emimic import __version__, audio
from emimic.files import write_atomic
from emimic.progress import shown
from emimic.service.predict import Answer, Answers
from emimic.task import VAD

SCHEMA: Final = "emimic/answers/1"
_BAR: Final = 6


def show(answers: Answers, form: str) -> None:
    """Print answers as `table`, `csv` or `json` on standard output."""
    if form == "table":
        console = Console()
        bars = not console.is_terminal or _width(console, _table(answers, bars=True)) <= console.width
        table = _table(answers, bars=bars)
        # In a narrower window cells would be cropped and columns vanish; lines that wrap lose nothing.
        console.width = max(console.width, _width(console, table))
        console.print(table)
    else:
        sys.stdout.write(to_csv(answers) if form == "csv" else to_json(answers))


def to_csv(answers: Answers) -> str:
    """`Filename` (the file's stem), then the targets; one row an answer."""
    return _csv(
        ["Filename", *answers.targets],
        [[a.path.stem, *(f"{v:.6f}" for v in a.prediction.intensities)] for a in answers.clips],
    )


def to_json(answers: Answers) -> str:
    """Every answer with its flags, every failure with its reason; `schema` names the version of this form."""
    clips = [
        {
            "Filename": a.path.stem,
            "file": str(a.path),
            "seconds": round(a.seconds, 3),
            "was_cut": a.was_cut,
            "was_padded": a.was_padded,
            "intensities": _named(answers.targets, a.prediction.intensities),
        }
        | ({} if a.prediction.vad is None else {"vad_mean": _named(VAD, a.prediction.vad.mean(axis=0))})
        for a in answers.clips
    ]
    failed = [{"file": str(f.path), "reason": f.reason} for f in answers.failed]
    whole = {
        "schema": SCHEMA,
        "emimic": __version__,
        "targets": answers.targets,
        "clips": clips,
        "failed": failed,
    }
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def curves(answer: Answer, targets: tuple[str, ...]) -> str:
    """CSV, one row a frame: its centre in seconds, the intensities so far, and VAD when the model has learnt it.

    "So far" is the answer the model's head gives had the recording's frames ended there; the last row is the clip's.
    """
    one = answer.prediction
    header = ["Seconds", *targets, *(VAD if one.vad is not None else ())]
    rows = []
    for frame, time in enumerate(one.times):
        running = [] if one.running is None else one.running[frame]
        vad = [] if one.vad is None else one.vad[frame]
        rows.append([f"{time:.4f}", *(f"{v:.6f}" for v in (*running, *vad))])
    return _csv(header, rows)


def write(answers: Answers, out: Path, *, progress: bool = False) -> None:
    """Into the folder `out`: intensities.csv, answers.json, and for each recording its curves (CSV) and picture (PNG).

    Recordings of one stem from several folders get numbers behind their names.
    """
    from emimic.service import pictures

    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "intensities.csv", to_csv(answers))
    write_atomic(out / "answers.json", to_json(answers))
    taken = {"intensities", "answers"}
    for answer in shown(answers.clips, "pictures", total=len(answers.clips), show=progress):
        name, number = answer.path.stem, 1
        while name in taken:
            number += 1
            name = f"{answer.path.stem}-{number}"
        taken.add(name)
        write_atomic(out / f"{name}.csv", curves(answer, answers.targets))
        samples = audio.load(answer.path, max_seconds=float(answer.prediction.times[-1]) + 1.0)
        write_atomic(out / f"{name}.png", pictures.recording(answer, answers.targets, samples))


def _table(answers: Answers, *, bars: bool) -> Table:
    caption = "intensities of a whole clip" + ("; bars from 0 to 1" if bars else "")
    table = Table(caption=caption, caption_justify="left")
    table.add_column("Filename", min_width=10, max_width=None if bars else 16, overflow="fold")
    table.add_column("s", justify="right", no_wrap=True)
    for name in answers.targets:
        table.add_column(name, min_width=5, max_width=None if bars else 5, overflow="fold")
    for a in answers.clips:
        cells = [f"{v:.2f}" + (f"\n{_bar(float(v))}" if bars else "") for v in a.prediction.intensities]
        marks = [word for word, holds in (("cut", a.was_cut), ("padded", a.was_padded)) if holds]
        table.add_row(a.path.stem, "\n".join([f"{a.seconds:.1f}", *marks]), *cells)
    return table


def _width(console: Console, table: Table) -> int:
    """The least columns in which nothing of a table is cropped."""
    return console.measure(table, options=console.options.update(width=1000)).minimum


def _bar(value: float) -> str:
    filled = round(min(max(value, 0.0), 1.0) * _BAR)
    return "█" * filled + "·" * (_BAR - filled)


def _named(names: tuple[str, ...], values: Any) -> dict[str, float]:
    return {name: round(float(v), 6) for name, v in zip(names, values, strict=True)}


def _csv(header: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
