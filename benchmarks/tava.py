"""Valence, arousal and dominance on acted sentences with crowd ratings (TAVA), recorded in docs/results/tava.json.

    python -m benchmarks.tava TAVA OUT --encoder WHISPER_BASE_FOLDER --run RUN

TAVA: train_split.csv, valid_split.csv (Valence, Arousal, Dominance in -1 to 1, Speaker), audio/. RUN, the default
model's, predicts as it is, without any of TAVA. Then each speaker in turn is left out: ridge regression on the frozen
encoder, the same on RUN's second layer, and a linear head that `train` fits there to mean and std of the frames.
TAVA is AGPL: nothing trained on it is shipped.
"""

import csv
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bursts import machine
from benchmarks.command import make_parser
from benchmarks.first_default import pooled, predict_by_ridge
from emimic.data.corpus import Item, load_corpus
from emimic.data.loader import make_waveform_source, predict_source
from emimic.model.model import EmiModel
from emimic.task import VAD
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "tava.json"
LAYER = 2
SETTINGS = {
    "targets": list(VAD), "train_on": "train+valid", "encoder_layers": LAYER, "freeze_encoder": True, "vad_head": False,
    "lstm": False, "regression_head": False, "global_std": True, "head_dropout": 0.3, "lr": 3e-3, "epochs": 200,
    "warmup_epochs": 10.0,
}  # fmt: skip


def read(tava: Path) -> list[dict[str, str]]:
    rows = []
    for name in ("train", "valid"):
        with (tava / f"{name}_split.csv").open(newline="", encoding="utf-8") as file:
            rows += list(csv.DictReader(file))
    for row in rows:
        row |= {name: f"{(float(row[name]) + 1) / 2:.5f}" for name in VAD}
    return rows


def write(folder: Path, tava: Path, tables: dict[str, list[dict[str, str]]]) -> None:
    """Write a corpus for the V/A/D head alone, its audio a link to TAVA's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        with (folder / f"{name}_split.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(
                file, ["Filename", "Speaker", *VAD], extrasaction="ignore", lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(rows)
    if not (folder / "audio").exists():
        (folder / "audio").symlink_to((tava / "audio").resolve())


def items_of(folder: Path, split: str) -> list[Item]:
    return list(load_corpus(folder, splits=[split], scan=False).splits[split].items)


def score(predictions: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Return Pearson over all clips, each predicted by a model that was not trained on its speaker."""
    rho = {name: float(np.corrcoef(predictions[:, i], labels[:, i])[0, 1]) for i, name in enumerate(VAD)}
    return rho | {"mean": math.fsum(rho.values()) / len(rho)}


def predict_left_out(
    tava: Path, out: Path, rows: list[dict[str, str]], run: Path, **changed: Any
) -> NDArray[Any]:
    """Return every clip's prediction by the run trained further without its speaker, (clip, 3)."""
    predictions = np.zeros((len(rows), len(VAD)))
    speakers = sorted({row["Speaker"] for row in rows})
    for i, speaker in enumerate(speakers):
        fold, result = out / f"fold-{speaker}", out / f"fold-{speaker}" / "predictions.npy"
        mine = [k for k, row in enumerate(rows) if row["Speaker"] == speaker]
        if not result.exists():
            # Training needs two labeled splits; it learns from both.
            other = speakers[i - 1]
            rest = [row for row in rows if row["Speaker"] not in (speaker, other)]
            tables = {
                "train": rest,
                "valid": [row for row in rows if row["Speaker"] == other],
                "test": [rows[k] for k in mine],
            }
            write(fold, tava, tables)
            settings = TrainSettings.read(None, {**SETTINGS, "encoder": str(run), **changed})
            train(fold, fold / "run", settings, resume=True, show=False)
            left_out, _ = predict_items(fold / "run", items_of(fold, "test"))
            np.save(result, left_out)
            shutil.rmtree(fold / "run")
        predictions[mine] = np.load(result)
        print(speaker, "done", flush=True)
    return predictions


def predict_items(run: Path, items: Sequence[Item]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Intensities (clip, target) and V/A/D (clip, 3) of a training run."""
    model = EmiModel.open_run(run, device="cpu")
    return predict_source(model, make_waveform_source(items, model.clip_format))


def main() -> None:
    """Score all three, and write the results."""
    parser = make_parser(__doc__)
    parser.add_argument("tava", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="the default model's run")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    rows = read(given.tava)
    labels = np.array([[float(row[name]) for name in VAD] for row in rows])
    write(given.out / "all", given.tava, {"train": rows})
    items = items_of(given.out / "all", "train")
    speakers = np.array([row["Speaker"] for row in rows])
    figures: dict[str, dict[str, float]] = {}

    def ridge(encoder: Path, layers: int) -> dict[str, float]:
        features = pooled(EmiModel.from_encoder(encoder, layers=layers, vad_head=False).eval(), items)
        predictions = np.zeros_like(labels)
        for speaker in np.unique(speakers):
            mine = speakers == speaker
            predictions[mine] = predict_by_ridge(
                features[~mine], labels[~mine], speakers[~mine], features[mine]
            )[0]
        return score(predictions, labels)

    _, vad = predict_items(given.run, items)
    figures["the default model, nothing of TAVA in training (weak labels)"] = score(vad, labels)

    left_out = "each speaker left out (not shipped)"
    figures[f"ridge regression on the frozen encoder (layer 3), {left_out}"] = ridge(given.encoder, 3)
    figures[f"ridge regression on the default model's second layer, {left_out}"] = ridge(given.run, LAYER)
    changed = {} if given.threads is None else {"threads": given.threads}
    predictions = predict_left_out(given.tava, given.out, rows, given.run, **changed)
    figures[f"a linear head trained on the default model's second layer, {left_out}"] = score(
        predictions, labels
    )
    for label, value in figures.items():
        print(label, value)
    note = (
        "TAVA (AGPL-3.0, used for measuring only): 192 acted sentences, 12 speakers; Pearson with the mean ratings "
        f"over all clips. Machine: {machine()}."
    )
    RESULTS.write_text(
        json.dumps({"note": note, "settings": SETTINGS, "models": figures}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
