"""Cutting, normalizing, padding and resampling against formulas written out here."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from media_files import noise, sine

from emimic.media.waveform import Clip, ClipFormat, Mono, compute_delay, cut, normalize, resample
from emimic.task import AudioError

FLOATS = st.floats(-2, 2, width=32)
WAVES = arrays.arrays(np.float32, st.integers(1, 60), elements=FLOATS)


def textbook(samples: np.ndarray) -> np.ndarray:
    """(x - mean) / sqrt(population variance + 1e-7), with exact sums."""
    values = [float(value) for value in samples]
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    return np.array([(value - mean) / math.sqrt(variance + 1e-7) for value in values])


@given(WAVES)
def test_normalize_is_the_textbook_formula(samples: np.ndarray) -> None:
    result = normalize(samples)
    assert result.dtype == np.float32
    assert result.shape == samples.shape
    np.testing.assert_allclose(result, textbook(samples), rtol=1e-5, atol=1e-6)


@given(st.floats(-(2.0**100), 2.0**100, width=32), st.integers(1, 2000))
def test_constant_clips_give_zeros(level: float, size: int) -> None:
    assert not normalize(np.full(size, level, np.float32)).any()


@given(WAVES, st.floats(2**-6, 2**6), st.floats(-1, 1))
def test_gain_and_offset_do_not_matter_for_loud_clips(
    samples: np.ndarray, gain: float, offset: float
) -> None:
    loud = np.concatenate([samples, np.array([-2, 2] * 30, np.float32)]) * 20  # variance far above 1e-7
    moved = (gain * loud.astype(float) + offset).astype(np.float32)
    np.testing.assert_allclose(normalize(moved), normalize(loud), atol=2e-4)


def test_normalize_at_the_ends_of_the_range() -> None:
    huge = np.array([3e38, -3e38], np.float32)  # its square is beyond float32
    np.testing.assert_allclose(normalize(huge), [1, -1], rtol=1e-6)
    tiny = np.array([1e-6, -1e-6])  # variance 1e-12: the 1e-7 rules
    np.testing.assert_allclose(
        normalize(tiny), [1e-6 / math.sqrt(1e-12 + 1e-7), -1e-6 / math.sqrt(1e-12 + 1e-7)]
    )
    assert normalize(np.array([0.3], np.float32)).tolist() == [0.0]


def test_a_long_clip_far_from_zero_keeps_its_precision() -> None:
    samples = noise(12, level=1e-3) + np.float32(1)
    result = normalize(samples)
    assert abs(result.mean(dtype=float)) < 1e-6
    expected = samples.astype(float) - samples.astype(float).mean()
    np.testing.assert_allclose(result, expected / math.sqrt((expected**2).mean() + 1e-7), atol=1e-5)


@given(WAVES, st.integers(1, 80), st.integers(0, 80), st.booleans())
def test_prepare_cuts_then_normalizes_then_pads(
    samples: np.ndarray, kept: int, least: int, scale: bool
) -> None:
    before = samples.copy()
    clip = ClipFormat(kept / 16_000, scale, least).prepare(samples)
    part = samples[:kept]
    assert clip.samples.shape == (max(len(part), least),)
    assert clip.samples.dtype == np.float32
    np.testing.assert_allclose(
        clip.samples[: len(part)], textbook(part) if scale else part, rtol=1e-5, atol=1e-6
    )
    assert not clip.samples[len(part) :].any()
    assert clip.seconds == len(samples) / 16_000
    assert clip.was_cut == (len(samples) > kept)
    assert clip.was_padded == (len(part) < least)
    clip.samples[:] = 7
    np.testing.assert_array_equal(samples, before)


def test_the_paper_s_cut_comes_before_normalizing() -> None:
    samples = np.concatenate([noise(12, level=0.1), np.full(16_000, 5, np.float32)])
    clip = ClipFormat().prepare(samples)
    assert clip.samples.shape == (192_000,)
    assert clip.was_cut
    assert clip.seconds == 13.0
    assert abs(clip.samples.mean(dtype=float)) < 1e-6
    assert abs(clip.samples.std(dtype=float) - 1) < 1e-4  # 1e-7 / 0.01 of the variance


def test_the_smallest_clip_of_the_encoder_is_400_samples() -> None:
    short, enough = (ClipFormat().prepare(noise(count / 16_000)) for count in (399, 400))
    assert (len(short.samples), short.was_padded, short.was_cut) == (400, True, False)
    assert (len(enough.samples), enough.was_padded) == (400, False)
    assert len(ClipFormat(None).prepare(noise(13)).samples) == 13 * 16_000


def test_a_clip_format_is_the_paper_s_unless_it_is_given_and_never_changes() -> None:
    assert ClipFormat() == ClipFormat(12.0, True, 400)
    with pytest.raises(AttributeError):
        ClipFormat().max_seconds = 3.0  # type: ignore[misc]


def test_the_version_of_the_clip_format_describes_these_values() -> None:
    """Caches have it in their keys: raise it together with the values here."""
    clip = ClipFormat(max_seconds=6 / 16_000, min_samples=8).prepare(np.array([0.5, -0.25, 0, 1, -1, 0.1, 9]))
    assert ClipFormat.version == 1
    wanted = [0.713033, -0.497778, -0.094174, 1.520240, -1.708589, 0.067267, 0, 0]
    np.testing.assert_allclose(clip.samples, wanted, atol=1e-5)


def test_a_clip_can_not_be_rebound() -> None:
    clip = Clip(np.zeros(400, np.float32), 0.025, False, False)
    with pytest.raises(AttributeError):
        clip.seconds = 3.0  # type: ignore[misc]


@given(WAVES, st.floats(1 / 16_000, 80 / 16_000))
def test_cut_keeps_the_first_samples(samples: np.ndarray, seconds: float) -> None:
    np.testing.assert_array_equal(cut(samples, seconds), samples[: int(np.rint(seconds * 16_000))])
    assert cut(samples, None) is samples


@pytest.mark.parametrize("seconds", [0, -1, 1e-9, math.nan, math.inf])
def test_invalid_limits_are_refused(seconds: float) -> None:
    for act in (cut, lambda samples, limit: ClipFormat(limit).prepare(samples)):
        with pytest.raises(AudioError, match="max_seconds is"):
            act(noise(0.1), seconds)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 400), np.float32), r"shape \(2, 400\); give \(sample,\)"),
        (np.float32(1), r"shape \(\)"),
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros(400, np.int16), "int16; give floating point.*divide by 32768"),
        (np.zeros(400, bool), "bool"),
        (np.zeros(400, complex), "complex"),
        (np.array([0, math.nan]), "NaN or infinite"),
        (np.array([0, -math.inf], np.float32), "NaN or infinite"),
        (np.array([0, 1e300]), "beyond float32"),
        (["a"], "give floating point"),
    ],
)
def test_arrays_that_are_no_waveform_are_refused(samples: object, message: str) -> None:
    for act in (ClipFormat().prepare, normalize):
        with pytest.raises(AudioError, match=message):
            act(samples)


def test_float64_and_float16_are_taken() -> None:
    samples = sine(seconds=0.1)
    for kind in (np.float64, np.float16):
        np.testing.assert_allclose(
            ClipFormat().prepare(samples.astype(kind)).samples, normalize(samples), atol=2e-3
        )


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000, 44_056.5])
def test_resample_gives_the_sine_at_the_new_rate(rate: float) -> None:
    time = np.arange(int(rate))
    samples = 0.5 * np.sin(2 * np.pi * 440 * time / rate)
    result = resample(samples, rate)
    assert result.dtype == np.float32
    assert abs(len(result) - 16_000) <= 1
    middle = np.arange(2_000, 14_000)
    np.testing.assert_allclose(result[middle], 0.5 * np.sin(2 * np.pi * 440 * middle / 16_000), atol=1e-4)


def test_what_lies_above_8_khz_does_not_come_back() -> None:
    samples = sine(10_000, rate=44_100)  # would alias to 6 kHz
    assert np.abs(resample(samples, 44_100)[2_000:14_000]).max() < 1e-5  # -94 dB of 0.5


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 9)), elements=FLOATS))
def test_channels_are_averaged(samples: np.ndarray) -> None:
    expected = [math.fsum(float(value) for value in row) / len(row) for row in samples]
    np.testing.assert_allclose(resample(samples, 16_000), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "rate", "message"),
    [
        ((400,), 0, "sample rate 0 Hz"),
        ((400,), -16_000, "sample rate -16000"),
        ((400,), math.nan, "sample rate nan"),
        ((400,), 1_000_000, "sample rate 1000000"),
        ((2, 400), 16_000, "400 channels.*transposed"),
        ((2, 4, 5), 16_000, r"shape \(2, 4, 5\); give \(sample,\) or"),
        ((1,), 192_000, "1 samples at 192000 Hz"),
    ],
)
def test_absurd_arrays_are_refused(shape: tuple[int, ...], rate: float, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        resample(np.zeros(shape), rate)


@pytest.mark.parametrize(
    "rate",
    [1000, 2742, 3711, 4000, 4105, 8000, 11_025, 15_999, 16_000, 22_050, 48_000, 96_000, 176_400, 384_000],
)
def test_the_resampler_is_not_further_behind_than_stated(rate: int) -> None:
    mono, size, made, latest = Mono(), max(1, rate // 200), 0, 0.0
    for turn in range(1, 800):
        made += len(mono.put(np.zeros(size, np.float32), rate))
        latest = max(latest, turn * size / rate - made / 16_000)
    stated = compute_delay(rate)
    assert 0.4 * stated <= latest <= stated
