"""A student of the model in the package: its size, arithmetic, speed and scores, recorded in docs/results/student.json.

    python -m benchmarks.first_default split SOURCE CORPUS      # as for its teacher
    emimic distill src/emimic/default CORPUS --out RUN --config benchmarks/configs/distilled.yaml --train-on train+valid
    emimic export RUN --out ENGINE
    emimic export RUN --out INT8 --int8 --calibrate src/emimic/sample/audio
    python -m benchmarks.student score CORPUS --run RUN --engine ENGINE --int8 INT8
    python -m benchmarks.student speed CORPUS --engine ENGINE --int8 INT8      # on a quiet machine
    python -m benchmarks.student ablation NAME RUN      # Pearson on the 37 held-out speakers, by epoch

The figures are of the 60 unseen speakers. The ablation's runs learn from 200 speakers with `--set encoder_layers=3
--epochs 2`: "labels" by `emimic train` with the same settings, "intensities" with `--set teacher_vad_weight=0 --set
teacher_frame_weight=0`, "all" as it is. Here two processes of one thread each trained (`torchrun --nproc_per_node 2 -m
emimic distill ... --set threads=1`). Speed: one thread, the
unseen speakers' clips through each engine in turn, round after round; audio seconds a second of wall and of CPU time,
medians of the rounds.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bursts import NOTE, epochs, machine
from benchmarks.command import make_parser
from benchmarks.first_default import predict, report, unseen
from emimic import metrics
from emimic.inference.engine import Engine, find_default_model, open_engine, read_description
from emimic.media import decode
from emimic.model.config import EmiConfig
from emimic.model.frontend import MEL_HOP, MEL_WINDOW
from emimic.model.model import EmiModel
from emimic.task import SAMPLE_RATE, VAD

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "student.json"
PAPER = 23.4
"""GFLOP per second of audio of the paper's model, counted in the same way (convolutions, attention, feed-forward,
positions, LSTM; clips of 12 s)."""
TEACHER = {"d_model": 512, "encoder_layers": 4, "encoder_ffn_dim": 2048, "num_mel_bins": 80}
"""Of the model in the package: the first four layers of Whisper base."""


def operations(config: EmiConfig, seconds: float = 12.0) -> dict[str, float]:
    """GFLOP per second of audio of a Whisper model on a clip of `seconds`; a multiplication with its sum counts two.

    Norms, activations and poolings are left out, as in the paper's 23.4: they are below a hundredth. The spectrum is
    counted as the products with sine and cosine that an exported graph makes of it.
    """
    inner: Any = config.encoder_config
    mel = SAMPLE_RATE / MEL_HOP  # frames a second, and half of them after the second convolution
    rate, wide, width = mel / 2, inner.d_model, config.frame_features
    bins = MEL_WINDOW // 2 + 1
    units = config.lstm_units or width
    inputs = [width] + [units] * (config.lstm_layers - 1)
    pooled = width * config.global_vector * (1 + config.global_std) + units * config.lstm
    parts = {
        "spectrum": mel * (2 * MEL_WINDOW * 2 * bins + 2 * bins * inner.num_mel_bins),
        "convolutions": mel * 2 * 3 * inner.num_mel_bins * wide + rate * 2 * 3 * wide * wide,
        # Query, key, value and output; the frames' products with each other, and of those with the values.
        "attention": inner.encoder_layers * rate * (8 * wide * wide + 4 * wide * rate * seconds),
        "feed_forward": inner.encoder_layers * rate * 4 * wide * inner.encoder_ffn_dim,
        "lstm": config.lstm * rate * sum(2 * 4 * units * (one + units) for one in inputs),
        "vad": config.vad_head * rate * 2 * wide * (wide + len(VAD)),
        "head": 2 * pooled * (pooled + len(config.targets)) / seconds,
    }
    return {**{name: value / 1e9 for name, value in parts.items()}, "all": sum(parts.values()) / 1e9}


def counted(model: EmiModel, seconds: float = 12.0) -> float:
    """GFLOP per second of audio of the encoder and the VAD head, as torch counts them; it knows no spectrum and no
    LSTM."""
    clip = torch.zeros(1, round(seconds * SAMPLE_RATE))
    # Of the attention that a CPU takes by itself torch counts nothing.
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        hidden, _ = model.encode(clip)
        model.vad(hidden)
    return counter.get_total_flops() / seconds / 1e9  # type: ignore[no-any-return]


def arithmetic(run: Path) -> dict[str, Any]:
    """Parameters and operations of the student, and operations beside the paper's and the teacher's."""
    model = EmiModel.open_run(run, device="cpu")
    own = operations(model.config)
    compared = own["all"] - own["spectrum"] - own["lstm"] - own["head"]
    teacher = operations(
        EmiConfig(encoder_config={"model_type": "whisper", **TEACHER}, global_std=True, lstm_units=256)
    )
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "gflop_per_second": own,
        "torch_counts": {"counted": counted(model), "same_parts_by_formula": compared},
        "gflop_per_second_of_2_s_clips": operations(model.config, 2.0)["all"],
        "teacher_gflop_per_second": teacher["all"],
        "paper_gflop_per_second": PAPER,
        "times_fewer_than_the_paper": PAPER / own["all"],
    }


def prepare_clips(engine: Engine, clips: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Return clips as an engine takes them."""
    clip_format = engine.spec.clip_format
    return [clip_format.prepare(clip).samples for clip in clips]


def score(corpus: Path, run: Path, folders: dict[str, Path]) -> dict[str, Any]:
    """Score the unseen speakers, agreement with the teacher, and the difference from it, by the same resamples."""
    part = unseen(corpus)
    clips = [decode.load(item.path) for item in part.items]
    predictions = {name: predict(open_engine(folder), clips) for name, folder in folders.items()}
    speakers = [item.speaker or "" for item in part.items]
    figures: dict[str, Any] = {"arithmetic": arithmetic(run), "scores": {}}
    drawn = {
        name: metrics.resample_statistic(metrics.compute_pearson, values, part.labels, groups=speakers).mean(
            axis=1
        )
        for name, values in predictions.items()
    }
    for name, values in predictions.items():
        one = report(values, part).to_dict()["metrics"]["pearson"]
        below = drawn["teacher"] - drawn[name]
        figures["scores"][name] = {
            "mean": one["mean"],
            "targets": one["targets"],
            "with_teacher": metrics.compute_mean_pearson(values, predictions["teacher"]),
            "below_teacher": [float(np.quantile(below, q)) for q in (0.025, 0.5, 0.975)],
            "megabytes": sum(file.stat().st_size for file in folders[name].iterdir()) / 1e6,
        }
        print(name, one["mean"]["value"], flush=True)
    return figures


def speed(corpus: Path, folders: dict[str, Path], rounds: int = 7) -> dict[str, Any]:
    """Measure audio seconds a second on one thread, engines interleaved."""
    clips = [decode.load(item.path) for item in unseen(corpus).items[::10]]
    engines = {name: open_engine(folder, threads=1) for name, folder in folders.items()}
    ready = {name: prepare_clips(engine, clips) for name, engine in engines.items()}
    seconds = sum(len(clip) for clip in clips) / SAMPLE_RATE
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    for turn in range(rounds + 1):
        for name, engine in engines.items():
            wall, cpu = time.perf_counter(), time.process_time()
            engine.predict(ready[name], batch_seconds=30.0)
            if turn:  # the first warms up
                spent[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    figures = {}
    for name, times in spent.items():
        wall_s, cpu_s = np.median(np.array(times), axis=0)
        figures[name] = {"per_wall_second": seconds / wall_s, "per_cpu_second": seconds / cpu_s}
        print(name, figures[name], flush=True)
    return {"audio_seconds": seconds, "clips": len(clips), "rounds": rounds, "engines": figures}


def main() -> None:
    """Run a verb."""
    parser = make_parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("score", "speed"):
        verb = verbs.add_parser(name)
        verb.add_argument("corpus", type=Path)
        if name == "score":
            verb.add_argument("--run", type=Path, required=True)
        verb.add_argument("--engine", type=Path, required=True)
        verb.add_argument("--int8", type=Path, required=True)
    ablation = verbs.add_parser("ablation")
    ablation.add_argument("name")
    ablation.add_argument("run", type=Path)
    given = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results |= {"note": NOTE, "machine": machine()}
    if given.verb == "ablation":
        results.setdefault("held_out", {})[given.name] = [epoch["pearson"] for epoch in epochs(given.run)]
    else:
        folders = {"teacher": find_default_model(), "student": given.engine, "student_int8": given.int8}
        results |= (
            score(given.corpus, given.run, folders)
            if given.verb == "score"
            else {"speed": speed(given.corpus, folders)}
        )
        results["training"] = read_description(given.engine)["training"]
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
