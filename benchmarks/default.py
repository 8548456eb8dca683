"""The model in the package: its corpus, its scores and its robustness, recorded in docs/results/default.json.

    python benchmarks/default.py split SOURCE CORPUS            # SOURCE: clips.csv, train_split.csv, valid_split.csv, audio/
    emimic train CORPUS --out RUN --config benchmarks/configs/default.yaml --set encoder=WHISPER_BASE_FOLDER

`split` keeps SOURCE's validation speakers unseen as "test" and holds 37 training speakers out as "valid", as
bursts.py does; training has every category: the 23 beside the six's (and Neutral) lack targets, which the loss leaves
out, and are an auxiliary task. Arousal, dominance and valence are weak labels: the norms of the category's name.
"""

import argparse
import csv
from pathlib import Path

from bursts import split as split_speakers

WORDS = {
    # Valence, arousal, dominance of a word, 1 to 9 (Warriner, Kuperman and Brysbaert 2013, Behavior Research Methods
    # 45, 1191-1207). "elation" isn't among them; "romantic love" is the mean of its two words.
    "Adoration": (6.47, 4.36, 6.54), "Amusement": (7.00, 4.82, 6.59), "Anger": (2.50, 5.93, 5.14),
    "Awe": (6.85, 3.83, 5.85), "Confusion": (3.32, 4.64, 3.08), "Contempt": (3.22, 4.61, 4.45),
    "Contentment": (6.62, 4.60, 6.58), "Desire": (7.05, 6.20, 6.07), "Disappointment": (2.79, 4.90, 4.08),
    "Disgust": (3.32, 5.00, 4.84), "Distress": (3.25, 4.00, 3.90), "Ecstasy": (7.19, 6.11, 5.52),
    "Embarrassment": (2.72, 5.45, 2.92), "Fear": (2.93, 6.14, 3.32), "Guilt": (2.29, 4.48, 4.35),
    "Interest": (6.66, 4.36, 6.31), "Neutral": (5.50, 3.45, 5.81), "Pain": (2.00, 6.27, 3.47),
    "Pride": (6.50, 5.54, 5.83), "Realization": (6.42, 3.67, 5.68), "Relief": (6.63, 4.42, 5.64),
    "Romantic Love": (7.805, 5.24, 6.185), "Sadness": (2.40, 2.81, 3.84), "Serenity": (7.75, 2.95, 5.97),
    "Shame": (2.62, 5.40, 5.21), "Surprise (Positive)": (7.44, 6.57, 5.17), "Sympathy": (6.57, 3.08, 5.90),
    "Triumph": (7.34, 5.60, 7.50),
}  # fmt: skip
VAD = ("Valence", "Arousal", "Dominance")


def split(source: Path, corpus: Path) -> None:
    """bursts.py's three tables; the training one with all categories, their names and the names' norms in [0, 1]."""
    split_speakers(source, corpus)
    table = corpus / "train_split.csv"
    with table.open(newline="", encoding="utf-8") as file:
        speakers = {row["Speaker"] for row in csv.DictReader(file)}
    with (source / "clips.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["Speaker"] in speakers]
    for row in rows:
        norms = WORDS.get(row["Category"])
        for name, value in zip(VAD, norms or (None,) * 3, strict=True):
            row[name] = "" if value is None else f"{(value - 1) / 8:.4f}"
        del row["Take"], row["Split"]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """The verbs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    splitting = verbs.add_parser("split")
    splitting.add_argument("source", type=Path)
    splitting.add_argument("corpus", type=Path)
    given = parser.parse_args()
    split(given.source, given.corpus)


if __name__ == "__main__":
    main()
