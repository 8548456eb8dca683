"""A study in a process of its own, with the included model and sound, killed with SIGKILL and resumed."""

import shutil
from pathlib import Path

import pytest

from benchmarks import study
from emimic.sample import get_folder


@pytest.mark.skipif(not hasattr(study.signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_killed_study_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    voices = tmp_path / "voices"
    voices.mkdir()
    clips = sorted((get_folder() / "audio").glob("*.mp3"))
    for number, clip in enumerate(clips[:12]):
        shutil.copy(clip, voices / f"speak{number // 2}-{number % 2}.mp3")
    table = study.make_sessions(voices, tmp_path, 2, 12.0)
    assert study.measure(study.start(table, tmp_path / "whole"), 0.0)["exit"] == 0
    killed = study.kill_in_the_middle(table, tmp_path / "resumed", 1)
    assert killed["exit"] == -study.signal.SIGKILL
    assert not (tmp_path / "resumed" / "study.csv").exists()
    assert study.measure(study.start(table, tmp_path / "resumed"), 0.0)["exit"] == 0
    for name in study.FILES:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes(), name
