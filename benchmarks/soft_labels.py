"""Bursts whose training labels are partly a model's predictions, for a recipe like benchmarks/configs/default.yaml.

    python benchmarks/soft_labels.py MODEL CORPORA/bursts OUT [--fraction 0.5]

A known label becomes (1 - fraction) * label + fraction * prediction of MODEL (a run or an exported model); an unknown
one stays unknown. The other splits keep their labels. CORPORA: made by benchmarks/default_corpora.py.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from default_corpora import Row, link, read, write

from emimic import Predictor, load
from emimic.task import EMOTIONS


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("bursts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fraction", type=float, default=0.5)
    given = parser.parse_args()
    labels = {row.pop("Category"): row for row in read(given.bursts / "targets.csv")}
    model = load(given.model)
    for split in ("train", "valid", "test"):
        rows = [row | labels[row["Category"]] for row in read(given.bursts / f"{split}_split.csv")]
        if split == "train":
            soften(rows, model, given.bursts / "audio", given.fraction)
        write(given.out / f"{split}_split.csv", rows)
    link(given.bursts / "audio", given.out / "audio")


def soften(rows: Sequence[Row], model: Predictor, audio: Path, fraction: float) -> None:
    """Mix each clip's known labels with the model's predictions, in place."""
    files = {file.stem: file for file in audio.iterdir()}
    results = model.predict_files([files[row["Filename"]] for row in rows], progress=True)
    predicted = {result.path.stem: result.intensities for result in results.clips}
    for row in rows:
        for name in EMOTIONS:
            if row[name]:
                mixed = (1 - fraction) * float(row[name]) + fraction * predicted[row["Filename"]][name]
                row[name] = f"{mixed:.4f}"


if __name__ == "__main__":
    main()
