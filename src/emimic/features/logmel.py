"""Log-mel features as VGGish hears (Hershey et al. 2017, "CNN architectures for large-scale audio classification").

Published parameters: 16 kHz; magnitudes of windows of 25 ms (periodic Hann) every 10 ms, 512-point FFT; 64 mel bands
from 125 to 7500 Hz; log(x + 0.01); patches of 96 frames (0.96 s) side by side. The network itself is not part of this.
"""

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from emimic.features import store
from emimic.features.extractor import Clip, Job, Options, Work, clips, each, facts
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
    """Frames of 10 ms, or patches of 0.96 s."""

    patches: bool = Field(
        False, description="96 frames to a patch (VGGish); the last is filled up with silence"
    )


def plan(job: Job, settings: Settings) -> list[Work]:
    """One folder of frames."""
    job.refuse_model()

    def make(clip: Clip) -> store.Sequence:
        samples = decode.load(clip.path, max_seconds=settings.max_seconds, notes=job.notes)
        return patches(log_mel(samples)) if settings.patches else frames(log_mel(samples))

    place = job.place()
    return [
        Work(place, facts(job, settings), clips(job.folder), each(make, place, job.workers), notes=job.notes)
    ]


def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(sample,) at 16 kHz -> (frame, 64); a clip shorter than a window is filled up with silence."""
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    magnitudes = np.abs(np.fft.rfft(windows * hann, FFT))
    # Not by BLAS, whose threads would multiply those that decode.
    bands = np.einsum("tf,fb->tb", magnitudes, _mel_bands())
    values: NDArray[np.float32] = np.log(bands + OFFSET).astype(np.float32)
    return values


def frames(values: NDArray[np.float32]) -> store.Sequence:
    """(frame, 64) with the centers of the windows."""
    return store.Sequence.whole(values, (np.arange(len(values)) * HOP + WINDOW / 2) / SAMPLE_RATE)


def patches(values: NDArray[np.float32]) -> store.Sequence:
    """(frame, 64) -> (patch, 96 * 64), time first, with the centers of the patches."""
    count = -(-len(values) // PATCH)
    full = np.full((count * PATCH, BANDS), np.log(OFFSET), np.float32)
    full[: len(values)] = values
    center = ((PATCH - 1) * HOP + WINDOW) / 2
    times = (np.arange(count) * PATCH * HOP + center) / SAMPLE_RATE
    return store.Sequence.whole(full.reshape(count, PATCH * BANDS), times)


@functools.cache
def _mel_bands() -> NDArray[np.float64]:
    """(257, 64): triangles on the mel scale 1127 ln(1 + f / 700), between edges at equal mel distances; not the DC."""

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1127 * np.log1p(hertz / 700)

    bins = mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT)
    lowest, highest = mel(np.array([LOWEST, HIGHEST]))
    edges = np.linspace(lowest, highest, BANDS + 2)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    weights: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0
    return weights
