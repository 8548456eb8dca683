"""A long recording's timeline: how fast, and how much memory the whole process takes.

    python -m benchmarks.timeline ../shared/data/bursts/audio --minutes 30 [--model FOLDER]

Clips of the folder, in a shuffled order, are joined to one wav; `emimic predict WAV --timeline` hears it in a process
of its own. Expected on two idle cores with the model in the package: faster than 30x real time, below 1 GB.
Writes docs/results/timeline.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from emimic import audio
from emimic.files import write_atomic

OUT = Path(__file__).parent.parent / "docs" / "results" / "timeline.json"


def join(folder: Path, path: Path, seconds: float) -> None:
    """Clips in a shuffled order, cut at `seconds`, as 16-bit wav."""
    clips = sorted(folder.glob("*.mp3"))
    left = round(seconds * 16_000)
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as file:
        for number in np.random.default_rng(0).permutation(len(clips)):
            clip = audio.load(clips[number])[:left]
            file.write(clip)
            left -= len(clip)
            if not left:
                return
    raise SystemExit(f"the clips of {folder} are {left / 16_000:g} s too short")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--model", help="default: the one in the package")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.wav"
        join(given.folder, path, 60 * given.minutes)
        words = [sys.executable, "-m", "emimic", "predict", path, "--timeline", "--format", "json", "--quiet"]
        words += ["--model", given.model] if given.model else []
        start = time.perf_counter()
        shown = subprocess.run(words, stdout=subprocess.PIPE, check=True)
        wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    (clip,) = json.loads(shown.stdout)["clips"]
    joy = next(iter(clip["timeline"]["intensities"].values()))
    seconds = clip["seconds"]
    result = {
        "command": f"python -m benchmarks.timeline CLIPS --minutes {given.minutes:g}",
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[2], 2),
        "seconds": seconds,
        "windows": len(joy),
        "windows_with_voice": sum(value is not None for value in joy),
        "wall_s": round(wall, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "times_real_time": round(seconds / wall, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
    }
    print(json.dumps(result, indent=1))
    if given.model is None:
        write_atomic(OUT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
