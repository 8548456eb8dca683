"""Coherence of two voices in two bands of frequencies (NumPy only)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic.metrics import Floats
from emimic.mimicry.results import Bools
from emimic.mimicry.windows import Stack, Steps

BANDS: Final = {"slow": (0.06, 0.16), "fast": (0.16, 0.4)}
"""Hz. A timeline averages 2.5 s, so almost nothing is left above 0.4 Hz."""

SEGMENT: Final = 12.8
"""Seconds of a segment."""

_SEGMENTS: Final = 3  # minimum number: of one the coherence is always 1
_VOICE: Final = 0.5  # minimum fraction of a segment with a voice, on each side


def compute_bands(firsts: Stack, second: Stack, hop: float) -> dict[str, Floats]:
    """Return the coherence (pair, dimension) of each first recording with the second one in each band, 0 to 1.

    Magnitude-squared coherence |S_xy(f)|² / (S_xx(f) S_yy(f)), with spectra that are sums over Hann-windowed segments
    with half overlap (Welch 1967, IEEE Transactions on Audio and Electroacoustics 15, 70-73; Carter, Knapp and Nuttall
    1973, ibid. 21, 337-344), averaged over the band's frequencies. Segments with a voice less than half of the time on
    either side are left out; silence has the segment's mean. NaN below three segments.
    """
    length = round(SEGMENT / hop)
    steps = min(firsts.values.shape[1], second.values.shape[1])
    starts = np.arange(0, steps - length + 1, length // 2)
    frequencies = np.fft.rfftfreq(length, hop)
    picked = [np.flatnonzero((low <= frequencies) & (frequencies < high)) for low, high in BANDS.values()]
    numbers = np.concatenate(picked)
    x, x_on = _transform(firsts, starts, length, numbers)
    y, y_on = _transform(second, starts, length, numbers)
    ends = starts + length <= np.minimum(firsts.lengths, second.lengths)[:, None]
    both = (x_on & y_on & ends).astype(np.float64)  # (pair or 1, segment)
    cross = (both[..., None, None] * x * y.conj()).sum(axis=1)  # (pair, dimension, frequency)
    x_power = (both[..., None, None] * np.square(np.abs(x))).sum(axis=1)
    y_power = (both[..., None, None] * np.square(np.abs(y))).sum(axis=1)
    power = x_power * y_power
    defined = (power > 1e-12) & (both.sum(axis=1) >= _SEGMENTS)[:, None, None]
    value = np.where(defined, np.square(np.abs(cross)) / np.where(defined, power, 1.0), np.nan)
    parts = np.split(value, [len(picked[0])], axis=2)
    return {name: np.asarray(part.mean(axis=2)) for name, part in zip(BANDS, parts, strict=True)}


def _transform(
    stack: Stack, starts: Steps, length: int, numbers: Steps
) -> tuple[NDArray[np.complex128], Bools]:
    """Return spectra (recording, segment, dimension, frequency), and the segments (recording or 1, segment) with voice.

    Args:
        stack: The recordings.
        starts: (segment,) first steps.
        length: Steps of a segment.
        numbers: (frequency,) cycles per segment.
    """
    inside = (starts[:, None] + np.arange(length)).astype(np.intp)
    voiced = stack.voiced[:, inside][:, :, None]  # (recording or 1, segment, 1, step)
    count = np.maximum(voiced.sum(axis=3, keepdims=True), 1.0)
    values = stack.values[:, inside].transpose(0, 1, 3, 2)
    centered = voiced * (values - values.sum(axis=3, keepdims=True) / count)
    step = np.arange(length)
    taper = np.hanning(length + 1)[:-1, None]
    angle = 2 * np.pi * step[:, None] * numbers / length
    spectra = centered @ (taper * np.cos(angle)) - 1j * (centered @ (taper * np.sin(angle)))
    return spectra, voiced[:, :, 0].mean(axis=2) >= _VOICE
