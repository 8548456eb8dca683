"""A study in a process of its own, with the included model and sound, killed with SIGKILL and resumed."""

import shutil
import signal
from pathlib import Path

import pytest

from benchmarks import study
from emimic.cli import study_request
from emimic.mimicry import Settings
from emimic.sample import get_folder


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_killed_study_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voices = tmp_path / "voices"
    voices.mkdir()
    clips = sorted((get_folder() / "audio").glob("*.mp3"))
    for number, clip in enumerate(clips[:12]):
        shutil.copy(clip, voices / f"speak{number // 2}-{number % 2}.mp3")
    table = study.make_sessions(voices, tmp_path, 2, 11.0)
    killed = study.kill_in_the_middle(table, tmp_path / "resumed", 1)
    assert killed["exit"] == -signal.SIGKILL
    assert 1 <= killed["journal_lines"] < 4
    assert not (tmp_path / "resumed" / "study.csv").exists()
    assert study.measure(study.start(table, tmp_path / "resumed"), 0.0)["exit"] == 0
    monkeypatch.setattr(study_request, "_draw", lambda *_: iter(()))  # plots take seconds
    whole = study_request.Request(table, tmp_path / "whole", Settings(alignment="windowed"))
    study_request.run(whole, lambda _: None)
    for name in study.FILES[:-1]:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes(), name
