"""Media files whose sound starts late or has gaps, and the true times of its bursts."""

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
from fake_engine import burst

from emimic.media import decode
from emimic.task import EmimicWarning

BURSTS = (1.0, 3.0)
"""Seconds into the sound at which a burst of 0.6 s begins."""


TRUTH = 0.02
"""Seconds that a time may be off."""


def talk(rate: int) -> np.ndarray[Any, Any]:
    """Return four seconds of silence with two bursts, (sample,) float32."""
    wave = np.zeros(4 * 16_000, np.float32)
    for start in BURSTS:
        wave[round(start * 16_000) :][:9_600] = burst(0.6)
    points = np.arange(4 * rate) / rate * 16_000
    return np.interp(points, np.arange(len(wave)), wave).astype(np.float32)


def load(content: bytes) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Samples and the notes on them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples = decode.load(content, name="x")
    assert all(one.category is EmimicWarning for one in caught)
    return samples, [str(one.message).removeprefix("x: ") for one in caught]


def onsets(samples: np.ndarray[Any, Any]) -> list[float]:
    """Seconds at which something loud begins after half a second without."""
    loud = np.flatnonzero(np.abs(samples) > 0.15) / 16_000
    return [float(loud[0]), *(float(b) for a, b in pairwise(loud) if b - a > 0.5)]


def first_loud() -> float:
    """How far into a burst it becomes loud."""
    return onsets(burst(0.6))[0]


ID3V1 = b"TAG".ljust(128, b"\0")
