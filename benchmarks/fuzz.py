"""Damaged files of every kind that emimic reads: each must be read or refused by name, fast and in little memory.

    python -m benchmarks.fuzz --minutes 120 [--seed 0] [--kinds wav mp4 table ...] [--found FOLDER]

Whole files are made first (a sentence in ten containers, a corpus, an exported model, what is written and read back:
pickled arrays, features, a teacher's predictions, a journal, a run; `fuzz_files`). Each input is one of them, damaged
(`fuzz_damage`). A child process reads it; the input counts as a finding when the child crashes, takes 10 s of CPU
time or a minute, grows by more than 1 GiB, or raises anything outside `EmimicError`. Input number N of a kind follows
from the seed, the kind and N alone. Findings are kept under --found with what happened. Writes
docs/results/fuzz.json; stops with an error when there are findings.
"""

import argparse
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.command import make_parser
from benchmarks.fuzz_damage import TEXT, damage
from benchmarks.fuzz_files import CONTAINERS, DAMAGED, make_files, make_voice
from emimic.task import EMOTIONS, EmimicError

OUT = Path(__file__).parent.parent / "docs" / "results" / "fuzz.json"
SECONDS, WALL, BYTES = 10.0, 60.0, 1 << 30


def read_media(file: Path) -> None:
    """Decode a recording, and probe its container."""
    from emimic.media import container, decode

    decode.load(file)
    container.probe(file)


def read_engine(file: Path) -> None:
    """Open a model and predict a clip."""
    from emimic.inference.engine import open_engine

    open_engine(file.parent, threads=1).predict([make_voice()])


def read_table(file: Path) -> None:
    """Read a corpus."""
    from emimic.data.corpus import load_corpus

    load_corpus(file.parent, splits=["train", "valid"], scan=False)


def read_run(file: Path) -> None:
    """Open a run."""
    from emimic.model.model import EmiModel

    EmiModel.open_run(file.parent, device="cpu")


def read_settings(file: Path) -> None:
    """Read the settings of a run."""
    from emimic.training import checkpoint

    checkpoint.read_settings(file.parent)


def read_pickle(file: Path) -> None:
    """Read the arrays of a pickle, without running it."""
    from emimic.features.pickle_reader import read_arrays

    read_arrays(file)


def read_features(file: Path) -> None:
    """Read frames."""
    from emimic.features import store

    store.read_clip_id(file)
    store.read(file, "00001")


def read_teacher(file: Path) -> None:
    """Read a teacher's prediction."""
    from emimic.training import teacher_cache

    teacher_cache.read(file)


def read_journal(file: Path) -> None:
    """Resume a folder of predictions."""
    from emimic.inference.engine import find_default_model
    from emimic.inference.journal import Journal

    Journal(file.parent, find_default_model(), targets=EMOTIONS).__exit__(None, None, None)


READERS: dict[str, Callable[[Path], None]] = dict.fromkeys(CONTAINERS, read_media) | {
    "table": read_table, "engine": read_engine, "graph": read_engine, "calibration": read_engine,
    "novelty": read_engine, "pickle": read_pickle, "features": read_features, "teacher": read_teacher,
    "journal": read_journal, "run": read_run, "weights": read_run, "settings": read_settings,
}  # fmt: skip


def read_files() -> None:
    """Read the files that are named on standard input, one a line with its kind; write the result of each."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        kind, _, name = line.rstrip("\n").partition(" ")
        before, result, start = get_peak(), "read", time.process_time()
        try:
            READERS[kind](Path(name))
        except EmimicError as error:
            result = (
                "refused"
                if Path(name).name in str(error) or Path(name).parent.name in str(error)
                else "unnamed"
            )
        except Exception as error:  # noqa: BLE001 - a finding
            result = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if get_peak() - before > BYTES:
            result = f"{(get_peak() - before) / 2**20:.0f} MiB"
        print(json.dumps([result, time.process_time() - start]), file=say, flush=True)


def get_peak() -> int:
    """Return the peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Judge:
    """A child process that reads files, restarted when it is lost or has read a thousand."""

    def __init__(self, log: Path) -> None:
        self.log, self.process, self.count = log, None, 0

    def __call__(self, kind: str, file: Path) -> str:
        """Return the result of reading the file: read, refused, or a finding."""
        process = self.process
        if process is None or self.count >= 1000:
            self.stop()
            process = self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fuzz", "--child"], cwd=OUT.parents[2],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("wb"), text=True,
            )  # fmt: skip
            self.count = 0
        self.count += 1
        process.stdin.write(f"{kind} {file}\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], WALL)[0]:
            self.stop()
            return f"took longer than {WALL:g} s"
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self.process = None
            return f"ended with {code}"
        result, seconds = json.loads(line)
        return f"took {seconds:.0f} s" if seconds > SECONDS and self.count > 1 else result

    def stop(self) -> None:
        """End the child."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def main() -> None:
    """Fuzz for the given minutes, and write the results."""
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=DAMAGED, default=list(DAMAGED))
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        read_files()
        return
    with tempfile.TemporaryDirectory() as name:
        folders = make_files(Path(name))
        judge = Judge(Path(name) / "stderr.txt")
        whole = {kind: (folders[kind] / DAMAGED[kind]).read_bytes() for kind in given.kinds}
        for kind in given.kinds:
            if (result := judge(kind, folders[kind] / DAMAGED[kind])) != "read":
                sys.exit(f"the whole {kind} file is {result}; {judge.log.read_text()[-500:]}")
        figures: dict[str, dict[str, Any]] = {
            kind: {"inputs": 0, "read": 0, "refused": 0} for kind in given.kinds
        }
        findings: list[dict[str, Any]] = []
        start, number = time.monotonic(), 0
        while time.monotonic() - start < 60 * given.minutes:
            for kind in given.kinds:
                data = damage(whole[kind], random.Random(f"{given.seed} {kind} {number}"), text=kind in TEXT)
                file = folders[kind] / DAMAGED[kind]
                file.write_bytes(data)
                result = judge(kind, file)
                figures[kind]["inputs"] += 1
                if result in ("read", "refused"):
                    figures[kind][result] += 1
                    continue
                findings.append({"kind": kind, "number": number, "what": result})
                given.found.mkdir(parents=True, exist_ok=True)
                (given.found / f"{kind}-{number}-{DAMAGED[kind]}").write_bytes(data)
                print(f"{kind} {number}: {result}", flush=True)
            number += 1
        judge.stop()
    minutes = (time.monotonic() - start) / 60
    results = {"seed": given.seed, "minutes": round(minutes, 1), "kinds": figures, "findings": findings}
    OUT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(
        f"{sum(one['inputs'] for one in figures.values())} inputs in {minutes:.1f} minutes, {len(findings)} findings"
    )
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
