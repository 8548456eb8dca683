"""Rows of sound for `emimic adapt`: pieces of recordings, joined at random as in a long recording."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic.files import read_json, replace_atomically, walk, write_atomically
from emimic.inference.results import Failure
from emimic.media import decode
from emimic.progress import show_progress
from emimic.task import SAMPLE_RATE, AudioError, CorpusError

Wave = NDArray[np.float32]

SAMPLES: Final = "recordings.npy"
INDEX: Final = "recordings.json"

SHORTEST: Final = 0.1
"""Seconds of a recording at least; a row of shorter ones would need thousands."""
GAPS: Final = 0.5
"""Fraction of the rows with pauses between their recordings."""
LONGEST_GAP: Final = 0.8
"""Seconds of such a pause at most."""
SKIPPED: Final = 2.0
"""Seconds before a row's start, at most, so that it begins within a recording."""


@dataclass(frozen=True)
class Recordings:
    """Decoded recordings of one or more folders.

    Attributes:
        samples: (sample,) int16 at 16 kHz, of all recordings, read from disk as they are needed.
        edges: (recording + 1,) where each one begins, and where the last one ends.
        folders: of each folder, the numbers of its recordings; a folder that was given twice is in here twice.
        failures: files that can't be used, with the reason.
    """

    samples: NDArray[np.int16]
    edges: tuple[int, ...]
    folders: tuple[tuple[int, ...], ...]
    failures: tuple[Failure, ...]

    def draw(self, kind: int, length: int, rng: np.random.Generator) -> Wave:
        """Return recordings one after the other, with pauses in half of the rows: (length,).

        Args:
            kind: number of a folder, or that of folders: recordings of all.
            length: samples of the row.
            rng: that draws.
        """
        skipped = int(rng.integers(round(SKIPPED * SAMPLE_RATE)))
        has_gaps, level = rng.random() < GAPS, 10 ** rng.uniform(-4, -2.5)
        parts: list[Wave] = []
        missing = skipped + length
        while missing > 0:
            folder = self.folders[kind if kind < len(self.folders) else rng.integers(len(self.folders))]
            parts.append(self._read(folder[rng.integers(len(folder))], skipped + length, rng))
            if has_gaps:
                gap = rng.standard_normal(int(rng.uniform(0, LONGEST_GAP) * SAMPLE_RATE))
                parts.append((level * gap).astype(np.float32))
            missing = skipped + length - sum(map(len, parts))
        row: Wave = np.concatenate(parts)[skipped : skipped + length]
        return row

    def _read(self, number: int, longest: int, rng: np.random.Generator) -> Wave:
        """Return a recording, or as much of a longer one from a random sample on."""
        start, end = self.edges[number], self.edges[number + 1]
        if end - start > longest:
            start += int(rng.integers(end - start - longest))
        wave: Wave = self.samples[start : min(end, start + longest)].astype(np.float32) / np.float32(32768)
        return wave


def read_recordings(folders: Sequence[Path], out: Path, *, workers: int, show: bool) -> Recordings:
    """Decode the media files in folders, once for a run: samples and index are kept in `out`.

    Raises:
        CorpusError: a folder holds no file that can be decoded.
    """
    if not (out / INDEX).exists():
        _decode(folders, out, workers=workers, show=show)
    try:
        index = read_json(out / INDEX)
        samples = np.load(out / SAMPLES, mmap_mode="r")
        failures = tuple(Failure(Path(path), reason) for path, reason in index["failures"])
        edges, numbers = tuple(index["edges"]), tuple(map(tuple, index["folders"]))
        if samples.shape != edges[-1:]:
            raise ValueError(f"{edges[-1]} samples expected")
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CorpusError(
            f"{out / SAMPLES} and {INDEX} can't be read ({error}): start again in another folder"
        ) from error
    return Recordings(samples, edges, numbers, failures)


def _decode(folders: Sequence[Path], out: Path, *, workers: int, show: bool) -> None:
    troubles: list[OSError] = []
    files = {folder: _list_media(folder, troubles) for folder in folders}
    # A folder may be given twice.
    unlisted = {str(trouble.filename): trouble.strerror for trouble in troubles}
    failures = [(path, f"{path}: can't be listed ({reason})") for path, reason in unlisted.items()]
    paths = list(dict.fromkeys(path for part in files.values() for path in part))
    with ThreadPoolExecutor(workers) as pool:
        decoded = list(show_progress(pool.map(_read, paths), "decoding", total=len(paths), show=show))
    waves = {path: wave for path, wave in zip(paths, decoded, strict=True) if isinstance(wave, np.ndarray)}
    reasons = {wave.path: wave.reason for wave in decoded if isinstance(wave, Failure)}
    failures += [(str(path), reason) for path, reason in reasons.items()]
    numbers = {path: number for number, path in enumerate(waves)}
    used = [[numbers[path] for path in files[folder] if path in numbers] for folder in folders]
    for folder, part in zip(folders, used, strict=True):
        if not part:
            raise CorpusError(f"{folder} holds no recording that can be read. {reasons[files[folder][0]]}")
    edges = [0, *accumulate(len(wave) for wave in waves.values())]
    header = {"descr": "<i2", "fortran_order": False, "shape": (edges[-1],)}
    with replace_atomically(out / SAMPLES) as temporary, temporary.open("wb") as opened:
        # One by one: np.save needs all in memory twice, and reports a full disk without saying so.
        np.lib.format.write_array_header_1_0(opened, header)
        for wave in waves.values():
            opened.write(wave.astype("<i2", copy=False).data)
    index = {"edges": edges, "folders": used, "failures": failures}
    write_atomically(out / INDEX, json.dumps(index))


def _list_media(folder: Path, troubles: list[OSError]) -> list[Path]:
    """Return a folder's media files, also in folders within; `troubles` gets an error for each that can't be listed."""
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder; expected one of recordings")
    before = len(troubles)
    found = sorted(path for path in walk(folder, troubles) if path.suffix.lower() in decode.MEDIA_SUFFIXES)
    if not found:
        for trouble in troubles[before:]:
            raise CorpusError(f"{trouble.filename}: can't be listed ({trouble.strerror}). Make it readable")
        raise CorpusError(
            f"{folder} holds no recording that can be read; expected audio or video, also in folders within"
        )
    return found


def _read(path: Path) -> NDArray[np.int16] | Failure:
    try:
        wave = decode.load(path, notes=[])
    except AudioError as error:
        return Failure(path, str(error))
    if len(wave) < SHORTEST * SAMPLE_RATE:
        return Failure(path, f"{path}: is shorter than {SHORTEST} s. Leave it out.")
    return (np.clip(wave, -1.0, 1.0) * 32767).astype(np.int16)
