"""The scores of a grid, read from the folders of its runs."""

import csv
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emimic.data.corpus import load_corpus
from emimic.data.split_tables import get_clip_key
from emimic.experiments import significance
from emimic.experiments.grid import PATH_SETTINGS
from emimic.experiments.jobs import Grid, Job
from emimic.experiments.results_table import RESAMPLES, Outcome, RowScores, name_encoder
from emimic.files import read_json
from emimic.training import checkpoint
from emimic.wording import pluralize


@dataclass(frozen=True)
class Predictions:
    """Predictions of a run: names of the targets, and intensities (target,) by clip."""

    targets: tuple[str, ...]
    by_clip: dict[str, list[float]]


def read_results(
    grid: Grid, reference: str, groups: Mapping[str, str], names: Collection[str], settings: str
) -> Outcome:
    """Return the scores of the named rows, and of all others that have a score, from the runs' folders.

    Args:
        grid: all runs.
        reference: the row that others are compared with.
        groups: the titles of the tables, by name.
        names: of the requested rows.
        settings: a sentence on the settings of all rows.

    Raises:
        EmimicError: if the corpus or a run can't be read.
    """
    jobs: dict[str, list[Job]] = {}
    for job in grid.jobs:
        jobs.setdefault(job.row.name, []).append(job)
    jobs = {
        name: seeds
        for name, seeds in jobs.items()
        if name in names or any(job.is_scored(grid.split) for job in seeds)
    }
    scored = {
        (name, job.seed): job for name, seeds in jobs.items() for job in seeds if job.is_scored(grid.split)
    }
    predictions = {key: _read_predictions(job, grid.split) for key, job in scored.items()}
    truth = _Truth.load(grid, predictions, scored)
    drawn = {key: truth.resample(values) for key, values in predictions.items()}
    for key, values in predictions.items():
        if len(values.by_clip) == len(
            truth.ids
        ):  # as `evaluate` has it, whose table of predictions is rounded
            drawn[key][0] = _read_score(scored[key], grid.split)
    return Outcome(
        corpus=grid.folder.resolve().name,
        split=grid.split,
        clips=len(truth.labels),
        over=truth.over,
        seeds=tuple(dict.fromkeys(job.seed for job in grid.jobs)),
        reference=reference,
        groups=groups,
        rows=tuple(_read_row(name, seeds, drawn, reference, grid.split) for name, seeds in jobs.items()),
        settings=settings,
    )


def _read_row(
    name: str,
    jobs: Sequence[Job],
    drawn: Mapping[tuple[str, int], significance.Floats],
    reference: str,
    split: str,
) -> RowScores:
    done = [job for job in jobs if (name, job.seed) in drawn]
    notes = {job.seed: job.read_notes() for job in jobs if job not in done}
    failed = {seed: entries["reason"] for seed, entries in notes.items() if "reason" in entries}
    shared = [job.seed for job in done if (reference, job.seed) in drawn and name != reference]
    return RowScores(
        row=jobs[0].row,
        scores={job.seed: _read_score(job, split) for job in done},
        failed=failed,
        open=tuple(seed for seed in notes if seed not in failed),
        runs=tuple(_read_facts(job, split) for job in done),
        difference=significance.subtract(
            [drawn[name, seed] for seed in shared], [drawn[reference, seed] for seed in shared]
        )
        if shared
        else None,
    )


def _read_facts(job: Job, split: str) -> dict[str, Any]:
    """Return a finished run for the JSON: scores, settings without paths, versions, epochs, time."""
    report = read_json(job.folder / "evaluation" / split / "report.json")
    facts = read_json(job.folder / checkpoint.SETTINGS)
    progress = checkpoint.read_progress(job.folder)
    settings = {name: value for name, value in facts["settings"].items() if name not in PATH_SETTINGS}
    if settings["encoder"] is not None:
        settings["encoder"] = name_encoder({"encoder": settings["encoder"]})
    pearson = report["metrics"]["pearson"]
    return {
        "seed": job.seed,
        "mean": pearson["mean"]["value"],
        "targets": {name: score["value"] for name, score in pearson["targets"].items()},
        "epochs": len(progress.history) if progress else None,
        "best_epoch": progress.best_epoch if progress else None,
        "seconds": job.read_notes().get("seconds"),
        "parameters": facts["parameters"],
        "settings": settings,
        "versions": facts["versions"],
    }


def _read_predictions(job: Job, split: str) -> Predictions:
    with (job.folder / "evaluation" / split / "predictions.csv").open(newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    return Predictions(tuple(head[1:]), {name: [float(value) for value in values] for name, *values in lines})


def _read_score(job: Job, split: str) -> float:
    """Return the mean Pearson of a scored run, NaN where undefined."""
    report = read_json(job.folder / "evaluation" / split / "report.json")
    value = report["metrics"]["pearson"]["mean"]["value"]
    return math.nan if value is None else float(value)


@dataclass(frozen=True)
class _Truth:
    """Labeled clips of the split that every run has predicted.

    Attributes:
        labels: (clip, target), NaN where unknown.
        speakers: of the clips; None where they can't be resampled.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.float32]
    speakers: tuple[str, ...] | None

    @classmethod
    def load(
        cls,
        grid: Grid,
        predictions: Mapping[tuple[str, int], Predictions],
        scored: Mapping[tuple[str, int], Job],
    ) -> "_Truth":
        if not predictions:
            return cls((), np.empty((0, 0), np.float32), None)
        clips = set.intersection(*(set(values.by_clip) for values in predictions.values()))
        settings = checkpoint.read_settings(next(iter(scored.values())).folder)
        corpus = load_corpus(
            grid.folder, targets=next(iter(predictions.values())).targets, splits=[grid.split],
            label_scale=settings.label_scale, scan=False, clips={get_clip_key(name): grid.folder for name in clips},
        )  # fmt: skip
        (part,) = corpus.splits.values()
        labeled = [
            (item.id, item.labels, item.speaker)
            for item in part.items
            if item.id in clips and item.labels is not None and np.isfinite(item.labels).any()
        ]
        speakers = [speaker for _, _, speaker in labeled if speaker]
        grouped = len(speakers) == len(labeled) and len(set(speakers)) > 1
        return cls(
            tuple(name for name, _, _ in labeled),
            np.stack([labels for _, labels, _ in labeled]),
            tuple(speakers) if grouped else None,
        )

    @property
    def over(self) -> str:
        """The resampled units with their number."""
        if self.speakers is not None:
            return pluralize(len(set(self.speakers)), "speaker")
        return pluralize(len(self.ids), "clip")

    def resample(self, predictions: Predictions) -> significance.Floats:
        """Return the mean Pearson of all clips, then of resamples: (1 + RESAMPLES,)."""
        values = np.array([predictions.by_clip[name] for name in self.ids])
        return significance.resample_pearson(values, self.labels, self.speakers, n=RESAMPLES, seed=0)
