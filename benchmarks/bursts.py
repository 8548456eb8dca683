"""Three systems on vocal bursts (EmoGator), trained, scored and recorded in docs/results/bursts.json.

    python -m benchmarks.bursts split SOURCE CORPUS        # SOURCE: train_split.csv, valid_split.csv, audio/
    python -m benchmarks.bursts run CORPUS OUT --encoder WHISPER_BASE_FOLDER

`split` keeps SOURCE's validation speakers unseen as the split "test" and holds 37 training speakers out as "valid":
layers and epochs are chosen on those, the figures come from the unseen ones. Runs that are there already are kept,
interrupted ones go on.
"""

import csv
import json
import os
import platform
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.command import make_parser

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results" / "bursts.json"
NOTE = (
    "Vocal bursts (EmoGator), labels are the intended category cast onto the six targets by this project: "
    "not the paper's corpus, not comparable with its figures. 95 % intervals resample the 60 unseen speakers."
)


def split(source: Path, corpus: Path, held_out: int = 37) -> None:
    """Write the three split tables of `corpus`, its audio folder a link to the source's."""
    corpus.mkdir(parents=True, exist_ok=True)
    with (source / "train_split.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    speakers = sorted({row["Speaker"] for row in rows})
    valid = set(random.Random(0).sample(speakers, held_out))
    parts = {
        "train": [row for row in rows if row["Speaker"] not in valid],
        "valid": [row for row in rows if row["Speaker"] in valid],
    }
    for name, part in parts.items():
        with (corpus / f"{name}_split.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(part)
    (corpus / "test_split.csv").write_bytes((source / "valid_split.csv").read_bytes())
    if not (corpus / "audio").exists():
        (corpus / "audio").symlink_to((source / "audio").resolve())


def machine() -> str:
    """What runs this, without a name of it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    return f"{os.cpu_count()} cores, {cpu}; other work ran beside it"


def write_record(file: Path, note: str, name: str, figures: Any) -> None:
    """Write figures into a file of docs/results under a name, beside others in it, with the note and the machine."""
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    results |= {"note": note, "machine": machine(), name: figures}
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def timed(command: list[str]) -> dict[str, float]:
    """Run a command to its end: wall and CPU seconds, peak memory of its largest process in MB."""
    print("$", shlex.join(command), flush=True)
    started = time.perf_counter()
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"exit code {child.returncode}: {shlex.join(command)}")
    return {
        "wall_seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mb": round(usage.ru_maxrss / 1024, 1),
    }


def emimic(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "emimic", *map(str, words)]


def train(corpus: Path, run: Path, config: str, sets: list[str]) -> None:
    """Train unless it is done; what it took is kept beside the run, summed over interruptions."""
    record = run / "cost.json"
    if record.exists():
        return
    words: list[str | Path] = ["train", corpus, "--out", run, "--quiet"]
    if (run / "train.json").exists():
        command = emimic(*words, "--resume")
    else:
        command = emimic(
            *words, "--config", HERE / "configs" / f"{config}.yaml", *(w for s in sets for w in ("--set", s))
        )
    cost = timed(command)
    record.write_text(json.dumps(cost))


def epochs(run: Path) -> list[dict[str, Any]]:
    """Return the history of a training run, also of one from before it was an object."""
    history = json.loads((run / "history.json").read_text(encoding="utf-8"))
    return history if isinstance(history, list) else history["epochs"]


def entry(corpus: Path, run: Path, config: str, sets: list[str]) -> dict[str, object]:
    """Score a run on the unseen speakers and describe it without any path of this machine."""
    scored = run / "evaluation" / "test" / "report.json"
    if not scored.exists():
        timed(emimic("evaluate", run, corpus, "--split", "test", "--quiet"))
    named = " ".join(f"--set {s}" if not s.startswith("encoder=") else "--set encoder=ENCODER" for s in sets)
    facts = json.loads((run / "train.json").read_text())
    history = epochs(run)
    return {
        "command": f"emimic train CORPUS --out RUN --config benchmarks/configs/{config}.yaml {named}".strip(),
        "scored_with": "emimic evaluate RUN CORPUS --split test",
        "parameters": facts["parameters"],
        "versions": facts["versions"],
        "epochs_run": len(history),
        "held_out_pearson_by_epoch": [epoch["pearson"] for epoch in history],
        "cost": json.loads((run / "cost.json").read_text()),
        "test": json.loads(scored.read_text()),
    }


def choose_layer(corpus: Path, out: Path, encoder: str, features: str) -> tuple[int, dict[str, float]]:
    """Best held-out mean Pearson over the encoder's six layers."""
    figures: dict[str, float] = {}
    for layer in range(1, 7):
        run = out / f"layer{layer}"
        train(corpus, run, "layer", [f"encoder={encoder}", f"encoder_layers={layer}", f"features={features}"])
        figures[str(layer)] = max(epoch["pearson"] or -1.0 for epoch in epochs(run))
    return int(max(figures, key=lambda layer: figures[layer])), figures


def main() -> None:
    """The two verbs."""
    parser = make_parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    splitting = verbs.add_parser("split")
    splitting.add_argument("source", type=Path)
    splitting.add_argument("corpus", type=Path)
    running = verbs.add_parser("run")
    running.add_argument("corpus", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--encoder", help="folder or hub name of Whisper base")
    running.add_argument("--only", nargs="*", default=["layers", "finetuned", "frozen", "scratch"])
    given = parser.parse_args()
    if given.verb == "split":
        split(given.source, given.corpus)
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"note": NOTE, "machine": machine()}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    results["code"] = f"commit {commit.stdout.strip() or 'unknown'}"
    for name in given.only:
        if name == "layers":
            best, figures = choose_layer(given.corpus, given.out, given.encoder, str(given.out / "features"))
            results["layer_choice"] = {
                "held_out_pearson_by_layer": figures,
                "chosen": best,
                "config": "layer.yaml",
            }
        else:
            sets = []
            if name != "scratch":
                sets = [f"encoder={given.encoder}", f"encoder_layers={results['layer_choice']['chosen']}"]
            if name == "frozen":
                sets.append(f"features={given.out / 'features'}")
            train(given.corpus, given.out / name, name, sets)
            results[name] = entry(
                given.corpus, given.out / name, name, [s for s in sets if "features=" not in s]
            )
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
