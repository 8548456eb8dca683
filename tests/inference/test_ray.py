"""`emimic predict --ray`: a local Ray with two actors, one killed midway, gives the same results as without Ray."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_engine
import pytest
from journal_cases import files, write_clips

from emimic.cli import predict_request
from emimic.inference import journal, ray
from emimic.inference.grid import TimelineOptions
from emimic.inference.results import Result
from emimic.task import EMOTIONS, EmimicError

ENTRY = """
import ray
start = ray.init
ray.init = lambda **given: start(num_cpus=2, **given)
from emimic.cli import main
main()
"""
"""The command line on a machine of two CPUs, however many there are."""

PLAIN = [sys.executable, "-m", "emimic", "predict", "--threads", "1", "--format", "csv", "-q"]
RAY = [sys.executable, "-c", ENTRY, "predict", "--format", "csv", "-q", "--ray"]
AT_ONCE = {**os.environ, "RAY_worker_niceness": "0"}  # however busy the machine that tests is


def actors(driver: int) -> dict[int, str]:
    """The actors that a process's local Ray runs, and what each does, by process id."""
    parents, names = {}, {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                name = (process / "cmdline").read_bytes().rstrip(b"\0").decode()
                parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if name.startswith("ray::MapWorker"):
                names[int(process.name)] = name
    collected = {}
    for actor, name in names.items():
        above = actor
        while above in parents and above != driver:
            above = parents[above]
        if above == driver:
            collected[actor] = name
    return collected


@pytest.mark.skipif(sys.platform != "linux", reason="finds the actors in /proc")
def test_a_killed_actor_changes_no_result(tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "clips", 600)
    for number in (70, 500):
        (clips / f"{number:04d}.wav").write_text("no sound")
    whole = (clips / "0005.wav").read_bytes()
    (clips / "0005.wav").write_bytes(whole[: len(whole) // 2])  # what warns without Ray warns with it
    words = [*PLAIN, "clips", "-o", "plain"]
    plain = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert plain.returncode == 1, plain.stderr
    file = tmp_path / "out" / journal.NAME
    process = subprocess.Popen(
        [*RAY, "local", "clips", "-o", "out"], cwd=tmp_path, env=AT_ONCE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    victim = 0
    while process.poll() is None and not victim:
        # One at work: its name ends with what it does.
        begun = file.exists() and file.read_bytes().count(b"\n") > 1
        busy = [pid for pid, name in actors(process.pid).items() if name.endswith(".submit")] if begun else []
        if busy:
            victim = busy[0]
            os.kill(victim, signal.SIGKILL)
            at = file.read_bytes().count(b"\n") - 1
        time.sleep(0.005 if begun else 0.02)  # a look at every process costs time
    printed, message = process.communicate()
    assert victim, message
    assert at < -(-600 // 64) - 1, "it was killed midway"
    assert process.returncode == 1, message
    assert printed == plain.stdout
    assert files(tmp_path / "out") == files(tmp_path / "plain")
    lines, as_plain = (
        [line for line in text.splitlines() if line.startswith("emimic: clips/")]
        for text in (message, plain.stderr)
    )
    assert lines == as_plain
    assert len(lines) == 3
    assert "cut short; only" in lines[0]
    assert "clips/0070.wav: " in lines[1]
    assert "clips/0500.wav: " in lines[2]
    assert "598 predicted, 2 failed; " in message


def test_timelines_and_the_journal_are_as_without_ray(tmp_path: Path) -> None:
    fake_engine.write_bursts(tmp_path / "voices", [1.0, 2.0, 3.0])

    def run(words: list[str], out: str) -> subprocess.CompletedProcess[str]:
        words = [*words, "voices", "--timeline", "-o", out]
        return subprocess.run(words, cwd=tmp_path, env=AT_ONCE, capture_output=True, text=True, check=True)

    plain = run(PLAIN, "plain")
    assert run([*RAY, "local"], "out").stdout == plain.stdout
    assert files(tmp_path / "out") == files(tmp_path / "plain")
    again = run([*RAY, "localhost:1"], "out")  # all is known: no Ray is needed
    assert again.stderr.endswith("3 predicted (3 of them from the journal), 0 failed\n")
    assert again.stdout == plain.stdout


def work(**given: object) -> ray.Work:
    return ray.Work(
        **{"model": None, "threads": 1, "options": TimelineOptions(), "batch_seconds": 30.0} | given
    )  # type: ignore[arg-type]


def test_errors_of_a_worker_are_returned(tmp_path: Path) -> None:
    def call(worker: ray.Worker) -> dict[str, str]:
        (text,) = worker({"item": ['{"clips": []}']})["outcomes"]
        return dict(json.loads(text))

    missing = ray.Worker(work(model=tmp_path / "nowhere"))
    assert "on a worker: there is no folder" in call(missing)["error"]
    assert "a worker has emimic" in call(ray.Worker(work(version="9")))["error"]


def test_recordings_share_a_job_up_to_five_minutes() -> None:
    result = Result(Path("a"), EMOTIONS, 0.0, False, False, None)  # type: ignore[arg-type]
    from dataclasses import replace

    rows = list(enumerate(replace(result, seconds=s) for s in (100.0, 200.0, 1.0, 4000.0, 1.0, 2.0)))
    assert ray._group_rows(rows) == [[0, 1], [2], [3], [4, 5]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"files": ("-",), "ray": "local"}, "neither --mic nor standard input"),
        ({"files": (), "mic": 1.0, "ray": "local"}, "neither --mic nor standard input"),
        ({"files": ("a.wav",), "ray": "local", "device": "cuda"}, "predicts on the cpu; found --device cuda"),
        ({"files": ("a.wav",), "ray": "ray://a:1"}, "is a Ray client's address"),
    ],
)
def test_what_ray_can_not_do_is_said_before_the_work(given: dict[str, object], message: str) -> None:
    with pytest.raises(EmimicError, match=message):
        predict_request.run(predict_request.Request(**given), lambda line: None)  # type: ignore[arg-type]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EmimicError, match=r"pip install '.*\[ray\]'"):
        ray._connect("local")
