"""Changes to training clips that people's microphones and rooms make: so that a model hears the voice and not those.

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

from emimic.media import decode
from emimic.task import SAMPLE_RATE

Wave = NDArray[np.float32]

EACH: Final = 0.4
"""The share of changed clips that any one change acts on: of six, two or three on average."""


MP3_RATES: Final = (16, 24, 32, 40, 48)
"""Kilobits a second of mp3, such as messengers and old recorders use."""

CODEC: Final = 3
"""So that a codec alters nothing of what else is drawn for a clip (1 and 2 are of `joins`)."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where a recording lies in a clip of it: from `start` seconds on, `rate` times as fast."""

    start: float = 0.0
    rate: float = 1.0

    def recorded(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Times of the clip -> times of the recording, in seconds; those before it starts are negative."""
        return (times - self.start) * self.rate

    def after(self, earlier: "Clock") -> "Clock":
        """Return the clock of a clip that was made of one with an earlier clock."""
        return Clock(self.start + earlier.start / self.rate, self.rate * earlier.rate)


@dataclass(frozen=True, slots=True)
class Augment:
    """Called with a clip's samples (sample,) at 16 kHz, its id and the epoch; gives the clip as heard then.

    share: of the clips that are changed at all, in [0, 1]. seed: of the run. A clip keeps its length but for speed
    (a tenth) and leading silence (half a second); silence stays silence. codec: of all clips, the fraction that goes
    through a codec in the end.
    """

    share: float
    seed: int
    codec: float = 0.0

    def __call__(self, samples: Wave, clip: str, epoch: int) -> Wave:
        return self.timed(samples, clip, epoch)[0]

    def timed(self, samples: Wave, clip: str, epoch: int) -> tuple[Wave, Clock]:
        """The clip as heard then, and where its recording lies in it."""
        words = (self.seed, epoch, zlib.crc32(clip.encode(errors="surrogateescape")))
        samples, clock = self._changed(samples, np.random.default_rng(words))
        rng = np.random.default_rng((*words, CODEC))
        return (coded(samples, rng) if rng.random() < self.codec else samples), clock

    def _changed(self, samples: Wave, rng: np.random.Generator) -> tuple[Wave, Clock]:
        if rng.random() >= self.share:
            return samples, Clock()
        start, rate = 0, 1.0
        for change in CHANGES:
            if rng.random() < EACH:
                length = len(samples)
                samples = change(samples, rng)
                if change is speed:
                    rate = length / len(samples)
                elif change is lead:
                    start = len(samples) - length
        return np.ascontiguousarray(samples, dtype=np.float32), Clock(start / SAMPLE_RATE, rate)


def speed(samples: Wave, rng: np.random.Generator) -> Wave:
    """0.9 to 1.1 times as fast, the pitch going along."""
    rate = SAMPLE_RATE * rng.uniform(0.9, 1.1)
    faster: Wave = soxr.resample(samples, rate, SAMPLE_RATE, quality="LQ")
    return faster if len(faster) else samples


def room(samples: Wave, rng: np.random.Generator) -> Wave:
    """Reverberation: noise that decays by 60 dB within 0.1 to 0.6 s, 0 to 15 dB below the direct sound."""
    decay = rng.uniform(0.1, 0.6)
    response = rng.standard_normal(int(decay * SAMPLE_RATE)).astype(np.float32)
    response *= np.exp(-6.9 * np.arange(len(response)) / len(response)).astype(np.float32)
    response *= 10 ** (rng.uniform(-15, 0) / 20) / np.sqrt(np.square(response).sum())
    response[0] = 1.0
    return _filtered(samples, np.fft.rfft(response, _size(len(samples) + len(response))))


def band(samples: Wave, rng: np.random.Generator) -> Wave:
    """A telephone (300 to 3,400 Hz) or a dull microphone (to 2.5 to 7 kHz), falling by 40 dB an octave at the edges."""
    low, high = (300.0, 3400.0) if rng.random() < 0.5 else (rng.uniform(20, 150), rng.uniform(2500, 7000))
    size = _size(len(samples) + SAMPLE_RATE // 20)
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    octaves = np.maximum(
        np.log2(low / np.maximum(frequency, 1.0)), np.log2(np.maximum(frequency, 1.0) / high)
    )
    return _filtered(samples, 10 ** (-2.0 * np.clip(octaves, 0.0, 1.5)))


def noise(samples: Wave, rng: np.random.Generator) -> Wave:
    """White to brown noise (0 to -6 dB an octave), 0 to 30 dB below the clip."""
    size = _size(len(samples))
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum /= np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 50.0) ** rng.uniform(0.0, 1.0)
    hiss = np.fft.irfft(spectrum, size)[: len(samples)]
    level: float = _level(samples) / max(_level(hiss), 1e-12) * 10 ** (-rng.uniform(0, 30) / 20)
    return (samples + level * hiss).astype(np.float32)


def lead(samples: Wave, rng: np.random.Generator) -> Wave:
    """Up to half a second of silence before the clip."""
    return np.concatenate([np.zeros(int(rng.uniform(0, 0.5) * SAMPLE_RATE), np.float32), samples])


def gain(samples: Wave, rng: np.random.Generator) -> Wave:
    """-12 to 12 dB; what leaves [-1, 1] is clipped, as a recorder does."""
    louder: Wave = np.clip(samples * 10 ** (rng.uniform(-12, 12) / 20), -1.0, 1.0).astype(np.float32)
    return louder


def coded(samples: Wave, rng: np.random.Generator) -> Wave:
    """Through mp3 at 16 to 48 kb/s, or through a telephone's 8 bits at 8 kHz (mu-law, G.711); the length stays."""
    loud = np.clip(samples, -1.0, 1.0)
    if rng.random() < 0.5:
        heard = decode.through_mp3(loud, int(rng.choice(MP3_RATES)))
    else:
        heard = soxr.resample(_mu_law(soxr.resample(loud, SAMPLE_RATE, 8000)), 8000, SAMPLE_RATE)
    out = np.zeros(len(samples), np.float32)
    out[: min(len(samples), len(heard))] = heard[: len(samples)]
    return out


def _mu_law(samples: Wave) -> Wave:
    """(sample,) in [-1, 1] to the 255 levels of mu-law and back."""
    level = (
        np.round(np.sign(samples) * np.log1p(255 * np.abs(np.clip(samples, -1, 1))) / np.log(256) * 127) / 127
    )
    wave: Wave = (np.sign(level) * np.expm1(np.abs(level) * np.log(256)) / 255).astype(np.float32)
    return wave


CHANGES: Final[tuple[Callable[[Wave, np.random.Generator], Wave], ...]] = (
    speed,
    room,
    band,
    lead,
    noise,
    gain,
)
"""In the order in which the world applies them: the speaker, the room, the microphone, its noise and its level."""


def _filtered(samples: Wave, response: NDArray[Any]) -> Wave:
    """Through a filter given by its spectrum (as rfft gives it for a size of at least the clip), as loud as before."""
    size = 2 * (len(response) - 1)
    out = np.fft.irfft(np.fft.rfft(samples, size) * response, size)[: len(samples)]
    return (out * (_level(samples) / max(_level(out), 1e-12))).astype(np.float32)


def _level(samples: NDArray[Any]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _size(samples: int) -> int:
    """The next power of two, which is quick to transform."""
    return 1 << max(1, (samples - 1).bit_length())
