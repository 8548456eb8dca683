"""Whether a grid's folder and its corpus belong together: told by clips and labels, so a moved corpus is no other.

Tables are read; no clip is decoded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from emimic.data.corpus import Corpus, Item, load_corpus
from emimic.data.corpus_settings import CorpusSettings
from emimic.data.split_tables import clip_key, read_table, split_files
from emimic.experiments.jobs import Grid, Job
from emimic.files import read_json
from emimic.task import CorpusError
from emimic.training import checkpoint
from emimic.training.clips import fingerprint
from emimic.training.settings import TrainSettings

LEARNED: Final = ("train", "valid")
NOT_HEARD: Final = {"missing", "unreadable"}
"""Why a run left clips out that the tables list."""


def check(grid: Grid, given: TrainSettings) -> None:
    """What is wrong with the corpus for every row alike, before anything runs. Raises CorpusError."""
    if given.teacher is not None or all(job.settings is None for job in grid.jobs):
        return
    open_jobs = [job for job in grid.jobs if job.settings is not None and not job.scored(grid.split)]
    heard = bool(open_jobs) and all(job.settings and job.settings.baseline is None for job in open_jobs)
    splits = (*LEARNED, grid.split)
    corpus = load_corpus(
        grid.folder, targets=given.targets, splits=splits, label_scale=given.label_scale,
        category=given.category, scan=False, clips=None if heard else _listed(grid.folder, splits),
    )  # fmt: skip
    part = corpus.splits[grid.split]
    # Of features, those that aren't there may be the clips without labels; that is seen when they are heard.
    if corpus.targets and (heard or all(item.labels is None for item in part.items)):
        _ = part.labels  # raises where it can't be scored


def check_runs(grid: Grid) -> None:
    """Raises CorpusError where a run on disk learned, or was scored on, other clips or labels than the corpus has."""
    tables: dict[str, Corpus] = {}
    for job in grid.jobs:
        progress = checkpoint.read_progress(job.folder)
        if progress is None or (stored := checkpoint.read_settings(job.folder)).teacher is not None:
            continue
        found = _facts(job.folder)
        key = repr((found["targets"], stored.label_scale, stored.category))
        if key not in tables:
            tables[key] = _tables(grid.folder, (*LEARNED, grid.split), found["targets"], stored)
        train, valid = (_heard(tables[key], found["splits"], name) for name in LEARNED)
        learned = (train + valid, ()) if stored.train_on == "train+valid" else (train, valid)
        if progress.corpus != fingerprint(*learned):
            raise CorpusError(
                f"{grid.folder} isn't the corpus that {job.folder} learns: clips or labels differ. Name the one that "
                "it was started with, or another folder for the runs"
            )
        if job.scored(grid.split) and not _same(job, tables[key], grid.split):
            raise CorpusError(
                f"{grid.folder} has other clips or labels in its split {grid.split!r} than {job.folder} was scored "
                f"on. Bring them back, name another folder for the runs, or delete evaluation/{grid.split} there to "
                "have it scored again"
            )


def scored_on(folder: Path, run: Path, split: str) -> str:
    """16 hex digits that change with the clips or labels of the split that a run is scored on."""
    corpus = _tables(folder, (split,), _facts(run)["targets"], checkpoint.read_settings(run))
    return fingerprint(corpus.splits[split].items)


def _same(job: Job, corpus: Corpus, split: str) -> bool:
    return bool(job.notes()["scored"][split] == fingerprint(corpus.splits[split].items))


def _facts(run: Path) -> dict[str, Any]:
    """The corpus as a run's `train.json` reports it."""
    return dict(read_json(run / checkpoint.SETTINGS)["corpus"])


def _tables(folder: Path, splits: Sequence[str], targets: Sequence[str], stored: TrainSettings) -> Corpus:
    """The splits as their tables list them, whether the clips are there or not."""
    own = stored.corpora.get(folder.resolve().name, CorpusSettings.model_validate({}))
    return load_corpus(
        folder, targets=targets, splits=splits, label_scale=own.label_scale or stored.label_scale,
        category=stored.category, scan=False, clips=_listed(folder, splits),
        columns=own.columns,
        ranked=own.ranks.column if own.ranks else None,
    )  # fmt: skip


def _listed(folder: Path, splits: Sequence[str]) -> dict[str, Path]:
    tables = (read_table(name, path) for name, path in split_files(folder, splits, [])[0].items())
    return {clip_key(name): folder for table in tables for name in table.ids()}


def _heard(corpus: Corpus, reports: Mapping[str, Any], split: str) -> tuple[Item, ...]:
    """The clips of a split but for those that the run couldn't hear."""
    absent = {left["id"] for left in reports[split]["left_out"] if left["kind"] in NOT_HEARD}
    return tuple(item for item in corpus.splits[split].items if item.id not in absent)
