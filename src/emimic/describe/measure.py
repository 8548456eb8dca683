"""What is found of each clip of a corpus: its containers' facts, its sound, its faces; measured once, kept on disk.

`facts.jsonl` is JSON lines: a head, then a line a clip, written when the clip was measured. A line counts for as long
as its files have the same size and time of change: an interrupted run goes on, a second one decodes only what is new.
"""

import dataclasses
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from emimic.data.corpus import FACES, Corpus, Item, in_parallel, list_media
from emimic.data.split_tables import clip_key
from emimic.files import lock, naming, need_file, visible
from emimic.media import decode as audio
from emimic.media import silero_vad as speech
from emimic.media.container import Facts, Picture, Sound, probe
from emimic.task import SAMPLE_RATE, AudioError, CorpusError

JOURNAL: Final = "facts.jsonl"

SILENT: Final = 10 ** (-60 / 20)
"""Root mean square (1 is full scale) below which 32 ms count as silent."""

FULL: Final = 0.999
"""Least absolute value that counts as full scale: 16-bit files end just below 1."""

RUN: Final = 3
"""So many samples in a row at full scale are clipped; a single one may be a peak that was normalized to it."""

_HEAD: Final = {"schema": "emimic/facts/1", "emimic": version("emimic")}
_BEGIN: Final = b'{"schema": "emimic/facts/'
_BLOCK: Final = 2048 * speech.CHUNK
_IMAGES: Final = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class Heard:
    """The decoded sound, mono at 16 kHz."""

    samples: int
    peak: float
    """Largest absolute value; 1 is full scale."""
    clipped: int
    """Samples in runs of at least RUN at full scale."""
    silence: float
    """Share, 0 to 1, of the 32 ms chunks below SILENT."""
    speech: float
    """Share, 0 to 1, where silero-vad hears speech."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a clip's files gave; None for what they don't have or could not give."""

    picture: Picture | None
    sound: Sound | None
    heard: Heard | None
    troubles: tuple[str, ...]
    """A sentence for each damage, naming the file."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A listed clip with its files."""

    split: str
    id: str
    audio: str
    """The file that was heard, relative to the corpus."""
    video: str | None
    """The file in raw/, if there is one."""
    faces: int | None
    """Pictures in the clip's folder of faces; None without a folder FACES in the corpus."""
    found: Found

    @property
    def seconds(self) -> float | None:
        """Length of the decoded sound or, where there is none, of the picture."""
        if self.found.heard is not None:
            return self.found.heard.samples / SAMPLE_RATE
        return self.video_seconds

    @property
    def video_seconds(self) -> float | None:
        """Length of the picture."""
        return self.found.picture.seconds if self.found.picture and self.found.picture.frames else None

    @property
    def expected(self) -> int | None:
        """Frames of the picture and of its gaps: its length x the rate of the recording (paper section 3.2)."""
        return self.found.picture.expected if self.found.picture and self.found.picture.frames else None

    @property
    def faces_fps(self) -> float | None:
        """Faces a second of the clip."""
        return self.faces / self.seconds if self.faces is not None and self.seconds else None


def measure(
    corpus: Corpus, out: Path, *, workers: int | None = None, progress: bool = False
) -> tuple[Clip, ...]:
    """Every clip of the corpus that has a file, in the order of its tables; what is found is kept in `out`.

    Raises CorpusError when another run uses `out`.
    """
    raw = list_media(corpus.folder / "raw")
    faces = _face_folders(corpus.folder / FACES)
    jobs = [(split.name, item) for split in corpus.splits.values() for item in split.items]
    with _Journal(out) as journal:

        def look(job: tuple[str, Item]) -> Clip:
            split, item = job
            key = clip_key(item.id)
            video = raw[key][0] if key in raw else None
            files = list(dict.fromkeys([item.path, *([video] if video else [])]))
            names = [path.relative_to(corpus.folder).as_posix() for path in files]
            marks = [_stamp(path, name) for path, name in zip(files, names, strict=True)]
            found = journal.get(marks)
            if found is None:
                found = examine(files, names)
                journal.add(marks, found)
            return Clip(split, item.id, names[0], names[-1] if video else None, _count(faces, key), found)

        return tuple(in_parallel(look, jobs, workers=workers, progress=progress, text="Measuring clips"))


def examine(files: Sequence[Path], names: Sequence[str]) -> Found:
    """Probe a clip's files, the one to be heard first, then the video if that is another; decode the first."""
    troubles: list[str] = []
    facts: list[Facts] = []
    for path, name in zip(files, names, strict=True):
        try:
            facts.append(probe(path, name=name))
        except AudioError as error:
            facts.append(Facts(None, None, broken=False))
            troubles.append(str(error))
            continue
        picture = facts[-1].picture
        if picture and picture.frames < picture.promised:
            troubles.append(
                f"{name}: {picture.frames} of the {picture.promised} frames it promises are there."
            )
        elif facts[-1].broken:
            troubles.append(f"{name}: a part of it is damaged; the rest is counted.")
    try:
        notes: list[str] = []
        heard = listen(audio.load(files[0], name=names[0], notes=notes))
        troubles += notes
    except AudioError as error:
        heard = None
        if not any(trouble.startswith(f"{names[0]}: ") for trouble in troubles):
            troubles.append(str(error))
    return Found(facts[-1].picture or facts[0].picture, facts[0].sound, heard, tuple(troubles))


def listen(samples: NDArray[np.float32]) -> Heard:
    """(sample,) at 16 kHz, at least one -> what there is to hear."""
    # In blocks, and without copies in float64: one video of two hours has 115 million samples.
    power = np.concatenate([_power(samples[at : at + _BLOCK]) for at in range(0, len(samples), _BLOCK)])
    loud = (samples >= FULL) | (samples <= -FULL)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]])))
    runs = edges[1::2] - edges[::2]
    return Heard(
        samples=len(samples),
        peak=float(max(samples.max(), -samples.min())),
        clipped=int(runs[runs >= RUN].sum()),
        silence=float(np.mean(power < SILENT**2)),
        speech=speech.share(samples),
    )


def _power(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """(sample,) -> mean square of each (chunk,), of the last one for the samples it has."""
    starts = np.arange(0, len(samples), speech.CHUNK)
    sums: NDArray[np.float64] = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    return sums / np.diff(np.append(starts, len(samples)))


def _face_folders(folder: Path) -> dict[str, Path] | None:
    """Clip key -> its folder of faces; None when the corpus has none."""
    if not folder.is_dir():
        return None
    return {clip_key(entry.name): Path(entry.path) for entry in visible(folder) if entry.is_dir()}


def _count(faces: dict[str, Path] | None, key: str) -> int | None:
    if faces is None or key not in faces:
        return None if faces is None else 0
    return sum(entry.name.lower().endswith(_IMAGES) for entry in visible(faces[key]))


def _stamp(path: Path, name: str) -> list[Any]:
    """Name, size in bytes, time of change in ns: -1 when it can't be asked, which reading then explains."""
    try:
        status = path.stat()
    except OSError:
        return [name, -1, -1]
    return [name, status.st_size, status.st_mtime_ns]


class _Journal:
    """What was found, by the stamps of a clip's files. Threads may add at the same time, other processes may not."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        with naming(self.path):
            if self.path.exists():
                need_file(self.path)  # reading a device may never end
            self._file = cast(BinaryIO, self.path.open("a+b"))
        self._lock = threading.Lock()
        self._known: dict[str, Found] = {}
        try:
            self._open(folder)
        except BaseException:
            self._file.close()
            raise

    def _open(self, folder: Path) -> None:
        """Read what is there. Raises CorpusError where another run writes it, or it isn't this program's."""
        if not lock(self._file):
            raise CorpusError(
                f"{folder} is in use by another run; wait for it, or give another folder (--out)"
            )
        self._file.seek(0)
        head, *lines = self._file.read().split(b"\n")
        if head and not head.startswith(_BEGIN[: len(head)]):
            raise CorpusError(f"{self.path} is no list of facts by emimic: give another --out, or rename it")
        if head != json.dumps(_HEAD).encode() or not lines:
            self._file.truncate(0)
            self._write(_HEAD)
            return
        for line in lines[:-1]:
            try:
                entry = json.loads(line)
                self._known[json.dumps(entry["files"])] = _found(entry["found"])
            except (ValueError, KeyError, TypeError, RecursionError):  # a disk's damage costs a clip
                continue
        if lines[-1]:  # torn by a kill
            self._file.truncate(self._file.tell() - len(lines[-1]))

    def __enter__(self) -> "_Journal":
        return self

    def __exit__(self, *_: object) -> None:
        with naming(self.path):  # what a full disk has not taken is tried again here
            self._file.close()

    def get(self, marks: list[list[Any]]) -> Found | None:
        return self._known.get(json.dumps(marks))

    def add(self, marks: list[list[Any]], found: Found) -> None:
        with self._lock:
            self._write({"files": marks, "found": dataclasses.asdict(found)})

    def _write(self, entry: dict[str, Any]) -> None:
        with naming(self.path):
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()


def _found(entry: dict[str, Any]) -> Found:
    return Found(
        picture=Picture(**entry["picture"]) if entry["picture"] else None,
        sound=Sound(**entry["sound"]) if entry["sound"] else None,
        heard=Heard(**entry["heard"]) if entry["heard"] else None,
        troubles=tuple(entry["troubles"]),
    )
