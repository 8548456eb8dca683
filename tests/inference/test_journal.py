"""The journal: torn lines, changed files, other models, two processes, kills; the same bytes in the end."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fake_engine
import numpy as np
import pytest
import soundfile
from journal_cases import files, write_clips
from json_schema import json_lines, keeps
from typer.testing import CliRunner

from emimic import cli
from emimic.cli import predict_request
from emimic.inference import batch, journal
from emimic.inference.engine import DEFAULT
from emimic.inference.grid import TimelineOptions
from emimic.inference.journal import Journal, Stamp, stamp
from emimic.inference.predictor import Predictor
from emimic.inference.recording import Channel
from emimic.inference.results import Failure, Result, Results, Timeline, VoiceSegment
from emimic.prediction import Prediction
from emimic.task import EMOTIONS, EmimicError

Run = Callable[..., predict_request.Results]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = write_clips(tmp_path / "clips", 150)
    (folder / "0070.wav").write_text("no sound")
    return folder


@pytest.fixture
def bursts(tmp_path: Path) -> Path:
    """Eight voices, whose timelines have values."""
    return fake_engine.write_bursts(tmp_path / "bursts", [1.0] * 8)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> fake_engine.Fake:
    """In place of the model in the package; counts its clips."""
    fake = fake_engine.Fake()
    monkeypatch.setattr("emimic.inference.predictor.open_engine", lambda *_, **__: fake)
    return fake


def run(clips: Path, out: Path, **given: object) -> tuple[Results, list[str]]:
    logged: list[str] = []
    asked = predict_request.Request(files=(str(clips),), out=out, form="csv", **given)  # type: ignore[arg-type]
    return predict_request.run(asked, logged.append), logged


def table(out: Path) -> list[list[str]]:
    return list(csv.reader((out / "intensities.csv").read_text().splitlines()))


def strange() -> tuple[Result, Timeline]:
    """Values that a rounded or careless form would lose."""
    rng = np.random.default_rng(0)
    values = np.array([0.1, 1 / 3, np.nan, -0.0, np.nextafter(1, 2), 1e-42], np.float32)
    vad = rng.standard_normal((7, 3)).astype(np.float32)
    result = Result(
        Path("a"), EMOTIONS, 1 / 3, True, False, Prediction(values, vad, rng.random(7)), was_silent=True
    )
    line = Timeline(
        "a", 0.1 + 0.2, EMOTIONS, 2.5, 0.2, rng.random(4), rng.random(4), rng.random(4),
        np.full((4, 6), np.nan, np.float32), None, None, (VoiceSegment(0.1, 1 / 3),),
    )  # fmt: skip
    return result, line


def test_stored_results_are_read_bit_for_bit(tmp_path: Path) -> None:
    result, line = strange()
    mark = Stamp("/ä\udc80.wav", 3, 10**18 + 1)
    with Journal(tmp_path, DEFAULT, targets=EMOTIONS, options=TimelineOptions()) as store:
        store.add_clips([(mark, result)])
        store.add_timelines([(mark, line)])
        channel = Stamp("/a.wav", 3, 1, channel=2)
        store.add_clips([(channel, replace(result, path=Path("a.wav"), notes=("a.wav: damaged",)))])
        store.add_timelines([(channel, replace(line, vad=line.intensities[:, :3], vad_times=line.times))])
    keeps("inference/journal_schema.json", *json_lines(tmp_path / journal.NAME))
    with Journal(tmp_path, DEFAULT, targets=EMOTIONS, options=TimelineOptions()) as store:
        again, stored = store.get_clip(mark, Path("b")), store.get_timeline(mark)
        assert store.get_clip(replace(mark, size=4), Path("b")) is None
        assert store.get_clip(replace(mark, changed=0), Path("b")) is None
        assert store.get_clip(None, Path("b")) is None
        noted = store.get_clip(channel, Channel(Path("x/../a.wav"), 2))
    assert noted is not None
    assert noted.notes == ("x/../a.wav: damaged",)  # the path as it is given now
    assert again is not None
    assert stored is not None
    assert (again.path, again.targets, again.seconds) == (Path("b"), EMOTIONS, 1 / 3)
    assert (again.was_cut, again.was_padded, again.was_silent) == (True, False, True)
    assert again.prediction.vad is not None
    assert again.prediction.vad.tobytes() == result.prediction.vad.tobytes()  # type: ignore[union-attr]
    assert again.prediction.intensities.tobytes() == result.prediction.intensities.tobytes()
    assert again.prediction.times.tobytes() == result.prediction.times.tobytes()
    assert (stored.seconds, stored.window, stored.hop, stored.voice_segments) == (
        0.1 + 0.2, 2.5, 0.2, (VoiceSegment(0.1, 1 / 3),),
    )  # fmt: skip
    assert (stored.vad, stored.vad_times) == (None, None)
    for name in ("times", "starts", "ends", "intensities"):
        assert getattr(stored, name).tobytes() == getattr(line, name).tobytes()
    with Journal(tmp_path, DEFAULT, targets=EMOTIONS, options=TimelineOptions(hop=0.1)) as store:
        assert store.get_timeline(mark) is None


def write_three(folder: Path) -> tuple[Path, list[Stamp], Result]:
    """Write a journal with one result of three files, a line each; return its path, the files' stamps, the result."""
    result, _ = strange()
    stamps = [Stamp(f"/{number}", 1, 1) for number in range(3)]
    with Journal(folder, DEFAULT, targets=EMOTIONS) as written:
        for mark in stamps:
            written.add_clips([(mark, result)])
    return folder / journal.NAME, stamps, result


def test_a_torn_line_is_predicted_again_and_nothing_else_is_lost(tmp_path: Path) -> None:
    """Cut at every byte, the journal holds exactly the batches whose lines are whole, and takes more."""
    path, marks, result = write_three(tmp_path)
    whole = path.read_bytes()
    ends = [number for number, byte in enumerate(whole) if byte == ord("\n")]
    for size in [*range(0, len(whole), 7), *ends, *(end + 1 for end in ends)]:
        path.write_bytes(whole[:size])
        with Journal(tmp_path, DEFAULT, targets=EMOTIONS) as store:
            actual = [store.get_clip(mark, Path("a")) is not None for mark in marks]
            assert actual == [end < size for end in ends[1:]]
            assert store.note is None
            store.add_clips([(marks[2], result)])
        with Journal(tmp_path, DEFAULT, targets=EMOTIONS) as store:
            assert store.get_clip(marks[2], Path("a")) is not None
            assert [store.get_clip(mark, Path("a")) is not None for mark in marks[:2]] == actual[:2]


def test_a_damaged_line_in_the_middle_is_skipped(tmp_path: Path) -> None:
    path, marks, _ = write_three(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    deep = b'{"clips":' + b"[" * 100_000 + b"\n"
    for damage in (b"\0\0\0\n", b'{"clips":[{"file":"/1"}]}\n', b"[]\n", b'{"clips":3}\n', deep):
        path.write_bytes(b"".join([*lines[:2], damage, lines[3]]))
        with Journal(tmp_path, DEFAULT, targets=EMOTIONS) as store:
            assert [store.get_clip(mark, Path("a")) is not None for mark in marks] == [True, False, True]


@pytest.mark.parametrize("damage", [b"\xff", b'"', b',"x":' + b"[" * 100_000], ids=("byte", "quote", "depth"))
def test_a_damaged_head_starts_over_and_says_so(damage: bytes, tmp_path: Path) -> None:
    with Journal(tmp_path, DEFAULT, targets=EMOTIONS):
        pass
    path = tmp_path / journal.NAME
    head = path.read_bytes()
    path.write_bytes(head[:-2] + damage + head[-2:])
    with Journal(tmp_path, DEFAULT, targets=EMOTIONS) as store:
        assert store.note == f"{path} is damaged: everything is computed again"
    assert path.read_bytes() == head


def test_another_model_or_version_starts_over_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = strange()
    mark = Stamp("/a", 1, 1)
    model = tmp_path / "run"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")

    def opened() -> tuple[bool, str | None]:
        with Journal(tmp_path, model, targets=EMOTIONS) as store:
            known = store.get_clip(mark, Path("a")) is not None
            store.add_clips([(mark, result)])
            return known, store.note

    assert opened() == (False, None)
    assert opened() == (True, None)
    (model / "history.json").write_text("[]")  # says nothing about the results
    assert opened() == (True, None)
    (model / "model.safetensors").write_bytes(b"weighty")
    known, note = opened()
    assert not known
    assert note is not None
    assert "another model: everything is computed again" in note
    monkeypatch.setattr(journal, "__version__", "9")
    known, note = opened()
    assert not known
    assert note is not None
    assert "another version of emimic" in note


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / journal.NAME
    for content in ("dear diary", "dear diary\n", '{"schema": "mine"}\n', "[1]\n"):
        path.write_text(content)
        with pytest.raises(EmimicError, match=r"journal\.jsonl is no journal of emimic"):
            Journal(tmp_path, DEFAULT, targets=EMOTIONS)
        assert path.read_text() == content
    Journal(tmp_path, DEFAULT, targets=EMOTIONS, fresh=True).__exit__(None, None, None)
    assert journal.SCHEMA in path.read_text()


def test_one_process_per_folder(tmp_path: Path) -> None:
    with (
        Journal(tmp_path, DEFAULT, targets=EMOTIONS),
        pytest.raises(EmimicError, match="is in use: another emimic"),
    ):
        Journal(tmp_path, DEFAULT, targets=EMOTIONS)
    Journal(tmp_path, DEFAULT, targets=EMOTIONS).__exit__(None, None, None)


def test_a_stamp_identifies_a_file_by_path_size_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"12345")
    os.utime(path, ns=(1, 2))
    monkeypatch.chdir(tmp_path)
    assert stamp(Path("a.wav")) == stamp(path) == Stamp(str(path), 5, 2)
    assert stamp(Path("<stdin>")) is None
    assert stamp(Path("nul\0")) is None


# The whole verb, with an engine that counts


def test_a_second_run_predicts_only_new_or_changed_files(
    clips: Path, tmp_path: Path, engine: fake_engine.Fake
) -> None:
    out = tmp_path / "out"
    results, logged = run(clips, out)
    assert len(engine.clips) == len(results.clips) == 149
    assert logged[-1].startswith("149 predicted, 1 failed; ")
    first = files(out)
    results, logged = run(clips, out)
    assert len(engine.clips) == 149
    assert len(results.failed) == 1  # tried again, and named again
    assert logged[-1] == "149 predicted (149 of them from the journal), 1 failed"
    assert files(out) == first
    shutil.copy(clips / "0001.wav", clips / "0070.wav")  # fixed
    shutil.copy(clips / "0002.wav", clips / "0003.wav")  # changed
    (clips / "0004.wav").unlink()
    write_clips(clips / "more", 3)
    results, logged = run(clips, out)
    assert len(engine.clips) == 149 + 1 + 1 + 3
    assert [result.path for result in results.clips] == sorted(clips.rglob("*.wav"))
    assert logged[-1].startswith("152 predicted (147 of them from the journal), 0 failed; ")
    rows = table(out)
    assert len(rows) == 153
    third = files(out)
    _, logged = run(clips, tmp_path / "other")
    assert files(tmp_path / "other") == third
    run(clips, out, fresh=True)
    assert len(engine.clips) == 154 + 152 * 2


def test_timelines_are_stored_one_by_one(bursts: Path, tmp_path: Path, engine: fake_engine.Fake) -> None:
    out = tmp_path / "out"
    run(bursts, out)
    run(bursts, out, timeline=True)
    count, first = len(engine.clips), files(out)
    assert {f"{number}.csv" for number in range(8)} <= set(first)
    lines = [json.loads(line) for line in (out / journal.NAME).read_text().splitlines()]
    assert [list(line) for line in lines[1:]] == [["clips"], *[["timelines"]] * 8]
    _, logged = run(bursts, out, timeline=True)
    assert logged[-1] == "8 predicted (8 of them from the journal), 0 failed"
    assert len(engine.clips) == count
    assert files(out) == first
    run(bursts, out, hop=0.1)
    assert len(engine.clips) > count
    count = len(engine.clips)
    run(bursts, out, timeline=True)
    assert len(engine.clips) == count  # the timelines of both grids are stored
    assert files(out) == first
    run(bursts, tmp_path / "whole", timeline=True)
    assert files(tmp_path / "whole") == first


@pytest.mark.parametrize("timelines", [False, True])
def test_ctrl_c_keeps_the_results_and_says_how_to_resume(
    clips: Path,
    bursts: Path,
    tmp_path: Path,
    engine: fake_engine.Fake,
    monkeypatch: pytest.MonkeyPatch,
    timelines: bool,
) -> None:
    predict, calls = fake_engine.Fake.predict, 0

    def interrupted(self: fake_engine.Fake, clips: list[np.ndarray], **given: float) -> list[Prediction]:
        nonlocal calls
        calls += 1
        if calls == (6 if timelines else 2):
            raise KeyboardInterrupt
        return predict(self, clips, **given)

    monkeypatch.setattr(fake_engine.Fake, "predict", interrupted)
    folder, out = bursts if timelines else clips, tmp_path / "out"
    words = ["predict", str(folder), "-o", str(out), "-q", *(["--timeline"] * timelines)]
    stopped = CliRunner().invoke(cli.app, words)
    assert stopped.exit_code == 130
    assert "journal.jsonl: give the same command again to go on" in stopped.output
    assert [path.name for path in out.iterdir()] == [journal.NAME]
    lines = (out / journal.NAME).read_text().splitlines()
    assert '"timelines"' in lines[-1] if timelines else '"clips"' in lines[-1]
    done = CliRunner().invoke(cli.app, words)
    assert f"{8 if timelines else 149} predicted (" in done.output
    run(folder, tmp_path / "whole", timeline=timelines)
    assert files(tmp_path / "whole") == files(out)


def test_without_a_folder_nothing_is_written(
    clips: Path, tmp_path: Path, engine: fake_engine.Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    predict_request.run(predict_request.Request(files=(str(clips),)), lambda line: None)
    assert not list((tmp_path / "here").iterdir())
    asked = predict_request.Request(files=("a.wav",))
    assert (
        predict_request.describe_stop(asked) == "stopped; nothing is kept (with --out FOLDER a run can go on)"
    )


def test_which_clips_share_a_batch_does_not_depend_on_the_journal(clips: Path, tmp_path: Path) -> None:
    """Groups depend on positions; a group partly in the journal is predicted in the same batches."""
    seen: list[list[str]] = []

    class Backend:
        def predict_clips(self, groups: list[list[tuple[int, Path]]]) -> batch.Batches[Result]:
            seen.append([",".join(path.name for _, path in group) for group in groups])
            yield from ([(row, Failure(path, "no")) for row, path in group] for group in reversed(groups))

        def predict_timelines(self, results: object, on_progress: object) -> batch.Batches[Timeline]:
            raise AssertionError

    actual = sorted(clips.iterdir())
    with Journal(tmp_path, DEFAULT, targets=EMOTIONS) as store:
        outcomes, _ = batch.predict_files(Backend(), actual, timeline=False, max_seconds=12, journal=store)
        assert [one.path for one in outcomes] == actual
        mark = stamp(actual[0])
        assert mark is not None
        store.add_clips([(mark, strange()[0])])
    with Journal(tmp_path, DEFAULT, targets=EMOTIONS) as store:
        batch.predict_files(Backend(), actual, timeline=False, max_seconds=12, journal=store)
    assert seen[0][1:] == seen[1][1:]
    assert seen[0][0] == "0000.wav," + seen[1][0]


def test_a_result_with_reduced_frames_shows_the_same(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", fake_engine.burst(13.0), 16_000)
    (whole,) = Predictor(fake_engine.Fake()).predict_files(tmp_path).clips
    slim = batch.reduce_frames(whole)
    assert slim.prediction.vad is not None
    assert slim.prediction.vad.shape == (1, 3)
    assert Results(EMOTIONS, (slim,), ()).to_dict() == Results(EMOTIONS, (whole,), ()).to_dict()

    assert slim.covered == pytest.approx(whole.covered)
    assert slim.covered < 12.5


def test_the_tally_counts_the_predictions_of_this_run() -> None:
    line = batch.Tally(predicted=30, resumed=12, audio=90.0, wall=1.5).summarize(2)
    assert line == "42 predicted (12 of them from the journal), 2 failed; 20.0 clips/s, 60 x real time"
    assert batch.Tally().summarize(1) == "0 predicted, 1 failed"


def test_a_slow_run_has_a_speed() -> None:
    summary = batch.Tally(predicted=3, audio=30.0, wall=90.0).summarize(0)
    assert summary == "3 predicted, 0 failed; 0.033 clips/s, 0.33 x real time"


# Real processes, really killed


def test_killed_at_random_moments_every_file_is_there_once(tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "clips", 600)
    (clips / "0070.wav").write_text("no sound")
    words = [
        sys.executable,
        "-m",
        "emimic",
        "predict",
        str(clips),
        "--format",
        "csv",
        "-q",
        "--threads",
        "1",
        "-o",
    ]

    def finish(out: str) -> list[str]:
        done = subprocess.run([*words, out], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        return done.stderr.splitlines()

    finish("whole")
    rng, lines, kills = random.Random(0), [1], 0
    for _ in range(2):
        process = subprocess.Popen([*words, "out"], cwd=tmp_path, stdout=subprocess.DEVNULL)
        path = tmp_path / "out" / journal.NAME
        more = lines[-1] + rng.randint(1, 3)
        while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < more):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        lines.append(path.read_bytes().count(b"\n"))
    assert kills == 2
    assert 1 < lines[1] < lines[2]
    summary = finish("out")[-1]
    assert "599 predicted (" in summary
    assert "(0 of them" not in summary
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    rows = table(tmp_path / "out")[1:]
    assert [row[0] for row in rows] == [f"{number:04d}" for number in range(600) if number != 70]
    store = [json.loads(line) for line in (tmp_path / "out" / journal.NAME).read_text().splitlines()]
    names = [Path(one["file"]).stem for line in store[1:] for one in line["clips"]]
    assert sorted(names) == [row[0] for row in rows]  # nothing stored was predicted twice
