"""Corpora of features alone, small and learnable: labels follow from the mean of the first features."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from emimic.features import store
from emimic.task import EMOTIONS

SIZES = {"face": 10, "units": 5, "vision": 8, "audio": 12, "text": 6}
"""Role -> features of a frame; the folders have the roles' names."""

RATES = {"face": 6.0, "units": 6.0, "vision": 6.0, "audio": 50.0, "text": 2.0}


def sequence(role: str, seconds: float, rng: np.random.Generator, tone: float) -> store.Sequence:
    """Noise around a tone; a tenth of the faces' frames is not there."""
    frames = max(1, round(seconds * RATES[role]))
    values = rng.standard_normal((frames, SIZES[role])) * 0.3
    values[:, :3] += tone
    present = np.ones(frames, np.bool_)
    if role in ("face", "units", "vision"):
        present = rng.random(frames) < 0.9
        values[~present] = np.nan
    return store.Sequence(values.astype(np.float32), (np.arange(frames) + 0.5) / RATES[role], present)


def corpus(
    folder: Path,
    roles: tuple[str, ...] = ("face", "audio"),
    *,
    splits: Mapping[str, int] | None = None,
    speakers: int = 6,
    without: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
) -> Path:
    """Tables and features; clips are numbered on through the splits. without: role -> clips without it."""
    rng = np.random.default_rng(seed)
    number = 0
    folder.mkdir(parents=True, exist_ok=True)
    for role in roles:
        (folder / "features" / role).mkdir(parents=True, exist_ok=True)
    for split, count in (splits or {"train": 24, "valid": 12, "test": 6}).items():
        rows = []
        for clip in range(count):
            number += 1
            tone = rng.uniform(-1, 1)
            for role in roles:
                frames = sequence(role, rng.uniform(0.1, 3.0), rng, tone)
                if number not in (without or {}).get(role, ()):
                    store.write(
                        folder / "features" / role / f"{number:05}.safetensors", f"{number:05}", frames
                    )
            labels = np.clip(0.5 + 0.4 * tone * np.array([1, -1, 0.5, -0.5, 1, 1]), 0, 1)
            rows.append([str(number), *(f"{value:.4f}" for value in labels), f"{split}{clip % speakers}"])
        with (folder / f"{split}_split.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["Filename", *EMOTIONS, "Speaker"])
            writer.writerows(rows)
    return folder


def modalities(*roles: str) -> dict[str, str]:
    """What `modalities` says for a corpus of `corpus`."""
    return {role: role for role in roles}
