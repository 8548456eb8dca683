"""A waveform at 16 kHz -> the clip the encoder sees: cut, normalized, padded (paper section 4)."""

import math
import numbers
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import numpy as np
import soxr
from numpy.typing import NDArray

from emimic.task import MAX_SECONDS, SAMPLE_RATE, AudioError

Wave = NDArray[np.float32]

MIN_SAMPLES: Final = 400
"""The smallest input of which the encoder's convolutions make a frame (paper section 4)."""

RATES: Final = (1_000, 768_000)
"""Sample rates (Hz) taken for real; below there is no voice, above there is no recorder."""

MAX_CHANNELS: Final = 64
"""More channels than this are a broken header, or an array lying on its side."""

LOUDEST: Final = 10.0
"""Peaks beyond this (20 dB above full scale) are refused: integers stored as floating point, as icefall has it."""

_LOUDEST = 2.0**31  # a float file's values beyond the widest integers are rubbish, and would overflow later
_SCALES = (2.0**15, 2.0**23, 2.0**31)
_NARROW = 2.0**-16  # what 16-bit values come to as 32-bit ones
_NARROW_24 = 2.0**-8
_WHOLE = 16  # so many whole numbers beyond 1 in a row are integers stored as floating point


@dataclass(frozen=True, slots=True)
class Clip:
    """A waveform ready for the encoder.

    Attributes:
        samples: (sample,) float32 at 16 kHz, at least `min_samples` long.
        seconds: length of the waveform as it was given, before cutting and padding.
        was_cut: the end was left out.
        was_padded: zeros were put at the end.
    """

    samples: Wave
    seconds: float
    was_cut: bool
    was_padded: bool


def cut(samples: Wave, max_seconds: float | None) -> Wave:
    """(sample,) -> its first `round(max_seconds * 16000)` samples, a view; all of them for None.

    Raises:
        AudioError: `max_seconds` is not a finite number of at least one sample.
    """
    return samples if max_seconds is None else samples[: count(max_seconds)]


def normalize(samples: NDArray[np.floating[Any]]) -> Wave:
    """(sample,) -> float32, zero mean, unit variance: (x - mean) / sqrt(variance + 1e-7), as wav2vec 2.0.

    Computed in float64. Silence and constants give zeros; very quiet clips (variance near 1e-7) stay below
    unit variance.

    Raises:
        AudioError: not one-dimensional, empty, not floating point, or not finite.
    """
    wave = _waveform(samples)
    centerd = wave.astype(np.float64)  # in which the mean of up to 2**29 equal float32 values is exact
    centerd -= centerd.mean()
    centerd /= math.sqrt(_power(centerd) / len(centerd) + 1e-7)
    return centerd.astype(np.float32)


def prepare(
    samples: NDArray[np.floating[Any]],
    *,
    max_seconds: float | None = MAX_SECONDS,
    normalize: bool = True,
    min_samples: int = MIN_SAMPLES,
) -> Clip:
    """(sample,) at 16 kHz -> what the encoder sees: cut, *then* normalized, then padded (paper section 4).

    The zeros at the end, if any, do not count in mean and variance. `samples` is not changed nor shared.

    Raises:
        AudioError: not one-dimensional, empty, not floating point, not finite, or a senseless `max_seconds`.
    """
    whole = _waveform(samples)
    wave = cut(whole, max_seconds)
    was_cut = len(wave) < len(whole)
    seconds = len(whole) / SAMPLE_RATE
    wave = _normalize(wave) if normalize else wave.copy()
    lacking = max(0, min_samples - len(wave))
    if lacking:
        wave = np.pad(wave, (0, lacking))
    return Clip(samples=wave, seconds=seconds, was_cut=was_cut, was_padded=lacking > 0)


_normalize = normalize  # `prepare` has an argument of that name


def resample(samples: NDArray[np.floating[Any]], rate: float) -> Wave:
    """(sample,) or (sample, channel) at `rate` Hz -> (sample,) float32 at 16 kHz; channels are averaged.

    Raises:
        AudioError: wrong shape, empty, not floating point, not finite, or an absurd rate or channel count.
    """
    wave = _waveform(samples, channels=True)
    check_format(rate, wave.shape[1] if wave.ndim == 2 else 1, "the array")
    out: Wave = average(wave)
    if rate != SAMPLE_RATE:
        out = soxr.resample(out, rate, SAMPLE_RATE, quality="HQ")
    if not len(out):
        raise AudioError(
            f"{len(samples)} samples at {rate:g} Hz are less than one at 16 kHz. Give a longer array."
        )
    return out


class Mono:
    """A stream of chunks -> float32 mono at 16 kHz: cleaned, averaged and resampled, the same however it is cut.

    Only the first `keep` samples are handed out. length: samples made so far, kept or not; total, bad: values seen,
    and how many of them were NaN, infinite or absurd and became 0. cancelled: the channels, of opposite phase, leave
    less than a hundredth of their power in the average. name: what messages call the sound.
    """

    def __init__(self, keep: int | None = None, name: str = "the sound") -> None:
        self.keep = keep
        self.name = name
        self.bad = 0
        self.total = 0
        self.length = 0
        self._peak = 0.0
        self._integers = True  # all values so far are multiples of 2**-31
        self._fine = False  # and some no multiple of 2**-23
        self._power = np.zeros(2)  # of the channels' average, and the average of the channels'
        self._rate: float = SAMPLE_RATE
        self._stream: soxr.ResampleStream | None = None

    def put(self, chunk: Wave, rate: float) -> Wave:
        """(sample,) or (sample, channel) float32 at `rate` Hz -> what can be said by now: (sample,) at 16 kHz.

        Raises:
            AudioError: values far beyond [-1, 1].
        """
        self.total += chunk.size
        peak = float(max(chunk.max(), -chunk.min())) if chunk.size else 0.0
        if not peak <= LOUDEST:  # false for NaN too
            # Before resampling: one NaN would spread over everything near it.
            wrong = ~(np.abs(chunk) <= _LOUDEST)
            self.bad += int(wrong.sum())
            chunk = np.where(wrong, np.float32(0), chunk)
            peak = check_scale(chunk, self.name)
        elif peak > 1.0:
            check_scale(chunk, self.name)
        if self._peak < _NARROW_24 and self._integers:
            steps = chunk * np.float32(_SCALES[-1])
            self._integers = peak < _NARROW_24 and bool((np.remainder(steps, 1.0) == 0).all())
            self._fine = self._fine or bool((np.remainder(steps, 256.0) != 0).any())
        self._peak = max(self._peak, peak)
        before = np.empty(0, np.float32)
        if rate != self._rate:  # also in mid-file: chained streams may change it
            before = self.finish()
            self._rate = rate
            if rate != SAMPLE_RATE:
                self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        mono = average(chunk)
        if chunk.ndim == 2 and chunk.shape[1] > 1:
            self._power += [_power(mono), _power(chunk) / chunk.shape[1]]
        mono = self._kept(mono if self._stream is None else self._stream.resample_chunk(mono))
        return np.concatenate([before, mono]) if len(before) else mono

    def rest(self, samples: int, rate: float) -> Wave:
        """Samples of silence at `rate` Hz, of which no value was read -> as `put`."""
        wave = self.put(np.zeros(samples, np.float32), rate)
        self.total -= samples
        return wave

    @property
    def cancelled(self) -> bool:
        """See the class."""
        return bool(self._power[0] < 0.01 * self._power[1])

    @property
    def narrow(self) -> str | None:
        """A note where all samples are integers of up to 32 bits that leave the upper 8 or 16 empty: near silence."""
        bits = 16 if self._peak < _NARROW else 24
        if not (self._integers and 0 < self._peak < _NARROW_24) or (bits == 24 and not self._fine):
            return None
        remedy = "store them as int16" if bits == 16 else "multiply them by 256"
        return (
            f"its samples peak at {self._peak * _SCALES[-1]:.0f} of 2147483648 (32 bits). If they are {bits}-bit "
            f"values, {remedy}."
        )

    def finish(self) -> Wave:
        """What the resampler still held."""
        stream, self._stream, self._rate = self._stream, None, SAMPLE_RATE
        nothing = np.empty(0, np.float32)
        return nothing if stream is None else self._kept(stream.resample_chunk(nothing, last=True))

    def _kept(self, part: Wave) -> Wave:
        free = None if self.keep is None else max(0, self.keep - self.length)
        self.length += len(part)
        return part[:free]


def _power(values: NDArray[np.floating[Any]]) -> float:
    """Sum of squares of an array of any shape; not by BLAS, whose threads would multiply those that decode."""
    return float(np.square(values).sum())


def count(seconds: float) -> int:
    """Seconds -> samples, rounded.

    Raises:
        AudioError: not a finite number of at least one sample.
    """
    if not (is_number(seconds) and math.isfinite(seconds) and round(seconds * SAMPLE_RATE) > 0):
        raise AudioError(f"max_seconds is {seconds!r}; give a positive number of seconds, or None for all.")
    return round(seconds * SAMPLE_RATE)


def _waveform(samples: NDArray[Any], *, channels: bool = False) -> Wave:
    """Checks an array from outside and gives it as float32 (not copied when it is that already)."""
    array = np.asarray(samples)
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(
            f"the samples are {array.dtype}; give floating point in [-1, 1] (int16: divide by 32768)."
        )
    if array.ndim != 1 and not (channels and array.ndim == 2):
        wanted = "(sample,) or (sample, channel)" if channels else "(sample,)"
        raise AudioError(f"the samples have shape {array.shape}; give {wanted}.")
    if not array.size:
        raise AudioError("the waveform has no samples; leave it out, or record it again.")
    with np.errstate(over="ignore"):
        wave = array.astype(np.float32, copy=False)
    if not np.isfinite(wave).all():
        raise AudioError(
            "the waveform holds NaN or infinite samples (or some beyond float32); mend or drop it."
        )
    return wave


def is_number(value: object) -> TypeGuard[float]:
    """Return whether an option is a real number (a text of digits is none)."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_scale(samples: NDArray[np.floating[Any]], label: str) -> float:
    """Return the peak of floating-point samples of any shape, 0 without a finite one.

    Raises:
        AudioError: the peak is beyond LOUDEST, or beyond 1 and all are whole numbers, so the samples can't be meant to
            lie in [-1, 1].
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
    """Refuse a sample rate (Hz) or a channel count that no recording has.

    Raises:
        AudioError: names `label`, the number found and what was expected.
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


def average(chunk: Wave) -> Wave:
    """(sample,) or (sample, channel) -> (sample,); column by column, many times quicker than mean(axis=1)."""
    if chunk.ndim == 1:
        return chunk
    if chunk.shape[1] == 1:
        return chunk[:, 0]
    mono = chunk[:, 0] + chunk[:, 1]
    for channel in range(2, chunk.shape[1]):
        mono += chunk[:, channel]
    mono /= chunk.shape[1]
    return mono
