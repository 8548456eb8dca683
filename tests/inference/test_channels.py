"""Recordings with a voice on each channel: found, taken apart, and written under their own names."""

import json
from pathlib import Path
from typing import Any

import fake_engine
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from emimic import cli
from emimic.cli import mimicry_request, predict_request
from emimic.inference import channels
from emimic.inference.journal import Journal, stamp
from emimic.inference.predictor import Predictor
from emimic.inference.recording import Channel
from emimic.inference.results import Results
from emimic.media import decode
from emimic.task import EMOTIONS, EmimicWarning


def turns(seconds: float = 8.0, *, leak: float = 0.05) -> np.ndarray[Any, Any]:
    """(sample, 2): two voices that take turns of a second, each faintly in the other's microphone."""
    speaks = np.floor(np.arange(round(seconds * 16_000)) / 16_000) % 2 == 0
    first, second = fake_engine.burst(seconds) * speaks, fake_engine.burst(seconds, seed=9) * ~speaks
    return np.stack([first + leak * second, second + leak * first], axis=1).astype(np.float32)


@settings(max_examples=15)
@given(
    leak=st.floats(0.0, 0.4),
    level=st.floats(0.05, 1.0),
    balance=st.floats(0.6, 1.6),
    swapped=st.booleans(),
)
def test_two_voices_are_distinguished_from_one_scene(
    leak: float, level: float, balance: float, swapped: bool
) -> None:
    both = level * turns(leak=leak)
    assert are_turns(both[:, ::-1] if swapped else both)
    scene = both.sum(axis=1)
    assert not are_turns(np.stack([scene, balance * scene + 0.001], axis=1))


def are_turns(wave: np.ndarray[Any, Any], size: int = 1024) -> bool:
    """Return True if channels (sample, channel), put chunk by chunk, take turns."""
    collected = channels.Turns()
    for start in range(0, len(wave), size):
        collected.put(wave[start : start + size], 16_000)
    return collected.are_taken


def test_one_silent_channel_and_silence_are_no_two_voices() -> None:
    both = turns()
    assert not are_turns(both * np.float32([1, 0]))
    assert not are_turns(1e-6 * both)
    assert not are_turns(both[:10])
    assert not are_turns(both[:, :1])


def test_chunks_of_any_length_give_the_same() -> None:
    both = np.random.default_rng(0).normal(0, [0.1, 0.01], (32_800, 2)).astype(np.float32)
    whole, parts = channels.Turns(), channels.Turns()
    whole.put(both, 16_000)
    for chunk in np.split(both, [7, 1_500, 1_601, 30_000]):
        parts.put(chunk, 16_000)
    for actual in (whole, parts):
        assert (actual.active, list(actual.louder)) == (20, [20, 0])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two voices, one voice in both channels, one channel, no sound; a made-up engine predicts."""
    both = turns()
    soundfile.write(tmp_path / "talk.wav", both, 16_000)
    soundfile.write(tmp_path / "twice.wav", both[:, :1].repeat(2, axis=1), 16_000)
    soundfile.write(tmp_path / "mono.wav", both[:, 0], 16_000)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    for module in (predict_request, mimicry_request):
        monkeypatch.setattr(module, "Predictor", lambda *_, **__: Predictor(fake_engine.Fake()))
    return tmp_path


def test_channels_are_counted_by_the_header(folder: Path) -> None:
    actual = {path.name: decode.count_channels(path) for path in sorted(folder.iterdir())}
    assert actual == {"broken.wav": 0, "mono.wav": 1, "talk.wav": 2, "twice.wav": 2}


def test_only_what_holds_two_voices_is_split(folder: Path) -> None:
    paths = sorted(folder.glob("*.wav"))
    assert list(channels.split_channels(paths)) == [
        folder / "broken.wav", folder / "mono.wav",
        Channel(folder / "talk.wav", 1), Channel(folder / "talk.wav", 2),
        folder / "twice.wav",
    ]  # fmt: skip


def invoke(*words: Any) -> Any:
    return CliRunner().invoke(cli.app, ["predict", *map(str, words), "-q"])


def test_predict_reports_two_voices(folder: Path) -> None:
    done = invoke(folder / "talk.wav", folder / "twice.wav")
    assert done.exit_code == 0, done.output
    assert "talk.wav: its two channels hold different voices" in done.stderr
    assert "twice" not in done.stderr
    paths = (folder / "talk.wav", folder / "twice.wav", folder / "broken.wav")
    results = Predictor(fake_engine.Fake()).predict_files(paths)
    note = f"{paths[0]}: {channels.NOTE}"
    assert [one.notes for one in results.clips] == [(note,), ()]
    with pytest.warns(EmimicWarning, match=r"talk\.wav: its two channels hold different voices"):
        assert Predictor(fake_engine.Fake())(paths[0]).notes == (note,)
    with pytest.warns(EmimicWarning, match=r"talk\.wav: its two channels hold different voices"):
        Predictor(fake_engine.Fake()).predict_timeline(paths[0])
    notes: list[str] = []
    Predictor(fake_engine.Fake()).predict_timeline(paths[0].read_bytes(), name="sent", notes=notes)
    assert notes == [f"sent: {channels.NOTE}"]


def test_a_recording_is_opened_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = decode.open_input
    monkeypatch.setattr(decode, "open_input", lambda *given: opened.append(given[1]) or original(*given))
    (one,) = Predictor(fake_engine.Fake()).predict_files(folder / "talk.wav").clips
    assert one.notes
    assert opened == [str(folder / "talk.wav")]


def test_two_voices_are_noted_in_json_and_csv(folder: Path) -> None:
    out = folder / "out"
    assert invoke(folder / "talk.wav", "--formats", "csv", "-o", out).exit_code == 0
    message = channels.NOTE
    assert json.loads((out / "results.json").read_text())["clips"][0]["notes"] == [message]
    assert (out / "intensities.csv").read_text().splitlines()[1].endswith(f'"{message}"')


def test_predict_channels_gives_a_timeline_for_each_voice(folder: Path) -> None:
    out = folder / "out"
    words = (folder / "talk.wav", "--channels", "--html", "--formats", "json,nova", "-o", out)
    done = invoke(*words)
    assert done.exit_code == 0, done.output
    assert "different voices" not in done.stderr
    first, second = json.loads((out / "results.json").read_text())["clips"]
    assert (first["Filename"], first["channel"]) == ("talk channel 1", 1)
    assert (second["Filename"], second["channel"]) == ("talk channel 2", 2)
    alone = Predictor(fake_engine.Fake()).predict_timeline(turns()[:, 1], sample_rate=16_000)
    shown = np.array(second["timeline"]["intensities"]["Joy"], float)
    np.testing.assert_allclose(shown, alone.intensities[:, EMOTIONS.index("Joy")], atol=1e-3)
    names = {path.name for path in out.iterdir()}
    assert {"talk channel 1.html", "talk channel 2.json", "talk channel 2.joy.annotation"} <= names
    again = invoke(*words)  # what the journal holds of each channel is taken for that channel
    assert "2 of them from the journal" in again.stderr
    assert json.loads((out / "results.json").read_text())["clips"] == [first, second]


def test_python_predicts_each_channel(folder: Path) -> None:
    actual = Predictor(fake_engine.Fake()).predict_files(
        [folder / "talk.wav", folder / "mono.wav", folder / "no.wav"], channels=True
    )
    assert [one.name for one in actual.clips] == ["talk channel 1", "talk channel 2", "mono"]
    assert [one.channel for one in actual.clips] == [1, 2, None]
    assert [one.path.name for one in actual.failed] == ["no.wav"]


def test_the_journal_keeps_channels_apart(folder: Path, tmp_path: Path) -> None:
    path = folder / "talk.wav"
    recordings = [path, Channel(path, 1), Channel(path, 2)]
    predictor = Predictor(fake_engine.Fake())
    outcomes = predictor.predict_decoded(
        recordings, [predictor.read(one) for one in recordings], batch_seconds=30
    )
    assert [one.channel for one in outcomes] == [None, 1, 2]
    assert Results.from_outcomes(EMOTIONS, outcomes).names == ["talk", "talk channel 1", "talk channel 2"]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "engine.json").write_text("{}")
    marks = [stamp(one) for one in recordings]
    assert len(set(marks)) == 3
    with Journal(tmp_path / "out", tmp_path / "model", targets=EMOTIONS) as journal:
        journal.add_clips([(mark, one) for mark, one in zip(marks, outcomes, strict=True) if mark])
    with Journal(tmp_path / "out", tmp_path / "model", targets=EMOTIONS) as journal:
        for mark, recording, one in zip(marks, recordings, outcomes, strict=True):
            known = journal.get_clip(mark, recording)
            assert known is not None
            assert known.channel == one.channel
            np.testing.assert_array_equal(known.prediction.intensities, one.prediction.intensities)


def test_mimicry_writes_what_predict_writes(folder: Path) -> None:
    out = folder / "out"
    words = [
        "mimicry",
        folder / "talk.wav",
        folder / "mono.wav",
        "--formats",
        "json,nova",
        "--html",
        "-o",
        out,
    ]
    done = CliRunner().invoke(cli.app, [*map(str, words), "--draws", "39", "-q"])
    assert done.exit_code == 0, done.output
    assert "talk.wav: its two channels hold different voices" in done.stderr
    names = {path.name for path in out.iterdir()}
    assert {"mimicry.json", "talk and mono.png", "results.json", "intensities.csv"} <= names
    assert {
        f"{stem}.{end}" for stem in ("talk", "mono") for end in ("json", "html", "joy.annotation")
    } <= names
    assert not [name for name in names if name.startswith("talk.") and name.endswith("png")]
    mono = json.loads((out / "mono.json").read_text())["clips"][0]
    alone = Predictor(fake_engine.Fake()).predict_timeline(folder / "mono.wav")
    np.testing.assert_allclose(
        np.array(mono["timeline"]["intensities"]["Joy"], float), alone.intensities[:, 5], atol=1e-6
    )


def test_a_microphone_has_no_channels(folder: Path) -> None:
    done = invoke("--mic", 1, "--channels")
    assert "recorded in mono" in str(done.exception)
