"""A finished model answers recordings for a student to learn from: kept on disk, resumable, broken ones named."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from emimic import batching, calibration
from emimic.files import sha256
from emimic.inference.engine import DESCRIPTION, Spec, open_engine
from emimic.inference.results import Failure
from emimic.media import decode
from emimic.media.waveform import ClipFormat
from emimic.progress import shown
from emimic.task import AudioError, ModelError
from emimic.training import teacher_cache
from emimic.wording import plural


@dataclass(frozen=True, slots=True)
class Taught:
    """teacher: whose answers they are. answered: recordings with an answer, heard: those of them answered now; both in
    recordings of different content. failures: files that can't be used, each named, with the reason. notes: what is to
    be said of those heard now."""

    teacher: teacher_cache.Teacher
    answered: int
    heard: int
    failures: tuple[Failure, ...]
    notes: tuple[str, ...] = ()

    def table(self, limit: int = 20) -> str:
        """What was done, and the first files that can't be used, and the first notes."""
        lines = [
            f"the teacher's answers to {plural(self.answered, 'recording')}, {self.heard} of them heard now",
            *(one.reason for one in self.failures[:limit]),
        ]
        if more := len(self.failures) - limit:
            lines += [f"and {more} more that can't be used"] if more > 0 else []
        lines += self.notes[:limit]
        if (more := len(self.notes) - limit) > 0:
            lines.append(f"and notes of {more} more")
        return "\n".join(lines)


def key_of(folder: Path) -> str:
    """16 hex digits that name a teacher: an engine folder's description, which holds its files' hashes, or a run
    folder's model files and calibration, and the preparation."""
    names = [DESCRIPTION] if (folder / DESCRIPTION).exists() else ["config.json", "model.safetensors"]
    if names[0] != DESCRIPTION and (folder / calibration.FILE).exists():
        names.append(calibration.FILE)
    parts = [str(ClipFormat.version), *(sha256(folder / name) for name in names)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def teach(
    teacher: Path,
    paths: Sequence[Path],
    out: Path,
    *,
    hidden: bool = True,
    batch_seconds: float = 60.0,
    workers: int = 2,
    threads: int | None = None,
    device: str | None = None,
    progress: bool = False,
) -> Taught:
    """Let a teacher answer recordings that it hasn't answered yet: of each, the first `max_seconds` that it hears.

    teacher: an engine folder or a run folder. paths: media files. out: where answers lie, see `answers`. hidden: also
    the encoder's hidden states. A kill costs at most the last 128 recordings; a broken recording costs itself only.
    Raises ModelError when the teacher can't be used, or gives no hidden states.
    """
    engine = open_engine(teacher, device=device, threads=threads)
    spec = engine.spec
    if not spec.targets:
        raise ModelError(f"{teacher} answers VAD alone; a student needs a teacher with intensities")
    about = teacher_cache.Teacher(key_of(teacher), spec.targets, spec.max_seconds, spec.vad)
    place = teacher_cache.describe(out, about)
    failures: list[Failure] = []
    notes: list[str] = []
    files: dict[Path, Path] = {}  # the answer's file -> one recording of that content
    for path in paths:
        try:
            files[place / f"{sha256(path)}.npz"] = path
        except OSError as error:
            failures.append(Failure(path, f"{path}: can't be read ({error.strerror})"))
    missing = [(file, path) for file, path in files.items() if not _is_whole(file, hidden)]
    groups = [[missing[i] for i in rows] for rows in batching.chunks(len(missing))]
    batches = batching.read_ahead(lambda job: _heard(engine.spec, job[1], notes), groups, workers=workers)
    heard = 0
    for group, clips in zip(groups, shown(batches, "teacher", total=len(groups), show=progress), strict=True):
        failures += [one for one in clips if isinstance(one, Failure)]
        good = [
            (file, one) for (file, _), one in zip(group, clips, strict=True) if not isinstance(one, Failure)
        ]
        found = engine.predict([clip for _, clip in good], batch_seconds=batch_seconds, hidden=hidden)
        for (file, _), answer in zip(good, found, strict=True):
            teacher_cache.write(file, answer)
        heard += len(good)
    answered = len(files) - len(missing) + heard
    return Taught(about, answered, heard, tuple(failures), tuple(notes))


def _heard(spec: Spec, path: Path, notes: list[str]) -> NDArray[np.float32] | Failure:
    """(sample,), as the teacher takes it."""
    try:
        samples = decode.load(path, max_seconds=spec.max_seconds, notes=notes)
    except AudioError as error:
        return Failure(path, str(error))
    return decode.prepare(
        samples, max_seconds=spec.max_seconds, normalize=spec.do_normalize, min_samples=spec.min_samples
    ).samples


def _is_whole(file: Path, hidden: bool) -> bool:
    """Whether an answer is there with all that is wanted; of its content only the directory is read."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as found:
            return not hidden or "hidden" in found
    except (OSError, ValueError, BadZipFile):
        return False
