"""Changed clips: the same for a seed, an epoch and a clip, finite, and changed by as much as each change says."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import clip as colored

from emimic.data import augment as module
from emimic.data.augment import CHANGES, Augment
from emimic.task import SAMPLE_RATE

Change = Callable[[module.Wave, np.random.Generator], module.Wave]


def voice(samples: int, seed: int = 0) -> module.Wave:
    return 0.1 * colored(samples, seed)


def decibels(x: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(x, dtype=np.float64))))


# --- which clips, and how


def test_seed_epoch_and_clip_decide() -> None:
    samples = voice(3000)
    seen = {}
    for seed, epoch, name in product((0, 1), (0, 1, 2), ("00001", "00002")):
        first = Augment(1.0, seed)(samples, name, epoch)
        np.random.seed(seed)  # noqa: NPY002 - the global generator must not matter
        np.testing.assert_array_equal(Augment(1.0, seed)(samples, name, epoch), first)
        seen[seed, epoch, name] = first.tobytes()
    assert len(set(seen.values())) == len(seen)
    np.testing.assert_array_equal(samples, voice(3000), "the clip itself stays as it is")


def test_neither_order_nor_threads_matter() -> None:
    augment = Augment(1.0, 3)
    jobs = [(voice(1000 + 50 * i, i), f"{i:05d}", i % 3) for i in range(24)]
    alone = [augment(*job).tobytes() for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        threaded = [future.result().tobytes() for future in [pool.submit(augment, *j) for j in jobs[::-1]]]
    assert threaded[::-1] == alone
    assert len(set(alone)) == len(alone)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_the_fraction_of_changed_clips(fraction: float) -> None:
    """A clip that is to be changed meets none of the six with a probability of 0.6^6 = .047."""
    samples = voice(400)
    changed = sum(not np.array_equal(Augment(fraction, 0)(samples, str(i), 1), samples) for i in range(1500))
    assert changed / 1500 == pytest.approx(fraction * (1 - 0.6**6), abs=0.04 * (fraction > 0))


def test_each_change_acts_on_its_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[str] = []

    def spy(name: str) -> Change:
        return lambda samples, rng: (met.append(name), samples)[1]

    names = [change.__name__ for change in CHANGES]
    monkeypatch.setattr(module, "CHANGES", tuple(map(spy, names)))
    for epoch in range(1000):
        Augment(1.0, 0)(voice(10), "x", epoch)
    assert names == ["change_speed", "add_room", "limit_band", "add_lead", "add_noise", "change_gain"]
    for name in names:
        assert met.count(name) / 1000 == pytest.approx(module.EACH, abs=0.06)


@settings(max_examples=60)
@given(
    st.sampled_from([1, 2, 3, 39, 400, 401, 1777]),
    st.integers(0, 2**31),
    st.integers(0, 50),
    st.sampled_from([0.0, 1e-6, 0.3, 1.0]),
)
def test_whatever_comes_stays_sound(samples: int, seed: int, epoch: int, level: float) -> None:
    given_clip = (level * np.sin(np.arange(1, samples + 1))).astype(np.float32)
    actual = Augment(1.0, seed)(given_clip, "clip", epoch)
    assert actual.dtype == np.float32
    assert actual.ndim == 1
    assert actual.flags.c_contiguous
    assert np.isfinite(actual).all()
    assert max(1, samples / 1.1 - 1) <= len(actual) <= samples / 0.9 + 1 + SAMPLE_RATE / 2
    if level == 0:
        assert not actual.any(), "silence stays silence"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("samples", [1, 2, 400, 4000])
def test_only_speed_and_lead_change_the_length(change: Change, samples: int) -> None:
    lengths = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        actual = change(voice(samples, seed) if samples > 2 else np.full(samples, 0.3, np.float32), rng)
        assert actual.dtype == np.float32
        assert np.isfinite(actual).all()
        assert not change(np.zeros(samples, np.float32), rng).any()
        lengths.add(len(actual))
    if change is module.change_speed:
        assert samples / 1.1 - 1 <= min(lengths) <= max(lengths) <= samples / 0.9 + 1
        assert len(lengths) > 5 or samples < 400
    elif change is module.add_lead:
        assert samples <= min(lengths)
        assert max(lengths) <= samples + SAMPLE_RATE / 2
        assert len(lengths) == 12
    else:
        assert lengths == {samples}


# --- each change against what it says


class Drawn:
    """A generator whose uniform draws are given, and whose others are NumPy's."""

    def __init__(self, *uniforms: float, coin: float = 0.0, seed: int = 0) -> None:
        self.uniforms, self.coin = list(uniforms), coin
        self.standard_normal = np.random.default_rng(seed).standard_normal

    def uniform(self, low: float, high: float) -> float:
        value = self.uniforms.pop(0)
        assert low <= value <= high
        return value

    def random(self) -> float:
        return self.coin


def tone(frequency: float, samples: int = SAMPLE_RATE) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(samples) / SAMPLE_RATE)


def strength(samples: np.ndarray, frequency: float) -> float:
    """Of a tone in the middle of a second, in decibels against amplitude 1."""
    middle = samples[4000:12000] * np.hanning(8000)
    part = middle @ np.exp(-2j * np.pi * frequency * np.arange(4000, 12000) / SAMPLE_RATE)
    return float(20 * np.log10(abs(part) / 2000))


@pytest.mark.parametrize("rate", [0.9, 1.0, 1.1])
def test_speed_moves_the_pitch_along(rate: float) -> None:
    actual = module.change_speed(tone(1000).astype(np.float32), Drawn(rate))
    assert len(actual) == pytest.approx(SAMPLE_RATE / rate, abs=1)
    assert strength(actual, 1000 * rate) == pytest.approx(0, abs=0.3)
    assert strength(actual, 1000 / rate) < -30 or rate == 1


def test_a_clip_too_short_to_be_resampled_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soxr, "resample", lambda *_, **__: np.empty(0, np.float32))
    samples = np.full(1, 0.3, np.float32)
    assert module.change_speed(samples, np.random.default_rng(0)) is samples


def test_a_telephone_attenuates_what_is_outside_its_band() -> None:
    """By 40 dB an octave and 60 dB at most, what is inside being left alone; then as loud as before."""
    tones = (75.0, 150.0, 300.0, 1000.0, 3400.0, 6800.0)
    samples = sum(map(tone, tones)).astype(np.float32)
    actual = module.limit_band(samples, Drawn(coin=0.0))
    kept = strength(actual, 1000)
    for frequency, lost in zip(tones, (-60, -40, 0, 0, 0, -40), strict=True):
        assert strength(actual, frequency) - kept == pytest.approx(lost, abs=1)
    assert decibels(actual) == pytest.approx(decibels(samples), abs=0.01)


def test_a_dull_microphone() -> None:
    samples = sum(map(tone, (100.0, 2500.0, 5000.0))).astype(np.float32)
    actual = module.limit_band(samples, Drawn(100.0, 2500.0, coin=0.9))
    assert strength(actual, 100) == pytest.approx(strength(actual, 2500), abs=0.5)
    assert strength(actual, 5000) - strength(actual, 2500) == pytest.approx(-40, abs=1)


@pytest.mark.parametrize("below", [0.0, 12.0, 30.0])
@pytest.mark.parametrize("color", [0.0, 0.5, 1.0])
def test_noise_is_as_loud_as_it_says_and_as_dark(below: float, color: float) -> None:
    samples = voice(SAMPLE_RATE, 2)
    added = module.add_noise(samples, Drawn(color, below)).astype(np.float64) - samples
    assert decibels(added) - decibels(samples) == pytest.approx(-below, abs=0.01)
    power = np.square(np.abs(np.fft.rfft(added)))
    octaves = [10 * np.log10(power[low : 2 * low].mean()) for low in (500, 1000, 2000)]
    assert np.diff(octaves) == pytest.approx([-6 * color] * 2, abs=1)


def test_a_room_adds_what_decays() -> None:
    """Of a click, the sound itself, and after it an echo as strong as drawn, 60 dB weaker at the end."""
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[100] = 1.0
    actual = module.add_room(click, Drawn(0.5, -6.0)).astype(np.float64)
    assert decibels(actual) == pytest.approx(decibels(click), abs=0.01), "as loud as before"
    actual /= actual[100]
    assert not np.abs(actual[:100]).max() > 1e-6
    echo = actual[101 : 101 + 8000]
    assert 10 * np.log10(np.square(echo).sum()) == pytest.approx(-6, abs=0.1)
    ends = [decibels(echo[:800]), decibels(echo[-800:])]
    assert ends[0] - ends[1] == pytest.approx(60 * 0.9, abs=1.5)
    assert np.abs(actual[101 + 8000 :]).max() < 1e-6


def test_lead_is_silence_before_the_clip() -> None:
    samples = voice(500)
    actual = module.add_lead(samples, Drawn(0.25))
    assert not actual[:4000].any()
    np.testing.assert_array_equal(actual[4000:], samples)


@pytest.mark.parametrize(("level", "peak"), [(-12.0, 0.5 * 10**-0.6), (0.0, 0.5), (12.0, 1.0)])
def test_gain_clips_as_a_recorder(level: float, peak: float) -> None:
    samples = (0.5 * tone(440, 1000)).astype(np.float32)
    actual = module.change_gain(samples, Drawn(level))
    assert np.abs(actual).max() == pytest.approx(peak, rel=1e-3)
    if level <= 0:
        np.testing.assert_allclose(actual, samples * 10 ** (level / 20), rtol=1e-6)
    else:
        assert np.mean(np.abs(actual) == 1.0) > 0.5


def test_after_gain_no_peak_leaves_the_range() -> None:
    loud = (3 * tone(440, 2000)).astype(np.float32)
    for seed in range(20):
        assert np.abs(module.change_gain(loud, np.random.default_rng(seed))).max() <= 1.0
