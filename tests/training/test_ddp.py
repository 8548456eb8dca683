"""Two processes learn what one does.

With dropout and SpecAugment off: their masks come from (seed, step, rank), so they differ by rank on purpose. Run as a
script under torchrun, this file is one of the processes.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from label_cases import write
from safetensors.torch import load_file
from tone_corpus import STILL

from emimic.training import setup as runs
from emimic.training import step as steps
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

MIX = {"pearson": 1.0, "ccc": 0.5}
LABELS = {"vad_head": True, "vad_dropout": 0.0, "category": "Category"}
"""For a corpus with unlabeled clips: a process may have none of a kind that the other has."""


CORPORA: dict[str, Any] = {
    "rank_weight": 0.3,
    "mixtures": {"fraction": 0.5, "corpora": ["labeled"]},
    "hidden_layers": [1, 2],
    "standardize_frames": True,
    "domain_targets": {"labeled": ["Joy"]},
    "corpora": {
        "labeled": {
            "fraction": 0.3,
            "weight": 0.5,
            "ranks": {"column": "Category", "by": None, "order": {"Arousal": [["keen"], ["calm"]]}},
        }
    },
}
"""For two corpora, whose pairs lie in both processes and whose labels change from epoch to epoch."""


def cases(tiny: Callable[..., dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of 11 clips, batches of 4 leave 3 for the last step, batches of 5 leave one: a process then has none."""
    unused = STILL | {
        "mask_time_prob": 0.1,
        "apply_spec_augment": False,
    }  # has a mask embedding, never uses it
    return {
        "mse": tiny(still=True, ema=0.9, standardize_targets=True, encoder_config=unused),
        "mix": tiny(still=True, loss=MIX),
        "mse, one clip": tiny(still=True, batch_size=5, batch_seconds=0.2),
        "mix, one clip": tiny(still=True, batch_size=5, loss=MIX | {"mse": 1.0}, batch_seconds=0.2),
        "frozen": tiny(still=True, freeze_encoder=True, feature_dtype="float32"),
        "random": tiny(epochs=2, batch_size=5),
        "stopped": tiny(still=True),
        "labels": tiny(still=True, **LABELS),
        "labels, mix": tiny(still=True, **LABELS, loss=MIX, batch_size=9),
        "corpora": tiny(still=True, **LABELS, batch_size=5, loss={"mse": 1.0, "ccc": 0.1}, **CORPORA),
    }


def chosen(job: dict[str, Any], name: str) -> list[Path]:
    if name == "corpora":
        return [Path(job["corpus"]), Path(job["labeled"])]
    return [Path(job["labeled" if name.startswith("labels") else "corpus"])]


def script(job: dict[str, Any]) -> None:
    rank = int(os.environ["RANK"])
    setup, step = runs.open_run, steps.take
    opened: list[runs.Run] = []
    stop_at: int | None = None

    def keeping(*arguments: Any, **options: Any) -> runs.Run:
        opened.append(setup(*arguments, **options))
        return opened[-1]

    def signalling(run: runs.Run, *arguments: Any) -> float:
        if run.progress.total_steps + 1 == stop_at and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(run, *arguments)

    runs.open_run, steps.take = keeping, signalling
    report: dict[str, Any] = {}
    for name, values in job["cases"].items():
        out = Path(job["folder"], "two", name)
        stop_at = 5 if name == "stopped" else None
        corpus = chosen(job, name)
        result = train(corpus, out, TrainSettings(**values), show=False)
        at, got = opened[-1].progress.total_steps, result.signal
        if stop_at:
            stop_at = None
            result = train(corpus, out, resume=True, show=False)
        digest = hashlib.sha256()
        for parameter in opened[-1].model.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        world = opened[-1].fabric.world_size
        report[name] = {
            "history": result.history,
            "weights": digest.hexdigest(),
            "signal": got,
            "at": at,
            "world": world,
        }
    Path(job["folder"], f"rank{rank}.json").write_text(json.dumps(report))
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(tones: Path, tmp_path: Path, tiny: Callable[..., dict[str, Any]]) -> None:
    labeled = write(tmp_path / "labeled")
    job = {"corpus": str(tones), "labeled": str(labeled), "folder": str(tmp_path), "cases": cases(tiny)}
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--local-addr",
        "127.0.0.1",
        "--nproc_per_node",
        "2",
    ]
    done = subprocess.run(
        [sys.executable, *command, __file__, str(tmp_path / "job.json")],
        capture_output=True, text=True, timeout=240, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    furthest = {}
    for name, values in job["cases"].items():
        found = ranks[0][name]
        assert found["world"] == 2
        assert json.loads((tmp_path / "two" / name / "train.json").read_text())["processes"] == 2
        assert (found["signal"], found["at"]) == (
            (signal.SIGTERM, 5) if name == "stopped" else (None, found["at"])
        )
        if name == "random":
            assert len(found["history"]) == 2
            continue
        alone = train(chosen(job, name), tmp_path / "one" / name, TrainSettings(**values), show=False)
        assert len(alone.history) == len(found["history"]) == 3
        gaps = [
            abs(one[key] - two[key])
            for one, two in zip(alone.history, found["history"], strict=True)
            for key in ("loss", "pearson", *(["vad_pearson"] if name.startswith("labels") else []))
        ]
        one, two = (load_file(tmp_path / who / name / "last.safetensors") for who in ("one", "two"))
        assert one.keys() == two.keys()  # the optimizer has moments of the same parameters
        weights = max(
            float((one[key] - two[key]).abs().max()) for key in one if key.startswith(("model.", "average."))
        )
        furthest[name] = (max(gaps), weights)
        if name == "mse":  # nor may weight decay touch what no process used
            key = "model.encoder.masked_spec_embed"
            assert torch.equal(one[key], two[key])
    print("largest difference of history and of weights:", furthest)
    for name, (history, weights) in furthest.items():
        assert history < 1e-4, name
        assert weights < 1e-3, name


if __name__ == "__main__":
    script(json.loads(Path(sys.argv[1]).read_text()))
