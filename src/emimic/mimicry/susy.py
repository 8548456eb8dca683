"""SUSY's effect size: the segments of one pair against the same segments in other order (NumPy only)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from emimic.metrics import Floats
from emimic.mimicry.alignment import FLAT
from emimic.mimicry.lag_profile import to_z
from emimic.mimicry.results import Bools, Series
from emimic.mimicry.windows import standardize_voiced

_SEGMENTS: Final = 2  # minimum number
_VOICE: Final = 0.3  # minimum fraction of a segment with a voice


@dataclass(frozen=True, slots=True)
class Susy:
    """SUSY's measures of a pair, all (dimension + 1,), the mean over dimensions last; NaN below two segments.

    Attributes:
        z: Mean over lags and segments of Fisher's z.
        absolute: The same of |z|.
        es: Effect size of z.
        es_absolute: Effect size of |z|.
    """

    z: Floats
    absolute: Floats
    es: Floats
    es_absolute: Floats


def compute_susy(first: Series, second: Series, *, segment: float, lag: float) -> Susy:
    """Return SUSY's mean Z, mean |Z| and their effect sizes (Tschacher and Meier 2020).

    Both series are cut into segments without overlap. Segment i of the first and j of the second are cross-correlated
    at each lag, as R's `ccf` does: with the means and variances of the full segments. The real lines are the means over
    i = j of z and |z| at each lag; the pseudo lines those over i != j. The effect size is the difference of their means
    over lags, divided by the standard deviation of the pseudo line over lags. Silent steps have their segment's mean,
    where SUSY removes them; segments with a voice less than 30 % of the time are left out.

    Args:
        first: A recording.
        second: A simultaneous recording.
        segment: Seconds of a segment; SUSY uses 30. Of a shorter recording, half of it.
        lag: Seconds of the longest lag.
    """
    steps = min(len(first.times), len(second.times))
    width = min(round(segment / first.hop), steps // _SEGMENTS)
    reach = min(int(lag / first.hop + 1e-6), width - 1)
    nothing = np.full(len(first.dimensions) + 1, np.nan)
    if reach < 1:
        return Susy(nothing, nothing, nothing, nothing)
    x, x_on = _cut(first, width, steps // width)
    y, y_on = _cut(second, width, steps // width)
    valid = x_on[:, None] & y_on[None]
    real, pseudo = np.eye(len(x), dtype=np.bool_) & valid, ~np.eye(len(x), dtype=np.bool_) & valid
    if not real.any() or not pseudo.any():
        return Susy(nothing, nothing, nothing, nothing)
    size = 2 * width
    spectra = np.conj(np.fft.rfft(x, size, axis=1)), np.fft.rfft(y, size, axis=1)
    lines = np.zeros((2, 2, 2 * reach + 1, x.shape[2]))  # real or pseudo; z or |z|; lag; dimension
    count = np.zeros((2, 1, 1, x.shape[2]))
    for i in range(len(x)):
        crossed = np.fft.irfft(spectra[0][i] * spectra[1], size, axis=1)
        crossed = np.concatenate(
            [crossed[:, -reach:], crossed[:, : reach + 1]], axis=1
        )  # (j, lag, dimension)
        defined = (np.square(x[i]).sum(axis=0) > 0) & (np.square(y).sum(axis=1) > 0)  # (j, dimension)
        power = np.sqrt(np.square(x[i]).sum(axis=0) * np.square(y).sum(axis=1))
        z = to_z(crossed / np.where(defined, power, 1.0)[:, None])
        for row, mask in enumerate((real[i], pseudo[i])):
            weight = (defined & mask[:, None])[:, None]
            lines[row, 0] += (weight * z).sum(axis=0)
            lines[row, 1] += (weight * np.abs(z)).sum(axis=0)
            count[row, 0] += weight.sum(axis=0)
    lines = np.where(count > 0, lines / np.maximum(count, 1.0), np.nan)
    means = lines.mean(axis=2)
    std = lines[1].std(axis=1, ddof=1)
    es = (means[0] - means[1]) / np.where(std > 0, std, np.nan)
    return Susy(*(_append(values) for values in (means[0, 0], means[0, 1], es[0], es[1])))


def _append(values: Floats) -> Floats:
    """Return (dimension + 1,) with the mean of the finite values last."""
    finite = values[np.isfinite(values)]
    return np.append(values, finite.mean() if len(finite) else np.nan)


def _cut(series: Series, width: int, segments: int) -> tuple[Floats, Bools]:
    """Return centered segments (segment, step, dimension), 0 in silence and without variance, and those with voice."""
    values = standardize_voiced(series)[: segments * width].reshape(segments, width, -1)
    voiced = series.voiced[: segments * width].reshape(segments, width, 1)
    count = np.maximum(voiced.sum(axis=1, keepdims=True), 1)
    centered = voiced * (values - values.sum(axis=1, keepdims=True) / count)
    flat = np.sqrt(np.square(centered).sum(axis=1, keepdims=True) / count) <= FLAT
    return np.where(flat, 0.0, centered), np.asarray(voiced[..., 0].mean(axis=1) >= _VOICE)
