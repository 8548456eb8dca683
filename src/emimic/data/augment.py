"""Augmentation of training clips as by microphones and rooms, so that a model learns the voice and not those.

Each change is drawn for a clip and an epoch from the run's seed alone, so that a resumed run repeats it, whatever the
order of clips or the number of threads.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import soxr
from numpy.typing import NDArray

from emimic.media import decode, encode
from emimic.media.waveform import resample
from emimic.task import SAMPLE_RATE

Wave = NDArray[np.float32]

EACH: Final = 0.4
"""Fraction of the changed clips that each change acts on: two or three of the six on average."""

MP3_RATES: Final = (16, 24, 32, 40, 48)
"""Kilobits per second of mp3, as messengers and old recorders use them."""

CODEC: Final = 3
"""Seed of the codec, so that it alters no other draw for a clip (`joins` has 1 and 2)."""

_MP3_DELAY: Final = 576 + 529  # samples: LAME's encoder and the decoder


@dataclass(frozen=True, slots=True)
class TimeMap:
    """The position of a recording in a clip of it: from `start` seconds on, `rate` times as fast."""

    start: float = 0.0
    rate: float = 1.0

    def to_recording(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert times of the clip to times of the recording, in seconds; those before its start are negative."""
        return (times - self.start) * self.rate

    def compose(self, earlier: "TimeMap") -> "TimeMap":
        """Return the position in a clip that was made of a clip with an earlier position."""
        return TimeMap(self.start + earlier.start / self.rate, self.rate * earlier.rate)


@dataclass(frozen=True, slots=True)
class Augment:
    """Random changes to clips.

    A clip keeps its length except for speed (a tenth) and leading silence (half a second); silence stays silence.

    Attributes:
        fraction: fraction of clips that are changed, in [0, 1].
        seed: seed of the run.
        codec: fraction of all clips that pass through a codec at the end.
    """

    fraction: float
    seed: int
    codec: float = 0.0

    def __call__(self, samples: Wave, clip: str, epoch: int) -> Wave:
        """Return a clip as it is in an epoch; see `apply`."""
        return self.apply(samples, clip, epoch)[0]

    def apply(self, samples: Wave, clip: str, epoch: int) -> tuple[Wave, TimeMap]:
        """Return a clip as it is in an epoch, and the position of its recording in it.

        Args:
            samples: (sample,) at 16 kHz.
            clip: its id.
            epoch: counted from 0.
        """
        words = (self.seed, epoch, zlib.crc32(clip.encode(errors="surrogateescape")))
        samples, time_map = self._change(samples, np.random.default_rng(words))
        rng = np.random.default_rng((*words, CODEC))
        return (apply_codec(samples, rng) if rng.random() < self.codec else samples), time_map

    def _change(self, samples: Wave, rng: np.random.Generator) -> tuple[Wave, TimeMap]:
        """Return a clip after the changes that `rng` draws, and the position of its recording in it."""
        if rng.random() >= self.fraction:
            return samples, TimeMap()
        start, rate = 0, 1.0
        for change in CHANGES:
            if rng.random() < EACH:
                length = len(samples)
                samples = change(samples, rng)
                if change is change_speed:
                    rate = length / len(samples)
                elif change is add_lead:
                    start = len(samples) - length
        return np.ascontiguousarray(samples, dtype=np.float32), TimeMap(start / SAMPLE_RATE, rate)


def change_speed(samples: Wave, rng: np.random.Generator) -> Wave:
    """Play a clip 0.9 to 1.1 times as fast, with the pitch changed as much."""
    rate = SAMPLE_RATE * rng.uniform(0.9, 1.1)
    faster: Wave = soxr.resample(samples, rate, SAMPLE_RATE, quality="LQ")
    return faster if len(faster) else samples


def add_room(samples: Wave, rng: np.random.Generator) -> Wave:
    """Add reverberation: noise that decays by 60 dB within 0.1 to 0.6 s, 0 to 15 dB below the direct sound."""
    decay = rng.uniform(0.1, 0.6)
    response = rng.standard_normal(int(decay * SAMPLE_RATE)).astype(np.float32)
    response *= np.exp(-6.9 * np.arange(len(response)) / len(response)).astype(np.float32)
    response *= 10 ** (rng.uniform(-15, 0) / 20) / np.sqrt(np.square(response).sum())
    response[0] = 1.0
    return _filter(samples, np.fft.rfft(response, _find_fft_size(len(samples) + len(response))))


def limit_band(samples: Wave, rng: np.random.Generator) -> Wave:
    """Limit the band as a telephone (300 to 3,400 Hz) or a dull microphone (to 2.5 to 7 kHz), by 40 dB per octave."""
    low, high = (300.0, 3400.0) if rng.random() < 0.5 else (rng.uniform(20, 150), rng.uniform(2500, 7000))
    size = _find_fft_size(len(samples) + SAMPLE_RATE // 20)
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    octaves = np.maximum(
        np.log2(low / np.maximum(frequency, 1.0)), np.log2(np.maximum(frequency, 1.0) / high)
    )
    return _filter(samples, 10 ** (-2.0 * np.clip(octaves, 0.0, 1.5)))


def add_noise(samples: Wave, rng: np.random.Generator) -> Wave:
    """Add white to brown noise (0 to -6 dB per octave), 0 to 30 dB below the clip."""
    size = _find_fft_size(len(samples))
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum /= np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 50.0) ** rng.uniform(0.0, 1.0)
    hiss = np.fft.irfft(spectrum, size)[: len(samples)]
    level: float = (
        _measure_level(samples) / max(_measure_level(hiss), 1e-12) * 10 ** (-rng.uniform(0, 30) / 20)
    )
    return (samples + level * hiss).astype(np.float32)


def add_lead(samples: Wave, rng: np.random.Generator) -> Wave:
    """Add up to half a second of silence before the clip."""
    return np.concatenate([np.zeros(int(rng.uniform(0, 0.5) * SAMPLE_RATE), np.float32), samples])


def change_gain(samples: Wave, rng: np.random.Generator) -> Wave:
    """Change the level by -12 to 12 dB; values outside [-1, 1] are clipped, as in a recorder."""
    louder: Wave = np.clip(samples * 10 ** (rng.uniform(-12, 12) / 20), -1.0, 1.0).astype(np.float32)
    return louder


def apply_codec(samples: Wave, rng: np.random.Generator) -> Wave:
    """Code a clip as mp3 at 16 to 48 kb/s, or as a telephone's 8 bits at 8 kHz (mu-law, G.711); the length stays."""
    loud = np.clip(samples, -1.0, 1.0)
    if rng.random() < 0.5:
        coded = apply_mp3(loud, int(rng.choice(MP3_RATES)))
    else:
        coded = soxr.resample(_apply_mu_law(soxr.resample(loud, SAMPLE_RATE, 8000)), 8000, SAMPLE_RATE)
    out = np.zeros(len(samples), np.float32)
    out[: min(len(samples), len(coded))] = coded[: len(samples)]
    return out


def apply_mp3(samples: Wave, kilobits: int) -> Wave:
    """Encode a clip as mp3, and decode it; the length stays.

    Args:
        samples: (sample,) float32 at 16 kHz, in [-1, 1].
        kilobits: kilobits per second; 8 to 160 in the steps of MPEG-2.

    Raises:
        AudioError: the samples are not (sample,), empty or not finite, or can't be encoded.
    """
    wave = resample(samples, SAMPLE_RATE)  # checks the array
    coded = decode.load(encode.encode_mp3(wave, kilobits))
    # Frames below 32 kb/s have no room for the tag with the length of the silence that the codec puts in front.
    return coded if len(coded) == len(wave) else coded[_MP3_DELAY:][: len(wave)]


def _apply_mu_law(samples: Wave) -> Wave:
    """Quantize (sample,) in [-1, 1] to the 255 levels of mu-law."""
    level = (
        np.round(np.sign(samples) * np.log1p(255 * np.abs(np.clip(samples, -1, 1))) / np.log(256) * 127) / 127
    )
    wave: Wave = (np.sign(level) * np.expm1(np.abs(level) * np.log(256)) / 255).astype(np.float32)
    return wave


CHANGES: Final[tuple[Callable[[Wave, np.random.Generator], Wave], ...]] = (
    change_speed,
    add_room,
    limit_band,
    add_lead,
    add_noise,
    change_gain,
)
"""The changes in their physical order: the speaker, the room, the microphone, its noise and its level."""


def _filter(samples: Wave, response: NDArray[Any]) -> Wave:
    """Filter a clip and keep its level; `response` is the filter's rfft for a size of at least the clip."""
    size = 2 * (len(response) - 1)
    out = np.fft.irfft(np.fft.rfft(samples, size) * response, size)[: len(samples)]
    return (out * (_measure_level(samples) / max(_measure_level(out), 1e-12))).astype(np.float32)


def _measure_level(samples: NDArray[Any]) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _find_fft_size(samples: int) -> int:
    """Return the next power of two, which is fast to transform."""
    return 1 << max(1, (samples - 1).bit_length())
