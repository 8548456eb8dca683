"""The paper's system and compared systems with one budget, on vocal bursts: docs/results/equal_budgets.json.

    python -m benchmarks.bursts split SOURCE CORPUS            # 60 unseen speakers as "test", 37 held out as "valid"
    python -m benchmarks.equal_budgets run CORPUS OUT MODELS   # resumable
    python -m benchmarks.equal_budgets record OUT

Each row trains for EPOCHS epochs with seed 0 at the rates of FIRST, and at the next one of RATES as long as the lowest
or the highest so far scores best on the held-out speakers. The best rate is kept, and the row is trained with it and
three seeds. Each run keeps its best epoch on the held-out speakers, and is scored on the unseen ones once. MODELS holds
whisper-tiny.en-encoder.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.bursts import NOTE, machine
from benchmarks.command import make_parser
from benchmarks.results import RESULTS

EPOCHS: Final = 10
RATES: Final = ("1e-5", "3e-5", "1e-4", "3e-4", "1e-3", "3e-3", "1e-2", "3e-2", "1e-1")
FIRST: Final = RATES[3:6]
ROWS: Final = {
    "baseline-audio": "baselines",
    "concatenated-audio": "baselines",
    "savchenko-audio": "baselines",
    "wavlm_tcn": "baselines",
    "gv-head": "ablate",
    "full": "ablate",
}
"""Each row and the command that trains it."""
BUDGET: Final = f"epochs={EPOCHS} patience=null threads=1 checkpoint_steps=100000"
PAPER: Final = (
    "encoder={models}/whisper-tiny.en-encoder encoder_layers=3 freeze_encoder=true precision=bf16-mixed ema=0.99 "
    "features={out}/features"
)


def find_folder(out: Path, row: str, rate: str) -> Path:
    """Return the folder of a row's runs at a rate."""
    return out / row / rate


def make_command(row: str, rate: str, seeds: str, split: str, corpus: Path, out: Path, models: Path) -> str:
    """Return the command that trains a row at a rate with some seeds, and scores a split."""
    verb = ROWS[row]
    settings = f"{BUDGET} lr={rate}" + (f" {PAPER}" if verb == "ablate" else "")
    command = (
        f"emimic {verb} {corpus} --out {find_folder(out, row, rate)}-{split} --rows {row} --against {row}"
    )
    command += f" --seeds {seeds} --split {split} --quiet"
    command += "".join(f" --set {setting}" for setting in settings.format(out=out, models=models).split())
    return command + (" --modality audio=tiny3" if verb == "baselines" else "")


def read_row(out: Path, row: str, rate: str, split: str) -> dict[str, Any]:
    """Return the results of a row at a rate on a split."""
    file = Path(f"{find_folder(out, row, rate)}-{split}") / "results.json"
    results = json.loads(file.read_text(encoding="utf-8"))
    found: dict[str, Any] = results["rows"][0]
    return found


def search(score: Callable[[str], float]) -> tuple[str, dict[str, float]]:
    """Return the best rate, and the scores of all rates that were tried, in their order."""
    scores = {rate: score(rate) for rate in FIRST}
    while True:
        best = max(scores, key=scores.__getitem__)
        place = RATES.index(best)
        missing = [rate for rate in RATES[max(0, place - 1) : place + 2] if rate not in scores]
        if not missing:
            return best, {rate: scores[rate] for rate in RATES if rate in scores}
        scores |= {rate: score(rate) for rate in missing}


def run(corpus: Path, out: Path, models: Path) -> None:
    """Train and score all rows. Runs that are done are skipped."""

    def execute(command: str) -> None:
        print("$", command, flush=True)
        if subprocess.run([sys.executable, "-m", *shlex.split(command)], check=False).returncode:
            sys.exit(f"failed: {command}")

    execute(
        f"emimic features {corpus} --kind speech --model {models}/whisper-tiny.en-encoder --set layers=3 --name tiny3"
    )

    def score(row: str, rate: str) -> float:
        execute(make_command(row, rate, "0", "valid", corpus, out, models))
        return float(read_row(out, row, rate, "valid")["mean"])

    for row in ROWS:
        rate, _ = search(partial(score, row))
        execute(make_command(row, rate, "0,1,2", "test", corpus, out, models))


def record(out: Path) -> dict[str, Any]:
    """Return the rates tried with their scores on held-out speakers, and each row's scores on the unseen ones."""
    figures: dict[str, Any] = {"note": NOTE, "machine": machine(), "epochs": EPOCHS, "rows": {}}
    for row in ROWS:
        rate, scores = search(lambda tried, row=row: float(read_row(out, row, tried, "valid")["mean"]))
        results = read_row(out, row, rate, "test")
        figures["rows"][row] = {
            "label": results["label"],
            "held_out": scores,
            "rate": rate,
            "test": [run["mean"] for run in results["runs"]],
            "best_epochs": [run["best_epoch"] for run in results["runs"]],
            "seconds": [run["seconds"] for run in results["runs"]],
        }
    return figures


def main() -> None:
    """Read the command line."""
    parser = make_parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run")
    for name in ("corpus", "out", "models"):
        running.add_argument(name, type=Path)
    verbs.add_parser("record").add_argument("out", type=Path)
    given = parser.parse_args()
    if given.verb == "run":
        run(given.corpus.resolve(), given.out.resolve(), given.models.resolve())
    else:
        text = json.dumps(record(given.out), indent=1, ensure_ascii=False)
        (RESULTS / "equal_budgets.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
