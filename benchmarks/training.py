"""How fast training goes: cached features against a frozen encoder that runs again, buckets against clip by clip.

    python -m benchmarks.training --threads 2      # then --threads 1; about eight minutes each on two idle cores

Clips of 1.3 to 12 s (mean 6.9 s) made of the package's sample clips; everything compared is interleaved, and medians
are over the repetitions. Each epoch is real: forward, backward, AdamW on batches of 32. "As released" is what the
paper's released code does: the encoder on one clip at a time, the frames packed for the LSTM, denormal numbers not
flushed; it takes minutes a turn, so it is measured in the first turn only. "Clip by clip" is the same with denormals
flushed, in every turn. Dropout is off, so that every way must find the same loss.
Expected: see docs/results/training.json, which this writes (a part for each number of threads).
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from torch import nn

from benchmarks import mix
from benchmarks.bench_worker import peak_mb
from emimic.data import loader, sampling
from emimic.data.corpus import Item
from emimic.features import encoder_cache
from emimic.files import write_atomically
from emimic.model import encoders
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.training import checkpoint, setup, step
from emimic.training.clips import get_labels
from emimic.training.losses import Mix
from emimic.training.settings import TrainSettings

OUT = Path(__file__).parent.parent / "docs" / "results" / "training.json"
BATCH = 32
STILL = {"lstm_dropout": 0.0, "vad_dropout": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    "buckets": {},
    "convolutions frozen": {"freeze_convolutions": True},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "bf16-mixed": {"precision": "bf16-mixed"},
}
"""The project's loop over a tiny encoder, with its options."""


def items(folder: Path, count: int) -> list[Item]:
    """Clips as files, with labels at random."""
    rng = np.random.default_rng(1)
    made = []
    for number, clip in enumerate(mix.clips(count)):
        file = folder / f"{number:04d}.mp3"
        soundfile.write(file, clip, 16_000)
        made.append(Item(file.stem, file, rng.random(6, dtype=np.float32), None, len(clip) / 16_000))
    return made


def set_up(
    model: EmiModel, clips: Sequence[Item], source: loader.Source | None = None, **values: Any
) -> setup.Run:
    """A run of the project as `emimic train` makes it, without its folder."""
    settings = TrainSettings.read(overrides={"accelerator": "cpu", "batch_size": BATCH, **values})
    if settings.gradient_checkpointing:
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    source = source or loader.make_waveform_source(clips, model.clip_format)
    return setup.Run(
        folder=Path(), settings=settings, fabric=setup.launch_fabric(settings), model=model.train(),
        optimizer=setup.make_optimizer(model, settings), loss=Mix(settings.loss), train=source, valid=None,
        progress=checkpoint.Progress(), average=None, show=False,
    )  # fmt: skip


def plan_steps(count: int) -> list[list[int]]:
    """The steps of an epoch of `count` clips."""
    return sampling.plan_steps([sampling.Pool(range(count))], BATCH, seed=0, epoch=0)


def epoch(state: setup.Run, workers: int = 2) -> tuple[float, float]:
    """All clips once, as training/loop.py has it; the mean loss, and the fraction of time spent waiting for clips."""
    groups = plan_steps(len(state.train.items))
    decoded = loader.decode_ahead(state.train, groups, workers=workers)
    waited, losses, begun = 0.0, [], time.perf_counter()
    for rows in groups:
        start = time.perf_counter()
        clips = next(decoded)
        waited += time.perf_counter() - start
        losses.append(float(step.take(state, rows, rows, clips)) * len(rows))
    return sum(losses) / len(state.train.items), waited / (time.perf_counter() - begun)


def encoded_alone(state: setup.Run, rows: Sequence[int]) -> list[torch.Tensor]:
    """Each clip's hidden states (frame, feature) by the encoder on that clip only."""
    clips = [state.train.read(state.train.items[row], 0).values for row in rows]
    return [state.model.encode(*state.model.collate([clip]))[0][0] for clip in clips]


def head_packed(state: setup.Run, rows: Sequence[int], hidden: Sequence[torch.Tensor]) -> float:
    """The rest of a step as released: mean and packed LSTM over the batch, one backward pass, the optimizer."""
    model = state.model
    state.optimizer.zero_grad(set_to_none=True)
    frames = [torch.cat([one, model.vad(one)], dim=1) for one in hidden]
    packed = nn.utils.rnn.pack_sequence(frames, enforce_sorted=False)
    last = model.lstm(packed)[1][0][-1]
    pooled = torch.cat([torch.stack([one.mean(dim=0) for one in frames]), last], dim=1)
    predictions = model.head(pooled)
    truth = torch.from_numpy(np.stack([get_labels(state.train.items[row]) for row in rows]))
    loss = nn.functional.mse_loss(predictions, truth)
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), 100.0)
    state.optimizer.step()
    return float(loss.detach())


@contextlib.contextmanager
def again(state: setup.Run, start: dict[str, torch.Tensor], flush: bool = True) -> Iterator[None]:
    """The weights and an optimizer that has not stepped, as at the start; denormals flushed or not."""
    parameters = dict(state.model.named_parameters())
    with torch.no_grad():
        for name, tensor in start.items():
            parameters[name].copy_(tensor)
    state.optimizer.state.clear()
    torch.set_flush_denormal(flush)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def released_first(repetition: int) -> dict[str, bool]:
    """The two loops of the released kind, and whether denormals are flushed."""
    return {"clip by clip": True} if repetition else {"as released": False, "clip by clip": True}


def trained(model: EmiModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    return made, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


class Times:
    """Seconds by way, and the loss that each found."""

    def __init__(self) -> None:
        self.taken: dict[str, list[dict[str, float]]] = {}
        self.losses: dict[str, float] = {}

    def add(self, way: str, loss: float, *parts: dict[str, float]) -> None:
        self.taken.setdefault(way, []).append({of: sum(p[of] for p in parts) for of in ("wall", "cpu")})
        self.losses[way] = loss
        print(f"  {way}: loss {loss:.6f}, {self.taken[way][-1]}", flush=True)

    def summary(self, clips: int) -> dict[str, Any]:
        median = {
            way: {of: statistics.median(one[of] for one in taken) for of in ("wall", "cpu")}
            for way, taken in self.taken.items()
        }
        return {
            way: {
                "loss": self.losses[way],
                "repetitions": len(self.taken[way]),
                **{f"{of}_s_per_clip": round(seconds / clips, 5) for of, seconds in figures.items()},
                **{
                    f"{of}_times_{base.replace(' ', '_')}": round(median[base][of] / figures[of], 2)
                    for base in ("as released", "clip by clip")
                    for of in ("wall", "cpu")
                },
            }
            for way, figures in median.items()
        }


def frozen(folder: Path, count: int, repetitions: int) -> dict[str, Any]:
    """The paper's model with a frozen encoder: the encoder again each epoch, or its features from the disk."""
    clips = items(folder, count)
    torch.manual_seed(0)
    model = EmiModel(EmiConfig(freeze_encoder=True, vad_pretrained=True, **STILL))
    cached = encoder_cache.compute(model, clips, folder / "features", dtype="float16")
    live = set_up(model, clips, freeze_encoder=True, **STILL)
    disk = set_up(model, clips, cached, freeze_encoder=True, **STILL)
    half = set_up(model, clips, cached, freeze_encoder=True, precision="bf16-mixed", **STILL)
    start, times = trained(model), Times()
    groups = plan_steps(count)
    for repetition in range(repetitions):
        print(f"frozen, repetition {repetition + 1}", flush=True)
        hidden, encoding = timed(lambda: [encoded_alone(live, rows) for rows in groups])
        for way, flush in released_first(repetition).items():
            with again(live, start, flush):
                losses, heads = timed(
                    lambda hidden=hidden: [
                        head_packed(live, rows, own) * len(rows)
                        for rows, own in zip(groups, hidden, strict=True)
                    ]
                )
            print(f"  {way}: encoding {encoding}, heads {heads}", flush=True)
            # The encoder's half is the same work in both.
            times.add(way, sum(losses) / count, encoding, heads)
        for way, state in (("cached features", disk), ("cached features, bf16-mixed", half)):
            with again(state, start):
                (loss, waited), taken = timed(lambda state=state: epoch(state))
            times.add(way, loss, taken)
    figures = times.summary(count)
    figures["cached features"]["fraction_of_time_waiting_for_files"] = round(waited, 4)
    return figures


def tiny() -> EmiModel:
    """benchmarks/configs/scratch.yaml's encoder with the paper's heads; nothing random while it learns."""
    config = yaml.safe_load((Path(__file__).parent / "configs" / "scratch.yaml").read_text(encoding="utf-8"))
    still = dict.fromkeys(
        ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0
    )
    torch.manual_seed(0)
    # Groups of 16 channels, as bf16 needs (run._check_precision).
    encoder = config["encoder_config"] | still | {"mask_time_prob": 0.0, "num_conv_pos_embedding_groups": 12}
    return EmiModel(EmiConfig(encoder_config=encoder, **STILL))


def way_of(clips: Sequence[Item], name: str) -> setup.Run:
    model = tiny()
    if WAYS[name].get("freeze_convolutions"):
        model.config.freeze_convolutions = True
        model._freeze()
    return set_up(model, clips, encoder_config=encoders.PAPER_ENCODER, **STILL, **WAYS[name])


def tuned(folder: Path, count: int, repetitions: int) -> dict[str, Any]:
    """A tiny encoder, all of it trained."""
    clips = items(folder, count)
    ways = {name: way_of(clips, name) for name in WAYS}
    starts = {name: trained(state.model) for name, state in ways.items()}
    alone, times = ways["buckets"], Times()
    groups = plan_steps(count)
    for repetition in range(repetitions):
        print(f"tiny, repetition {repetition + 1}", flush=True)
        for way, flush in released_first(repetition).items():
            with again(alone, starts["buckets"], flush):
                losses, taken = timed(
                    lambda: [
                        head_packed(alone, rows, encoded_alone(alone, rows)) * len(rows) for rows in groups
                    ]
                )
            times.add(way, sum(losses) / count, taken)
        for name, state in ways.items():
            with again(state, starts[name]):
                (loss, _), taken = timed(lambda state=state: epoch(state))
            times.add(name, loss, taken)
    figures = times.summary(count)
    for name in ["clip by clip", *WAYS]:
        words = [sys.executable, "-m", "benchmarks.training", "--memory", name, str(folder)]
        words += ["--threads", str(torch.get_num_threads())]
        figures[name]["peak_mb"] = int(
            subprocess.run(words, capture_output=True, text=True, check=True).stdout
        )
    figures["waiting"] = {}
    for workers in (1, 2):
        with again(alone, starts["buckets"]):
            figures["waiting"][f"{workers} workers"] = round(epoch(alone, workers)[1], 4)
    return figures


def memory(folder: Path, way: str) -> int:
    """The peak of this process in MB after one epoch."""
    files = sorted(folder.glob("*.mp3"))
    clips = [Item(file.stem, file, np.zeros(6, np.float32), None, 0.0) for file in files]
    state = way_of(clips, "buckets" if way == "clip by clip" else way)
    torch.set_flush_denormal(True)
    if way == "clip by clip":
        for rows in plan_steps(len(clips)):
            head_packed(state, rows, encoded_alone(state, rows))
    else:
        epoch(state)
    return peak_mb()


def machine() -> dict[str, Any]:
    """What ran this, without a name of it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    versions = {name: version(name) for name in ("torch", "transformers", "numpy")}
    return {"cpu": names[0] if names else platform.machine(), "cores": os.cpu_count(), "versions": versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clips", type=int, default=BATCH)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--memory", nargs=2, metavar=("WAY", "FOLDER"), help="internal: peak memory of a way")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.memory:
        print(memory(Path(given.memory[1]), given.memory[0]))
        return
    before = round(os.getloadavg()[0], 2)
    part: dict[str, Any] = {"clips": given.clips, "load_before": before}
    for name, measure in (("tiny", tuned), ("frozen", frozen)):
        with tempfile.TemporaryDirectory() as folder:
            part[name] = measure(Path(folder), given.clips, given.repetitions)
    results = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
    results |= {"command": "python -m benchmarks.training --threads N", "machine": machine()}
    results.setdefault("threads", {})[str(given.threads)] = part
    write_atomically(given.out, json.dumps(results, indent=1) + "\n")
    print(json.dumps(part, indent=1))


if __name__ == "__main__":
    main()
