"""One engine in a process of its own, for `benchmarks.bench`: it reads requests as lines of JSON on standard input, and
writes its measurements as such lines."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import mix
from emimic.inference.engine import open_engine


def main(folder: str | None, threads: int, count: int) -> None:
    """Measure until standard input ends.

    folder: a model's; None measures matrix products. count: clips; of a product, rows and columns.
    """
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no measurement
    work = _products(threads, count) if folder is None else _model(Path(folder), threads, count)
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        measured = work(json.loads(line))
        measured |= {
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
            "peak_mb": peak_mb(),
        }
        print(json.dumps(measured), file=out, flush=True)


def _model(folder: Path, threads: int, count: int) -> Callable[[Any], dict[str, Any]]:
    graph = (folder / "engine.json").exists()
    # A run may hold engines of itself; a device asks for torch.
    engine: Any = open_engine(folder, device=None if graph else "cpu", threads=threads)
    clip_format = engine.spec.clip_format
    clips = [clip_format.prepare(clip).samples for clip in mix.clips(count)]
    engine.predict(clips[:2])  # what is made at first use

    def work(asked: dict[str, Any]) -> dict[str, Any]:
        seconds = asked["batch_seconds"]
        if seconds is None:
            predictions = [engine.predict([clip])[0] for clip in clips]
        else:
            predictions = engine.predict(clips, batch_seconds=seconds)
        return {"mean": float(np.mean([prediction.intensities.mean() for prediction in predictions]))}

    if not graph:
        from benchmarks.arithmetic import per_second

        figures = per_second(engine.model.config, mix.seconds(count).tolist())
        return lambda asked: work(asked) | {"operations": figures}
    return work


def _products(threads: int, size: int) -> Callable[[Any], dict[str, Any]]:
    """The fastest float32 matrix product: NumPy's, and torch's where it is installed."""
    rng = np.random.default_rng(0)
    one, other = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    ways: list[Callable[[], Any]] = [lambda: one @ other]
    try:
        import torch
    except ModuleNotFoundError:
        pass
    else:
        torch.set_num_threads(threads)
        left, right = torch.from_numpy(one), torch.from_numpy(other)
        ways.append(lambda: left @ right)
    for way in ways:
        way()

    def work(asked: dict[str, Any]) -> dict[str, Any]:
        best = 0.0
        for way in ways:
            for _ in range(4):
                start = time.perf_counter()
                way()
                best = max(best, 2.0 * size**3 / (time.perf_counter() - start))
        return {"operations_per_second": best}

    return work


def peak_mb() -> int:
    """Most memory of this process so far, in MB."""
    try:
        # getrusage on Linux counts the process that started this one, too.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) >> 10
    except (OSError, IndexError):
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(used / (1 << 20 if sys.platform == "darwin" else 1 << 10))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(sys.argv[1] or None, int(sys.argv[2]), int(sys.argv[3]))
