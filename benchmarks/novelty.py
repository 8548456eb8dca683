"""How often a calibrated model marks sounds as unlike its training data, recorded in docs/results/novelty.json.

    python -m benchmarks.novelty MODEL [--corpus FOLDER ...] [--out docs/results/novelty.json]

MODEL: a run or an exported model with a calibration. It makes synthetic sounds without a voice: noise, hums, tones,
chords, clicks, machines, hiss; as a contrast, a synthetic voice (pulses through moving formants). Of each corpus a
random choice of its media files is taken, so give folders of clips that the model did not learn from.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import emimic
from benchmarks.command import make_parser
from emimic.files import walk, write_atomically
from emimic.inference.predictor import Predictor
from emimic.media import decode
from emimic.task import SAMPLE_RATE, ModelError

Wave = NDArray[np.float64]
Rng = np.random.Generator


def noise(rng: Rng, time: Wave, slope: float) -> Wave:
    """Noise whose amplitude falls as frequency to the power of `slope`: 0 white, .5 pink, 1 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(len(time)))
    return np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** slope, len(time))


def hum(rng: Rng, time: Wave) -> Wave:
    """Mains hum, 50 or 60 Hz with harmonics."""
    base = rng.choice([50.0, 60.0])
    return sum(np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6)) / k for k in range(1, 6))  # type: ignore[return-value]


def tone(rng: Rng, time: Wave) -> Wave:
    """One sine of 200 to 4000 Hz, steady or beeping."""
    wave = np.sin(2 * np.pi * 200 * 20 ** rng.random() * time)
    return wave * (1 if rng.random() < 0.5 else (time * rng.uniform(1, 4) % 1 < 0.5))


def music(rng: Rng, time: Wave) -> Wave:
    """Chords of plucked, bowed or organ-like tones, two to four a second."""
    wave, step = np.zeros_like(time), rng.uniform(0.25, 0.5)
    kind = rng.integers(3)
    for start in np.arange(0, time[-1], step):
        root = 110 * 2 ** (rng.integers(24) / 12)
        for ratio in (1, rng.choice([1.2, 1.25]), 1.5, 2):
            at = time - start
            partials = np.array(
                [np.sin(2 * np.pi * root * ratio * k * at) / k ** (1 + kind / 2) for k in range(1, 7)]
            )
            fall = np.exp(-4 * at) if kind == 0 else np.clip(at / 0.05, 0, 1) * (at < step)
            wave += np.where(at >= 0, fall * partials.sum(axis=0), 0)
    return wave


def clicks(rng: Rng, time: Wave) -> Wave:
    """Damped clicks, 2 to 12 a second: keys, ticking."""
    wave, at = np.zeros_like(time), 0.0
    rate = rng.uniform(2, 12)
    while at < time[-1]:
        after = np.maximum(time - at, 0)
        pitch = rng.uniform(800, 5000)
        wave += (time >= at) * np.exp(-after * rng.uniform(100, 400)) * np.sin(2 * np.pi * pitch * after)
        at += rng.exponential(1 / rate) + 0.02
    return wave


def machine(rng: Rng, time: Wave) -> Wave:
    """A motor: harmonics of a slowly drifting rotation over shaped noise, trembling."""
    turns = np.cumsum(rng.uniform(20, 90) * (1 + 0.05 * np.sin(rng.uniform(0.5, 3) * time))) / SAMPLE_RATE
    wave = sum(rng.random() * np.sin(2 * np.pi * k * turns) for k in range(1, 20))
    return (wave + noise(rng, time, 0.5) * 200) * (1 + 0.3 * np.sin(2 * np.pi * turns))  # type: ignore[operator, no-any-return]


def voice(rng: Rng, time: Wave) -> Wave:
    """Pulses of 100 to 260 Hz with a gliding pitch, through three formants that move from syllable to syllable."""
    pitch = rng.uniform(100, 260) * 2 ** (
        0.3 * np.sin(2 * np.pi * rng.uniform(0.3, 1) * time + rng.uniform(0, 6))
    )
    phase, rate = np.cumsum(pitch) / SAMPLE_RATE, rng.uniform(3, 5)
    syllable = (time * rate).astype(int)
    vowels = np.array(
        [[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410]]
    )
    formants = vowels[rng.integers(5, size=syllable.max() + 1)][syllable].T
    wave = np.zeros_like(time)
    for k in range(1, 35):
        gain = sum(1 / (1 + ((k * pitch - f) / (60 + 0.06 * f)) ** 2) for f in formants) / k
        wave += (k * pitch < 7500) * gain * np.sin(2 * np.pi * k * phase)
    return wave * np.clip(np.sin(np.pi * (time * rate % 1)), 0, 1) ** 0.5 + noise(rng, time, 0.5) * 0.02


KINDS: dict[str, Callable[[Rng, Wave], Wave]] = {
    "white noise": lambda rng, time: noise(rng, time, 0.0),
    "pink noise": lambda rng, time: noise(rng, time, 0.5),
    "brown noise": lambda rng, time: noise(rng, time, 1.0),
    "hiss of silence": lambda rng, time: noise(rng, time, 0.0),
    "hum": hum,
    "tone": tone,
    "music": music,
    "clicks": clicks,
    "machine": machine,
    "synthetic voice": voice,
}


def make(kind: str, rng: Rng) -> NDArray[np.float32]:
    """One sound of 1 to 6 s, its peak at .05 to .9 (hiss: .001 to .003), (sample,)."""
    time = np.arange(round(rng.uniform(1, 6) * SAMPLE_RATE)) / SAMPLE_RATE
    wave = KINDS[kind](rng, time)
    low, high = (0.001, 0.003) if kind == "hiss of silence" else (0.05, 0.9)
    return (wave / np.abs(wave).max() * np.exp(rng.uniform(np.log(low), np.log(high)))).astype(np.float32)


def row(figures: Sequence[float | None]) -> dict[str, Any]:
    """Clips with a novelty, the fraction of them marked, and quartiles. Raises ModelError when the model has none."""
    values = np.array([value for value in figures if value is not None])
    if not len(values):
        raise ModelError("this model gives no novelty: run emimic calibrate, and export again")
    quartiles = [round(float(q), 3) for q in np.quantile(values, [0.25, 0.5, 0.75])]
    return {"clips": len(values), "marked": round(float((values > 1).mean()), 4), "quartiles": quartiles}


def measure(
    predictor: Predictor, corpora: Sequence[Path], *, clips: int = 30, files: int = 200, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """By kind of sound, then by corpus: see `row`. clips: of each kind; files: of each corpus, at most."""
    rows = {}
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng((seed, number))
        sounds = [make(kind, rng) for _ in range(clips)]
        figures = [
            predictor(sound, sample_rate=SAMPLE_RATE, name=kind).prediction.novelty for sound in sounds
        ]
        rows[kind] = row(figures)
    for folder in corpora:
        paths = sorted(path for path in walk(folder, []) if path.suffix.lower() in decode.MEDIA_SUFFIXES)
        chosen = np.random.default_rng(seed).permutation(len(paths))[:files]
        results = predictor.predict_files([paths[i] for i in chosen]).clips
        rows[folder.resolve().name] = row([result.prediction.novelty for result in results])
    return rows


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--corpus", type=Path, action="append", default=[])
    parser.add_argument("--clips", type=int, default=30)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    rows = measure(
        emimic.load(given.model), given.corpus, clips=given.clips, files=given.files, seed=given.seed
    )
    note = "Fraction of clips marked as unlike the training data (novelty above 1), and quartiles of the novelty."
    text = json.dumps({"note": note, "seed": given.seed, "kinds": rows}, indent=1) + "\n"
    print(text, end="")
    if given.out is not None:
        write_atomically(given.out, text)


if __name__ == "__main__":
    main()
