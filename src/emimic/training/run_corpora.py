"""Corpora of a run of any kind: the paper's model, a student, or a baseline."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emimic.data import scan
from emimic.data.corpus import Corpus, load_corpus
from emimic.data.corpus_settings import CorpusSettings
from emimic.training.corpora import RunCorpus, load_corpora
from emimic.training.distill_corpus import load_student_corpus
from emimic.training.distill_targets import TeacherTargets
from emimic.training.learner import Features
from emimic.training.settings import TrainSettings


def load_run_corpora_once(fabric: Any, load: Callable[[], tuple[RunCorpus, ...]]) -> tuple[RunCorpus, ...]:
    """Return a run's corpora, whose recordings the first process scans for all of them.

    Args:
        fabric: the run's processes.
        load: returns the corpora.

    Raises:
        EmimicError: of `load`, in every process.
    """
    if fabric.world_size == 1:
        return load()
    scanned: dict[scan.Key, scan.Scanned] = {}
    try:
        if fabric.is_global_zero:
            return load()
    finally:
        # Also after an error, which the others then find for themselves, instead of waiting forever.
        if fabric.is_global_zero:
            scanned = scan.list_scanned()
        scan.add_scanned(fabric.broadcast(scanned))
    return load()


def load_run_corpora(
    folders: Sequence[Path],
    settings: TrainSettings,
    teacher: TeacherTargets | None,
    features: Features | None,
    *,
    progress: bool,
) -> tuple[RunCorpus, ...]:
    """Load a run's corpora: a student's with a teacher, a baseline's with features. Raises EmimicError."""
    if teacher is not None:
        corpus = load_student_corpus(folders[0], settings, teacher)
    elif features is not None:
        corpus = _load_baseline_corpus(folders[0], settings, features, progress=progress)
    else:
        return load_corpora(folders, settings, progress=progress)
    return (RunCorpus(folders[0].resolve().name, CorpusSettings.model_validate({}), corpus),)


def _load_baseline_corpus(
    folder: Path, settings: TrainSettings, features: Features, *, progress: bool
) -> Corpus:
    corpus = load_corpus(
        folder,
        targets=settings.targets,
        splits=["train", "valid"],
        label_scale=settings.label_scale,
        workers=settings.workers,
        progress=progress,
        clips=features.clips,
    )
    corpus = features.add_warnings(corpus)
    if settings.folds > 1 and any(item.speaker is None for item in corpus.splits["train"].items):
        note = (
            f"the {settings.folds} folds of {settings.baseline} are of clips where the table names no speaker: "
            "one speaker may be in several"
        )
        return replace(corpus, warnings=(*corpus.warnings, note))
    return corpus
