"""A stream in any chunks gives the same as the recording in one, which equals the definition."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fake_engine
import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emimic.export.export import export
from emimic.inference import voice_activity
from emimic.inference.engine import Engine, GraphEngine, TorchEngine
from emimic.inference.grid import TimelineOptions
from emimic.inference.passes import Blocks
from emimic.inference.stream import Step, Stream, compute_timeline
from emimic.media import silero_vad
from emimic.task import AudioError, EmimicError, EmimicWarning

SOUND = fake_engine.recording(
    ("hush", 1.2), ("burst", 1.5), ("hush", 4.0), ("burst", 0.4), ("hush", 0.3), ("burst", 1.0)
)


def joined(steps: list[Step]) -> dict[str, np.ndarray]:
    return {
        "times": np.array([s.time for s in steps]),
        "starts": np.array([s.start for s in steps]),
        "ends": np.array([s.end for s in steps]),
        "intensities": np.stack([s.intensities for s in steps]),
        "vad_times": np.concatenate([s.vad_times for s in steps if s.vad_times is not None]),
        "vad": np.concatenate([s.vad for s in steps if s.vad is not None]),
    }


def in_chunks(stream: Stream, sound: np.ndarray, sizes: list[int], *, ahead: bool = False) -> list[Step]:
    steps, start, turn = [], 0, 0
    with ThreadPoolExecutor(1) as pool:
        while start < len(sound):
            chunk = sound[start : start + sizes[turn % len(sizes)]]
            steps += stream.push_ahead(chunk, pool) if ahead else stream.push(chunk)
            start, turn = start + len(chunk), turn + 1
    return steps + stream.flush()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TorchEngine:
    folder = tmp_path_factory.mktemp("run")
    tiny_models.model(vad_pretrained=True).save_pretrained(folder)
    return TorchEngine(folder, device="cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> GraphEngine:
    folder = tmp_path_factory.mktemp("exported") / "engine"
    tiny_models.model(vad_pretrained=True).save_pretrained(folder.parent / "run")
    export(folder.parent / "run", folder)
    return GraphEngine(folder, threads=1)


def same(
    engine: Engine, sound: np.ndarray, sizes: list[int], options: TimelineOptions, rate: int = 16_000
) -> None:
    """However the sound is cut, the steps are those of the sound in one chunk."""
    one = in_chunks(Stream(engine, options, sample_rate=rate), sound, [len(sound)])
    assert one or len(sound) * 16_000 < rate  # less than one sample at 16 kHz
    for ahead in (False, True):
        other = in_chunks(Stream(engine, options, sample_rate=rate), sound, sizes, ahead=ahead)
        assert len(other) == len(one)
        if one:
            a, b = joined(one), joined(other)
            for name in a:
                np.testing.assert_allclose(b[name], a[name], rtol=0, atol=1e-6, err_msg=name)


SIZES = st.lists(st.integers(1, 30_000), min_size=1, max_size=6).filter(
    lambda sizes: sum(sizes) > 900 * len(sizes)
)


@settings(max_examples=25)
@example(sizes=[901], rate=48_000, window=0.5, hop=0.1, end=1)
@given(
    sizes=SIZES,
    rate=st.sampled_from([8_000, 16_000, 22_050, 48_000]),
    window=st.sampled_from([0.5, 1.0, 2.5]),
    hop=st.sampled_from([0.1, 0.2, 0.333]),
    end=st.integers(1, 134_000),
)
def test_any_chunking_gives_the_same_steps(
    sizes: list[int], rate: int, window: float, hop: float, end: int
) -> None:
    options = TimelineOptions(window, hop, vad_frames=True)
    same(fake_engine.Fake(do_normalize=True), SOUND[:end], sizes, options, rate)


@settings(max_examples=2)
@given(sizes=SIZES)
def test_any_chunking_gives_the_same_steps_with_a_real_model(run: TorchEngine, sizes: list[int]) -> None:
    same(run, SOUND[:80_000], sizes, TimelineOptions(1.0, 0.4))


@settings(max_examples=6)
@given(
    sizes=SIZES,
    exact=st.booleans(),
    vad_frames=st.booleans(),
    end=st.integers(1, 134_000),
    window=st.sampled_from([0.3, 1.0, 2.5]),
)
def test_any_chunking_gives_the_same_steps_with_an_exported_model(
    exported: GraphEngine, sizes: list[int], exact: bool, vad_frames: bool, end: int, window: float
) -> None:
    same(exported, SOUND[:end], sizes, TimelineOptions(window, 0.3, exact, vad_frames))


@pytest.mark.parametrize("exact", [False, True])
def test_an_exported_models_timeline_is_the_runs(
    run: TorchEngine, exported: GraphEngine, exact: bool
) -> None:
    options = TimelineOptions(hop=0.5, exact=exact)
    ours, theirs = (
        joined(in_chunks(Stream(engine, options), SOUND[:60_000], [60_000])) for engine in (run, exported)
    )
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], atol=2e-5, err_msg=name)


@settings(max_examples=60)
# A center that rounds to the recording's end.
@example(total=4120, window=0.41433747499735085, part=0.41433747499735085, do_normalize=False)
@given(
    total=st.integers(1, 40_000),
    window=st.floats(0.1, 3.0),
    part=st.floats(0.05, 1.0),
    do_normalize=st.booleans(),
)
def test_each_step_is_its_window_predicted_as_a_clip(
    total: int, window: float, part: float, do_normalize: bool
) -> None:
    hop = max(0.02, window * part)
    engine = fake_engine.Fake(do_normalize=do_normalize)
    sound = SOUND[15_000 : 15_000 + total]
    options = TimelineOptions(window, hop, vad_frames=True)
    steps = in_chunks(Stream(engine, options, voice_segments=False), sound, [7_000])
    centers = [k for k in range(9999) if k == 0 or round((k + 0.5) * hop * 16_000) <= total]
    assert len(steps) == len(centers)
    half = round(window * 8_000)
    frames = []
    for k, step in enumerate(steps):
        center = round((k + 0.5) * hop * 16_000)
        start, end = max(0, center - half), min(total, center + half)
        assert (step.start, step.end) == (start / 16_000, end / 16_000)
        clip = sound[start:end].astype(np.float64)
        if do_normalize:
            clip = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)
        clip = np.pad(clip, (0, max(0, 400 - len(clip)))).astype(np.float32)
        result = engine.result(clip)
        np.testing.assert_allclose(step.intensities, result.intensities, rtol=1e-5, atol=1e-6)
        if center <= total:
            assert step.time == pytest.approx((k + 0.5) * hop)
        else:
            assert step.time == pytest.approx(total / 32_000)
        since = round(k * hop * 16_000)
        until = total if k == len(steps) - 1 else round((k + 1) * hop * 16_000)
        times = np.array([0.01 + 0.02 * j for j in range(9999) if since <= 160 + 320 * j < until])
        np.testing.assert_allclose(step.vad_times, times, atol=1e-12)
        assert result.vad is not None
        assert step.vad is not None
        for column in range(3):
            expected = np.interp(times, result.times + start / 16_000, result.vad[:, column])
            np.testing.assert_allclose(step.vad[:, column], expected, rtol=1e-4, atol=1e-6)
        frames += times.tolist()
    assert len(frames) == len([j for j in range(9999) if 160 + 320 * j < total])


@pytest.mark.parametrize("hop", [0.3, 2.5])
def test_one_pass_is_the_head_on_windows_of_blocks(run: TorchEngine, hop: float) -> None:
    """Blocks of 1 s with contexts of 0.5 s, cut by hand; every window's frames are pooled as a clip's."""
    sound, blocks = SOUND[:70_000], Blocks(1.0, 0.5, 0.5)
    options = TimelineOptions(window=2.5, hop=hop)
    stream = Stream(run, options, blocks=blocks, voice_segments=False)
    steps = in_chunks(stream, sound, [9_000])
    assert stream.method == "one pass"
    frames = []
    for block in range(5):
        start, end = max(0, block * 16_000 - 8_000), min(len(sound), block * 16_000 + 24_000)
        (hidden,) = run.encode([run.spec.clip_format.prepare(sound[start:end]).samples], reach=62)
        first = (block * 16_000 - start) // 320
        frames.append(hidden[first : first + 50])
    hidden = torch.from_numpy(np.concatenate(frames))
    for step in steps:
        first, last = (math.ceil((round(edge * 16_000) - 200) / 320) for edge in (step.start, step.end))
        part = hidden[None, max(0, first) : last]
        with torch.inference_mode():
            own = run.model.regress(part, torch.ones(part.shape[:2], dtype=torch.bool))
        np.testing.assert_allclose(step.intensities, own.intensities[0].numpy(), rtol=0, atol=2e-5)
        assert own.vad is not None
        np.testing.assert_allclose(step.vad, own.vad.mean(dim=1).numpy(), rtol=0, atol=2e-5)
        assert step.vad_times == [step.time]


def test_silent_blocks_are_not_encoded(run: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, seconds = run.encode, []
    monkeypatch.setattr(
        run, "encode", lambda clips, reach: seconds.extend(map(len, clips)) or encode(clips, reach=reach)
    )
    quiet = fake_engine.recording(("burst", 1.0), ("hush", 12.0), ("burst", 1.0))
    steps = in_chunks(Stream(run, blocks=Blocks(2.0, 0.5, 0.5)), quiet, [16_000])
    assert 4 <= len(seconds) <= 6, "of seven blocks"
    assert [step.voiced for step in steps] == [bool(np.isfinite(step.intensities).all()) for step in steps]
    assert steps[0].voiced
    assert steps[-2].voiced


@pytest.mark.parametrize("exact", [False, True])
def test_steps_in_one_pass_come_within_the_latency(exported: GraphEngine, exact: bool) -> None:
    stream = Stream(exported, TimelineOptions(window=1.0, hop=0.25, exact=exact))
    latest = 0.0
    for start in range(0, 90_000, 1600):
        arrived = (start + 1600) / 16_000
        for step in stream.push(SOUND[start : start + 1600]):
            latest = max(latest, arrived - step.time)
    assert 0.6 * stream.latency < latest <= stream.latency + 0.1 + 1e-6


@pytest.mark.parametrize("rate", [8_000, 48_000, 96_000])
def test_the_latency_counts_the_resampler(rate: int) -> None:
    stream = Stream(fake_engine.Fake(), TimelineOptions(1.0, 0.25), sample_rate=rate, voice_segments=False)
    sound, latest = np.zeros(4 * rate, np.float32), 0.0
    for start in range(0, len(sound), rate // 100):
        for step in stream.push(sound[start : start + rate // 100]):
            latest = max(latest, start / rate - step.time)  # had all before this chunk arrived at once
    assert stream.latency - 0.06 < latest <= stream.latency


def test_silence_is_a_gap_and_is_not_computed() -> None:
    engine = fake_engine.Fake()
    steps = in_chunks(Stream(engine), SOUND, [16_000])
    gaps = [step for step in steps if not step.voiced]
    assert all(np.isnan(step.intensities).all() and np.isnan(step.vad).all() for step in gaps)
    assert all(
        np.isfinite(step.intensities).all() and np.isfinite(step.vad).all() for step in steps if step.voiced
    )
    assert len(engine.clips) == len(steps) - len(gaps)
    # Bursts are at 1.2 to 2.7, 6.7 to 7.1 and 7.4 to 8.4 s; margins of 0.19 s, then whole hops.
    assert all(step.voiced for step in steps if 1.2 < step.time < 2.6 or 6.8 < step.time < 8.3)
    assert not any(step.voiced for step in steps if step.time < 0.7 or 3.2 < step.time < 6.2)


def test_steps_come_once_their_window_has_arrived_and_not_later() -> None:
    stream = Stream(fake_engine.Fake())
    for start in range(0, len(SOUND), 800):
        arrived = (start + 800) / 16_000
        for step in stream.push(SOUND[start : start + 800]):
            assert arrived <= step.time + stream.latency + 0.05 + 1e-6
            # Half a window; silence needs at most 0.93 s and a group of 0.13 s beyond the hop.
            assert (
                arrived - 0.06
                <= max(step.time + 1.25, step.time + 0.1 + 0.93 + 0.13)
                <= arrived + 1e-6 + 0.13
            )


def test_reset_starts_over_and_flush_ends() -> None:
    stream = Stream(fake_engine.Fake(), sample_rate=44_100)
    first = joined(in_chunks(stream, SOUND, [5_000]))
    with pytest.raises(EmimicError, match="reset"):
        stream.push(SOUND[:10])
    assert stream.flush() == []
    stream.reset()
    stream.push(SOUND[:50_000])
    stream.reset()
    again = joined(in_chunks(stream, SOUND, [5_000]))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_no_samples_give_no_steps() -> None:
    stream = Stream(fake_engine.Fake())
    assert stream.push(np.empty(0, np.float32)) == []
    assert stream.flush() == []
    assert stream.voice_segments == ()


def test_memory_does_not_grow() -> None:
    stream = Stream(fake_engine.Fake())
    for _ in range(60):
        stream.push(fake_engine.hush(1.0))
    assert len(stream._recent) < 16_000 * 4
    assert stream._detector is not None
    assert stream._detector._evidence.shape[1] < 400


@pytest.mark.parametrize("exact", [False, True])
def test_memory_does_not_grow_with_a_voice(exported: GraphEngine, exact: bool) -> None:
    stream = Stream(exported, TimelineOptions(1.0, 0.5, exact=exact), voice_segments=False)
    for _ in range(20):
        stream.push(SOUND[:16_000])
        assert len(stream._recent) < 16_000 * 6
        assert len(getattr(stream._pass, "_encoded", {})) < 6


@pytest.mark.parametrize("exact", [False, True])
def test_a_recording_in_one_piece_is_predicted_part_by_part(
    run: TorchEngine, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    name, largest = "predict" if exact else "encode", 0
    call = getattr(run, name)

    def count(clips: list[np.ndarray], **options: Any) -> Any:
        nonlocal largest
        largest = max(largest, sum(map(len, clips)))
        return call(clips, **options)

    monkeypatch.setattr(run, name, count)
    options = TimelineOptions(0.4, 0.1, exact=exact)
    Stream(run, options, voice_segments=False).push(SOUND.repeat(8))
    assert 0 < largest < len(SOUND) * 8


def test_a_model_without_vad_has_no_vad_timeline() -> None:
    steps = in_chunks(Stream(fake_engine.Fake(vad=False)), SOUND[:40_000], [40_000])
    assert all(step.vad is None and step.vad_times is None for step in steps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 13.0}, "at most 12 s"),
        ({"window": 1.0, "hop": 1.1}, "hop 1.1 s"),
        ({"hop": 0.01}, "at least 0.02 s"),
        ({"window": float("nan")}, "window is nan"),
    ],
)
def test_invalid_options_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(EmimicError, match=message):
        Stream(fake_engine.Fake(), TimelineOptions(**options))


def test_an_invalid_rate_is_named() -> None:
    with pytest.raises(EmimicError, match="sample rate 5 Hz"):
        Stream(fake_engine.Fake(), sample_rate=5)


def test_a_stream_refuses_what_is_far_beyond_full_scale() -> None:
    stream = Stream(fake_engine.Fake(), voice_segments=False)
    with pytest.raises(AudioError, match=r"the chunk: the samples peak at .*Divide by 32768"):
        stream.push(SOUND * 32768)
    for chunk in (b"\0" * 64, bytearray(64), memoryview(bytes(64))):
        with pytest.raises(AudioError, match=r"the chunk: found \w+ without a sample type.*frombuffer"):
            stream.push(chunk)
    with pytest.raises(AudioError, match="int64"):
        stream.push((SOUND * 32767).astype(np.int16).tolist())


def test_a_stream_warns_once_of_integers_wider_than_their_sound() -> None:
    stream = Stream(fake_engine.Fake(), voice_segments=False)
    narrow = (SOUND * 32767).astype(np.int32)
    stream.push(narrow[:8_000])  # half a second may be silence
    with pytest.warns(EmimicWarning, match="store them as int16"):
        stream.push(narrow[8_000:20_000])
    stream.push(narrow[20_000:30_000])
    stream.flush()
    stream.reset()
    in_chunks(stream, narrow << 16, [9_000])
    stream.reset()
    stream.push(narrow[:8_000])
    with pytest.warns(EmimicWarning, match="store them as int16"):
        stream.flush()


def test_stereo_and_bad_values_in_a_stream() -> None:
    stream = Stream(fake_engine.Fake(), voice_segments=False)
    sound = SOUND[:20_000].copy()
    mono = joined(in_chunks(stream, sound, [3_000]))
    stream.reset()
    both = joined(in_chunks(stream, np.stack([sound * 1.5, sound * 0.5], axis=1), [3_000]))
    np.testing.assert_allclose(both["intensities"], mono["intensities"], atol=1e-6)
    stream.reset()
    sound[100] = np.nan
    assert np.isfinite(joined(in_chunks(stream, sound, [3_000]))["intensities"]).all()


def test_a_timeline_is_the_stream_of_its_blocks() -> None:
    engine = fake_engine.Fake()
    seconds: list[float] = []
    blocks = [SOUND[start : start + 30_000] for start in range(0, len(SOUND), 30_000)]
    line = compute_timeline(engine, blocks, name="sound", on_progress=seconds.append)
    stream = Stream(engine)
    steps = joined(in_chunks(stream, SOUND, [1_000]))
    for name, values in steps.items():
        np.testing.assert_array_equal(getattr(line, name), values)
    assert line.voice_segments == stream.voice_segments == voice_activity.find(SOUND)
    assert seconds[-1] == line.seconds == len(SOUND) / 16_000
    whole = compute_timeline(engine, blocks, name="sound", voice_segments=False)
    assert np.isfinite(whole.intensities).all()
    assert [(r.start, r.end) for r in whole.voice_segments] == [(0.0, line.seconds)]


def test_the_detectors_model_has_its_license() -> None:
    folder = silero_vad.MODEL.parent
    assert "MIT License" in (folder / "LICENSE").read_text(encoding="utf-8")


def test_a_chunk_that_is_added_in_a_thread_keeps_its_error() -> None:
    stream = Stream(fake_engine.Fake())
    with ThreadPoolExecutor(1) as pool:
        stream.push_ahead(SOUND[:8_000], pool)
        with pytest.raises(AudioError, match=r"the samples peak at 1e\+06"):
            stream.push_ahead(np.full(8_000, 1e6), pool)
        stream.flush()
        with pytest.raises(EmimicError, match="this stream was flushed"):
            stream.push_ahead(SOUND[:8_000], pool)
