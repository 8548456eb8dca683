"""Accuracy of voice activity detection: bursts (laughs, sighs, cheers: no speech) and speech, in steady noise.

    python -m benchmarks.voice_segments ../shared/data/bursts ../shared/data/tava

Clips of validation speakers, each at -23 dB over its active part (chunks within 20 dB of its loudest), stand between
pauses of 3 s; noise lies under all of it, a given number of dB below the clips. Recall: fraction of active time found.
Missed: fraction of clips of which less than half is found. False alarm: fraction of pause time called voice, 0.5 s and
more from a clip. `silero` is the speech detector alone, `both` with the level rule. About a minute on one core.
Writes docs/results/voice_segments.json.
"""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from emimic.files import write_atomically
from emimic.inference.voice_activity import Detector, decide
from emimic.media import decode
from emimic.media.silero_vad import CHUNK

Array = np.ndarray[Any, Any]
OUT = Path(__file__).parent.parent / "docs" / "results" / "voice_segments.json"
CLIPS, PAUSE, NEAR = 100, 48_000, 8_000
NOISES = ("silence", "room", "white", "pink", "brown", "fan", "hum")


def noise(kind: str, count: int = 60 * 16_000, seed: int = 0) -> Array:
    """Return (sample,) with a root mean square of 1, its ends fitting; `room` is pink with a little hum."""
    rng = np.random.default_rng(seed)
    time = np.arange(count) / 16_000
    hum = sum(np.sin(2 * np.pi * 50 * h * time + h) / h for h in range(1, 8))
    fall = {"white": 0.0, "pink": 0.5, "fan": 0.7, "brown": 1.0}.get(kind, 0.5)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    colored = np.fft.irfft(
        spectrum / np.maximum(np.arange(len(spectrum)), 20 * count / 16_000) ** fall, count
    )
    colored /= colored.std()
    if kind == "fan":  # a slow beat of 1.4 dB
        colored *= 1 + 0.15 * np.sin(2 * np.pi * 1.3 * time)
    if kind in ("room", "hum"):
        colored = colored * (0.05 if kind == "hum" else 1.0) + (1.0 if kind == "hum" else 0.3) * hum
    return colored / colored.std()


def active(clip: Array) -> tuple[Array, Array]:
    """Return a clip without its quiet ends, at -23 dB, and a mask of samples within 20 dB of its loudest chunk."""
    chunks = clip[: len(clip) // CHUNK * CHUNK].astype(np.float64).reshape(-1, CHUNK)
    power = np.square(chunks).mean(axis=1)
    loud = power > power.max() / 100
    first, last = np.flatnonzero(loud)[[0, -1]]
    chunks, loud = chunks[first : last + 1], loud[first : last + 1]
    level = np.sqrt(np.square(chunks[loud]).mean())
    return (10 ** (-23 / 20) * chunks / level).reshape(-1), np.repeat(loud, CHUNK)


def measure(clips: list[tuple[Array, Array]], kind: str, below: float) -> dict[str, Any]:
    """Return recall, missed clips and false alarms of both ways, with noise of a kind `below` dB under the clips."""
    parts, truth, places, at = [np.zeros(PAUSE)], [np.zeros(PAUSE, bool)], [], PAUSE
    for clip, loud in clips:
        parts += [clip, np.zeros(PAUSE)]
        truth += [loud, np.zeros(PAUSE, bool)]
        places.append((at, at + len(clip)))
        at += len(clip) + PAUSE
    sound, loud = np.concatenate(parts), np.concatenate(truth)
    if kind != "silence":
        sound = sound + 10 ** ((-23 - below) / 20) * np.resize(noise(kind), len(sound))
    speech, levels = evidence(sound.astype(np.float32))
    pause = np.ones(len(sound), bool)
    for start, end in places:
        pause[start - NEAR : end + NEAR] = False
    made: dict[str, Any] = {"noise": kind, "below_db": None if kind == "silence" else below}
    for name, chunks in (
        ("silero", decide(speech, np.full(len(levels), -100.0))),
        ("both", decide(speech, levels)),
    ):
        figures = np.repeat(chunks, CHUNK)[: len(sound)]
        fractions = [figures[a:b][loud[a:b]].mean() for a, b in places]
        made[name] = {
            "recall": round(float(figures[loud].mean()), 4),
            "missed": round(float(np.mean(np.array(fractions) < 0.5)), 4),
            "false_alarm": round(float(figures[pause].mean()), 4),
        }
    return made


def evidence(sound: Array) -> tuple[Array, Array]:
    """Return the probability of speech and the level in dB of each chunk, as in the detector."""
    seen: list[Array] = []

    class Keeping(Detector):
        def _add_evidence(self, group: Array) -> None:
            super()._add_evidence(group)
            seen.append(self._evidence[:, -len(group) // CHUNK :].copy())

    detector = Keeping()
    for start in range(0, len(sound), 160_000):
        detector.push(sound[start : start + 160_000])
    detector.flush()
    speech, levels = np.concatenate(seen, axis=1)[:, : -(-len(sound) // CHUNK)]
    return speech, levels


def pick(folder: Path, names: Callable[[Path], list[str]]) -> list[tuple[Array, Array]]:
    chosen = sorted(names(folder))
    order = np.random.default_rng(0).permutation(len(chosen))[:CLIPS]
    return [active(decode.load(folder / "audio" / f"{chosen[i]}.mp3", max_seconds=6.0)) for i in order]


def bursts(folder: Path) -> list[str]:
    with (folder / "clips.csv").open(encoding="utf-8") as file:
        return [row["Filename"] for row in csv.DictReader(file) if row["Split"] == "valid"]


def main(bursts_folder: str, speech_folder: str) -> None:
    results: dict[str, Any] = {"command": "python -m benchmarks.voice_segments BURSTS TAVA", "clips": CLIPS}
    everything = {
        "bursts": pick(Path(bursts_folder), bursts),
        "speech": pick(Path(speech_folder), lambda f: [p.stem for p in (f / "audio").glob("*.mp3")]),
    }
    for name, clips in everything.items():
        rows = [
            measure(clips, kind, below)
            for kind in NOISES
            for below in ((30.0,) if kind == "silence" else (30.0, 20.0, 10.0))
        ]
        results[name] = rows
        for row in rows:
            print(name, row, flush=True)
    write_atomically(OUT, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
