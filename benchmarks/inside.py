"""The paper's 2:1 experiment (section 6.2) on vocal bursts, with a voice model, recorded in docs/results/inside.json.

    python -m benchmarks.inside corpus SOURCE CORPUS           # 60 training speakers, and the 60 of "valid"
    python -m benchmarks.inside commands CORPUS OUT MODELS     # prints the commands, which are resumable
    python -m benchmarks.inside record OUT

SOURCE holds train_split.csv, valid_split.csv and audio/ of EmoGator, MODELS whisper-tiny.en-encoder.
"""

import csv
import json
import random
from pathlib import Path
from typing import Any, Final

from benchmarks.bursts import machine
from benchmarks.command import make_parser
from benchmarks.results import RESULTS

FILE: Final = RESULTS / "inside.json"
SPEAKERS: Final = 60
"""Of the training split, as many as the validation split has, so that both are divided alike."""

COMMON: Final = (
    "encoder_layers=2", "lstm=false", "vad_head=false", "max_seconds=4", "patience=null", "precision=bf16-mixed",
    "threads=1", "workers=1", "checkpoint_steps=100000",
)  # fmt: skip
VARIANTS: Final = {
    "frozen": ("freeze_encoder=true", "epochs=8", "lr=1e-3", "features={out}/features"),
    "tuned": ("epochs=4", "lr=3e-4", "encoder_lr=5e-5"),
}
"""Settings with the encoder frozen, and fine-tuned end to end."""

NOTE: Final = (
    "Vocal bursts (EmoGator, Apache-2.0), labels are the intended category cast onto the six targets by this project: "
    "not the paper's corpus, not comparable with its figure. In the place of its fine-tuned image encoders stands a "
    "voice model: Whisper tiny.en's first two layers, with the mean vector and the regression head. One seed."
)


def write_corpus(source: Path, corpus: Path) -> None:
    """Write both split tables, with SPEAKERS speakers each, beside a link to the audio."""
    corpus.mkdir(parents=True, exist_ok=True)
    for split in ("train", "valid"):
        with (source / f"{split}_split.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        speakers = sorted({row["Speaker"] for row in rows})
        chosen = set(random.Random(0).sample(speakers, min(SPEAKERS, len(speakers))))
        with (corpus / f"{split}_split.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(row for row in rows if row["Speaker"] in chosen)
    if not (corpus / "audio").exists():
        (corpus / "audio").symlink_to((source / "audio").resolve())


def make_command(variant: str, corpus: Path, out: Path, models: Path) -> str:
    """Return the command that trains and scores all four divisions of a variant."""
    own = (setting.format(out=out) for setting in VARIANTS[variant])
    settings = (f"encoder={models}/whisper-tiny.en-encoder", *COMMON, *own)
    return f"emimic inside {corpus} --out {out}/{variant} " + " ".join(f"--set {one}" for one in settings)


def record(out: Path) -> dict[str, Any]:
    """Return the scores of the variants that are done, with their commands and machines, and those recorded before."""
    before = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"variants": {}}
    figures: dict[str, Any] = {"note": NOTE, "variants": before["variants"]}
    for variant in VARIANTS:
        file = out / variant / "inside.json"
        if file.exists():
            command = make_command(variant, Path("CORPUS"), Path("OUT"), Path("MODELS"))
            scores = json.loads(file.read_text(encoding="utf-8"))
            figures["variants"][variant] = {"command": command, "machine": machine(), **scores}
    return figures


def main() -> None:
    """Read the command line."""
    parser = make_parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, names in (
        ("corpus", ("source", "corpus")),
        ("commands", ("corpus", "out", "models")),
        ("record", ("out",)),
    ):
        command = verbs.add_parser(verb)
        for name in names:
            command.add_argument(name, type=Path)
    given = parser.parse_args()
    if given.verb == "corpus":
        write_corpus(given.source, given.corpus)
    elif given.verb == "commands":
        for variant in VARIANTS:
            print(make_command(variant, given.corpus, given.out, given.models))
    else:
        text = json.dumps(record(given.out), indent=1, ensure_ascii=False)
        FILE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
