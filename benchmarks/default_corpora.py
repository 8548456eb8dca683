"""The corpora of the model in the package, and the encoder that its training starts from.

    python benchmarks/default_corpora.py SOURCE CORPORA         # SOURCE: bursts/, speech/*/, tava/
    python benchmarks/default_corpora.py --unpack ENGINE WHISPER_BASE ENCODER

Training: `bursts` (EmoGator; 237 speakers; 60 others are its test split), `emodb` (acted German) and `plain` (English
commands and wake words, cut into pieces of at most 3 s, since a step of 8 s clips would be four times as long). For
measuring only: `ased` (Amharic; odd speakers "valid", even ones "test") and `tava` ("test").

Valence and dominance of bursts are the norms of the category's name (Warriner, Kuperman and Brysbaert 2013); their
arousal is left unknown, since how a word excites is not how a voice does. V/A/D of acted speech are the means that
people gave the emotions' names in Russell and Mehrabian (1977, Journal of Research in Personality 11, 273-294), in
which, as in voices, anger is dominant and fear is not.

`--unpack` writes the encoder of an exported int8 engine (the model that was in the package before, `git archive 1863960
src/emimic/default | tar x`) as float32 weights in the published format, so that training starts from what it learned.
"""

import argparse
import csv
import json
import os
import random
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from safetensors.numpy import load_file, save_file

from emimic import audio
from emimic.study.imports.masks import labels_of
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


def cells(values: dict[str, float]) -> Row:
    """The six targets as cells; empty where unknown."""
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
    write(out / "train_split.csv", parts["train"])
    write(out / "test_split.csv", parts["valid"])
    # Training runs to its last epoch; a table of valid must be there, and 37 training speakers are watched.
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
        rows.append(columns | cells(labels_of(emotion, joy)) | pad(emotion))
    write(out / "train_split.csv", rows)
    link(source / "audio", out / "audio")


def plain(sources: Sequence[Path], out: Path) -> None:
    """Pieces of plain speech: none of the six."""
    (out / "audio").mkdir(parents=True, exist_ok=True)
    rows = []
    for source in sources:
        for row in read(source / "labels.csv"):
            samples = audio.load(source / "audio" / row["Filename"])
            for number, start in enumerate(range(0, max(1, len(samples) - PIECE // 2), PIECE)):
                name = f"{Path(row['Filename']).stem}-{number}"
                file = out / "audio" / f"{name}.flac"
                if not file.exists():
                    soundfile.write(file, samples[start : start + PIECE], SAMPLE_RATE)
                rows.append({"Filename": name, **cells(dict.fromkeys(EMOTIONS, 0.0))})
    write(out / "train_split.csv", rows)


def ased(source: Path, out: Path) -> None:
    """Odd speakers to choose by, even ones to report; judges agreed on every clip."""
    parts: dict[str, list[Row]] = {"valid": [], "test": []}
    for row in read(source / "labels.csv"):
        emotion = AMHARIC[row["Emotion"]]
        columns = {name: row[name] for name in ("Filename", "Speaker", "Gender")}
        labelled = columns | {"Emotion": emotion} | cells(labels_of(emotion)) | pad(emotion)
        parts["valid" if int(re.sub(r"\D", "", row["Speaker"])) % 2 else "test"].append(labelled)
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


def unpack(engine: Path, base: Path, out: Path) -> None:
    """Write the float32 encoder of an int8 engine; what the engine lacks (late positions) is the base's."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(engine / "model.onnx").graph
    stored = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    users: dict[str, Any] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, node)
    old = load_file(base / "model.safetensors")
    prefix = next(name for name in old if name.endswith("embed_positions.weight"))[
        : -len("embed_positions.weight")
    ]
    new = {
        name.removeprefix("model.encoder."): x
        for name, x in stored.items()
        if name.startswith("model.encoder.")
    }
    new |= {name: stored[name] for name in ("conv1.bias", "conv2.bias")}
    for name, value in stored.items():
        if not (name.endswith("_int8") and value.ndim == 2):
            continue
        node = users[name]
        while (
            "/" not in node.output[0] and node.output[0] in users
        ):  # past what brings a weight back to float32
            node = users[node.output[0]]
        where = re.match(
            r"/(conv[12]|layers\.\d/(?:self_attn/)?(?:[qkv]_proj|out_proj|fc[12]))/", node.output[0]
        )
        if where is None:
            continue  # a head's
        scale = stored[name.removesuffix("int8") + "scale"].reshape(1, -1)
        weight = (value.astype(np.float32) * scale).T
        key = where[1].replace("/", ".") + ".weight"
        if key.startswith("conv"):
            outputs, inputs, taps = old[f"{prefix}{key}"].shape
            weight = weight.reshape(outputs, taps, inputs).transpose(0, 2, 1)
        new[key] = weight
    positions = old[f"{prefix}embed_positions.weight"].astype(np.float32)
    known = stored["positions_float16"]
    positions[: len(known)] = known
    new["embed_positions.weight"] = positions
    layers = 1 + max(int(name.split(".")[1]) for name in new if name.startswith("layers."))
    wanted = [name for name in old if not any(f".layers.{i}." in name for i in range(layers, 100))]
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.ascontiguousarray(new[name.removeprefix(prefix)], np.float32) for name in wanted}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text(encoding="utf-8")) | {"encoder_layers": layers}
    shutil.copy(base / "preprocessor_config.json", out)
    (out / "config.json").write_text(json.dumps(config, indent=1) + os.linesep, encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--unpack", action="store_true")
    parser.add_argument("folders", type=Path, nargs="+")
    given = parser.parse_args()
    (unpack if given.unpack else make)(*given.folders)


if __name__ == "__main__":
    main()
