"""The cluster-phase measure rho: do more than two voices go up and down in a fixed relation? (NumPy only)."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from emimic.metrics import Floats
from emimic.mimicry.lag_profile import append_mean
from emimic.mimicry.results import Bools, Series

Phases: TypeAlias = NDArray[np.complex128]


def compute_phases(series: Series) -> Phases:
    """Return exp(i theta) of each step (step, dimension): the phase of the analytic signal (Gabor 1946; by FFT).

    Each dimension is centered; silent steps are interpolated linearly, and are left out of rho. A constant dimension
    has phase 0.
    """
    steps, on = np.arange(len(series.times)), series.voiced
    filled = np.stack([np.interp(steps, steps[on], column[on]) for column in series.values.T], axis=1)
    centered = filled - filled.mean(axis=0)
    weight = np.zeros((len(steps), 1))
    half = (len(steps) + 1) // 2
    weight[0], weight[1:half] = 1.0, 2.0
    if len(steps) % 2 == 0:
        weight[len(steps) // 2] = 1.0
    analytic = np.fft.ifft(np.fft.fft(centered, axis=0) * weight, axis=0)
    size = np.abs(analytic)
    return np.asarray(np.where(size > 1e-9, analytic / np.where(size > 1e-9, size, 1.0), 1.0))


def compute_rho(phases: Phases, on: Bools) -> Floats:
    """Return rho (dimension + 1,) of several voices, 0 to 1 (each a fixed phase apart from the group's); mean last.

    With theta_k the phase of voice k, q = arg(mean_k exp(i theta_k)) the group's phase, phi_k = theta_k - q, and m_k =
    arg(mean_t exp(i phi_k)) its mean: rho = mean_t |mean_k exp(i (phi_k - m_k))| (Frank and Richardson 2010, Physica D
    239, 2084-2092; Richardson et al. 2012, Frontiers in Physiology 3, 405; also in multiSyncPy).

    Args:
        phases: (voice, step, dimension), see `compute_phases`.
        on: (step,) steps at which all voices have values; NaN without any.
    """
    if not on.any():
        return np.full(phases.shape[2] + 1, np.nan)
    picked = phases[:, on]
    relative = picked * np.exp(-1j * np.angle(picked.mean(axis=0)))
    mean = np.angle(relative.mean(axis=1, keepdims=True))
    rho = np.abs((relative * np.exp(-1j * mean)).mean(axis=0)).mean(axis=0)
    return append_mean(np.asarray(rho))
