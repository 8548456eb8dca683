"""Time and memory of `emimic mimicry --study` on sessions with sound, killed in the middle and resumed.

    python -m benchmarks.study VOICES [--sessions 40] [--seconds 30]

VOICES is a folder of short recordings, whose names begin with the speaker (such as a corpus's audio/). Sessions of two
channels are joined from them, of unrelated speakers. The study runs once as a whole, and once killed with SIGKILL after
half of the voices and resumed; the files must be the same. The figures go to docs/results/study.json.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.bursts import machine
from benchmarks.command import make_parser
from benchmarks.results import RESULTS
from emimic.media import decode
from emimic.task import SAMPLE_RATE

FILES = ("study.csv", "groups.csv", "contrasts.csv", "study.json", "study.html")


def make_sessions(voices: Path, folder: Path, number: int, seconds: float) -> Path:
    """Write stereo recordings of two different speakers each, and their table; return its path."""
    rng = np.random.default_rng(0)
    speakers: dict[str, list[Path]] = {}
    for path in sorted(voices.glob("*.mp3")):
        speakers.setdefault(path.name[:6], []).append(path)
    names = rng.permutation(sorted(speakers))[: 2 * number]
    rows = ["id,file,group,role1,role2"]
    for row in range(number):
        channels = [join(speakers[name], seconds, rng) for name in names[2 * row : 2 * row + 2]]
        soundfile.write(folder / f"s{row:02}.flac", np.stack(channels, axis=1), SAMPLE_RATE)
        rows.append(f"s{row:02},s{row:02}.flac,{'a' if row < number // 2 else 'b'},first,second")
    (folder / "sessions.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "sessions.csv"


def join(clips: list[Path], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Return a speaker's clips in random order, with pauses, `seconds` long."""
    size, parts = round(seconds * SAMPLE_RATE), []
    while sum(map(len, parts)) < size:
        for index in rng.permutation(len(clips)):
            parts += [
                decode.load(clips[index]),
                np.zeros(int(rng.uniform(0.2, 1.5) * SAMPLE_RATE), np.float32),
            ]
    return np.concatenate(parts)[:size]


def start(table: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the study in a process of its own."""
    words = [sys.executable, "-m", "emimic", "mimicry", "--study", str(table), "--out", str(out), "-q"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def count_lines(journal: Path) -> int:
    """Return the number of entries in a journal, 0 without one."""
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def measure(process: subprocess.Popen[bytes], began: float) -> dict[str, float]:
    """Wait for a process; return its wall and CPU seconds and its peak memory in MB."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "wall_seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "exit": process.returncode,
    }


def kill_in_the_middle(table: Path, out: Path, entries: int) -> dict[str, float]:
    """Kill a study with SIGKILL once its journal has `entries` lines."""
    began = time.monotonic()
    process = start(table, out)
    while process.poll() is None and count_lines(out / "journal.jsonl") < entries:
        time.sleep(0.2)
    lines = count_lines(out / "journal.jsonl")
    process.send_signal(signal.SIGKILL)
    return {**measure(process, began), "journal_lines": lines}


def run(voices: Path, number: int, seconds: float) -> dict[str, Any]:
    """Return the figures of both runs."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        table = make_sessions(voices, folder, number, seconds)
        began = time.monotonic()
        whole = measure(start(table, folder / "whole"), began)
        killed = kill_in_the_middle(table, folder / "resumed", number)
        began = time.monotonic()
        resumed = measure(start(table, folder / "resumed"), began)
        same = {
            name: (folder / "whole" / name).read_bytes() == (folder / "resumed" / name).read_bytes()
            for name in FILES
        }
    return {
        "sessions": number, "seconds": seconds, "voices": 2 * number, "whole": whole, "killed": killed,
        "resumed": resumed, "same_bytes": same, "machine": machine(),
    }  # fmt: skip


def main() -> None:
    """Run, and write the figures."""
    parser = make_parser(__doc__)
    parser.add_argument("voices", type=Path)
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    found = run(arguments.voices, arguments.sessions, arguments.seconds)
    found["command"] = (
        f"python -m benchmarks.study VOICES --sessions {arguments.sessions} --seconds {arguments.seconds:g}"
    )
    (RESULTS / "study.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
