"""Odd states of the process, set by another part of a program, a batch system or a shell."""

import os
import pickle
import random
import sys
import threading
import warnings
from pathlib import Path

import fake_engine
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import emimic
from emimic import cli
from emimic.cli import predict_request
from emimic.describe import measure as clips_module
from emimic.experiments import grid
from emimic.files import OutputError, hold
from emimic.inference.engine import DEFAULT
from emimic.inference.inputs import expand
from emimic.inference.journal import Journal
from emimic.inference.predictor import Predictor
from emimic.task import EMOTIONS, AudioError, EmimicError, SettingsError
from emimic.training import checkpoint, loop, setup


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two bursts, one of them cut short, and a file that is no sound."""
    folder = fake_engine.write_bursts(tmp_path / "clips", [0.5] * 2)
    (folder / "1.wav").write_bytes((folder / "1.wav").read_bytes()[:10_000])
    (folder / "2.wav").write_text("no sound")
    return folder


def values(clips: Path, **given: bool) -> list[list[float]]:
    results = Predictor(fake_engine.Fake()).predict_files(clips, **given)  # type: ignore[arg-type]
    assert [len(one.notes) for one in results.clips] == [0, 1]
    assert len(results.failed) == 1
    return [one.prediction.intensities.tolist() for one in results.clips]


def test_numpy_that_raises_at_every_float_error(clips: Path) -> None:
    expected = values(clips)
    with np.errstate(all="raise"):
        assert values(clips, timeline=True) == expected


def test_random_states_and_filters_of_the_program_are_left_alone(clips: Path) -> None:
    np.random.seed(3)  # noqa: NPY002
    state, filters, own = np.random.get_state(), list(warnings.filters), random.getstate()  # noqa: NPY002
    threads = [threading.Thread(target=values, args=(clips,)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    assert random.getstate() == own
    assert warnings.filters == filters


def test_only_the_command_line_sets_filters_of_warnings() -> None:
    source = Path(emimic.__file__).parent
    for path in source.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        words = [w for w in ("catch_warnings", "filterwarnings", "simplefilter", "showwarning") if w in text]
        assert not words or path.parent.name == "cli", path


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_no_file_and_no_thread_stays(clips: Path) -> None:
    values(clips, timeline=True)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
    for _ in range(3):
        values(clips, timeline=True)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before  # noqa: PTH208


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a working folder can't be removed")
def test_a_working_folder_that_is_gone(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = values(clips)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert values(clips) == expected
    with pytest.raises(AudioError, match=r"clip\.wav: the working folder is gone.*absolute paths"):
        list(expand(["clip.wav"]))


def test_a_relative_model_is_found_after_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emimic.inference.predictor.open_engine", lambda *_, **__: fake_engine.Fake())
    monkeypatch.chdir(tmp_path)
    predictor = Predictor("engine")
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(predictor))._options["model"] == tmp_path / "engine"  # noqa: S301


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="devices")
def test_a_device_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").symlink_to("/dev/null")
    with pytest.raises(EmimicError, match=r"journal\.jsonl can't be written \(it is a pipe"):
        Journal(tmp_path, DEFAULT, targets=EMOTIONS)


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_folder_in_use_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with (
        Journal(tmp_path / "out", DEFAULT, targets=EMOTIONS),
        pytest.raises(EmimicError, match="link is in use"),
    ):
        Journal(tmp_path / "link", DEFAULT, targets=EMOTIONS)


@pytest.mark.parametrize(
    "variables",
    [
        {"OMP_NUM_THREADS": "abc", "COLUMNS": "0"}, {"COLUMNS": "abc", "LINES": "x"}, {"COLUMNS": "1"},
        {"TMPDIR": "/no/where", "HOME": "/no/where"}, {"TERM": "dumb", "NO_COLOR": "1", "FORCE_COLOR": "1"},
    ],
    ids=lambda one: "-".join(one),
)  # fmt: skip
def test_odd_variables(variables: dict[str, str], clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_request, "Predictor", lambda *_, **__: Predictor(fake_engine.Fake()))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(cli.app, ["predict", str(clips / "0.wav"), "-q"])
    assert done.exit_code == 0, done.output
    assert ", 0 failed" in done.stderr


def test_no_words_at_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # which the command replaces
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code in (0, 2)
    assert "Usage" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="links")
@pytest.mark.parametrize("odd", ["lock is a folder", "a file", "a broken link"])
def test_a_run_folder_that_cannot_be_held(odd: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    if odd == "a file":
        out.write_text("mine")
    elif odd == "a broken link":
        out.symlink_to(tmp_path / "no" / "where")
    else:
        (out / checkpoint.LOCK).mkdir(parents=True)
    with pytest.raises(OutputError, match=r"run can't be written \(.*name another"), loop._lock(out):
        raise AssertionError
    if odd == "lock is a folder":
        (out / grid.LOCK).mkdir(parents=True, exist_ok=True)
        with pytest.raises(OutputError, match=r"can't be written"), hold(out / grid.LOCK):
            raise AssertionError


def test_what_describe_keeps_replaces_no_file_of_others(tmp_path: Path) -> None:
    path = tmp_path / clips_module.JOURNAL
    for mine in ('{"fact": 1}\n', "notes", "[" * 100_000 + "\n"):
        path.write_text(mine)
        with pytest.raises(EmimicError, match=r"facts\.jsonl is no journal of emimic"):
            clips_module._Journal(tmp_path)
        assert path.read_text() == mine
    path.unlink()
    with clips_module._Journal(tmp_path):
        pass
    whole = path.read_bytes()
    for left in (whole + b"[" * 100_000 + b"\n", whole[:-4], b""):
        path.write_bytes(left)
        with clips_module._Journal(tmp_path) as journal:
            assert journal.get([]) is None
        assert path.read_bytes().startswith(whole)
    path.unlink()
    path.symlink_to("/dev/null")
    with pytest.raises(OutputError, match="it is a pipe, a device"):
        clips_module._Journal(tmp_path)


def test_torch_that_learns_nothing_or_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    setup._check_torch()
    for context in (torch.no_grad(), torch.inference_mode()):
        with context, pytest.raises(SettingsError, match="torch computes no gradients"):
            setup._check_torch()
    monkeypatch.setattr(torch, "get_default_dtype", lambda: torch.float64)
    with pytest.raises(SettingsError, match=r"torch\.float64, expected torch\.float32"):
        setup._check_torch()
