"""Corpora of a run of any kind: the paper's model, a student, or a baseline."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emimic.data.corpus import Corpus, load_corpus
from emimic.data.corpus_settings import CorpusSettings
from emimic.training.corpora import RunCorpus, load_corpora
from emimic.training.distill_corpus import load_student_corpus
from emimic.training.distill_targets import TeacherTargets
from emimic.training.learner import Features
from emimic.training.settings import TrainSettings


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
