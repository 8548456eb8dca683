"""Log-mel features, the input of VGGish.

Source: S. Hershey et al., "CNN architectures for large-scale audio classification", 2017.
Published parameters: 16 kHz; magnitudes of windows of 25 ms (periodic Hann) every 10 ms, 512-point FFT; 64 mel bands
from 125 to 7500 Hz; log(x + 0.01); consecutive patches of 96 frames (0.96 s). The network itself is not included.
"""

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from emimic.features import store
from emimic.features.extractor import Clip, Job, Options, Work, collect_facts, list_clips, write_each
from emimic.media import decode
from emimic.task import SAMPLE_RATE

WINDOW: Final = 400
HOP: Final = 160
FFT: Final = 512
BANDS: Final = 64
LOWEST, HIGHEST = 125.0, 7500.0
OFFSET: Final = 0.01
PATCH: Final = 96


class Settings(Options):
    """Settings of log-mel features."""

    patches: bool = Field(False, description="patches of 96 frames (VGGish); the last is padded with silence")


def plan(job: Job, settings: Settings) -> list[Work]:
    """Return the work for one folder of frames."""
    job.refuse_model()

    def make(clip: Clip) -> store.Sequence:
        samples = decode.load(clip.path, max_seconds=settings.max_seconds, notes=job.notes)
        values = compute_log_mel(samples)
        return make_patches(values) if settings.patches else make_frames(values)

    folder = job.get_folder()
    clips = list_clips(job.folder)
    make_all = write_each(make, folder, job.workers)
    return [Work(folder, collect_facts(job, settings), clips, make_all, notes=job.notes)]


def compute_log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log-mel frames (frame, 64) of samples (sample,) at 16 kHz; a clip shorter than a window is padded."""
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    magnitudes = np.abs(np.fft.rfft(windows * hann, FFT))
    # Not by BLAS, whose threads would multiply those that decode.
    bands = np.einsum("tf,fb->tb", magnitudes, _make_mel_bands())
    values: NDArray[np.float32] = np.log(bands + OFFSET).astype(np.float32)
    return values


def make_frames(values: NDArray[np.float32]) -> store.Sequence:
    """Return frames (frame, 64) with the centers of their windows."""
    return store.Sequence.from_frames(values, (np.arange(len(values)) * HOP + WINDOW / 2) / SAMPLE_RATE)


def make_patches(values: NDArray[np.float32]) -> store.Sequence:
    """Return patches (patch, 96 * 64) of frames (frame, 64), time first, with the centers of the patches."""
    count = -(-len(values) // PATCH)
    full = np.full((count * PATCH, BANDS), np.log(OFFSET), np.float32)
    full[: len(values)] = values
    center = ((PATCH - 1) * HOP + WINDOW) / 2
    times = (np.arange(count) * PATCH * HOP + center) / SAMPLE_RATE
    return store.Sequence.from_frames(full.reshape(count, PATCH * BANDS), times)


@functools.cache
def _make_mel_bands() -> NDArray[np.float64]:
    """Return triangular filters (257, 64) at equal distances on the mel scale 1127 ln(1 + f / 700), without the DC."""

    def convert_to_mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1127 * np.log1p(hertz / 700)

    bins = convert_to_mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT)
    lowest, highest = convert_to_mel(np.array([LOWEST, HIGHEST]))
    edges = np.linspace(lowest, highest, BANDS + 2)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    weights: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0
    return weights
