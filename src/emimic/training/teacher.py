"""Predictions of a teacher for its students: cached on disk, resumable, with broken recordings listed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from emimic import batching, calibration
from emimic.files import compute_sha256
from emimic.inference.engine import DESCRIPTION, Spec, open_engine
from emimic.inference.results import Failure
from emimic.media import decode
from emimic.media.waveform import ClipFormat
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


def compute_key(folder: Path) -> str:
    """Return 16 hex digits that name a teacher and the preparation of clips.

    They depend on an exported model's description, which holds its files' hashes, or on a run folder's model files and
    calibration.
    """
    names = [DESCRIPTION] if (folder / DESCRIPTION).exists() else ["config.json", "model.safetensors"]
    if names[0] != DESCRIPTION and (folder / calibration.FILE).exists():
        names.append(calibration.FILE)
    parts = [str(ClipFormat.version), *(compute_sha256(folder / name) for name in names)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def predict_recordings(
    teacher: Path,
    paths: Sequence[Path],
    cache: Path,
    *,
    hidden: bool = True,
    batch_seconds: float = 60.0,
    workers: int = 2,
    threads: int | None = None,
    device: str | None = None,
    progress: bool = False,
) -> TeacherReport:
    """Let a teacher predict recordings that it hasn't predicted yet: of each, its first `max_seconds`.

    A kill costs at most the last 128 recordings; a broken recording is skipped and reported.

    Args:
        teacher: an exported model or a run folder.
        paths: media files.
        cache: folder of predictions, see `teacher_cache`.
        hidden: cache the encoder's hidden states too.
        batch_seconds: maximum seconds of audio in a batch, after padding.
        workers: threads that decode.
        threads: CPU threads of the model; None: its default.
        device: torch's name; None: a GPU if there is one.
        progress: show a bar.

    Raises:
        ModelError: if the teacher can't be used, or has no hidden states.
    """
    engine = open_engine(teacher, device=device, threads=threads)
    spec = engine.spec
    if not spec.targets:
        raise ModelError(f"{teacher} predicts V/A/D only; a student needs a teacher with intensities")
    about = teacher_cache.Teacher(compute_key(teacher), spec.targets, spec.max_seconds, spec.vad)
    folder = teacher_cache.write_teacher(cache, about)
    failures: list[Failure] = []
    notes: list[str] = []
    files: dict[Path, Path] = {}  # a prediction's file -> one recording of that content
    for path in paths:
        try:
            files[folder / f"{compute_sha256(path)}.npz"] = path
        except OSError as error:
            failures.append(Failure(path, f"{path}: can't be read ({error.strerror})"))
    missing = [(file, path) for file, path in files.items() if not _is_complete(file, hidden)]
    groups = [[missing[i] for i in rows] for rows in batching.split_rows(len(missing))]
    batches = batching.read_ahead(lambda job: _decode(engine.spec, job[1], notes), groups, workers=workers)
    predicted = 0
    for group, clips in zip(
        groups, show_progress(batches, "teacher", total=len(groups), show=progress), strict=True
    ):
        failures += [clip for clip in clips if isinstance(clip, Failure)]
        good = [
            (file, clip)
            for (file, _), clip in zip(group, clips, strict=True)
            if not isinstance(clip, Failure)
        ]
        predictions = engine.predict([clip for _, clip in good], batch_seconds=batch_seconds, hidden=hidden)
        for (file, _), prediction in zip(good, predictions, strict=True):
            teacher_cache.write(file, prediction)
        predicted += len(good)
    cached = len(files) - len(missing) + predicted
    return TeacherReport(about, cached, predicted, tuple(failures), tuple(notes))


def _decode(spec: Spec, path: Path, notes: list[str]) -> NDArray[np.float32] | Failure:
    """Return a recording as the teacher's input, (sample,), or why it can't be read."""
    try:
        samples = decode.load(path, max_seconds=spec.max_seconds, notes=notes)
    except AudioError as error:
        return Failure(path, str(error))
    return decode.prepare(
        samples, max_seconds=spec.max_seconds, normalize=spec.do_normalize, min_samples=spec.min_samples
    ).samples


def _is_complete(file: Path, hidden: bool) -> bool:
    """Return True if a prediction has all that is needed; only the file's directory is read."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return not hidden or "hidden" in arrays
    except (OSError, ValueError, BadZipFile):
        return False
