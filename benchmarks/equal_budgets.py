"""The paper's system and compared systems with one budget, on vocal bursts: docs/results/equal_budgets.json.

    python -m benchmarks.bursts split SOURCE CORPUS            # 60 unseen speakers as "test", 37 held out as "valid"
    python -m benchmarks.equal_budgets CORPUS OUT MODELS       # resumable: runs that are done are skipped

Each row trains for EPOCHS epochs with seed 0 at the rates of FIRST, and at the next one of RATES as long as the lowest
or the highest so far scores best on the held-out speakers. The best rate is kept, and the row is trained with it and
three seeds. Each run keeps its best epoch on the held-out speakers, and is scored on the unseen ones once. MODELS holds
whisper-tiny.en-encoder.
"""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.bursts import NOTE, machine, timed
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


def train(
    row: str, rate: str, seeds: str, split: str, corpus: Path, out: Path, models: Path
) -> dict[str, Any]:
    """Train a row at a rate with some seeds, and return its scores on a split."""
    verb, folder = ROWS[row], out / row / f"{rate}-{split}"
    settings = f"{BUDGET} lr={rate}" + (f" {PAPER}" if verb == "ablate" else "")
    command = f"emimic {verb} {corpus} --out {folder} --rows {row} --against {row}"
    command += f" --seeds {seeds} --split {split} --quiet"
    command += "".join(f" --set {setting}" for setting in settings.format(out=out, models=models).split())
    command += " --modality audio=tiny3" if verb == "baselines" else ""
    timed([sys.executable, "-m", *shlex.split(command)])
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return dict(results["rows"][0])


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


def compare(corpus: Path, out: Path, models: Path) -> dict[str, Any]:
    """Return the rates tried with their scores on held-out speakers, and each row's scores on the unseen ones."""
    features = f"--kind speech --model {models}/whisper-tiny.en-encoder --set layers=3 --name tiny3"
    timed([sys.executable, "-m", "emimic", "features", str(corpus), *shlex.split(features)])
    figures: dict[str, Any] = {"note": NOTE, "machine": machine(), "epochs": EPOCHS, "rows": {}}
    for row in ROWS:

        def score(rate: str, row: str = row) -> float:
            return float(train(row, rate, "0", "valid", corpus, out, models)["mean"])

        rate, scores = search(score)
        results = train(row, rate, "0,1,2", "test", corpus, out, models)
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
    for name in ("corpus", "out", "models"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    figures = compare(given.corpus.resolve(), given.out.resolve(), given.models.resolve())
    text = json.dumps(figures, indent=1, ensure_ascii=False)
    (RESULTS / "equal_budgets.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
