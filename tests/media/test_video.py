"""Frames come with the container's timestamps, counted as those of the sound."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from synth_video import even, film, gray, square

from emimic.media import decode, video
from emimic.task import AudioError, EmimicWarning


def times(path: Path, **given: float) -> np.ndarray:
    return np.array([frame.time for frame in video.read_frames(path, **given)])


@pytest.mark.parametrize("fps", [25, 29.83, 30000 / 1001, 7.3, 58.94])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frame_k_of_any_rate_is_at_k_over_it_to_a_millisecond(
    tmp_path: Path, fps: float, suffix: str
) -> None:
    path = film(tmp_path / f"a.{suffix}", even(fps, 40), lambda time: gray(int(time * fps) % 50 * 5))
    np.testing.assert_allclose(times(path), np.arange(40) / fps, atol=1e-3)


def test_frames_are_where_they_were_put_whatever_the_rate_says(tmp_path: Path) -> None:
    put = [0.0, 0.033, 0.04, 0.5, 0.501, 2.0, 2.75]
    levels = dict(zip(put, range(30, 240, 30), strict=True))
    actual = list(video.read_frames(film(tmp_path / "a.mp4", put, lambda time: gray(levels[time]))))
    np.testing.assert_allclose([frame.time for frame in actual], put, atol=1e-3)
    # The image travels with its time.
    np.testing.assert_allclose([frame.image.mean() for frame in actual], list(levels.values()), atol=6)
    assert actual[0].image.shape == (64, 64, 3)
    assert actual[0].image.dtype == np.uint8


def test_frames_that_refer_forward_come_in_the_order_they_are_shown(tmp_path: Path) -> None:
    put = even(29.83, 30)
    path = film(tmp_path / "a.mp4", put, lambda time: gray(round(time * 200) + 20), codec="libx264")
    actual = list(video.read_frames(path))
    np.testing.assert_allclose([frame.time for frame in actual], put, atol=1e-3)
    assert (np.diff([frame.image.mean() for frame in actual]) > 0).all()


@pytest.mark.parametrize("fps", [6, 2.5, 12, 100])
@pytest.mark.parametrize("kind", ["even", "odd", "gaps"])
def test_a_wanted_rate_takes_the_nearest_frames_once(tmp_path: Path, fps: float, kind: str) -> None:
    rng = np.random.default_rng(3)
    put = {
        "even": even(25, 50),
        "odd": even(29.83, 50),
        "gaps": (np.cumsum(rng.choice([0.01, 0.04, 0.313], 40)) - 0.313).round(3).tolist(),
    }[kind]
    path = film(tmp_path / "a.mp4", put, lambda _: gray(99))
    shown = times(path)
    grid = np.arange(0, int(shown[-1] * fps + 0.5) + 1) / fps
    grid = grid[grid >= shown[0] - 0.5 / fps]
    wanted = sorted({int(np.abs(shown - moment).argmin()) for moment in grid})
    np.testing.assert_allclose(times(path, fps=fps), shown[wanted])


@pytest.mark.parametrize("start", [0.0, 0.25])
def test_a_face_and_a_sound_of_one_moment_have_one_time(tmp_path: Path, start: float) -> None:
    moment = 0.7  # by the container's timestamps: the image turns white as the tone begins
    samples = np.arange(16_000)
    tone = (0.5 * np.sin(2 * np.pi * 440 * samples / 16_000) * (samples / 16_000 + start >= moment)).astype(
        np.float32
    )
    path = film(
        tmp_path / "a.mp4",
        even(29.83, 36),
        lambda time: gray(255 * (time >= moment)),
        sound=tone,
        sound_start=start,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmimicWarning)  # that the sound starts late
        onset = np.flatnonzero(np.abs(decode.load(path)) > 0.1)[0] / 16_000
    seen = next(frame.time for frame in video.read_frames(path) if frame.image.mean() > 128)
    assert onset == pytest.approx(moment, abs=5e-3)
    # The first white frame is up to a frame later than the tone, whatever an encoder puts in front of the sound.
    late = np.ceil(moment * 29.83) / 29.83 - moment
    assert seen - onset == pytest.approx(late, abs=5e-3)


def test_a_silent_film_starts_when_it_says(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", [1.0, 1.5, 2.0], lambda _: gray(50))
    np.testing.assert_allclose(times(path), [1.0, 1.5, 2.0], atol=1e-3)


def test_decoding_stops_where_asked(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", even(10, 50), lambda _: gray(50))
    np.testing.assert_allclose(times(path, max_seconds=1.2), np.arange(13) / 10, atol=1e-3)
    np.testing.assert_allclose(times(path, fps=5, max_seconds=1.2), np.arange(7) / 5, atol=1e-3)


def test_a_film_taken_lying_is_turned_upright(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [0, 0.1], lambda _: square(0, 0, shape=(96, 128)), rotation=90)
    image = next(video.read_frames(path)).image
    assert image.shape == (128, 96, 3)
    # Turned counter-clockwise by 90 degrees, the upper left corner is the lower left one.
    assert image[-30:, :30].mean() > 200
    assert image[:60].mean() < 20


def test_a_damaged_film_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (60, 64, 64, 3), np.uint8)
    path = film(tmp_path / "a.mp4", even(20, 60), lambda time: noise[round(time * 20)])
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    end = data.index(b"moov")
    data[(start + end) // 2 : end - 4] = bytes(end - 4 - (start + end) // 2)
    path.write_bytes(data)
    with pytest.warns(EmimicWarning, match=r"a\.mp4: damaged or cut short; only frames up to"):
        actual = times(path)
    assert 10 < len(actual) < 60
    np.testing.assert_allclose(actual, np.arange(len(actual)) / 20, atol=1e-3)


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\0" * 5000])
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"broken\.mp4"):
        list(video.read_frames(path))


def test_a_recording_without_images_is_named(tmp_path: Path) -> None:
    decode.save(tmp_path / "a.mp3", np.full(16_000, 0.1, np.float32), codec="mp3")
    with pytest.raises(AudioError, match=r"a\.mp3: has no video track"):
        list(video.read_frames(tmp_path / "a.mp3"))


def test_an_absurd_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="Give a number above 0"):
        list(video.read_frames(tmp_path / "a.mp4", fps=0))


def test_holes_in_a_stream_cost_only_their_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (60, 64, 64, 3), np.uint8)
    path = film(tmp_path / "a.ts", even(20, 60), lambda time: noise[round(time * 20)])
    whole = times(path)
    data = bytearray(path.read_bytes())
    third = len(data) // 3
    data[third : third + 20_000] = rng.bytes(20_000)
    path.write_bytes(data)
    with pytest.warns(EmimicWarning, match=r"a\.ts: damaged or cut short"):
        actual = times(path)
    assert 10 < len(actual) < 60
    assert (np.diff(actual) > 0).all()
    assert np.abs(actual[:, None] - whole).min(axis=1).max() < 1e-3


def test_absurd_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", even(20, 3), lambda _: gray(50))
    monkeypatch.setattr(video, "PIXELS", 64 * 63)
    with pytest.raises(AudioError, match=r"a\.mp4: has frames of 64 x 64, expected at most 4,032 pixels"):
        list(video.read_frames(path))


def test_a_film_may_come_as_bytes(tmp_path: Path) -> None:
    data = film(tmp_path / "a.mp4", even(20, 3), lambda _: gray(50)).read_bytes()
    assert [round(frame.time, 3) for frame in video.read_frames(data)] == [0, 0.05, 0.1]
    with pytest.raises(AudioError, match="take: "):
        list(video.read_frames(b"nothing", name="take"))
