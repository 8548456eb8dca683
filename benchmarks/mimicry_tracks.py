"""Tracks of real voices, joined from short recordings, and their timelines, for `benchmarks.mimicry_rates`.

    python -m benchmarks.mimicry_tracks FOLDER --bursts BURSTS --tava TAVA

writes FOLDER/bursts.npz and FOLDER/tava.npz: an array (step, 9) of intensities, arousal, dominance and valence every
0.2 s per track, NaN in silence. No two tracks have a speaker in common. BURSTS and TAVA are folders with `audio/` and
tables of clips (EmoGator, Apache-2.0; TAVA, AGPL-3.0, whose recordings serve only to measure).
"""

import csv
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import emimic
from benchmarks.command import make_parser
from emimic.media import decode
from emimic.mimicry.compare import make_series
from emimic.task import SAMPLE_RATE

Clips = dict[str, list[Path]]
"""Recordings by speaker."""


def list_bursts(folder: Path) -> Clips:
    """Return the vocal bursts of the validation speakers, whom the included model has not learned from."""
    with (folder / "clips.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Split"] == "valid"]
    clips: Clips = {}
    for row in rows:
        clips.setdefault(row["Speaker"], []).append(_find_audio(folder, row["Filename"]))
    return clips


def list_sentences(folder: Path) -> Clips:
    """Return TAVA's sentences."""
    clips: Clips = {}
    for table in sorted(folder.glob("*_split.csv")):
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                clips.setdefault(row["Speaker"], []).append(_find_audio(folder, row["Filename"]))
    return clips


def _find_audio(folder: Path, name: str) -> Path:
    return next((folder / "audio").glob(f"{name}.*"))


def join_clips(clips: Sequence[Path], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Return clips in random order, again from the start if they don't suffice, with pauses of 0.2 to 1.5 s."""
    size, parts, total = round(seconds * SAMPLE_RATE), [], 0
    while total < size:
        for index in rng.permutation(len(clips)):
            pause = rng.normal(scale=1e-4, size=int(rng.uniform(0.2, 1.5) * SAMPLE_RATE))
            parts += [decode.load(clips[index]), pause.astype(np.float32)]
            total += len(parts[-2]) + len(parts[-1])
            if total >= size:
                break
    return np.concatenate(parts)[:size]


def make_tracks(clips: Clips, number: int, seconds: float) -> Iterator[np.ndarray]:
    """Yield tracks of different speakers: the speakers are dealt out to `number` tracks."""
    rng = np.random.default_rng(0)
    speakers = rng.permutation(sorted(clips))
    for track in range(number):
        own = [clip for speaker in speakers[track::number] for clip in clips[speaker]]
        yield join_clips(own, seconds, rng)


def main() -> None:
    """Predict the tracks."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bursts", type=Path)
    parser.add_argument("--tava", type=Path)
    arguments = parser.parse_args()
    predictor = emimic.load()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, source, list_clips, number, seconds in (
        ("bursts", arguments.bursts, list_bursts, 20, 300.0),
        ("tava", arguments.tava, list_sentences, 12, 60.0),
    ):
        if source is None:
            continue
        started, values = time.process_time(), []
        for wave in make_tracks(list_clips(source), number, seconds):
            values.append(make_series(predictor.predict_timeline(wave, sample_rate=SAMPLE_RATE)).values)
            print(name, len(values), round(time.process_time() - started), "CPU s", flush=True)
        np.savez_compressed(arguments.folder / f"{name}.npz", *values)


if __name__ == "__main__":
    main()
