"""Whisper's front end: log-mel features of a waveform."""

import functools
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from emimic.model.transfer import get_host_mask, move, move_mask
from emimic.task import SAMPLE_RATE

# Whisper's log-mel: windows of 25 ms every 10 ms; its two convolutions then halve the rate (Radford et al. 2022, 2.2).
MEL_WINDOW: Final = 400
MEL_HOP: Final = 160


@functools.lru_cache(maxsize=4)
def make_mel_filters(bins: int) -> np.ndarray:
    """Return Whisper's mel filters, (frequency, bin)."""
    from transformers.audio_utils import mel_filter_bank

    filters: np.ndarray = mel_filter_bank(
        num_frequency_bins=MEL_WINDOW // 2 + 1,
        num_mel_filters=bins,
        min_frequency=0.0,
        max_frequency=8000.0,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return filters


def compute_log_mel(
    samples: Tensor, mask: Tensor, bins: int, floor: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return Whisper's log-mel features (batch, bin, mel frame) and their mask (batch, mel frame).

    A clip's features equal the first frames of Whisper's own on the clip padded to 30 s. Its loudest value, which sets
    the floor, may thus be in the two frames after its last, whose windows still overlap it.

    Args:
        samples: (batch, sample), at 16 kHz.
        mask: (batch, sample), true at real samples.
        bins: number of mel bins.
        floor: lowest logarithm (base 10) of a bin's power; None: 8 below the clip's loudest, as in Whisper.
    """
    samples = samples * mask
    samples = torch.cat([samples[:, 1 : MEL_WINDOW // 2 + 1].flip(1), samples], dim=1)
    samples = nn.functional.pad(samples, (0, MEL_WINDOW // 2 + 2 * MEL_HOP))
    window = torch.hann_window(MEL_WINDOW, dtype=samples.dtype, device=samples.device)
    spectrum = torch.stft(samples, MEL_WINDOW, MEL_HOP, window=window, center=False, return_complex=True)
    power = spectrum.abs().square()
    filters = move(torch.from_numpy(make_mel_filters(bins)), power.device, power.dtype)
    features = (filters.T @ power).clamp(min=1e-10).log10()
    if floor is None:
        peak = features.amax(dim=(1, 2), keepdim=True)  # padding is silent, hence never louder
        features = torch.maximum(features, peak - 8.0)
    else:
        features = features.clamp(min=floor)
    features = (features[..., : mask.shape[1] // MEL_HOP] + 4.0) / 4.0
    lengths = get_host_mask(mask).sum(dim=1) // MEL_HOP
    real = move_mask(torch.arange(features.shape[2])[None, :] < lengths[:, None], mask.device)
    return features * real[:, None, :], real
