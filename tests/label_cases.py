"""A corpus whose clips have labels of several kinds, some of them missing."""

from pathlib import Path

import numpy as np
import soundfile

from emimic.task import EMOTIONS, VAD

CLASSES = ("calm", "keen")


def write(folder: Path, *, six: bool = True, vad: bool = True, train: int = 10, valid: int = 5) -> Path:
    """Noisy tones whose labels follow from pitch and loudness. Of five training clips one has all labels, one all
    but the six, one all but VAD and a class, one has a class alone, one half of the six and valence.
    """
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    columns = ["Filename", *(EMOTIONS if six else ()), *(VAD if vad else ()), "Category"]
    number = 0
    for name, count in (("train", train), ("valid", valid)):
        lines = [",".join(columns)]
        for index in range(count):
            number += 1
            pitch, loudness = rng.random(2)
            samples = 1200 + 400 * (index % 5)
            tone = np.sin(2 * np.pi * (200 + 1500 * pitch) * np.arange(samples) / 16_000)
            wave = (0.1 + 0.6 * loudness) * tone + 0.02 * rng.standard_normal(samples)
            soundfile.write(folder / "audio" / f"{number}.wav", wave.astype(np.float32), 16_000)
            emotions = [pitch, loudness, 1 - pitch, pitch * loudness, rng.random(), 0.5 * (pitch + loudness)]
            fields = dict(zip(EMOTIONS, emotions, strict=True))
            fields |= dict(zip(VAD, (loudness, 0.5 * loudness, pitch), strict=True))
            text = {column: f"{fields[column]:.4f}" for column in columns[1:-1]}
            text |= {"Filename": str(number), "Category": CLASSES[int(loudness > 0.5)]}
            if name == "train":
                kind = index % 5
                gone = {
                    1: EMOTIONS,
                    2: (*VAD, "Category"),
                    3: (*EMOTIONS, *VAD),
                    4: (*EMOTIONS[:3], *VAD[:2]),
                }
                if not six:
                    gone = {4: VAD[:2]}
                text |= dict.fromkeys(gone.get(kind, ()), "")
            lines.append(",".join(text.get(column, "") for column in columns))
        (folder / f"{name}_split.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
