"""One predictor among threads, tasks and processes; a stream behind an audio callback; what is logged."""

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fake_engine
import numpy as np
import pytest
import soundfile

import emimic
from emimic.inference.predictor import Predictor
from emimic.inference.stream import Step, Stream
from emimic.task import AudioError, EmimicError, ModelError

SOUND = fake_engine.recording(("burst", 1.0), ("hush", 1.0), ("burst", 0.8))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(threads=1)


def values(predictor: Predictor, seed: int) -> list[float]:
    collected = predictor(fake_engine.burst(0.5, seed=seed), sample_rate=16_000).prediction
    return [float(value) for value in collected.intensities]


def test_threads_and_tasks_share_one_predictor(predictor: Predictor) -> None:
    alone = [values(predictor, seed) for seed in range(4)]

    async def tasks() -> list[list[float]]:
        return await asyncio.gather(*(asyncio.to_thread(values, predictor, seed) for seed in range(4)))

    assert asyncio.run(tasks()) == alone


def test_eight_threads_get_the_bits_of_one() -> None:
    """Clips and timelines of differing lengths at the same moment, by a model that was loaded once."""
    predictor, start = emimic.load(threads=2), threading.Barrier(8)

    def predict(seed: int, *, waits: bool) -> bytes:
        sound = fake_engine.burst(0.4 + 0.3 * seed, seed=seed)
        if waits:
            start.wait()
        if seed % 2:
            return predictor(sound, sample_rate=16_000).prediction.intensities.tobytes()
        line = predictor.predict_timeline(sound, sample_rate=16_000, hop=0.5, name="sound")
        return line.intensities.tobytes()

    alone = [predict(seed, waits=False) for seed in range(8)]
    assert len(set(alone)) == 8
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(lambda seed: predict(seed, waits=True), range(8))) == alone


def test_a_predictor_is_pickled_by_its_models_path(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pickle.dumps(predictor)
    assert len(data) < 1000
    assert values(pickle.loads(data), 1) == values(predictor, 1)  # noqa: S301
    monkeypatch.chdir(Path(emimic.__file__).parent)
    named = Predictor("default", threads=1)
    monkeypatch.chdir(tmp_path)
    assert values(pickle.loads(pickle.dumps(named)), 1) == values(predictor, 1)  # noqa: S301 - its path was made absolute
    with pytest.raises(TypeError, match="make it of the model's folder"):
        pickle.dumps(Predictor(fake_engine.Fake()))
    with pytest.raises(TypeError, match="give the Predictor, and make the stream where it arrives"):
        pickle.dumps(predictor.stream())
    assert repr(predictor) == "Predictor(threads=1, streams=1)"
    (tmp_path / "model").symlink_to(Path(emimic.__file__).parent / "default")
    gone = pickle.dumps(Predictor(tmp_path / "model", threads=1))
    (tmp_path / "model").unlink()
    with pytest.raises(ModelError, match="there is no folder"):
        pickle.loads(gone)  # noqa: S301


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_predicts_as_its_parent() -> None:
    """The runtime's threads are gone in the child, and its values are the same."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "import fake_engine, emimic\n"
        "predict = emimic.load(threads=2)\n"
        "give = lambda: predict.predict_timeline(fake_engine.burst(1.0), sample_rate=16_000).intensities.tobytes()\n"
        "mine = give(); child = os.fork()\n"
        "if child == 0: os._exit(0 if give() == mine else 3)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    words = [sys.executable, "-W", "ignore", "-c", code, str(Path(__file__).parents[1])]
    assert subprocess.run(words, timeout=120).returncode == 0


# A stream in a thread


def pushed(stream: Stream) -> list[Step]:
    return [*stream.push(SOUND), *stream.flush()]


def same(steps: list[Step], wanted: list[Step]) -> None:
    assert [step.time for step in steps] == [step.time for step in wanted]
    np.testing.assert_array_equal(
        np.stack([step.intensities for step in steps]), np.stack([step.intensities for step in wanted])
    )


def test_a_stream_in_a_thread_gives_the_steps_of_the_stream() -> None:
    wanted = pushed(Stream(fake_engine.Fake()))
    with Stream(fake_engine.Fake()).start_thread() as live:
        reused = np.empty(1600, np.float32)  # as sound cards do, the callback's memory is used again
        for start in range(0, len(SOUND), 1600):
            part = SOUND[start : start + 1600]
            reused[: len(part)] = part
            live.put(reused[: len(part)])
    same(list(live), wanted)
    assert list(live) == []
    assert live.waiting == 0
    taken: list[Step] = []
    with Stream(fake_engine.Fake()).start_thread(taken.append) as live:
        live.put(SOUND)
    same(taken, wanted)
    with pytest.raises(EmimicError, match="was closed"):
        live.put(SOUND)


def test_put_waits_for_nothing() -> None:
    class Slow(fake_engine.Fake):
        def predict(self, *words: Any, **more: Any) -> Any:
            time.sleep(0.2)
            return super().predict(*words, **more)

    live = Stream(Slow()).start_thread()
    start = time.perf_counter()
    for _ in range(3):
        live.put(SOUND)
    assert time.perf_counter() - start < 0.1
    live.close()
    assert len(list(live)) > 10


def test_an_error_in_the_thread_reaches_the_caller() -> None:
    with pytest.raises(AudioError, match="shape"), Stream(fake_engine.Fake()).start_thread() as live:
        live.put(np.zeros((2, 2, 2), np.float32))

    def fails(step: Step) -> None:
        raise KeyError("mine")

    live = Stream(fake_engine.Fake()).start_thread(fails)
    live.put(SOUND)
    with pytest.raises(KeyError, match="mine"):
        live.close()
    with pytest.raises(KeyError, match="mine"):
        live.put(SOUND)
    live = Stream(fake_engine.Fake()).start_thread(fails)
    live.put(SOUND)
    live.__exit__(ValueError, ValueError(), None)  # leaves a block's own error to be seen


# Logging


def test_the_log_names_models_files_failures_and_times(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    soundfile.write(tmp_path / "good.wav", SOUND, 16_000)
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    with caplog.at_level(logging.DEBUG, "emimic"):
        Predictor(threads=1)
        Predictor(fake_engine.Fake()).predict_files([tmp_path])
    logged = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert any(
        level == "INFO" and text.startswith("opened the model in the package in") for level, text in logged
    )
    assert any(level == "DEBUG" and "good.wav: 2.80 s of sound" in text for level, text in logged)
    assert any(level == "WARNING" and "bad.wav" in text for level, text in logged)
    assert any(level == "INFO" and "1 predicted, 1 failed" in text for level, text in logged)
    assert {record.name.partition(".")[0] for record in caplog.records} == {"emimic"}


def test_nothing_is_logged_unless_asked_for() -> None:
    code = (
        "import logging, numpy, emimic\n"
        "emimic.load(threads=1).predict_files(['/nowhere.wav'])\n"
        "assert logging.getLogger('emimic').handlers\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
