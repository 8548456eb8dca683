"""Bursts that are no speech are found, silence and steady noise are not, however a recording is cut."""

import fake_engine
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emimic.sample
from emimic.inference import voice_activity
from emimic.inference.voice_activity import Detector, decide, find
from emimic.media import decode
from emimic.media.silero_vad import CHUNK, SpeechDetector

RNG = np.random.default_rng(0)


def steady(kind: str, seconds: float = 12.0) -> np.ndarray:
    """Noise of a color, hum of mains, digital silence; at -40 dB."""
    count = round(seconds * 16_000)
    if kind == "zeros":
        return np.zeros(count, np.float32)
    if kind == "hum":
        time = np.arange(count) / 16_000
        wave = sum(
            np.sin(2 * np.pi * 50 * h * time + h) / h for h in range(1, 8)
        ) + 0.05 * RNG.standard_normal(count)
    else:
        fall = {"white": 0.0, "pink": 0.5, "brown": 1.0}[kind]
        spectrum = np.fft.rfft(RNG.standard_normal(count))
        wave = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20 * seconds) ** fall, count)
    return (0.01 * wave / wave.std()).astype(np.float32)


@pytest.mark.parametrize("kind", ["zeros", "white", "pink", "brown", "hum"])
def test_silence_and_steady_noise_are_no_voice(kind: str) -> None:
    assert find(steady(kind)) == ()


@pytest.mark.parametrize("kind", ["zeros", "white", "pink", "brown", "hum"])
def test_real_bursts_between_noise_are_found_where_they_are(kind: str) -> None:
    """Twelve bursts of the sample, each at -23 dB between 3 s of noise at -43 dB: found, with the margin around."""
    actual, length = 0.0, 0.0
    parts, truth, at = [], [], 0
    for path in sorted((emimic.sample.get_folder() / "audio").glob("*.mp3"))[:12]:
        clip = decode.load(path)
        chunks = np.square(clip[: len(clip) // 512 * 512].astype(float)).reshape(-1, 512).mean(axis=1)
        loud = np.flatnonzero(chunks > chunks.max() / 100)  # within 20 dB of its loudest
        clip = clip[loud[0] * 512 : (loud[-1] + 1) * 512]
        clip = 0.07 * clip / np.sqrt(np.square(clip).mean())
        parts += [np.zeros(48_000, np.float32), clip]
        truth.append((at + 48_000, at + 48_000 + len(clip)))
        at += 48_000 + len(clip)
    sound = np.concatenate([*parts, np.zeros(48_000, np.float32)])
    sound += 0.7 * steady(kind, len(sound) / 16_000)[: len(sound)]
    voiced = np.zeros(len(sound), bool)
    for segment in find(sound):
        voiced[round(segment.start * 16_000) : round(segment.end * 16_000)] = True
    for start, end in truth:
        actual, length = actual + voiced[start:end].sum(), length + end - start
        voiced[max(0, start - 8_000) : end + 8_000] = False  # margins, and what the cut to 20 dB left out
    assert actual / length > 0.93
    assert voiced.mean() < 0.02


def test_speech_is_found_by_the_model_even_at_a_level_that_never_falls() -> None:
    """What is no louder than its surroundings can only be found by its sound."""
    speech, levels = np.array([0.0] * 20 + [0.9] * 20 + [0.0] * 20), np.full(60, -30.0)
    actual = np.flatnonzero(decide(speech, levels))
    assert (actual[0], actual[-1]) == (20 - voice_activity.MARGIN, 39 + voice_activity.MARGIN)


def test_clicks_are_passed_by_and_pauses_bridged() -> None:
    quiet = np.full(100, -60.0)
    click, pause = quiet.copy(), quiet.copy()
    click[50] = -20.0  # which smoothing makes 3 chunks long
    assert decide(np.zeros(100), click).sum() == 3 + 2 * voice_activity.MARGIN
    click[50] = -52.0
    assert not decide(np.zeros(100), click).any()
    pause[20:40] = pause[50:70] = -20.0
    assert decide(np.zeros(100), pause)[20:70].all()
    assert not decide(np.zeros(100), pause)[80:].any()


def test_quiet_is_judged_by_the_recordings_own_noise() -> None:
    sound = fake_engine.recording(("hush", 3.0), ("burst", 1.0), ("hush", 3.0))
    (loud,) = find(sound)
    (quiet,) = find(sound * 0.1)  # 20 dB less, hiss and all
    assert quiet.start == pytest.approx(loud.start, abs=0.07)
    assert quiet.end == pytest.approx(loud.end, abs=0.07)
    assert loud.start == pytest.approx(3.0 - 0.19, abs=0.07)
    assert loud.end == pytest.approx(4.0 + 0.19, abs=0.12)


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(0, 20_000), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 2000),
    end=st.integers(1, 60_000),
)
def test_any_chunking_gives_the_same_bits(sizes: list[int], end: int) -> None:
    sound = fake_engine.recording(("hush", 1.0), ("burst", 0.7), ("hush", 1.3), ("burst", 0.9))[:end]
    detector = Detector()
    start = turn = 0
    decisions: list[int] = []
    while start < len(sound):
        size = sizes[turn % len(sizes)]
        detector.push(sound[start : start + size])
        start, turn = start + size, turn + 1
        decisions.append(detector.decided)
        assert detector.decided <= min(start, len(sound))
    early = detector.get_voice_segments()
    detector.flush()
    assert detector.decided == len(sound)
    assert detector.get_voice_segments() == find(sound)
    assert decisions == sorted(decisions)
    # What was said early stands.
    whole = [(r.start, r.end) for r in find(sound)]
    assert all(any(a <= r.start and r.end <= b for a, b in whole) for r in early)


def test_a_second_at_a_time_gives_the_segments_of_a_stream() -> None:
    """So a file has the segments of the stream of its sound; the last second is cut where the sound ends."""
    clips = [decode.load(path) for path in sorted((emimic.sample.get_folder() / "audio").glob("*.mp3"))[:8]]
    pause = np.zeros(20_000, np.float32)
    sound = np.concatenate([part for clip in clips for part in (pause, clip)])
    expected = find(sound)
    assert len(expected) > 4
    detector = Detector(32 * CHUNK)
    for start in range(0, len(sound), 30_000):
        detector.push(sound[start : start + 30_000])
    detector.flush()
    assert detector.get_voice_segments() == expected


def test_probabilities_are_those_of_the_published_graph() -> None:
    """Every sixth chunk of two sample clips, as silero_vad_16k_sequence.onnx of silero-vad 6.2.3 computes them."""
    published = {
        "00001": [0.0179, 0.0054, 0.0036, 0.0036, 0.6928, 0.1331, 0.0388, 0.0137, 0.0071, 0.0084],
        "00005": [0.0133, 0.0163, 0.0055, 0.4506, 0.6822, 0.4399, 0.2640, 0.0364, 0.0082, 0.0022],
    }
    for name, expected in published.items():
        sound = decode.load(emimic.sample.get_folder() / "audio" / f"{name}.mp3")
        actual = SpeechDetector().detect(sound[: 60 * CHUNK])
        np.testing.assert_allclose(actual[::6], expected, atol=2e-3)  # decoders of MP3 differ a little


def test_a_decision_waits_no_longer_than_it_says() -> None:
    detector = Detector()
    for start in range(0, 48_000, 160):
        detector.push(np.zeros(160, np.float32))
        assert start + 160 - detector.decided <= (voice_activity.AHEAD + 4) * CHUNK


def test_reset_forgets() -> None:
    detector = Detector()
    detector.push(fake_engine.burst(2.0))
    detector.reset()
    sound = fake_engine.recording(("hush", 1.0), ("burst", 0.7))
    detector.push(sound)
    detector.flush()
    assert detector.get_voice_segments() == find(sound)
    detector.reset()
    detector.flush()
    assert detector.get_voice_segments() == ()
    assert detector.decided == 0


def test_voiced_looks_at_a_stretch() -> None:
    detector = Detector()
    detector.push(fake_engine.recording(("hush", 2.0), ("burst", 0.7), ("hush", 2.0)))
    detector.flush()
    assert detector.is_voiced(32_000, 33_000)
    assert not detector.is_voiced(0, 20_000)
    assert detector.is_voiced(0, 80_000)
    assert not detector.is_voiced(0, 0)


def test_digital_silence_in_front_moves_what_is_found() -> None:
    wave = fake_engine.recording(("hush", 1.0), ("burst", 1.0), ("hush", 1.0))
    (segment,) = find(wave)
    for zeros in (1, 511, 512, 513, 22_976, 100_001):
        (moved,) = find(np.concatenate([np.zeros(zeros, np.float32), wave]))
        assert moved.start - segment.start == pytest.approx(zeros / 16_000, abs=1e-9)
        assert moved.end - segment.end == pytest.approx(zeros / 16_000, abs=0.04)


def test_noise_behind_a_gap_is_no_voice() -> None:
    """A room at -46 dB, with a gap of nothing in its recording: only the burst is a voice."""
    room = fake_engine.recording(("hush", 4.0), ("burst", 1.0), ("hush", 3.0), level=0.005)
    gapped = np.concatenate(
        [np.zeros(20_000, np.float32), room[:32_000], np.zeros(16_000, np.float32), room[32_000:]]
    )
    (segment,) = find(gapped)
    (plain,) = find(room)
    assert segment.start == pytest.approx(plain.start + 36_000 / 16_000, abs=0.07)
