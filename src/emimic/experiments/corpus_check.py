"""The check that a grid's folder and its corpus belong together, by clips and labels: a corpus may be moved.

Tables are read; no clip is decoded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from emimic.data.corpus import Corpus, Item, load_corpus
from emimic.data.corpus_settings import CorpusSettings
from emimic.data.split_tables import find_split_files, get_clip_key, read_table
from emimic.experiments.jobs import Grid
from emimic.files import read_json
from emimic.task import CorpusError
from emimic.training import checkpoint
from emimic.training.clips import fingerprint
from emimic.training.settings import TrainSettings

LEARNED: Final = ("train", "valid")
NOT_DECODED: Final = {"missing", "unreadable"}
"""Reasons for which a run left out clips that the tables list."""


def check_corpus(grid: Grid, common: TrainSettings) -> None:
    """Check the corpus for what would fail in every row, before anything runs.

    Raises:
        CorpusError: if the corpus can't be used.
    """
    if common.teacher is not None or all(job.settings is None for job in grid.jobs):
        return
    open_jobs = [job for job in grid.jobs if job.settings is not None and not job.is_scored(grid.split)]
    waveforms = bool(open_jobs) and all(
        job.settings and job.settings.baseline is None and job.settings.audio for job in open_jobs
    )
    splits = (*LEARNED, grid.split)
    corpus = load_corpus(
        grid.folder, targets=common.targets, splits=splits, label_scale=common.label_scale,
        category=common.category, scan=False, clips=None if waveforms else _list_clips(grid.folder, splits),
    )  # fmt: skip
    part = corpus.splits[grid.split]
    # Clips without features may be the ones without labels, which shows only once the features are read.
    if corpus.targets and (waveforms or all(item.labels is None for item in part.items)):
        _ = part.labels  # raises where it can't be scored


def check_runs(grid: Grid) -> None:
    """Check that the runs on disk learned, and were scored on, the clips and labels of the corpus.

    Raises:
        CorpusError: if clips or labels differ.
    """
    tables: dict[str, Corpus] = {}
    for job in grid.jobs:
        progress = checkpoint.read_progress(job.folder)
        if progress is None or (stored := checkpoint.read_settings(job.folder)).teacher is not None:
            continue
        facts = _read_facts(job.folder)
        key = repr((facts["targets"], stored.label_scale, stored.category))
        if key not in tables:
            tables[key] = _load_tables(grid.folder, (*LEARNED, grid.split), facts["targets"], stored)
        train, valid = (_select_decoded(tables[key], facts["splits"], name) for name in LEARNED)
        learned = (train + valid, ()) if stored.train_on == "train+valid" else (train, valid)
        if progress.corpus != fingerprint(*learned):
            raise CorpusError(
                f"{grid.folder} isn't the corpus that {job.folder} learns: clips or labels differ. Name the one that "
                "it was started with, or another folder for the runs"
            )
        part = tables[key].splits[grid.split]
        if job.is_scored(grid.split) and job.read_notes()["scored"][grid.split] != fingerprint(part.items):
            raise CorpusError(
                f"{grid.folder} has other clips or labels in its split {grid.split!r} than {job.folder} was scored "
                f"on. Bring them back, name another folder for the runs, or delete evaluation/{grid.split} there to "
                "have it scored again"
            )


def digest_split(folder: Path, run: Path, split: str) -> str:
    """Return 16 hex digits that change with the clips or labels of the split that a run is scored on."""
    corpus = _load_tables(folder, (split,), _read_facts(run)["targets"], checkpoint.read_settings(run))
    return fingerprint(corpus.splits[split].items)


def _read_facts(run: Path) -> dict[str, Any]:
    """Return the corpus as a run's `train.json` reports it."""
    return dict(read_json(run / checkpoint.SETTINGS)["corpus"])


def _load_tables(
    folder: Path, splits: Sequence[str], targets: Sequence[str], stored: TrainSettings
) -> Corpus:
    """Return the splits as their tables list them, with or without media files."""
    own = stored.corpora.get(folder.resolve().name, CorpusSettings.model_validate({}))
    return load_corpus(
        folder, targets=targets, splits=splits, label_scale=own.label_scale or stored.label_scale,
        category=stored.category, scan=False, clips=_list_clips(folder, splits),
        columns=own.columns,
        ranked=own.ranks.column if own.ranks else None,
    )  # fmt: skip


def _list_clips(folder: Path, splits: Sequence[str]) -> dict[str, Path]:
    tables = (read_table(name, path) for name, path in find_split_files(folder, splits, [])[0].items())
    return {get_clip_key(name): folder for table in tables for name in table.list_ids()}


def _select_decoded(corpus: Corpus, reports: Mapping[str, Any], split: str) -> tuple[Item, ...]:
    """Return the clips of a split without those that the run couldn't decode."""
    absent = {left["id"] for left in reports[split]["left_out"] if left["kind"] in NOT_DECODED}
    return tuple(item for item in corpus.splits[split].items if item.id not in absent)
