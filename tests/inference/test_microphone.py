"""A fake microphone: live prediction ends by time or Ctrl-C, and every error is named."""

import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_engine
import numpy as np
import pytest
from typer.testing import CliRunner

from emimic import cli
from emimic.cli import predict_request
from emimic.inference import microphone
from emimic.inference.predictor import Predictor
from emimic.inference.stream import Step
from emimic.media import decode
from emimic.task import EmimicError

SOUND = fake_engine.recording(("hush", 1.0), ("burst", 1.5), ("hush", 2.5))


class PortAudioError(Exception):
    pass


def device(rate: float = 16_000.0, sound: np.ndarray = SOUND, end: BaseException | None = None) -> Any:
    """A module like sounddevice whose microphone says `sound` in chunks and then ends, or falls silent."""

    class InputStream:
        def __init__(self, *, samplerate: float, channels: int, dtype: str, callback: Any) -> None:
            assert (samplerate, channels, dtype) == (rate, 1, "float32")
            self.callback = callback

        def __enter__(self) -> "InputStream":
            if isinstance(end, PortAudioError):
                raise end
            self.thread = threading.Thread(target=self.speak)
            self.thread.start()
            return self

        def speak(self) -> None:
            memory = np.empty((800, 1), np.float32)  # PortAudio uses its memory again
            for start in range(0, len(sound), 800):
                part = sound[start : start + 800, None]
                memory[: len(part)] = part
                self.callback(memory[: len(part)], len(part), None, None)
                memory[:] = 99

        def __exit__(self, *_: object) -> None:
            self.thread.join()

    made: Any = ModuleType("sounddevice")
    made.PortAudioError, made.InputStream = PortAudioError, InputStream
    made.query_devices = lambda kind: {"default_samplerate": rate}
    return made


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda module: monkeypatch.setitem(sys.modules, "sounddevice", module)


@pytest.mark.parametrize("rate", [16_000.0, 48_000.0])
def test_a_microphone_is_predicted_as_a_file(use: Any, rate: float) -> None:
    sound = np.repeat(SOUND, int(rate / 16_000))
    use(device(rate, sound))
    predictor = Predictor(fake_engine.Fake())
    steps: list[Step] = []
    samples = microphone.listen(
        lambda rate: predictor.stream(sample_rate=rate), seconds=4.0, show=steps.append
    )
    assert len(samples) == 64_000
    line = predictor.predict_timeline(sound[: int(4 * rate)], sample_rate=rate)
    np.testing.assert_allclose([s.intensities for s in steps], line.intensities, atol=1e-6)
    np.testing.assert_allclose(
        predictor.predict_timeline(samples, sample_rate=16_000).intensities, line.intensities, atol=1e-6
    )


def test_ctrl_c_ends_the_recording(use: Any) -> None:
    use(device())
    predictor = Predictor(fake_engine.Fake())
    steps: list[Step] = []

    def show(step: Step) -> None:
        steps.append(step)
        if len(steps) == 4:
            raise KeyboardInterrupt

    samples = microphone.listen(lambda rate: predictor.stream(sample_rate=rate), seconds=None, show=show)
    assert 0 < len(samples) < len(SOUND)
    assert len(steps) == round(len(samples) / 3_200)


def test_troubles_are_named(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def listen() -> None:
        microphone.listen(lambda rate: Predictor(fake_engine.Fake()).stream(sample_rate=rate), seconds=60.0)

    use(None)
    with pytest.raises(EmimicError, match=r"pip install '.*\[mic\]'"):
        listen()
    use(device(end=PortAudioError("Invalid device")))
    with pytest.raises(EmimicError, match="Invalid device"):
        listen()
    broken = device()
    broken.query_devices = lambda kind: (_ for _ in ()).throw(ValueError("No input device matching"))
    use(broken)
    with pytest.raises(EmimicError, match="No input device"):
        listen()
    monkeypatch.setattr(microphone, "_STALLED", 0.2)
    use(device())
    with pytest.raises(EmimicError, match="gave no sound for"):
        listen()
    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(EmimicError, match="libportaudio2"):
        listen()


class Missing:
    """An import of sounddevice that finds no PortAudio."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")


def test_the_command_line_listens(use: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(device())
    monkeypatch.setattr(predict_request, "Predictor", lambda *_, **__: Predictor(fake_engine.Fake()))
    result = CliRunner().invoke(cli.app, ["predict", "--mic", "4", "--out", str(tmp_path / "o")])
    assert result.exit_code == 0, result.output
    assert "1 predicted, 0 failed" in result.output
    (kept,) = (tmp_path / "o").glob("microphone-*.flac")
    np.testing.assert_allclose(decode.load(kept), SOUND[:64_000], atol=1e-4)
    assert kept.with_suffix(".csv").exists()
    result = CliRunner().invoke(cli.app, ["predict", "--mic", "4", "-q"])  # without a folder nothing is kept
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_the_meter_draws(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    values = np.full(6, 0.5, np.float32)
    with microphone.Meter(fake_engine.Fake().spec.targets) as meter:
        meter(Step(1.5, 0.0, 2.5, True, values, None, None))
        meter(Step(1.7, 0.0, 2.5, False, values * np.nan, None, None))
    shown = capsys.readouterr().err
    assert "0.50" in shown
    assert "silence" in shown
    with microphone.Meter(("Joy",), on=False) as meter:
        meter(Step(1.5, 0.0, 2.5, True, values, None, None))
    assert capsys.readouterr().err == ""
