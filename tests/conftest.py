"""Fixtures of several tests: a corpus of tones, and settings that train on it in about a second."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch is first imported, here and in subprocesses: tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests that start themselves as a script import the modules beside this one, too.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])

import hypothesis
import pytest
from tone_corpus import ENCODER, STILL, make_corpus

gc.disable()  # until the tests are collected: imports make a million objects that stay

Settings = Callable[..., dict[str, Any]]

hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine fails no test
hypothesis.settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """Leave the objects of imported modules and collected tests out of all searches for garbage."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _wait_for_no_disk() -> Iterator[None]:
    """Flush nothing to the disk: what tests write need not outlive a power cut, and a training run flushes 30 times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave plots empty: to draw those of an evaluation, which few tests look at, takes longer than a training run."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 11 training and 4 validation clips of 0.02 to 0.25 s."""
    return make_corpus(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="session")
def tiny() -> Settings:
    """Settings as a dict, given ones over the tiny ones; `still=True` takes everything random out of the model."""

    def make(*, still: bool = False, **given: Any) -> dict[str, Any]:
        quiet = {"lstm_dropout": 0.0, "vad_head": False} if still else {}
        return {
            "encoder": None,
            "encoder_config": STILL if still else ENCODER,
            "lr": 3e-3,
            "epochs": 3,
            "batch_size": 4,
            "patience": None,
            "accelerator": "cpu",
            "threads": 1,
            "workers": 1,
            **quiet,
            **given,
        }

    return make
