"""The 2:1 experiment of section 6.2: each labeled split divided 2:1, trained and scored inside.

The paper's vision models, which did not generalize from train to valid, reached about .18 so. It divided clips, so
that both parts have the same speakers; divided by speaker, a model can't know its test speakers. Both are done here.
"""

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.data.split_tables import Table, find_split_files, get_clip_key, read_table
from emimic.evaluation.evaluate import evaluate
from emimic.files import CsvText, OutputError, make_folder, write_atomically
from emimic.task import CorpusError
from emimic.training import checkpoint
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

SPLITS: Final = ("train", "valid")
UNITS: Final = ("clip", "speaker")
SCHEMA: Final = "emimic/inside/1"
RESULTS: Final = "inside.json"
PAPER: Final = 0.18
"""Mean Pearson of the paper's vision models, by clip, inside either split ("about")."""


@dataclass(frozen=True)
class Inside:
    """The score of one division.

    Attributes:
        split: that was divided.
        unit: clip or speaker.
        trained: number of training clips.
        scored: number of scored clips.
        shared: fraction of the scored clips whose speaker was trained on; None where no speaker is named.
        pearson: mean over the targets; None where undefined.
        low: end of its 95 % interval; None where undefined.
        high: the other end.
        resampled: by the interval: "speakers", or "clips" where the table names no speakers.
        chose_epoch: the scored clips chose the epoch, too, so that the score is a little too good.
        signal: that stopped the training; None if it finished.
    """

    split: str
    unit: str
    trained: int
    scored: int
    shared: float | None
    pearson: float | None = None
    low: float | None = None
    high: float | None = None
    resampled: str | None = None
    chose_epoch: bool = False
    signal: int | None = None


def run_inside(
    folder: Path, out: Path, settings: TrainSettings, log: Callable[[str], None] = print, *, show: bool = True
) -> tuple[Inside, ...]:
    """Divide, train and score each split by clip and by speaker; finished runs are skipped, others resume.

    Args:
        folder: the corpus.
        out: the folder of the divided tables and the runs.
        settings: of every run; its seed divides the clips, too.
        log: is called with each message on the progress.
        show: show progress bars.

    Raises:
        EmimicError: if the corpus, the settings or a run on disk can't be used.
    """
    results = []
    for split in SPLITS:
        tables, _ = find_split_files(folder, [split], [])
        table = read_table(split, tables[split])
        for unit in UNITS:
            if unit == "speaker" and len(table.list_speakers()) < 2:
                log(f"{split} by speaker is left out: {tables[split].name} names fewer than two speakers")
                continue
            log(f"{split} by {unit}")
            result = _run(folder, out / f"{split}-by-{unit}", table, unit, settings, show=show)
            results.append(result)
            if result.signal is not None:
                return tuple(results)
    values = {"schema": SCHEMA, "paper": PAPER, "rows": [asdict(result) for result in results]}
    write_atomically(out / RESULTS, json.dumps(values, indent=1, allow_nan=False) + "\n")
    return tuple(results)


def format_table(results: Sequence[Inside]) -> str:
    """Return a table with a row per division, and what its intervals and scores are."""
    lines = [
        "| split | divided by | trained on | scored on | of known speakers | mean Pearson [95 %] | paper, vision |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        shared = "unknown" if result.shared is None else f"{result.shared:.0%}"
        pearson = "undefined" if result.pearson is None else f"{result.pearson:.3f}"
        if result.low is not None and result.high is not None:
            pearson += f" [{result.low:.3f}, {result.high:.3f}]"
        paper = f"about {PAPER}" if result.unit == "clip" else "-"
        lines.append(
            f"| {result.split} | {result.unit} | {result.trained} | {result.scored} | {shared} | {pearson} | {paper} |"
        )
    over = " or ".join(sorted({result.resampled for result in results if result.resampled}))
    lines += [f"\nIntervals resample {over} of the scored clips."] if over else []
    if any(result.chose_epoch for result in results):
        lines.append("The scored clips chose each run's epoch, too: scores are a little too good.")
    return "\n".join(lines)


def divide(table: Table, unit: str, seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return two thirds of a table's rows, and the others, each in the table's order.

    Args:
        table: of a split.
        unit: "clip", or "speaker": no speaker is in both parts; clips without one are each their own.
        seed: of the division.

    Raises:
        CorpusError: if a part would be empty.
    """
    keys = [
        row.get("Speaker") or f"clip {row['Filename']}" if unit == "speaker" else row["Filename"]
        for row in table.rows
    ]
    units = sorted(set(keys))
    order = np.random.default_rng(seed).permutation(len(units))
    wanted, chosen, count = 2 * len(keys) / 3, set[str](), 0
    for index in order:
        if count >= wanted or len(chosen) == len(units) - 1:
            break
        chosen.add(units[index])
        count += keys.count(units[index])
    parts = (
        [row for row, key in zip(table.rows, keys, strict=True) if (key in chosen) == first]
        for first in (True, False)
    )
    trained, scored = parts
    if not trained or not scored:
        raise CorpusError(
            f"{table.path} has {len(units)} {unit}s, expected two or more to divide: use another split"
        )
    return trained, scored


def _run(folder: Path, out: Path, table: Table, unit: str, settings: TrainSettings, *, show: bool) -> Inside:
    trained, scored = divide(table, unit, settings.seed)
    corpus = _make_corpus(folder, out / "corpus", table, trained, scored)
    run = out / "run"
    stored = (run / checkpoint.SETTINGS).exists()
    result = train(corpus, run, settings, resume=stored, show=show)
    speakers = {row.get("Speaker") for row in trained} - {"", None}
    known = {get_clip_key(row["Filename"]): row["Speaker"] for row in scored if row.get("Speaker")}
    shared = sum(speaker in speakers for speaker in known.values()) / len(known) if known else None
    counts = (table.name, unit, len(trained), len(scored), shared)
    if result.signal is not None:
        return Inside(*counts, signal=result.signal)
    report = evaluate(
        run, corpus, progress=show, draw=False, batch_seconds=settings.seconds_in_batch, speakers=known
    )
    score = report.metrics["pearson"].mean
    pearson, low, high = (
        None if math.isnan(value) else value for value in (score.value, score.low, score.high)
    )
    chose_epoch = settings.epochs > 1 and settings.train_on == "train"
    return Inside(*counts, pearson, low, high, report.resampled, chose_epoch)


def _make_corpus(
    folder: Path,
    corpus: Path,
    table: Table,
    trained: Sequence[dict[str, str]],
    scored: Sequence[dict[str, str]],
) -> Path:
    """Write the tables of a divided split beside links to everything else of the corpus."""
    make_folder(corpus)
    for entry in sorted(folder.iterdir()):
        link = corpus / entry.name
        if entry.name.startswith(".") or entry.name.endswith("_split.csv") or link.exists():
            continue
        try:
            link.symlink_to(entry.resolve(), target_is_directory=entry.is_dir())
        except OSError as error:
            raise OutputError(f"{link} can't be made as a link to {entry} ({error}): allow links") from error
    # Parts that share speakers would be refused as a leak, which is the point here.
    common_speakers = {row.get("Speaker") for row in trained} & {row.get("Speaker") for row in scored} - {
        "",
        None,
    }
    for name, rows in (("train", trained), ("valid", scored)):
        text = CsvText()
        columns = [
            column for column in table.header if column and not (common_speakers and column == "Speaker")
        ]
        writer: Any = csv.DictWriter(text, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(corpus / f"{name}_split.csv", text.getvalue())
    return corpus
