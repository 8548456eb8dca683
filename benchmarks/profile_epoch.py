"""Where the time of one training epoch goes: forward, backward, optimizer, and all that should be nothing beside them.

    python -m benchmarks.profile_epoch --before CHECKOUT      # another checkout of emimic, measured in turns with this

Without a corpus folder it makes one of the package's sample clips, as mp3, of 1.3 to 12 s (see `mix`). `emimic train`
runs as it is, validation, log and checkpoints included; its functions are wrapped, and each second belongs to the
innermost one. The encoder is a small WavLM (configs/scratch.yaml), beside which everything else weighs more than
beside the paper's. CPU seconds are those of the training thread, with one thread for torch, and those of the other
threads (decoding, writing) apart, since the machine may be busy.
Writes docs/results/profile.json.
"""

import argparse
import contextlib
import functools
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from benchmarks import mix
from benchmarks.results import RESULTS, ROOT
from emimic.task import EMOTIONS

CONFIG: Final = ROOT / "benchmarks" / "configs" / "scratch.yaml"
COMPUTING: Final = ("forward", "backward", "optimizer", "validation: forward")
WRAPPED: Final = {
    "forward": (
        "emimic.data.loader:Source.compute_hidden", "emimic.model.model:EmiModel.regress",
        "emimic.training.step:_compute_part_loss",
    ),
    "backward": ("torch:Tensor.backward",),
    "optimizer": ("emimic.training.step:_update",),
    "collation": (
        "emimic.model.model:EmiModel.collate", "emimic.model.model:EmiModel.plan",
        "emimic.training.step:Labels.from_rows",
    ),
    "logging": ("torch.utils.tensorboard:SummaryWriter.add_scalar", "torch.utils.tensorboard:SummaryWriter.flush"),
    "validation: rest": ("emimic.training.validation:validate",),
    "validation: forward": ("emimic.model.encoder_model:EncoderModel.encode",),
    "checkpoints": (
        "emimic.training.checkpoint:write_last", "emimic.training.checkpoint:write_model",
        "emimic.training.checkpoint:copy_state", "emimic.training.background:Writer.write",
        "emimic.training.background:Writer.wait",
    ),
    "setup: corpus": ("emimic.training.setup:load_run_corpora", "emimic.training.setup:fingerprint_recordings"),
    "setup: rest": ("emimic.training.setup:open_run",),
}  # fmt: skip
"""Part of an epoch -> the functions in which its time passes; those missing in an older checkout are left out."""


class Stopwatch:
    """Seconds of the training thread by the innermost wrapped function, on the wall and of this thread's CPU."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.parts = ["other"]
        self.last = time.perf_counter(), time.thread_time()
        self.thread = threading.get_ident()

    def mark(self) -> None:
        now = time.perf_counter(), time.thread_time()
        spent = self.seconds.setdefault(self.parts[-1], [0.0, 0.0])
        for kind in range(2):
            spent[kind] += now[kind] - self.last[kind]
        self.last = now

    @contextlib.contextmanager
    def count(self, part: str) -> Iterator[None]:
        """Count the block's time for a part; a forward pass while validating is one of validation."""
        if threading.get_ident() != self.thread:
            yield
            return
        if part == "forward" and "validation: rest" in self.parts:
            part = "validation: forward"
        elif part == "validation: forward" and "validation: rest" not in self.parts:
            part = self.parts[-1]
        self.mark()
        self.parts.append(part)
        try:
            yield
        finally:
            self.mark()
            self.parts.pop()

    def wrap(self, part: str, name: str) -> None:
        """Count the time of a function, "module:Class.name", for a part."""
        module, _, path = name.partition(":")
        try:
            owner: Any = importlib.import_module(module)
        except ModuleNotFoundError:
            return
        *parents, last = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent, None)
        original = None if owner is None else owner.__dict__.get(last)
        if original is None:
            return
        function = original.__func__ if isinstance(original, classmethod) else original

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.count(part):
                return function(*args, **kwargs)

        setattr(owner, last, classmethod(counted) if isinstance(original, classmethod) else counted)

    def wrap_iterator(self, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """Count the time spent waiting for each item of an iterator as loading."""

        def counted(*args: Any, **kwargs: Any) -> Iterator[Any]:
            items = function(*args, **kwargs)
            while True:
                with self.count("validation: rest" if "validation: rest" in self.parts else "loading"):
                    item = next(items, None)
                if item is None:
                    return
                yield item

        return counted


def make_corpus(folder: Path, train: int, valid: int) -> Path:
    """Make a corpus of voices in the ABAW layout, with labels at random."""
    rng = np.random.default_rng(1)
    (folder / "audio").mkdir(parents=True)
    clips = iter(mix.clips(train + valid))
    for split, count in (("train", train), ("valid", valid)):
        lines = [f"Filename,{','.join(EMOTIONS)}"]
        for number in range(count):
            soundfile.write(folder / "audio" / f"{split}{number:04d}.mp3", next(clips), 16_000)
            lines.append(",".join([f"{split}{number:04d}", *(f"{value:.3f}" for value in rng.random(6))]))
        (folder / f"{split}_split.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def measure(corpus: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Train one epoch in this process, and return the seconds of its parts, [wall, CPU]."""
    from emimic.data import loader
    from emimic.training import loop
    from emimic.training.settings import TrainSettings

    settings = TrainSettings.read(
        CONFIG, overrides={"accelerator": "cpu", "epochs": 1, "threads": 1, **values}
    )
    with tempfile.TemporaryDirectory() as out:
        watch = Stopwatch()
        for part, names in WRAPPED.items():
            for name in names:
                watch.wrap(part, name)
        loader.decode_ahead = watch.wrap_iterator(loader.decode_ahead)  # type: ignore[assignment]
        start = time.process_time(), time.thread_time()
        result = loop.train(corpus, Path(out) / "run", settings, show=False)
        watch.mark()
        threads = time.process_time() - start[0] - (time.thread_time() - start[1])
    return {"loss": result.history[0]["loss"], "threads": threads, "parts": watch.seconds}


def summarize(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of several turns, and the fractions of an epoch's parts; the setup is apart."""
    names = sorted({name for turn in turns for name in turn["parts"]})
    parts = {
        name: [
            statistics.median(turn["parts"].get(name, [0.0, 0.0])[kind] for turn in turns) for kind in (0, 1)
        ]
        for name in names
    }
    epoch = {name: spent for name, spent in parts.items() if not name.startswith("setup")}
    outside = {}
    for kind, label in enumerate(("wall", "cpu")):
        total = sum(spent[kind] for spent in epoch.values())
        rest = sum(spent[kind] for name, spent in epoch.items() if name not in COMPUTING)
        outside[label] = round(rest / total, 4)
    threads = statistics.median(turn["threads"] for turn in turns)
    return {
        "turns": len(turns),
        "loss": turns[0]["loss"],
        "outside": outside,
        "other_threads_cpu_s": round(threads, 3),
        "parts": {name: {"wall_s": round(w, 3), "cpu_s": round(c, 3)} for name, (w, c) in parts.items()},
    }


def measure_decoding(corpus: Path, workers: Sequence[int], turns: int) -> dict[str, Any]:
    """Return clips a second by number of workers, of clips prepared as for training: wall, and CPU ms a clip."""
    from emimic.data import loader
    from emimic.data.corpus import load_corpus
    from emimic.media.waveform import ClipFormat

    items = [*load_corpus(corpus, splits=["train"], scan=False).splits["train"].items]
    source = loader.make_waveform_source(items, ClipFormat(12.0, True, 400))
    groups = [list(range(len(items)))[start : start + 32] for start in range(0, len(items), 32)]
    taken: dict[int, list[tuple[float, float]]] = {count: [] for count in workers}
    for _ in range(turns):
        for count in workers:
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in loader.decode_ahead(source, groups, workers=count):
                pass
            taken[count].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        str(count): {
            "clips_per_second": round(len(items) / statistics.median(wall for wall, _ in times), 1),
            "best_clips_per_second": round(len(items) / min(wall for wall, _ in times), 1),
            "cpu_ms_per_clip": round(1000 * statistics.median(cpu for _, cpu in times) / len(items), 2),
        }
        for count, times in taken.items()
    }


def run_turn(source: Path, corpus: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Measure one epoch in a process of its own, with the emimic of a checkout."""
    paths = os.pathsep.join([str(source / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-m", "benchmarks.profile_epoch", str(corpus), "--turn", json.dumps(values)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths}
    )
    turn: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return turn


def measure_all(corpus: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure all checkouts in turns, then decoding."""
    values = json.loads(given.settings)
    checkouts = {"after": ROOT} | ({"before": given.before} if given.before else {})
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
    for number in range(given.turns):
        for name, checkout in checkouts.items():
            turns[name].append(run_turn(checkout, corpus, values))
            print(number, name, json.dumps(turns[name][-1]), flush=True)
    return {
        "settings": values,
        "epochs": {name: summarize(made) for name, made in turns.items()},
        "decoding": measure_decoding(corpus, (1, 2, 4), given.turns),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?", help="folder in the ABAW layout; made by default")
    parser.add_argument(
        "--before", type=Path, help="another checkout of emimic, measured in turns with this one"
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--clips", type=int, nargs=2, default=(32, 16), metavar=("TRAIN", "VALID"))
    parser.add_argument("--settings", default="{}", help="further training settings as JSON")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS / "profile.json")
    given = parser.parse_args()
    if given.turn is not None:
        print(json.dumps(measure(given.corpus, json.loads(given.turn))))
        return
    from benchmarks.training import machine
    from emimic.files import write_atomically

    with tempfile.TemporaryDirectory() as folder:
        corpus = given.corpus or make_corpus(Path(folder) / "voices", *given.clips)
        results = measure_all(corpus, given)
    results |= {"command": "python -m benchmarks.profile_epoch --before CHECKOUT", "clips": list(given.clips)}
    results |= {"machine": machine(), "load": round(os.getloadavg()[0], 1)}
    write_atomically(given.out, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
