"""What a grid came to: its tables beside the paper's figures, as Markdown, and everything as JSON."""

import csv
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.baselines.system import system
from emimic.data.corpus import load_corpus
from emimic.data.split_tables import clip_key
from emimic.experiments import significance
from emimic.experiments.grid import PLACES
from emimic.experiments.jobs import Cell, Grid, Job
from emimic.experiments.significance import Difference, clean
from emimic.files import read_json, write_atomic
from emimic.training import checkpoint
from emimic.wording import plural

RESAMPLES: Final = 1000
TABLE: Final = "table.md"
RESULTS: Final = "results.json"
SCHEMA: Final = "emimic/comparison/1"


@dataclass(frozen=True)
class Row:
    """A cell and what its seeds came to.

    scores: mean Pearson by seed, NaN where undefined. failed: reasons by seed. open: seeds that aren't done.
    difference: to the reference over the seeds that both have; None for the reference and where there are none.
    """

    cell: Cell
    scores: Mapping[int, float]
    failed: Mapping[int, str]
    open: tuple[int, ...]
    runs: tuple[Mapping[str, Any], ...]
    difference: Difference | None = None

    @property
    def mean(self) -> float:
        """Over all seeds that are done; NaN if one is undefined, or there are none."""
        return float(np.mean(list(self.scores.values()))) if self.scores else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation over seeds (over n - 1); NaN with fewer than two."""
        return float(np.std(list(self.scores.values()), ddof=1)) if len(self.scores) > 1 else math.nan


@dataclass(frozen=True)
class Outcome:
    """All rows, the reference among them.

    over: what was resampled, with its number. settings: what rows share. whose: the figures beside. elsewhere: runs
    asked for that another command is at.
    """

    corpus: str
    split: str
    clips: int
    over: str
    seeds: tuple[int, ...]
    reference: str
    groups: Mapping[str, str]
    rows: tuple[Row, ...]
    settings: str
    whose: str = "paper"
    elsewhere: tuple[str, ...] = ()

    def markdown(self) -> str:
        """A table for each group; no time and no place in it, so that equal runs give equal text."""
        named = {row.cell.name: row for row in self.rows}
        reference = f'"{named[self.reference].cell.label}"' if self.reference in named else self.reference
        text = [
            f"# {self.corpus}, split {self.split}: mean Pearson",
            "",
            self._preface(reference),
            "",
            self.settings,
        ]
        for group, title in self.groups.items():
            rows = [row for row in self.rows if group in row.cell.groups or row.cell.name == self.reference]
            if any(row.cell.name != self.reference for row in rows):
                text += ["", f"## {title}", "", *_table(rows, reference, self.whose)]
                text += [f"\n{note}" for note in dict.fromkeys(row.cell.note for row in rows) if note]
        if lines := [line for row in self.rows for line in _troubles(row)]:
            text += ["", "## Without a figure", "", *lines]
        return "\n".join(text) + "\n"

    def _preface(self, reference: str) -> str:
        seeds = f"{len(self.seeds)} seeds" if len(self.seeds) > 1 else "1 seed"
        figures = "The paper's" if self.whose == "paper" else f"The {self.whose}"
        text = (
            f"{plural(self.clips, 'clip')}, {seeds} ({', '.join(map(str, self.seeds))}): mean ± standard deviation "
            "over seeds. "
            f"{figures} figures are of another corpus (Hume-Vidmimic2)"
        )
        text += "." if self.whose == "paper" else ", as each system's authors give them."
        text += self.chose()
        if all(row.difference is None for row in self.rows):
            return text
        clips = ", too narrow where clips share a speaker" if self.over.endswith("clips") else ""
        return (
            f"{text} Difference: of means over seeds, less that of {reference}, on the same clips; in brackets 95 % of "
            f"{RESAMPLES} resamples of {self.over}, the same for both{clips}. p: Student's t, two-sided, paired by "
            "seed; undefined with fewer than three seeds. Nothing is corrected for the number of rows."
        )

    def chose(self) -> str:
        """Return a sentence where the scored split chose the epochs or the weights of fusion; else nothing."""
        runs = [(row.cell.label, run["settings"]) for row in self.rows for run in row.runs]
        watched = [(label, own) for label, own in runs if own["train_on"] == "train"]
        if self.split != "valid" or not watched:
            return ""
        fused = [label for label, own in watched if own["baseline"] and fusion_of(own) != "mean"]
        weights = f" and the weights of fusion ({', '.join(dict.fromkeys(fused))})" if fused else ""
        return (
            f" The split valid chose the epochs{weights}: its scores are a little too good, the more so the more "
            "epochs a row chose from; --split test scores one that chose nothing."
        )

    def to_dict(self) -> dict[str, Any]:
        """For strict JSON."""
        return {
            "schema": SCHEMA,
            "corpus": self.corpus,
            "split": self.split,
            "split_chose": self.chose().strip(),
            "clips": self.clips,
            "resampled": self.over,
            "resamples": RESAMPLES,
            "seeds": list(self.seeds),
            "reference": self.reference,
            "settings": self.settings,
            "rows": [
                {
                    "name": row.cell.name,
                    "label": row.cell.label,
                    "groups": list(row.cell.groups),
                    "paper": {"validation": row.cell.published, "test": row.cell.published_test},
                    "unsure": row.cell.unsure,
                    "mean": clean(row.mean),
                    "standard_deviation": clean(row.spread),
                    "difference": None if row.difference is None else row.difference.to_dict(),
                    "open": list(row.open),
                    "failed": {str(seed): reason for seed, reason in row.failed.items()},
                    "runs": list(row.runs),
                }
                for row in self.rows
            ],
        }

    def write(self, out: Path) -> None:
        """TABLE and RESULTS."""
        write_atomic(out / TABLE, self.markdown())
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)
        write_atomic(out / RESULTS, text + "\n")


def _table(rows: Sequence[Row], reference: str, whose: str) -> list[str]:
    head = ["row", "this corpus", f"{whose}, validation", f"{whose}, test"]
    cells = [[*head, f"less {reference} [95 %]", "p over seeds"]]
    cells.append(["-" * len(name) for name in cells[0]])
    for row in rows:
        unsure = f" ({row.cell.unsure})" if row.cell.unsure else ""
        figures = [
            "-" if value is None else _number(value) + unsure
            for value in (row.cell.published, row.cell.published_test)
        ]
        cells.append([row.cell.label, _mean(row), *figures, *_apart(row)])
    if all(row.difference is None for row in rows):
        cells = [line[:4] for line in cells]
    if all(line[3] == "-" for line in cells[2:]):
        cells = [[*line[:3], *line[4:]] for line in cells]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]


def _mean(row: Row) -> str:
    if not row.scores:
        return "can't be had" if row.failed else "not run"
    text = "undefined" if math.isnan(row.mean) else _number(row.mean)
    if not math.isnan(row.spread):
        text += f" ± {_number(row.spread)}"
    lacking = len(row.failed) + len(row.open)
    return text + (f" ({len(row.scores)} of {len(row.scores) + lacking} seeds)" if lacking else "")


def _apart(row: Row) -> tuple[str, str]:
    if row.difference is None:
        return "-", "-"
    value, test = row.difference, row.difference.test
    p = "undefined" if test is None or math.isnan(test.p) else f"{test.p:.3f}".replace("0.000", "<0.001")
    if math.isnan(value.value):
        return "undefined", p
    inside = "no interval" if math.isnan(value.low) else f"{value.low:+.3f}, {value.high:+.3f}"
    return f"{value.value:+.3f} [{inside}]", p


def _number(value: float) -> str:
    return f"{value:.3f}"


def _troubles(row: Row) -> list[str]:
    reasons: dict[str, list[int]] = {}
    for seed, reason in row.failed.items():
        reasons.setdefault(reason, []).append(seed)
    for seed, value in row.scores.items():
        if math.isnan(value):
            reasons.setdefault(
                "predictions for a target are constant, so its correlation is undefined", []
            ).append(seed)
    if row.open:
        reasons["not run yet"] = list(row.open)
    return [
        f"- {row.cell.label} (seed {', '.join(map(str, seeds))}): {reason}"
        for reason, seeds in reasons.items()
    ]


def read(
    grid: Grid, reference: str, groups: Mapping[str, str], chosen: Collection[str], settings: str
) -> Outcome:
    """From what lies in the runs' folders: rows of the chosen cells, and of others that have a score. Raises
    EmimicError."""
    jobs: dict[str, list[Job]] = {}
    for job in grid.jobs:
        jobs.setdefault(job.cell.name, []).append(job)
    jobs = {
        name: own
        for name, own in jobs.items()
        if name in chosen or any(job.scored(grid.split) for job in own)
    }
    scored = {(name, job.seed): job for name, own in jobs.items() for job in own if job.scored(grid.split)}
    predictions = {place: _predictions(job, grid.split) for place, job in scored.items()}
    truth = _Truth.load(grid, predictions, scored)
    drawn = {place: truth.resampled(found) for place, found in predictions.items()}
    for place, (_, answers) in predictions.items():
        if len(answers) == len(truth.ids):  # as `evaluate` has it, whose table of predictions is rounded
            drawn[place][0] = _score(scored[place], grid.split)
    rows = [_row(name, own, drawn, reference, grid.split) for name, own in jobs.items()]
    return Outcome(
        corpus=grid.folder.resolve().name,
        split=grid.split,
        clips=len(truth.labels),
        over=truth.over,
        seeds=tuple(dict.fromkeys(job.seed for job in grid.jobs)),
        reference=reference,
        groups=groups,
        rows=tuple(rows),
        settings=settings,
    )


def _row(
    name: str,
    jobs: Sequence[Job],
    drawn: Mapping[tuple[str, int], significance.Floats],
    reference: str,
    split: str,
) -> Row:
    done = [job for job in jobs if (name, job.seed) in drawn]
    failed = {job.seed: job.notes()["reason"] for job in jobs if job not in done and "reason" in job.notes()}
    shared = [job.seed for job in done if (reference, job.seed) in drawn and name != reference]
    return Row(
        cell=jobs[0].cell,
        scores={job.seed: _score(job, split) for job in done},
        failed=failed,
        open=tuple(job.seed for job in jobs if job not in done and job.seed not in failed),
        runs=tuple(_facts(job, split) for job in done),
        difference=significance.difference(
            [drawn[name, seed] for seed in shared], [drawn[reference, seed] for seed in shared]
        )
        if shared
        else None,
    )


def fusion_of(settings: Mapping[str, Any]) -> str:
    """How a baseline's run joins its branches, as `Options.fusion`."""
    what = system(settings["baseline"])
    return what.read_options(settings["baseline_options"]).fusion


def encoder_of(settings: Mapping[str, Any]) -> str:
    """An encoder as a table names it, without the place where it lies."""
    layers = f", its first {settings['encoder_layers']} layers" if settings.get("encoder_layers") else ""
    if settings.get("encoder") is not None:
        source = str(settings["encoder"])
        place = source.startswith(("/", ".", "~")) or Path(source).is_dir()
        return (Path(source).resolve().name if place else source) + layers
    config = settings["encoder_config"]
    return f"a {config.get('model_type', 'nameless')} encoder from scratch"


def _facts(job: Job, split: str) -> dict[str, Any]:
    """A finished run for the JSON: scores, settings without places, versions, epochs, time."""
    report = read_json(job.folder / "evaluation" / split / "report.json")
    facts = read_json(job.folder / checkpoint.SETTINGS)
    progress = checkpoint.read_progress(job.folder)
    settings = {name: value for name, value in facts["settings"].items() if name not in PLACES}
    if settings["encoder"] is not None:
        settings["encoder"] = encoder_of({"encoder": settings["encoder"]})
    pearson = report["metrics"]["pearson"]
    return {
        "seed": job.seed,
        "mean": pearson["mean"]["value"],
        "targets": {name: score["value"] for name, score in pearson["targets"].items()},
        "epochs": len(progress.history) if progress else None,
        "best_epoch": progress.best_epoch if progress else None,
        "seconds": job.notes().get("seconds"),
        "parameters": facts["parameters"],
        "settings": settings,
        "versions": facts["versions"],
    }


def _predictions(job: Job, split: str) -> tuple[tuple[str, ...], dict[str, list[float]]]:
    """Target names, and predictions (target,) by clip."""
    with (job.folder / "evaluation" / split / "predictions.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    return tuple(head[1:]), {name: [float(value) for value in values] for name, *values in rows}


@dataclass(frozen=True)
class _Truth:
    """Clips of the split that have a known label: ids, labels (clip, target) with NaN where unknown, speakers if they
    can be resampled."""

    ids: tuple[str, ...]
    labels: NDArray[np.float32]
    speakers: tuple[str, ...] | None

    @classmethod
    def load(
        cls,
        grid: Grid,
        predictions: Mapping[tuple[str, int], tuple[tuple[str, ...], dict[str, list[float]]]],
        scored: Mapping[tuple[str, int], Job],
    ) -> "_Truth":
        if not predictions:
            return cls((), np.empty((0, 0), np.float32), None)
        (targets, _), *_ = predictions.values()
        clips = set.intersection(*({*answers} for _, answers in predictions.values()))
        settings = checkpoint.read_settings(next(iter(scored.values())).folder)
        corpus = load_corpus(
            grid.folder, targets=targets, splits=[grid.split], label_scale=settings.label_scale, scan=False,
            clips={clip_key(name): grid.folder for name in clips},
        )  # fmt: skip
        (part,) = corpus.splits.values()
        known = [
            (item.id, item.labels, item.speaker)
            for item in part.items
            if item.id in clips and item.labels is not None and np.isfinite(item.labels).any()
        ]
        speakers = [speaker for _, _, speaker in known if speaker]
        grouped = len(speakers) == len(known) and len(set(speakers)) > 1
        return cls(
            tuple(name for name, _, _ in known),
            np.stack([labels for _, labels, _ in known]),
            tuple(speakers) if grouped else None,
        )

    @property
    def over(self) -> str:
        if self.speakers is not None:
            return plural(len(set(self.speakers)), "speaker")
        return plural(len(self.ids), "clip")

    def resampled(self, found: tuple[tuple[str, ...], dict[str, list[float]]]) -> significance.Floats:
        values = np.array([found[1][name] for name in self.ids])
        return significance.resampled(values, self.labels, self.speakers, n=RESAMPLES, seed=0)


def _score(job: Job, split: str) -> float:
    """Mean Pearson of a scored run, NaN where undefined; NaN without a score."""
    if not job.scored(split):
        return math.nan
    report = read_json(job.folder / "evaluation" / split / "report.json")
    value = report["metrics"]["pearson"]["mean"]["value"]
    return math.nan if value is None else float(value)
