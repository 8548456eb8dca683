"""Measurements of each clip of a corpus: its containers, its sound, its faces; made once and stored on disk.

`facts.jsonl` is JSON lines: a head, then one line per clip, written when the clip was measured. A line is valid while
its files have the same size and modification time. So an interrupted run resumes, and a second one decodes new files
only.
"""

import dataclasses
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.data.corpus import FACES, Corpus, Item, list_media, run_in_parallel
from emimic.data.split_tables import get_clip_key
from emimic.files import list_visible
from emimic.journal import JournalFile
from emimic.media import decode, silero_vad
from emimic.media.container import Facts, Sound, VideoTrack, probe
from emimic.task import SAMPLE_RATE, AudioError

JOURNAL: Final = "facts.jsonl"

SILENT: Final = 10 ** (-60 / 20)
"""Root mean square (1 is full scale) below which 32 ms are silent."""

FULL: Final = 0.999
"""Minimum absolute value at full scale: 16-bit files end just below 1."""

RUN: Final = 3
"""Minimum number of consecutive samples at full scale that are clipped; one alone may be a normalized peak."""

_HEAD: Final = {"schema": "emimic/facts/1", "emimic": version("emimic")}
_BLOCK: Final = 2048 * silero_vad.CHUNK
_IMAGES: Final = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class Waveform:
    """Measurements of the decoded sound, mono at 16 kHz.

    Attributes:
        samples: their number.
        peak: the largest absolute value; 1 is full scale.
        clipped: the number of samples in runs of at least RUN at full scale.
        silence: the fraction of 32 ms chunks below SILENT.
        speech: the fraction with voice activity.
    """

    samples: int
    peak: float
    clipped: int
    silence: float
    speech: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measurements of a clip's files; None where they don't have a track or it can't be read.

    Attributes:
        troubles: a sentence for each damage, naming the file.
    """

    video: VideoTrack | None
    sound: Sound | None
    waveform: Waveform | None
    troubles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """A listed clip with its files.

    Attributes:
        audio: the decoded file, relative to the corpus.
        video: the file in raw/, if there is one.
        faces: the number of images in the clip's folder of faces; None without a folder FACES in the corpus.
    """

    split: str
    id: str
    audio: str
    video: str | None
    faces: int | None
    measured: Measurement

    @property
    def seconds(self) -> float | None:
        """Duration of the decoded sound or, without one, of the video."""
        if self.measured.waveform is not None:
            return self.measured.waveform.samples / SAMPLE_RATE
        return self.video_seconds

    @property
    def video_seconds(self) -> float | None:
        """Duration of the video."""
        video = self.measured.video
        return video.seconds if video and video.frames else None

    @property
    def expected(self) -> int | None:
        """Frames of the video and of its gaps: its duration x the rate of the recording (paper section 3.2)."""
        video = self.measured.video
        return video.expected if video and video.frames else None

    @property
    def faces_fps(self) -> float | None:
        """Faces per second of the clip."""
        return self.faces / self.seconds if self.faces is not None and self.seconds else None


def measure(
    corpus: Corpus, out: Path, *, workers: int | None = None, progress: bool = False
) -> tuple[Clip, ...]:
    """Measure every clip of the corpus that has a file, in the order of its tables.

    Args:
        corpus: the corpus.
        out: the folder of the stored measurements.
        workers: threads; by default one per core.
        progress: whether to show a bar.

    Raises:
        EmimicError: if another run uses `out`, or its facts.jsonl is not a file of `emimic describe`.
    """
    raw = list_media(corpus.folder / "raw")
    faces = _list_face_folders(corpus.folder / FACES)
    jobs = [(split.name, item) for split in corpus.splits.values() for item in split.items]
    with _Journal(out) as journal:

        def measure_item(job: tuple[str, Item]) -> Clip:
            split, item = job
            key = get_clip_key(item.id)
            video = raw[key][0] if key in raw else None
            files = list(dict.fromkeys([item.path, *([video] if video else [])]))
            names = [path.relative_to(corpus.folder).as_posix() for path in files]
            stamps = [_stamp(path, name) for path, name in zip(files, names, strict=True)]
            measured = journal.get(stamps)
            if measured is None:
                measured = examine(files, names)
                journal.add(stamps, measured)
            return Clip(
                split, item.id, names[0], names[-1] if video else None, _count_faces(faces, key), measured
            )

        return tuple(
            run_in_parallel(measure_item, jobs, workers=workers, progress=progress, text="Measuring clips")
        )


def examine(files: Sequence[Path], names: Sequence[str]) -> Measurement:
    """Probe a clip's files: the one to decode, then the video if that is another; decode the first."""
    troubles: list[str] = []
    facts: list[Facts] = []
    for path, name in zip(files, names, strict=True):
        try:
            facts.append(probe(path, name=name))
        except AudioError as error:
            facts.append(Facts(None, None, broken=False))
            troubles.append(str(error))
            continue
        video = facts[-1].video
        if video and video.frames < video.promised:
            troubles.append(f"{name}: {video.frames} of the {video.promised} frames it promises are there.")
        elif facts[-1].broken:
            troubles.append(f"{name}: a part of it is damaged; the rest is counted.")
    try:
        notes: list[str] = []
        waveform = analyze(decode.load(files[0], name=names[0], notes=notes))
        troubles += notes
    except AudioError as error:
        waveform = None
        if not any(trouble.startswith(f"{names[0]}: ") for trouble in troubles):
            troubles.append(str(error))
    return Measurement(facts[-1].video or facts[0].video, facts[0].sound, waveform, tuple(troubles))


def analyze(samples: NDArray[np.float32]) -> Waveform:
    """Measure samples (sample,) at 16 kHz, at least one."""
    # In blocks, and without copies in float64: one video of two hours has 115 million samples.
    power = np.concatenate(
        [_compute_power(samples[at : at + _BLOCK]) for at in range(0, len(samples), _BLOCK)]
    )
    loud = (samples >= FULL) | (samples <= -FULL)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]])))
    runs = edges[1::2] - edges[::2]
    return Waveform(
        samples=len(samples),
        peak=float(max(samples.max(), -samples.min())),
        clipped=int(runs[runs >= RUN].sum()),
        silence=float(np.mean(power < SILENT**2)),
        speech=silero_vad.measure_speech(samples),
    )


def _compute_power(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean square of each chunk of samples (sample,): (chunk,); the last chunk may be shorter."""
    starts = np.arange(0, len(samples), silero_vad.CHUNK)
    sums: NDArray[np.float64] = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    return sums / np.diff(np.append(starts, len(samples)))


def _list_face_folders(folder: Path) -> dict[str, Path] | None:
    """Return clip key -> its folder of faces; None when the corpus has none."""
    if not folder.is_dir():
        return None
    return {get_clip_key(entry.name): Path(entry.path) for entry in list_visible(folder) if entry.is_dir()}


def _count_faces(faces: dict[str, Path] | None, key: str) -> int | None:
    if faces is None or key not in faces:
        return None if faces is None else 0
    return sum(entry.name.lower().endswith(_IMAGES) for entry in list_visible(faces[key]))


def _stamp(path: Path, name: str) -> list[Any]:
    """Return the name, size in bytes, and modification time in ns; -1 where unknown, which reading then explains."""
    try:
        status = path.stat()
    except OSError:
        return [name, -1, -1]
    return [name, status.st_size, status.st_mtime_ns]


class _Journal(JournalFile):
    """Measurements by the stamps of a clip's files; threads may add at the same time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / JOURNAL, _HEAD)
        self._entries: dict[str, Measurement] = {}
        for entry in self.read_entries():
            with suppress(ValueError, KeyError, TypeError):  # a damaged line: measure the clip again
                self._entries[json.dumps(entry["files"])] = _parse(entry["found"])

    def get(self, stamps: list[list[Any]]) -> Measurement | None:
        return self._entries.get(json.dumps(stamps))

    def add(self, stamps: list[list[Any]], measured: Measurement) -> None:
        self.append({"files": stamps, "found": dataclasses.asdict(measured)}, sync=False)


def _parse(entry: dict[str, Any]) -> Measurement:
    return Measurement(
        video=VideoTrack(**entry["video"]) if entry["video"] else None,
        sound=Sound(**entry["sound"]) if entry["sound"] else None,
        waveform=Waveform(**entry["waveform"]) if entry["waveform"] else None,
        troubles=tuple(entry["troubles"]),
    )
