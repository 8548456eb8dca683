"""Killed at any moment and resumed, a run ends with the weights of the uninterrupted one, bit for bit.

Run as a script, this file is the process that is killed: it imports everything once and forks for each attempt.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import yaml
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import save_file
from warm_process import Command

from emimic.cli import app
from emimic.data import loader
from emimic.files import hold
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.task import CorpusError, ModelError, SettingsError
from emimic.training import checkpoint
from emimic.training import loop as training
from emimic.training import setup as runs
from emimic.training import step as steps
from emimic.training.loop import train
from emimic.training.settings import TrainSettings
from emimic.training.teacher import predict_recordings

POINTS = {"trained": 6, "frozen": 3, "student": 3}
"""Random moments of SIGKILL, for each kind of run."""


def state(run: Path) -> dict[str, Any]:
    """What a finished run left: the hash of the best model, of every tensor that a resume needs, and the counters."""
    digest = hashlib.sha256()
    with safe_open(run / "last.safetensors", "pt") as file:
        names = sorted(file.keys())
        for name in names:
            tensor = file.get_tensor(name)
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
        progress = json.loads(file.metadata()["progress"])
    return {
        "model": hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(),
        "last": digest.hexdigest(),
        "kinds": sorted({name.partition(".")[0] for name in names}),
        "progress": progress,
        "history": json.loads((run / "history.json").read_text())["epochs"],
    }


def steps_saved(run: Path) -> int:
    """Steps in `last.safetensors`, read without a library: its header is JSON."""
    try:
        data = (run / "last.safetensors").read_bytes()
    except FileNotFoundError:
        return -1
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return int(json.loads(header["__metadata__"]["progress"])["total_steps"])


# --- the script


def fork(corpus: Path, run: Path, values: dict[str, Any], before: Callable[[], None] = lambda: None) -> int:
    """A child that trains until it has finished or is killed; its process id."""
    assert threading.active_count() == 1
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        before()
        train(corpus, run, TrainSettings(**values), resume=True, show=False)
        code = 0
    except BaseException:  # noqa: BLE001 - the child must not go on as the parent
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(pid: int, seconds: float | None = None) -> bool:
    """Kill a child after a time; whether it was still running. A child that failed by itself is an error."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG if end else 0)
        if done:
            assert status in (0, signal.SIGKILL), status
            return status == signal.SIGKILL
        if end is not None and time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            end = None
        time.sleep(0.001)


def kill_at_rename(number: int, *, after: bool) -> Callable[[], None]:
    """In a child: die around its n-th renaming of a finished file into place."""

    def install() -> None:
        replace, seen = Path.replace, 0

        def counted(self: Path, target: Path) -> Any:
            nonlocal seen
            seen += 1
            if seen == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = replace(self, target)
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        Path.replace = counted  # type: ignore[method-assign]

    return install


def warm_up(values: dict[str, Any]) -> None:
    """Import what training imports late. No backward pass: autograd refuses to work in a fork after one."""
    Fabric(accelerator="cpu", devices=1).launch()
    model = EmiModel(EmiConfig(encoder_config=values["encoder_config"]))
    model.predict([np.zeros(2000, np.float32)])
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def script(job: dict[str, Any]) -> dict[str, Any]:
    corpus, folder = Path(job["corpus"]), Path(job["folder"])
    rng = random.Random(job["seed"])
    report: dict[str, Any] = {}
    for name, values in job["cases"].items():
        warm_up(values)
        whole = folder / name
        start = time.monotonic()
        wait(fork(corpus, whole, values))
        seconds = time.monotonic() - start
        kills, ends = [], []
        while len(kills) < job["points"][name]:
            run = folder / f"{name}-{len(ends)}"
            # Twice where the coin says so: a resumed run may be killed too.
            for _ in range(rng.choice((1, 2))):
                moment = rng.uniform(0.0, seconds)
                if wait(fork(corpus, run, values), moment):
                    kills.append({"after": moment, "saved": steps_saved(run)})
            wait(fork(corpus, run, values))
            ends.append(state(run))
        for number, after in job["renames"][name]:
            run = folder / f"{name}-rename-{number}-{after}"
            hit = wait(fork(corpus, run, values, kill_at_rename(number, after=after)))
            found = [path for path in run.rglob("*.safetensors") if len(path.stem) == 64]  # named by a hash
            files = {path.name: path.stat().st_mtime_ns for path in found}
            wait(fork(corpus, run, values))
            kept = [path.stat().st_mtime_ns == files[path.name] for path in found]
            ends.append(state(run) | {"hit": hit, "features": len(files), "kept": all(kept)})
        report[name] = {"whole": state(whole), "seconds": seconds, "kills": kills, "ends": ends}
    return report


# --- the tests


def write_teacher(corpus: Path, folder: Path) -> str:
    """The key of a tiny teacher that has predicted every clip of a corpus, in `folder`/cache."""
    teacher = folder / "teacher"
    tiny_models.model("whisper", do_normalize=False, vad_learned=True).save_pretrained(teacher)
    done = predict_recordings(teacher, sorted((corpus / "audio").iterdir()), folder / "cache")
    return done.teacher.key


def test_killed_and_resumed_is_uninterrupted(tones: Path, tmp_path: Path, tiny: Callable[..., Any]) -> None:
    common = {"epochs": 4, "checkpoint_steps": 2, "ema": 0.9, "seed": 3}
    job = {
        "corpus": str(tones),
        "folder": str(tmp_path),
        "seed": 20240617,
        "points": POINTS,
        "cases": {
            "trained": tiny(**common, loss={"mse": 1.0, "pearson": 0.5}),
            "frozen": tiny(**common | {"epochs": 6}, freeze_encoder=True),
            "student": tiny(
                **common,
                augment=0.7,
                teacher=write_teacher(tones, tmp_path),
                teacher_cache=str(tmp_path / "cache"),
            ),
        },
        # Around the renaming of train.json, the features (15 clips), the first best model, its config, a checkpoint.
        "renames": {
            "trained": [(1, True), (2, True), (3, False), (4, True), (5, False), (7, False), (8, True)],
            "frozen": [(1, False), (3, True), (13, False), (17, False), (18, True)],
            "student": [(4, True)],
        },
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "job.json")],
        capture_output=True, text=True, timeout=200, check=False,
        env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    for name, found in report.items():
        print(name, f"{found['seconds']:.2f} s", found["kills"])
        whole = found["whole"]
        assert whole["kinds"] == ["average", "model", "optimizer"]
        assert len(whole["history"]) == job["cases"][name]["epochs"]
        assert whole["progress"]["finished"]
        for end in found["ends"]:
            assert {key: end[key] for key in whole} == whole
            assert end.get("hit", True)
            assert end.get("kept", True)
        assert len(found["kills"]) >= POINTS[name]
        # Some kills must have found something to go on from, or nothing was tested.
        assert sum(kill["saved"] > 0 for kill in found["kills"]) >= len(found["kills"]) // 4
    partly = [end["features"] for end in report["frozen"]["ends"] if "hit" in end]
    assert partly == [0, 2, 11, 15, 15]


def test_the_command_line_stops_by_signal_and_resumes(
    tones: Path, tmp_path: Path, tiny: Callable[..., Any]
) -> None:
    values = tiny(epochs=8, checkpoint_steps=1, ema=0.8)
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(values))
    runs = {signal.SIGTERM: tmp_path / "terminated", signal.SIGINT: tmp_path / "interrupted"}

    def command(run: Path) -> list[str]:
        return ["train", str(tones), "--out", str(run), "--quiet"]

    started = {
        number: Command(tmp_path / number.name, *command(run), "--config", str(tmp_path / "settings.yaml"))
        for number, run in runs.items()
    }
    waiting = dict(runs)
    while waiting:
        for number, run in list(waiting.items()):
            if (run / "last.safetensors").exists():
                started[number].send_signal(number)
                del waiting[number]
            else:
                assert started[number].is_running(), started[number].wait()
        time.sleep(0.01)
    for number, process in started.items():
        code, _, message = process.wait()
        assert code == 128 + number, message
        assert f"stopped by signal {int(number)}; go on with --resume" in message
        assert 1 <= steps_saved(runs[number]) < 24
    train(tones, tmp_path / "whole", TrainSettings(**values), show=False)
    whole = state(tmp_path / "whole")
    assert len(whole["history"]) == 8
    app([*command(runs[signal.SIGTERM]), "--resume"], standalone_mode=False)
    train(tones, runs[signal.SIGINT], resume=True, show=False)
    assert state(runs[signal.SIGTERM]) == whole
    assert state(runs[signal.SIGINT]) == whole


STOPPED = {"ema": 0.9, "train_on": "train+valid"}


@pytest.fixture(scope="module")
def stopped(tones: Path, tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Any]) -> Path:
    """A run that a signal stopped at its sixth step, in the middle of an epoch; each epoch's model is its best."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 6)
        result = train(tones, run, TrainSettings(**tiny(**STOPPED)), show=False)
    assert result.signal == signal.SIGTERM
    assert steps_saved(run) == 6
    return run


def stop_at(patch: pytest.MonkeyPatch, step: int) -> None:
    original = steps.take

    def signalling(run: runs.Run, *arguments: Any) -> float:
        loss = original(run, *arguments)
        if run.progress.total_steps + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    patch.setattr(steps, "take", signalling)


def copy(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to / "run"))


@pytest.mark.parametrize("name", ["last.safetensors", "model.safetensors", "history.json"])
@pytest.mark.parametrize("where", ["writing", "renaming"])
def test_a_write_that_dies_leaves_the_old_file(
    name: str, where: str, stopped: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy(stopped, tmp_path)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    original = Path.replace

    def dying(self: Path, target: Path) -> Path:
        if Path(target).name == name:
            raise OSError("No space left on device")
        return original(self, target)

    def half(tensors: Any, file: Path, metadata: Any) -> None:
        if ("progress" in metadata) == (name == "last.safetensors"):
            file.write_bytes(b"half")
            raise OSError("No space left on device")
        save_file(tensors, file, metadata=metadata)

    if where == "writing" and name != "history.json":
        monkeypatch.setattr(checkpoint, "save_file", half)
    else:
        monkeypatch.setattr(Path, "replace", dying)
    with pytest.raises(OSError, match="No space left"):
        train(tones, run, resume=True, show=False)
    assert (run / name).read_bytes() == before[name]
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    monkeypatch.undo()
    assert train(tones, run, resume=True, show=False).history[-1]["epoch"] == 3


def rewrite(file: Path, change: Callable[[dict[str, Any], dict[str, str]], None]) -> None:
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = dict(opened.metadata())
    change(tensors, metadata)
    save_file(tensors, file, metadata=metadata or None)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "rubbish": lambda file: file.write_bytes(b"\x00" * 1000),
    "folder": lambda file: (file.unlink(), file.mkdir()),
    "no counters": lambda file: rewrite(file, lambda _, metadata: metadata.clear()),
    "odd counters": lambda file: rewrite(file, lambda _, metadata: metadata.update(progress='{"era": 1}')),
    "no JSON": lambda file: rewrite(file, lambda _, metadata: metadata.update(progress="{")),
    "a weight short": lambda file: rewrite(file, lambda tensors, _: tensors.pop("model.head.dense.bias")),
    "other shape": lambda file: rewrite(
        file, lambda tensors, _: tensors.update({"model.head.dense.bias": torch.zeros(3)})
    ),
    "odd part": lambda file: rewrite(file, lambda tensors, _: tensors.update(other=torch.zeros(3))),
    "odd owner": lambda file: rewrite(
        file, lambda tensors, _: tensors.update({"optimizer.x.step": torch.zeros(())})
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named(damage: str, stopped: Path, tones: Path, tmp_path: Path) -> None:
    run = copy(stopped, tmp_path)
    DAMAGE[damage](run / "last.safetensors")
    with pytest.raises(ModelError, match=re.escape(str(run / "last.safetensors"))):
        train(tones, run, resume=True, show=False)


def test_what_cannot_be_resumed_is_refused(
    stopped: Path, tones: Path, tmp_path: Path, tiny: Callable[..., Any]
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in stopped.iterdir()}
    with pytest.raises(SettingsError, match="already holds a run"):
        train(tones, stopped, TrainSettings(**tiny(**STOPPED)), show=False)
    with pytest.raises(SettingsError, match="other settings"):
        train(tones, stopped, TrainSettings(**tiny(**STOPPED, lr=1e-3)), resume=True, show=False)
    with pytest.raises(SettingsError, match="holds no run to resume"):
        train(tones, tmp_path / "none", resume=True, show=False)
    assert not (tmp_path / "none").exists()
    assert {path.name: path.stat().st_mtime_ns for path in stopped.iterdir()} == before
    run = copy(stopped, tmp_path)
    for text in ("{", "[]", '{"settings": {"lr": -1}}', '{"settings": 3}', "{}"):
        (run / "train.json").write_text(text)
        with pytest.raises(ModelError, match=r"isn't a training run: train\.json"):
            train(tones, run, resume=True, show=False)


def test_a_folder_with_a_run_is_refused_before_torch_is_imported(tones: Path, tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("{}")
    script = (
        "import sys; from emimic.cli import app\n"
        "try: app(sys.argv[1:], standalone_mode=False)\n"
        "except Exception as error: print(error, 'torch' in sys.modules)"
    )
    words = [sys.executable, "-c", script, "train", str(tones), "--out", str(tmp_path)]
    message = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert message == f"{tmp_path} already holds a run: resume it (--resume), or name another folder False\n"


def test_a_missing_encoder_is_named_before_torch_is_imported(tones: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from emimic.cli import app\n"
        "try: app(sys.argv[1:], standalone_mode=False)\n"
        "except Exception as error: print(error, 'torch' in sys.modules)"
    )
    out = tmp_path / "run"
    words = [
        sys.executable,
        "-c",
        script,
        "train",
        str(tones),
        "--out",
        str(out),
        "--set",
        "encoder=/no/such",
    ]
    message = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert message == "the encoder /no/such can't be read: there is no such folder False\n"
    assert not out.exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_use_is_refused(
    resume: bool, stopped: Path, tones: Path, tmp_path: Path, tiny: Callable[..., Any]
) -> None:
    run = copy(stopped, tmp_path) if resume else tmp_path / "run"
    values = None if resume else TrainSettings(**tiny())
    before = sorted(path.name for path in run.iterdir()) if resume else []
    with hold(run / checkpoint.LOCK) as ours:
        assert ours
        with pytest.raises(SettingsError, match=rf"{re.escape(str(run))} is in use: another training"):
            train(tones, run, values, resume=resume, show=False)
    assert not run.exists() or sorted(path.name for path in run.iterdir()) == before


def test_other_recordings_under_the_same_names_are_no_resume(
    stopped: Path, tones: Path, tmp_path: Path
) -> None:
    run = copy(stopped, tmp_path)
    corpus = tmp_path / "corpus"
    shutil.copytree(tones, corpus)
    file = sorted((corpus / "audio").iterdir())[0]
    content = file.read_bytes()
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))  # as long, one sample differs
    with pytest.raises(CorpusError, match="recordings of the same name differ"):
        train(corpus, run, resume=True, show=False)


def test_another_number_of_processes_is_no_resume(stopped: Path, tones: Path, tmp_path: Path) -> None:
    run = copy(stopped, tmp_path)
    found = json.loads((run / "train.json").read_text())
    assert found["processes"] == 1
    (run / "train.json").write_text(json.dumps({**found, "processes": 2}))
    with pytest.raises(SettingsError, match=r"started with 2 processes, found 1.*--nproc-per-node 2"):
        train(tones, run, resume=True, show=False)


def test_resuming_with_the_same_settings_is_resuming(
    stopped: Path, tones: Path, tmp_path: Path, tiny: Callable[..., Any]
) -> None:
    run, values = copy(stopped, tmp_path), TrainSettings(**tiny(**STOPPED))
    whole = train(tones, tmp_path / "whole", values, show=False)
    resumed = train(tones, run, values, resume=True, show=False)
    assert resumed.signal is None
    assert resumed.history == whole.history
    assert state(run) == state(tmp_path / "whole")
    # Once finished, there is nothing to do.
    again = train(tones, run, resume=True, show=False)
    assert (again.history, again.best_epoch) == (whole.history, whole.best_epoch)
    assert state(run) == state(tmp_path / "whole")


def test_changed_clips_are_changed_alike_by_a_resumed_run(
    tones: Path, tmp_path: Path, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of the second epoch; how many threads decode doesn't matter either."""
    values = {"augment": 0.9, "epochs": 2}
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        found = train(tones, tmp_path / "run", TrainSettings(**tiny(**values)), show=False)
    assert (found.signal, len(found.history)) == (signal.SIGTERM, 1)
    train(tones, tmp_path / "run", resume=True, show=False)
    train(tones, tmp_path / "whole", TrainSettings(**tiny(**values, workers=3)), show=False)
    assert state(tmp_path / "run") == state(tmp_path / "whole")
    train(tones, tmp_path / "plain", TrainSettings(**tiny(epochs=2)), show=False)
    assert state(tmp_path / "plain")["model"] != state(tmp_path / "whole")["model"]


@pytest.mark.parametrize("step", [3, 9])
def test_a_signal_in_the_last_step_of_an_epoch(
    step: int, tones: Path, tmp_path: Path, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch is then ended by the resumed run."""
    stop_at(monkeypatch, step)
    values = TrainSettings(**tiny())
    found = train(tones, tmp_path / "run", values, show=False)
    assert (found.signal, len(found.history)) == (signal.SIGTERM, step // 3 - 1)
    monkeypatch.undo()
    resumed = train(tones, tmp_path / "run", resume=True, show=False)
    assert resumed.history == train(tones, tmp_path / "whole", values, show=False).history
    assert state(tmp_path / "run") == state(tmp_path / "whole")


def test_handlers_come_back_and_a_second_interrupt_is_one(
    tones: Path, tmp_path: Path, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    original = steps.take

    def twice(run: runs.Run, *arguments: Any) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return original(run, *arguments)

    monkeypatch.setattr(steps, "take", twice)
    with pytest.raises(KeyboardInterrupt):
        train(tones, tmp_path / "run", TrainSettings(**tiny()), show=False)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_outside_the_main_thread_signals_are_left_alone(
    tones: Path, tmp_path: Path, tiny: Callable[..., Any]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        values = TrainSettings(**tiny(epochs=1))
        result = pool.submit(train, tones, tmp_path / "run", values, show=False).result()
    assert len(result.history) == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("got", [None, signal.SIGTERM])
def test_processes_agree_on_a_signal_and_lose_none(got: int | None) -> None:
    """One that comes while they are agreeing counts the next time."""
    run = SimpleNamespace(signalled=got, stopped_by=None)

    def meanwhile(word: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "max"
        run.signalled = run.signalled or signal.SIGINT
        return word

    run.fabric = SimpleNamespace(world_size=2, device="cpu", all_reduce=meanwhile)
    assert training._agree_on_signal(run) == got
    assert training._agree_on_signal(run) == (got or signal.SIGINT)


if __name__ == "__main__":
    print(json.dumps(script(json.loads(Path(sys.argv[1]).read_text()))))


def test_another_corpus_is_no_resume_and_leftovers_of_a_kill_are_swept(
    tones: Path, tmp_path: Path, tiny: Callable[..., Any]
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(tones, corpus)
    values = TrainSettings(**tiny(epochs=1))
    train(corpus, tmp_path / "run", values, show=False)
    leftover = tmp_path / "run" / ".last.0123456789ab.safetensors"
    leftover.write_bytes(b"half a checkpoint")
    train(corpus, tmp_path / "run", resume=True, show=False)
    assert not leftover.exists()
    table = corpus / "train_split.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")  # the same clips in another order
    with pytest.raises(CorpusError, match="isn't the corpus"):
        train(corpus, tmp_path / "run", resume=True, show=False)


def test_a_signal_while_validating_loses_nothing(
    tones: Path, tmp_path: Path, tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loader.predict_source

    def stopped(*arguments: Any, **options: Any) -> Any:
        # As Python would; the signal itself once ended the test's own process, where no handler was set.
        handler: Any = signal.getsignal(signal.SIGTERM)
        handler(signal.SIGTERM, None)
        return original(*arguments, **options)

    settings = TrainSettings(**tiny())
    monkeypatch.setattr(loader, "predict_source", stopped)
    found = train(tones, tmp_path / "run", settings, show=False)
    assert (found.signal, found.history) == (signal.SIGTERM, ())
    monkeypatch.undo()
    resumed = train(tones, tmp_path / "run", resume=True, show=False)
    assert resumed.history == train(tones, tmp_path / "whole", settings, show=False).history
    assert state(tmp_path / "run") == state(tmp_path / "whole")
