"""Predictions of a teacher for its students: cached on disk, resumable, with broken recordings listed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from emimic import batching
from emimic.files import compute_sha256
from emimic.inference.description import hash_model
from emimic.inference.engine import Spec, open_engine
from emimic.inference.results import Failure
from emimic.progress import show_progress
from emimic.task import AudioError, ModelError
from emimic.training import teacher_cache
from emimic.wording import pluralize


@dataclass(frozen=True, slots=True)
class TeacherReport:
    """Report of `predict_recordings`, counted in recordings of different content.

    Attributes:
        teacher: that predicted.
        cached: number of recordings with a prediction.
        predicted: number of those that were predicted now.
        failures: files that can't be used, with the reason.
        notes: on recordings that were predicted now.
    """

    teacher: teacher_cache.Teacher
    cached: int
    predicted: int
    failures: tuple[Failure, ...]
    notes: tuple[str, ...] = ()

    def to_text(self, limit: int = 20) -> str:
        """Return the report as lines, with the first failures and notes."""
        lines = [
            f"the teacher's predictions of {pluralize(self.cached, 'recording')}, {self.predicted} of them new",
            *(failure.reason for failure in self.failures[:limit]),
        ]
        if more := len(self.failures) - limit:
            lines += [f"and {more} more that can't be used"] if more > 0 else []
        lines += self.notes[:limit]
        if (more := len(self.notes) - limit) > 0:
            lines.append(f"and notes of {more} more")
        return "\n".join(lines)


def predict_recordings(
    teacher: Path,
    paths: Sequence[Path],
    cache: Path,
    *,
    workers: int = 2,
    threads: int | None = None,
    progress: bool = False,
) -> TeacherReport:
    """Let a teacher predict recordings that it hasn't predicted yet: of each, its first `max_seconds`.

    A kill costs at most the last 128 recordings; a broken recording is skipped and reported.

    Args:
        teacher: an exported model or a run folder.
        paths: media files.
        cache: folder of predictions, see `teacher_cache`.
        workers: threads that decode.
        threads: CPU threads of the model; None: its default.
        progress: show a bar.

    Raises:
        ModelError: if the teacher can't be used, or has no hidden states.
    """
    engine = open_engine(teacher, threads=threads)
    spec = engine.spec
    if not spec.targets:
        raise ModelError(f"{teacher} predicts V/A/D only; a student needs a teacher with intensities")
    about = teacher_cache.Teacher(hash_model(teacher)[:16], spec.targets, spec.max_seconds, spec.vad)
    folder = teacher_cache.write_teacher(cache, about)
    failures: list[Failure] = []
    notes: list[str] = []
    files: dict[Path, Path] = {}  # a prediction's file -> one recording of that content
    for path in paths:
        try:
            files[folder / f"{compute_sha256(path)}.npz"] = path
        except OSError as error:
            failures.append(Failure(path, f"{path}: can't be read ({error.strerror})"))
    missing = [(file, path) for file, path in files.items() if not _is_complete(file)]
    groups = batching.split(missing)
    batches = batching.read_groups(lambda job: _load(engine.spec, job[1], notes), groups, workers=workers)
    predicted = 0
    for number, clips in show_progress(batches, "teacher", total=len(groups), show=progress):
        failures += [clip for clip in clips if isinstance(clip, Failure)]
        good = [
            (file, clip)
            for (file, _), clip in zip(groups[number], clips, strict=True)
            if not isinstance(clip, Failure)
        ]
        predictions = engine.predict([clip for _, clip in good], batch_seconds=60.0, hidden=True)
        for (file, _), prediction in zip(good, predictions, strict=True):
            teacher_cache.write(file, prediction)
        predicted += len(good)
    cached = len(files) - len(missing) + predicted
    return TeacherReport(about, cached, predicted, tuple(failures), tuple(notes))


def _load(spec: Spec, path: Path, notes: list[str]) -> NDArray[np.float32] | Failure:
    """Return a recording as the teacher's input, (sample,), or why it can't be read."""
    try:
        return spec.load(path, notes=notes)
    except AudioError as error:
        return Failure(path, str(error))


def _is_complete(file: Path) -> bool:
    """Return True if a prediction has hidden states, too; only the file's directory is read."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return "hidden" in arrays
    except (OSError, ValueError, BadZipFile):
        return False
