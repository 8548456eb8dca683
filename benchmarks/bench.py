"""How fast models are on this machine: engines x threads x batch in one run, and what to choose.

    python -m benchmarks.bench                             # the model in the package; a minute
    python -m benchmarks.bench runs/paper engine           # runs, with the exports in them, and exported models
    python -m benchmarks.bench --paper --json FILE         # the paper's size, random weights: 10 minutes, 10 GB

Every engine and number of threads has a process of its own (`bench_worker`), so that none changes another's memory or
thread pool. What is compared is measured in turns, and a figure is the median over the turns.
"""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from benchmarks import mix, speed_tables
from benchmarks.command import make_parser
from emimic.cpus import count_cores
from emimic.files import write_atomically
from emimic.inference.engine import DESCRIPTION, find_default_model, read_description
from emimic.inference.runtimes import RUNTIMES, is_installed
from emimic.media import decode
from emimic.sample import get_folder as sample_folder
from emimic.task import ModelError
from emimic.version import __version__

ROOT: Final = Path(__file__).parents[1]
SCHEMA: Final = "emimic/bench/1"
PACKAGES: Final = ("numpy", "onnxruntime", "openvino", "torch", "transformers")
BATCHES: Final = (None, 30.0, 60.0)
"""Seconds of audio of a forward pass; None is clip by clip."""
ALIKE: Final = 1.05
"""A choice that is less than this much faster than a smaller one is not worth its memory."""

_TIMED: Final = """
import json, os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
wall = time.perf_counter() - begun
scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
print(json.dumps({"wall": wall, "cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / scale}))
sys.exit(status != 0)
"""
"""Runs a command from a process that is small: Linux counts the memory of the one that starts another as its own."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure. family: those of one family are the same model, so that they have the same arithmetic and its
    clip-by-clip loop. runtime: torch, onnx, ...; precision: float32 or int8."""

    family: str
    folder: Path
    runtime: str
    precision: str

    @property
    def name(self) -> str:
        return f"{self.family}, {self.runtime} {self.precision}"


@dataclass(frozen=True, slots=True)
class Row:
    """What one way of computing came to, medians over the turns.

    batch_seconds: None is clip by clip. ratio: clips per second, divided by those of torch clip by clip with as many
    threads; None where the run itself wasn't measured. gflops: billions of operations a second; fraction_of_peak: of
    the machine's peak in float32 products; both None where the model's shapes aren't known. peak_mb: of the process.
    """

    model: str
    threads: int
    batch_seconds: float | None
    clips_per_second: float
    times_real_time: float
    cpu_per_second: float
    ratio: float | None
    gflops: float | None
    fraction_of_peak: float | None
    peak_mb: int


@dataclass(frozen=True, slots=True)
class Start:
    """`emimic predict one.flac` as a whole process: medians of wall and CPU seconds and of its peak memory in MB."""

    model: str
    wall: float
    cpu: float
    peak_mb: int


@dataclass(frozen=True, slots=True)
class Report:
    """What `measure` found. peak: GFLOP/s of float32 matrix products by number of threads. missing: what could not be
    measured, and why. advice: what to choose."""

    machine: dict[str, Any]
    clips: dict[str, Any]
    peak: dict[int, float]
    gflop_per_second: dict[str, float]
    rows: tuple[Row, ...]
    starts: tuple[Start, ...]
    missing: tuple[str, ...]
    advice: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with its schema."""
        return {"schema": SCHEMA, "emimic": __version__, **asdict(self)}


def measure(
    models: Sequence[str | os.PathLike[str]] = (),
    *,
    paper: bool = False,
    fast: bool = False,
    threads: int | None = None,
) -> Report:
    """Measure exported models and runs (and the exports in them); without any, the included model.

    paper: also a model of the paper's size with random weights, exported to every engine that is here; takes about ten
    minutes and 10 GB of memory. fast: fewer clips, turns and operations. threads: the most; None takes all cores.
    Raises ModelError when a model can't be used.
    """
    missing = [f"{name} isn't installed: not measured" for name in PACKAGES if not find_spec(name)]
    count, turns, product = (4, 1, 512) if fast else (8 if paper else 24, 5, 2048)
    most = count_cores() if threads is None else threads
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        given: list[Path] = [Path(one) for one in models]
        if not given and not paper:
            given = [find_default_model()]
        subjects = [subject for one in given for subject in subjects_of(one)]
        if paper:
            # In a process of its own: others would inherit its peak of memory as theirs.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                made, refused = pool.submit(_paper, Path(folder)).result()
            subjects, missing = subjects + made, missing + refused
        keys = [(subject, number) for subject in subjects for number in sorted({1, most})]
        workers = {key: stack.enter_context(_worker(key[0].folder, key[1], count)) for key in keys}
        products = {n: stack.enter_context(_worker(None, n, product)) for n in sorted({1, most})}
        ways = [(key, batch) for key in keys for batch in _batches(key, most, paper=paper)]
        measured: dict[Any, list[dict[str, float]]] = {}
        for turn in range(turns):
            print(f"turn {turn + 1} of {turns}", file=sys.stderr)
            for number, worker in products.items():
                measured.setdefault(number, []).append(_ask(worker, {}))
            for key, batch in ways:
                measured.setdefault((key, batch), []).append(_ask(workers[key], {"batch_seconds": batch}))
        stack.pop_all().close()  # nothing shall run beside a start
        starts = tuple(_start(subject, Path(folder), 1 if fast else turns) for subject in subjects)
    peak = {n: round(_median(measured[n], "operations_per_second") / 1e9, 1) for n in products}
    rows, arithmetic = _rows(measured, ways, peak, count)
    return Report(
        machine=machine(),
        clips={"count": count, "turns": turns, "mean_seconds": round(float(mix.seconds(count).mean()), 2)},
        peak=peak,
        gflop_per_second=arithmetic,
        rows=rows,
        starts=starts,
        missing=tuple(missing),
        advice=advice(rows),
    )


def subjects_of(model: Path) -> list[Subject]:
    """Return an exported model; or a run and the exports in it."""
    if (model / DESCRIPTION).exists():
        description = read_description(model)
        runtime, precision = description["runtime"], str(description["precision"])
        return [Subject(model.resolve().name, model, runtime, precision)]
    if not (model / "config.json").exists():
        raise ModelError(
            f"{model} is no model: it has neither {DESCRIPTION} nor config.json; give the folder of an engine or a run"
        )
    name = model.resolve().name
    inside = [subjects_of(file.parent)[0] for file in sorted(model.glob(f"[!.]*/[!.]*/{DESCRIPTION}"))]
    return [
        Subject(name, model, "torch", "float32"),
        *(Subject(name, one.folder, one.runtime, one.precision) for one in inside),
    ]


def _paper(folder: Path) -> tuple[list[Subject], list[str]]:
    """The paper's model with random weights as a run and as every engine it can be exported to here; and which it can't
    be."""
    missing: list[str] = []
    import torch

    from emimic.export.calibrate import HELD_OUT
    from emimic.export.export import export
    from emimic.model.config import EmiConfig
    from emimic.model.model import EmiModel

    run, family = folder / "paper-size", "paper-size"
    torch.manual_seed(0)
    EmiModel(EmiConfig(vad_pretrained=True)).save_pretrained(run)
    voices = folder / "voices"
    voices.mkdir()
    for file in sorted((sample_folder() / "audio").glob("*.mp3"))[: 8 * HELD_OUT]:
        (voices / file.name).write_bytes(file.read_bytes())
    figures = [Subject(family, run, "torch", "float32")]
    for runtime in RUNTIMES:
        for int8 in (False, True) if is_installed(runtime) else ():
            precision = "int8" if int8 else "float32"
            out = folder / f"{runtime}-{precision}"
            # Random weights exaggerate what int8 costs; here only speed counts, so nothing stays float32 for it.
            options: dict[str, Any] = {"int8": True, "calibrate": voices, "least": -1.0} if int8 else {}
            try:
                export(run, out, to=runtime, **options)
            except ModelError as error:
                missing.append(f"{family}, {runtime} {precision}: {error}")
            else:
                figures.append(Subject(family, out, runtime, precision))
    return figures, missing


def _batches(key: tuple[Subject, int], most: int, *, paper: bool) -> tuple[float | None, ...]:
    """Clip by clip and batches on all cores; on one core fewer, and of the paper's size, to save minutes."""
    subject, threads = key
    if threads == most and not paper:
        return BATCHES
    # torch clip by clip is what others are compared with.
    return BATCHES[:2] if threads == most or subject.runtime == "torch" else BATCHES[1:2]


@contextlib.contextmanager
def _worker(folder: Path | None, threads: int, count: int) -> Iterator[Any]:
    """A process of `bench_worker`, ready."""
    number = str(threads)
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), number)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bench_worker", str(folder.resolve()) if folder else "", number, str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | limits,
        cwd=ROOT,
    )  # fmt: skip
    try:
        _read_line(process)
        yield process
    finally:
        process.kill()
        process.communicate()


def _ask(process: Any, what: dict[str, Any]) -> dict[str, Any]:
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()
    return _read_line(process)


def _read_line(process: Any) -> dict[str, Any]:
    line = process.stdout.readline()
    if not line:
        message = process.stderr.read().strip().splitlines()
        raise ModelError(f"a model can't be measured: {message[-1] if message else 'its process ended'}")
    figures: dict[str, Any] = json.loads(line)
    return figures


def _start(subject: Subject, folder: Path, turns: int) -> Start:
    """The command as a user gives it."""
    clip = folder / "one.flac"
    if not clip.exists():
        decode.save(clip, mix.clips(3)[1], codec="flac")
    words = [sys.executable, "-m", "emimic", "predict", str(clip), "--model", str(subject.folder), "--quiet"]
    taken = []
    for _ in range(turns):
        process = subprocess.run(
            [sys.executable, "-ISc", _TIMED, *words], capture_output=True, text=True, check=False
        )
        if process.returncode:
            raise ModelError(f"emimic predict failed with {subject.name}: run it by hand to see why")
        taken.append(json.loads(process.stdout))
    return Start(
        subject.name,
        round(_median(taken, "wall"), 2),
        round(_median(taken, "cpu"), 2),
        round(_median(taken, "mb")),
    )


def _rows(
    measured: dict[Any, list[dict[str, Any]]], ways: Sequence[Any], peak: dict[int, float], count: int
) -> tuple[tuple[Row, ...], dict[str, float]]:
    seconds = float(mix.seconds(count).sum())
    arithmetic = {
        key[0].family: measured[key, batch][0]["operations"]
        for key, batch in ways
        if "operations" in measured[key, batch][0]
    }
    loops = {
        (key[0].family, key[1]): _median(measured[key, batch], "wall")
        for key, batch in ways
        if key[0].runtime == "torch" and batch is None
    }
    rows = []
    for key, batch in ways:
        (subject, threads), wall = key, _median(measured[key, batch], "wall")
        operations, loop = arithmetic.get(subject.family), loops.get((subject.family, threads))
        gflops = None if operations is None else operations * seconds / wall / 1e9
        rows.append(
            Row(
                model=subject.name,
                threads=threads,
                batch_seconds=batch,
                clips_per_second=round(count / wall, 3),
                times_real_time=round(seconds / wall, 2),
                cpu_per_second=round(_median(measured[key, batch], "cpu") / seconds, 4),
                ratio=None if loop is None else round(loop / wall, 3),
                gflops=None if gflops is None else round(gflops, 1),
                fraction_of_peak=None if gflops is None else round(gflops / peak[threads], 3),
                peak_mb=max(one["peak_mb"] for one in measured[key, batch]),
            )
        )
    return tuple(rows), {name: round(value / 1e9, 6) for name, value in arithmetic.items()}


def advice(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the fastest way for many clips; of those nearly as fast (within ALIKE) the one with the least memory."""
    best = max(row.clips_per_second for row in rows)
    near = [row for row in rows if row.clips_per_second * ALIKE >= best]
    chosen = min(near, key=lambda row: row.peak_mb)
    batch = 0.1 if chosen.batch_seconds is None else chosen.batch_seconds  # a clip longer than it stays alone
    message = [
        f"many clips: {chosen.model}, --threads {chosen.threads} --batch-seconds {batch:g}: "
        f"{chosen.clips_per_second:.1f} clips a second, {chosen.peak_mb} MB"
    ]
    least = min(rows, key=lambda row: row.peak_mb)
    if least.peak_mb * 2 < chosen.peak_mb:
        message.append(f"little memory: {least.model}, {least.peak_mb} MB")
    return tuple(message)


def machine() -> dict[str, Any]:
    """What this runs on, without a name of it."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    versions = {name: metadata.version(name) for name in PACKAGES if find_spec(name)}
    return {
        "cpu": cpu,
        "cores": count_cores(),
        "system": platform.system(),
        "load": load,
        "versions": versions,
    }


def _median(measured: Sequence[dict[str, Any]], of: str) -> float:
    return float(statistics.median(one[of] for one in measured))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("models", nargs="*", help="runs or exported models; default: the included model")
    parser.add_argument("--paper", action="store_true", help="also the paper's size, random weights")
    parser.add_argument("--fast", action="store_true", help="fewer clips, turns and operations")
    parser.add_argument("--threads", type=int, help="the most; by default all cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    given = parser.parse_args()
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)  # before the work
    report = measure(given.models, paper=given.paper, fast=given.fast, threads=given.threads)
    figures = report.to_dict()
    if given.json is not None:
        write_atomically(given.json, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    print("\n".join([speed_tables.make_bench_of(figures), *report.missing, *report.advice]))


if __name__ == "__main__":
    main()
