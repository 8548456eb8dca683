"""Waveforms at 16 kHz and the clips that encoders take: cut, normalized and padded (paper section 4)."""

import math
import numbers
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeGuard

import numpy as np
import soxr
from numpy.typing import NDArray

from emimic.task import MAX_SECONDS, SAMPLE_RATE, AudioError

Wave = NDArray[np.float32]

SILENCE: Final = 10 ** (-65 / 20)
"""Largest deviation (-65 dB of full scale) of a silent recording's samples from their center."""

MIN_SAMPLES: Final = 400
"""The shortest input of which the encoder's convolutions make a frame (paper section 4)."""

RATES: Final = (1_000, 768_000)
"""Plausible sample rates in Hz; below there is no voice, above there is no recorder."""

MAX_CHANNELS: Final = 64
"""More channels than this come from a broken header or a transposed array."""

LOUDEST: Final = 10.0
"""Peaks beyond this (20 dB above full scale) are refused: integers stored as floating point, as in icefall."""

_LOUDEST = 2.0**31  # values beyond the widest integers are damage, and would overflow later
_SCALES = (2.0**15, 2.0**23, 2.0**31)
_NARROW = 2.0**-16  # upper bound of 16-bit values stored as 32-bit ones
_NARROW_24 = 2.0**-8
_WHOLE = 16  # minimum number of samples that are integers stored as floating point if all are whole and some beyond 1


@dataclass(frozen=True, slots=True)
class Clip:
    """A waveform ready for the encoder.

    Attributes:
        samples: (sample,) float32 at 16 kHz, at least `min_samples` long.
        seconds: length of the whole waveform, before cutting and padding.
        was_cut: the end was left out.
        was_padded: zeros were put at the end.
    """

    samples: Wave
    seconds: float
    was_cut: bool
    was_padded: bool


@dataclass(frozen=True, slots=True)
class ClipFormat:
    """The form in which an encoder takes clips; what cuts, normalizes and pads them, in Python (the page has a copy).

    Attributes:
        max_seconds: length to which clips are cut; None for no limit.
        normalize: whether clips get zero mean and unit variance; Whisper's encoder, as in the included model, takes
            them as they are.
        min_samples: length to which shorter clips are padded with zeros.
        version: part of the keys of all caches of what a model computes from clips. Version 1: media files decoded to
            float32 mono at 16 kHz (channels averaged, soxr HQ); the first `round(16000 * max_seconds)` samples; then
            (x - mean) / sqrt(variance + 1e-7) in float64; then zeros at the end. Raise it when any of this changes.
    """

    max_seconds: float | None = MAX_SECONDS
    normalize: bool = True
    min_samples: int = MIN_SAMPLES
    version: ClassVar[int] = 1

    def prepare(self, samples: NDArray[np.floating[Any]]) -> Clip:
        """Cut, *then* normalize, then pad a waveform (paper section 4).

        The zeros at the end don't count in mean and variance.

        Args:
            samples: (sample,) at 16 kHz; neither changed nor shared.

        Raises:
            AudioError: the samples are not one-dimensional, empty, not floating point or not finite, or `max_seconds`
                is invalid.
        """
        full = _check_waveform(samples)
        wave = cut(full, self.max_seconds)
        was_cut = len(wave) < len(full)
        wave = normalize(wave) if self.normalize else wave.copy()
        n_missing = max(0, self.min_samples - len(wave))
        if n_missing:
            wave = np.pad(wave, (0, n_missing))
        return Clip(wave, len(full) / SAMPLE_RATE, was_cut, was_padded=n_missing > 0)


def is_silent(samples: Wave) -> bool:
    """Return True if samples (sample,) stay around their center: a constant, as of a muted sound card, is silence."""
    return bool((samples.max() - samples.min()) / 2 < SILENCE)


def cut(samples: Wave, max_seconds: float | None) -> Wave:
    """Return the first `round(max_seconds * 16000)` of the samples (sample,) as a view; all of them for None.

    Raises:
        AudioError: `max_seconds` is not a finite number of at least one sample.
    """
    return samples if max_seconds is None else samples[: count(max_seconds)]


def normalize(samples: NDArray[np.floating[Any]]) -> Wave:
    """Return samples (sample,) as float32 with zero mean and unit variance, as wav2vec 2.0 takes them.

    Computes (x - mean) / sqrt(variance + 1e-7) in float64. Silence and constants become zeros; very quiet clips
    (variance near 1e-7) stay below unit variance.

    Raises:
        AudioError: the samples are not one-dimensional, empty, not floating point, or not finite.
    """
    wave = _check_waveform(samples)
    centered = wave.astype(np.float64)  # in which the mean of up to 2**29 equal float32 values is exact
    centered -= centered.mean()
    centered /= math.sqrt(_sum_squares(centered) / len(centered) + 1e-7)
    return centered.astype(np.float32)


def resample(samples: NDArray[np.floating[Any]], rate: float) -> Wave:
    """Resample (sample,) or (sample, channel) at `rate` Hz to (sample,) float32 at 16 kHz; channels are averaged.

    Raises:
        AudioError: wrong shape, empty, not floating point, not finite, or an absurd rate or number of channels.
    """
    wave = _check_waveform(samples, channels=True)
    check_format(rate, wave.shape[1] if wave.ndim == 2 else 1, "the array")
    mono: Wave = average(wave)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    if not len(mono):
        raise AudioError(
            f"{len(samples)} samples at {rate:g} Hz are less than one at 16 kHz. Give a longer array."
        )
    return mono


class Mono:
    """A stream of chunks as float32 mono at 16 kHz: cleaned, averaged and resampled, independent of the chunks' sizes.

    Args:
        keep: number of samples that are returned; None for all.
        name: name of the sound for messages.

    Attributes:
        length: samples made so far, returned or not.
        total: values read.
        bad: values among them that were NaN, infinite or absurd, and became 0.
    """

    def __init__(self, keep: int | None = None, name: str = "the sound") -> None:
        self.keep = keep
        self.name = name
        self.bad = 0
        self.total = 0
        self.length = 0
        self._peak = 0.0
        self._is_integer = True  # all values so far are multiples of 2**-31
        self._is_fine = False  # and some are no multiples of 2**-23
        self._power = np.zeros(2)  # of the channels' average, and the average over the channels
        self._rate: float = SAMPLE_RATE
        self._stream: soxr.ResampleStream | None = None

    def put(self, chunk: Wave, rate: float) -> Wave:
        """Add a chunk and return the samples (sample,) at 16 kHz that are complete.

        Args:
            chunk: (sample,) or (sample, channel) float32.
            rate: its sample rate in Hz.

        Raises:
            AudioError: values are far beyond [-1, 1].
        """
        chunk = self._clean(chunk)
        before = np.empty(0, np.float32)
        if rate != self._rate:  # also in mid-file: chained streams may change it
            before = self.finish()
            self._rate = rate
            if rate != SAMPLE_RATE:
                self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        mono = average(chunk)
        if chunk.ndim == 2 and chunk.shape[1] > 1:
            self._power += [_sum_squares(mono), _sum_squares(chunk) / chunk.shape[1]]
        mono = self._keep(mono if self._stream is None else self._stream.resample_chunk(mono))
        return np.concatenate([before, mono]) if len(before) else mono

    def put_silence(self, samples: int, rate: float) -> Wave:
        """Add samples of silence at `rate` Hz, of which no value was read, and return what `put` returns."""
        wave = self.put(np.zeros(samples, np.float32), rate)
        self.total -= samples
        return wave

    def finish(self) -> Wave:
        """Return the samples (sample,) that the resampler holds."""
        stream, self._stream, self._rate = self._stream, None, SAMPLE_RATE
        nothing = np.empty(0, np.float32)
        return nothing if stream is None else self._keep(stream.resample_chunk(nothing, last=True))

    @property
    def is_canceled(self) -> bool:
        """The channels have opposite phase: their average has less than a hundredth of their power."""
        return bool(self._power[0] < 0.01 * self._power[1])

    @property
    def narrow(self) -> str | None:
        """A note when all samples are integers of up to 32 bits whose upper 8 or 16 are unused: near silence."""
        bits = 16 if self._peak < _NARROW else 24
        if not (self._is_integer and 0 < self._peak < _NARROW_24) or (bits == 24 and not self._is_fine):
            return None
        remedy = "store them as int16" if bits == 16 else "multiply them by 256"
        return (
            f"its samples peak at {self._peak * _SCALES[-1]:.0f} of 2147483648 (32 bits). If they are {bits}-bit "
            f"values, {remedy}."
        )

    def _clean(self, chunk: Wave) -> Wave:
        """Return a chunk with 0 for values that are no samples, and update the statistics of the values."""
        self.total += chunk.size
        peak = float(max(chunk.max(), -chunk.min())) if chunk.size else 0.0
        if not peak <= LOUDEST:  # false for NaN too
            # Before resampling: a NaN would affect all samples near it.
            wrong = ~(np.abs(chunk) <= _LOUDEST)
            self.bad += int(wrong.sum())
            chunk = np.where(wrong, np.float32(0), chunk)
            peak = check_scale(chunk, self.name)
        elif peak > 1.0:
            check_scale(chunk, self.name)
        if self._peak < _NARROW_24 and self._is_integer:
            steps = chunk * np.float32(_SCALES[-1])
            self._is_integer = peak < _NARROW_24 and _are_integers(steps)
            self._is_fine = self._is_fine or not _are_integers(steps * np.float32(1 / 256))
        self._peak = max(self._peak, peak)
        return chunk

    def _keep(self, part: Wave) -> Wave:
        """Count samples and return those within the first `keep`."""
        free = None if self.keep is None else max(0, self.keep - self.length)
        self.length += len(part)
        return part[:free]


def _are_integers(values: Wave) -> bool:
    """Return True if all values are integers; a remainder would take ninety times as long, in all of a silence."""
    return bool((np.floor(values) == values).all())


def _sum_squares(values: NDArray[np.floating[Any]]) -> float:
    """Return the sum of squares; not by BLAS, whose threads would multiply those that decode."""
    return float(np.square(values).sum())


def count(seconds: float) -> int:
    """Convert seconds to samples, rounded.

    Raises:
        AudioError: not a finite number of at least one sample.
    """
    if not (is_number(seconds) and math.isfinite(seconds) and round(seconds * SAMPLE_RATE) > 0):
        raise AudioError(f"max_seconds is {seconds!r}; give a positive number of seconds, or None for all.")
    return round(seconds * SAMPLE_RATE)


def _check_waveform(samples: NDArray[Any], *, channels: bool = False) -> Wave:
    """Check an array and return it as float32, without a copy when it has this type.

    Raises:
        AudioError: wrong shape, empty, not floating point, or not finite.
    """
    array = np.asarray(samples)
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(
            f"the samples are {array.dtype}; give floating point in [-1, 1] (int16: divide by 32768)."
        )
    if array.ndim != 1 and not (channels and array.ndim == 2):
        shape = "(sample,) or (sample, channel)" if channels else "(sample,)"
        raise AudioError(f"the samples have shape {array.shape}; give {shape}.")
    if not array.size:
        raise AudioError("the waveform has no samples; leave it out, or record it again.")
    with np.errstate(over="ignore"):
        wave = array.astype(np.float32, copy=False)
    if not np.isfinite(wave).all():
        raise AudioError(
            "the waveform holds NaN or infinite samples (or some beyond float32); repair or drop it."
        )
    return wave


def is_number(value: object) -> TypeGuard[float]:
    """Return whether an option is a real number; text and truth values are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_scale(samples: NDArray[np.floating[Any]], label: str) -> float:
    """Return the peak of floating-point samples of any shape, 0 without a finite one.

    Raises:
        AudioError: the peak is beyond LOUDEST, or beyond 1 and all are whole numbers, so the samples were not scaled to
            [-1, 1].
    """
    with np.errstate(invalid="ignore"):
        peak = float(max(samples.max(initial=0.0), -samples.min(initial=0.0)))
    if not math.isfinite(peak):
        peak = float(np.abs(samples).max(initial=0.0, where=np.isfinite(samples)))
    if 1.0 < peak <= LOUDEST and samples.size >= _WHOLE and bool((np.rint(samples) == samples).all()):
        raise AudioError(
            f"{label}: the samples are whole numbers up to {peak:.0f}, expected floating point in [-1, 1]. Divide "
            "16-bit values by 32768, 8-bit ones by 128."
        )
    if peak <= LOUDEST:
        return peak
    # Resampled integers overshoot a little.
    scale = next((scale for scale in _SCALES if peak <= 1.5 * scale), peak)
    bits = f" ({round(math.log2(scale)) + 1}-bit values as floating point)" if scale in _SCALES else ""
    eighth = ", or by 128 (8-bit values)" if peak <= 1.5 * 128 else ""
    raise AudioError(
        f"{label}: the samples peak at {peak:.6g}, expected floating point in [-1, 1]. Divide by {scale:.10g}{bits}"
        f"{eighth}."
    )


def check_format(rate: object, channels: int, label: str) -> None:
    """Refuse a sample rate (Hz) or a number of channels that no recording has.

    Raises:
        AudioError: the rate is outside RATES, or the number of channels is not 1 to MAX_CHANNELS.
    """
    if not is_number(rate):
        raise AudioError(
            f"{label}: the sample rate is {rate!r}, of type {type(rate).__name__}; expected a number of Hz. Give one, "
            "such as 16000."
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"{label}: sample rate {rate} Hz; expected {RATES[0]} to {RATES[1]}. The file's header is broken, or the "
            "rate that was given is wrong."
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"{label}: {channels} channels, not 1 to {MAX_CHANNELS}. A broken header, or a transposed array?"
        )


def compute_delay(rate: float) -> float:
    """Return the seconds, at most, by which the samples that `Mono` has made are behind its chunks at `rate` Hz."""
    return 0.0 if rate == SAMPLE_RATE else max(0.09, (930 if rate >= 4000 else 1400) / rate)


def average(chunk: Wave) -> Wave:
    """Return the mean over channels of (sample,) or (sample, channel); many times faster than mean(axis=1)."""
    if chunk.ndim == 1:
        return chunk
    if chunk.shape[1] == 1:
        return chunk[:, 0]
    mono = chunk[:, 0] + chunk[:, 1]
    for channel in range(2, chunk.shape[1]):
        mono += chunk[:, channel]
    mono /= chunk.shape[1]
    return mono
