"""The corpora of the included model.

    python -m benchmarks.default_corpora SOURCE CORPORA         # SOURCE: bursts/, speech/*/, tava/

Training: `bursts` (EmoGator; 237 speakers; 60 others are its test split), `emodb` (acted German) and `plain` (English
commands and wake words, cut into pieces of at most 3 s, since a step of 8 s clips would be four times as long). For
measuring only: `ased` (Amharic; odd speakers "valid", even ones "test") and `tava` ("test").

Valence and dominance of bursts are the norms of the category's name (Warriner, Kuperman and Brysbaert 2013); their
arousal is left unknown, since how a word excites is not how a voice does. V/A/D of acted speech are the means that
people gave the emotions' names in Russell and Mehrabian (1977, Journal of Research in Personality 11, 273-294), in
which, as in voices, anger is dominant and fear is not.
"""

import csv
import random
import re
from collections.abc import Sequence
from pathlib import Path

import soundfile

from benchmarks.command import make_parser
from emimic.data.importers.masks import get_category_labels
from emimic.media import decode
from emimic.task import EMOTIONS, SAMPLE_RATE, VAD

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
PAD = {
    # Pleasure, arousal, dominance, -1 to 1 (Russell and Mehrabian 1977).
    "anger": (-0.51, 0.59, 0.25), "boredom": (-0.65, -0.62, -0.33), "disgust": (-0.60, 0.35, 0.11),
    "fear": (-0.64, 0.60, -0.43), "happiness": (0.76, 0.48, 0.35), "neutral": (0.0, 0.0, 0.0),
    "sadness": (-0.63, -0.27, -0.33),
}  # fmt: skip
AMHARIC = {"angry": "anger", "fearful": "fear", "happy": "happiness", "neutral": "neutral", "sad": "sadness"}
PIECE = 3 * SAMPLE_RATE

Row = dict[str, str]


def read(table: Path) -> list[Row]:
    """Read a CSV."""
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(table: Path, rows: Sequence[Row]) -> None:
    """Write a CSV."""
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def link(source: Path, target: Path) -> None:
    """Make a symbolic link, once."""
    if not target.exists():
        target.symlink_to(source.resolve())


def format_targets(values: dict[str, float]) -> Row:
    """Return the six targets as text of a CSV; empty where unknown."""
    return {name: f"{values[name]:g}" if name in values else "" for name in EMOTIONS}


def pad(emotion: str) -> Row:
    """V/A/D of an emotion's name in [0, 1]."""
    pleasure, arousal, dominance = PAD[emotion]
    return {name: f"{(x + 1) / 2:.4f}" for name, x in zip(VAD, (arousal, dominance, pleasure), strict=True)}


def bursts(source: Path, out: Path) -> None:
    """Split tables by speaker, and what each of the 30 categories says of the six and of V/A/D."""
    parts: dict[str, list[Row]] = {"train": [], "valid": []}
    for row in read(source / "clips.csv"):
        kept = {name: row[name] for name in ("Filename", "Speaker", "Category", "Take")}
        parts[row["Split"]].append(kept)
    write(out / "test_split.csv", parts["valid"])
    # Epochs are compared, and intensities calibrated, on 37 training speakers that are held out.
    speakers = sorted({row["Speaker"] for row in parts["train"]})
    watched = set(random.Random(0).sample(speakers, 37))
    write(out / "train_split.csv", [row for row in parts["train"] if row["Speaker"] not in watched])
    write(out / "valid_split.csv", [row for row in parts["train"] if row["Speaker"] in watched])
    table = []
    for row in read(source / "targets.csv"):
        norms = WORDS.get(row["Category"])
        values = (None, None, None) if norms is None else (None, norms[2], norms[0])
        row |= {name: "" if x is None else f"{(x - 1) / 8:.4f}" for name, x in zip(VAD, values, strict=True)}
        table.append(row)
    write(out / "targets.csv", table)
    link(source / "audio", out / "audio")


def emodb(source: Path, out: Path) -> None:
    """Every clip; happiness is as joyful as listeners recognized it."""
    rows = []
    for row in read(source / "labels.csv"):
        emotion = row["Emotion"]
        joy = float(row["RecognisedPercent"]) / 100 if emotion == "happiness" else None
        columns = {name: row[name] for name in ("Filename", "Speaker", "Gender", "Emotion", "TextCode")}
        rows.append(columns | format_targets(get_category_labels(emotion, joy)) | pad(emotion))
    write(out / "train_split.csv", rows)
    link(source / "audio", out / "audio")


def plain(sources: Sequence[Path], out: Path) -> None:
    """Pieces of plain speech: none of the six."""
    (out / "audio").mkdir(parents=True, exist_ok=True)
    rows = []
    for source in sources:
        for row in read(source / "labels.csv"):
            samples = decode.load(source / "audio" / row["Filename"])
            for number, start in enumerate(range(0, max(1, len(samples) - PIECE // 2), PIECE)):
                name = f"{Path(row['Filename']).stem}-{number}"
                file = out / "audio" / f"{name}.flac"
                if not file.exists():
                    soundfile.write(file, samples[start : start + PIECE], SAMPLE_RATE)
                rows.append({"Filename": name, **format_targets(dict.fromkeys(EMOTIONS, 0.0))})
    write(out / "train_split.csv", rows)


def ased(source: Path, out: Path) -> None:
    """Odd speakers to choose by, even ones to report; judges agreed on every clip."""
    parts: dict[str, list[Row]] = {"valid": [], "test": []}
    for row in read(source / "labels.csv"):
        emotion = AMHARIC[row["Emotion"]]
        columns = {name: row[name] for name in ("Filename", "Speaker", "Gender")}
        labeled = columns | {"Emotion": emotion} | format_targets(get_category_labels(emotion)) | pad(emotion)
        parts["valid" if int(re.sub(r"\D", "", row["Speaker"])) % 2 else "test"].append(labeled)
    for name, part in parts.items():
        write(out / f"{name}_split.csv", part)
    link(source / "audio", out / "audio")


def tava(source: Path, out: Path) -> None:
    """Mean ratings, -1 to 1, as V/A/D in [0, 1]."""
    rows = []
    for row in (*read(source / "train_split.csv"), *read(source / "valid_split.csv")):
        ratings = {name: f"{(float(row[name]) + 1) / 2:.6f}" for name in VAD}
        rows.append(
            {"Filename": row["Filename"], "Speaker": row["Speaker"], "Affect": row["Affect"], **ratings}
        )
    write(out / "test_split.csv", rows)
    link(source / "audio", out / "audio")


def make(source: Path, out: Path) -> None:
    """Make all five corpora."""
    speech = source / "speech"
    bursts(source / "bursts", out / "bursts")
    emodb(speech / "emodb", out / "emodb")
    plain((speech / "plain_commands", speech / "plain_wakeword"), out / "plain")
    ased(speech / "ased_amharic", out / "ased")
    tava(source / "tava", out / "tava")


def main() -> None:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    make(given.source, given.out)


if __name__ == "__main__":
    main()
