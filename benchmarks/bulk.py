"""10,000 short files through `emimic predict --out`, killed twice at random moments and resumed.

    python -m benchmarks.bulk [--files 10000] [--seed 0]

Writes wavs of 0.2 to 0.4 s (trembling tones, no two alike) to a temporary folder; predicts them once without a kill,
and once in three processes of which the first two get SIGKILL after a random fraction of the work. Stops unless each
file is in intensities.csv and results.json exactly once, in the order of the inputs, and both files equal those of the
uninterrupted run to the byte. Expected on two idle cores with the model in the package: about 800 clips a second;
the three runs together predict 10,000 clips and at most the groups of 64 that were under way at the kills.
Writes docs/results/bulk.json.
"""

import argparse
import csv
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from emimic.files import write_atomically
from emimic.inference.journal import NAME

OUT = Path(__file__).parent.parent / "docs" / "results" / "bulk.json"
SUMMARY = re.compile(
    r"(\d+) predicted(?: \((\d+) of them kept from before\))?, (\d+) failed(?:; ([\d.]+) clips/s, (\d+) x)?"
)


def make(folder: Path, count: int) -> list[str]:
    """The files; their stems in order."""
    rng = np.random.default_rng(0)
    names = [f"{number:05d}" for number in range(count)]
    for name in names:
        seconds = np.arange(rng.integers(3_200, 6_400)) / 16_000
        tone = np.sin(2 * np.pi * rng.uniform(100, 900) * seconds + np.sin(30 * seconds))
        wave = 0.3 * tone + 0.02 * rng.standard_normal(len(seconds))
        soundfile.write(folder / f"{name}.wav", wave.astype(np.float32), 16_000, subtype="PCM_16")
    return names


def kept(out: Path) -> int:
    """Clips in whole lines of the journal; cheap, since it is asked often beside what is measured."""
    try:
        whole = (out / NAME).read_bytes().rpartition(b"\n")[0]
    except FileNotFoundError:
        return 0
    return whole.count(b'"file":')


def finish(words: list[str], out: Path) -> dict[str, Any]:
    """A run that nobody kills."""
    start = time.perf_counter()
    done = subprocess.run(
        [*words, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True
    )
    summary = SUMMARY.search(done.stderr)
    assert summary is not None, done.stderr
    predicted, before, failed = (int(text or 0) for text in summary.groups()[:3])
    return {
        "predicted": predicted - before,
        "kept_from_before": before,
        "failed": failed,
        "clips_per_s": float(summary[4] or 0),
        "times_real_time": int(summary[5] or 0),
        "wall_s": round(time.perf_counter() - start, 1),
    }


def killed(words: list[str], out: Path, until: int) -> dict[str, Any]:
    """A run that is killed a little after its journal holds `until` clips."""
    before = kept(out)
    process = subprocess.Popen([*words, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and kept(out) < until:
        time.sleep(0.02)
    time.sleep(random.uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise SystemExit("the run had ended before it was killed; give more --files")
    return {"kept_at_its_kill": kept(out), "predicted_and_kept": kept(out) - before}


def check(names: list[str], out: Path, whole: Path) -> None:
    """Every file once, in order; the bytes of the uninterrupted run."""
    with (out / "intensities.csv").open(newline="") as file:
        if [row["Filename"] for row in csv.DictReader(file)] != names:
            raise SystemExit("intensities.csv doesn't hold every file once and in order")
    results = json.loads((out / "results.json").read_text())
    if [Path(clip["file"]).stem for clip in results["clips"]] != names or results["failed"]:
        raise SystemExit("results.json doesn't hold every file once and in order")
    for name in ("intensities.csv", "results.json"):
        if (out / name).read_bytes() != (whole / name).read_bytes():
            raise SystemExit(f"{name} differs from that of the uninterrupted run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    load = os.getloadavg()[2]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "clips").mkdir()
        names = make(folder / "clips", given.files)
        words = [
            sys.executable,
            "-m",
            "emimic",
            "predict",
            str(folder / "clips"),
            "--format",
            "csv",
            "-q",
            "-o",
        ]
        whole = finish(words, folder / "whole")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        first = killed(words, folder / "out", round(given.files * random.uniform(0.1, 0.4)))
        second = killed(words, folder / "out", round(given.files * random.uniform(0.5, 0.8)))
        last = finish(words, folder / "out")
        check(names, folder / "out", folder / "whole")
        stems = [
            Path(clip["file"]).stem
            for line in (folder / "out" / NAME).read_text().splitlines()[1:]
            for clip in json.loads(line)["clips"]
        ]
        size = (folder / "out" / NAME).stat().st_size
    result = {
        "command": f"python -m benchmarks.bulk --files {given.files} --seed {given.seed}",
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(load, 2),
        "files": given.files,
        "uninterrupted": whole,
        "killed": [first, second],
        "resumed": last,
        "kept_more_than_once": len(stems) - len(set(stems)),
        "predicted_and_kept_in_all": first["predicted_and_kept"]
        + second["predicted_and_kept"]
        + last["predicted"],
        "journal_bytes_per_clip": round(size / given.files),
        "peak_mb": round(peak / 1024),
    }
    print(json.dumps(result, indent=1))
    write_atomically(OUT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
