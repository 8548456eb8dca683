"""The paper's tables on vocal bursts (EmoGator), recorded in docs/results/evidence.json from finished grids.

    python -m benchmarks.bursts split SOURCE CORPUS            # 60 unseen speakers as "test", 37 held out as "valid"
    python -m benchmarks.evidence commands CORPUS OUT MODELS   # prints what runs the grids, each resumable
    python -m benchmarks.evidence record OUT

MODELS holds the encoders of openai/whisper-base and whisper-tiny.en in folders of those names with -encoder behind.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.bursts import NOTE, machine
from benchmarks.command import make_parser

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "evidence.json"
GRIDS = ("ablation", "losses", "padding", "baselines")
SHARED = (
    "--set encoder={models}/whisper-tiny.en-encoder --set encoder_layers=3 --set freeze_encoder=true "
    "--set precision=bf16-mixed --set ema=0.99 --set patience=null --set lr=1e-3 --set epochs=6 --set threads=1 "
    "--set features={out}/features --set checkpoint_steps=100000 --split test --seeds 0,1,2"
)
COMMANDS = (
    "emimic ablate {corpus} --out {out}/ablation --rows table2 "
    + SHARED
    + " --encoder w2v2-l={out}/random-encoder "
    "--encoder xlsr={out}/base4",
    "emimic ablate {corpus} --out {out}/losses --rows gv-head,loss-ccc,loss-pearson,loss-mse-ccc,loss-mse-pearson "
    "--against gv-head " + SHARED + " --set lstm=false --set vad_head=false",
    "emimic ablate {corpus} --out {out}/padding --rows gv-head,zeros --against gv-head "
    + SHARED
    + " --set lstm=false --set vad_head=false --set max_seconds=4",
    "emimic features {corpus} --kind speech --model {models}/whisper-tiny.en-encoder --set layers=3 --name tiny3",
    "emimic baselines {corpus} --out {out}/baselines --rows baseline-audio,concatenated-audio,wavlm_tcn,"
    "savchenko-audio "
    "--against baseline-audio --modality audio=tiny3 --seeds 0,1,2 --split test --set threads=1 "
    "--set checkpoint_steps=100000",
)
STANDING_IN = (
    "All encoders are frozen and small: the rows without another's name stand on Whisper tiny.en's first three layers; "
    "in the place of W2V2-L stands an encoder of Whisper base's shape that was never trained, in the place of XLSR the "
    "first four layers of Whisper base."
)


def encoders(models: Path, out: Path) -> None:
    """Write the two encoders that stand in for others: whole folders in the published format."""
    import torch
    from transformers import AutoConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    from emimic.model.model import EmiModel

    source = models / "whisper-base-encoder"
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(source)
    config.encoder_layers = 4
    first = EmiModel.from_encoder(source, layers=4).encoder
    torch.manual_seed(0)
    for name, encoder in (("random-encoder", WhisperEncoder(config)), ("base4", first)):
        encoder.save_pretrained(out / name)
        text = (source / "preprocessor_config.json").read_text(encoding="utf-8")
        (out / name / "preprocessor_config.json").write_text(text, encoding="utf-8")


def record(out: Path) -> dict[str, Any]:
    """What the grids came to, without what is too long for a record."""
    figures: dict[str, Any] = {"note": NOTE, "encoders": STANDING_IN, "machine": machine()}
    for grid in GRIDS:
        file = out / grid / "results.json"
        if not file.exists():
            continue
        results = json.loads(file.read_text(encoding="utf-8"))
        for row in results["rows"]:
            row["runs"] = [
                {name: run[name] for name in ("seed", "mean", "epochs", "seconds")} for run in row["runs"]
            ]
        figures[grid] = results
    return figures


def main() -> None:
    """The command line."""
    parser = make_parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    commands = verbs.add_parser("commands")
    for name in ("corpus", "out", "models"):
        commands.add_argument(name, type=Path)
    verbs.add_parser("record").add_argument("out", type=Path)
    asked = parser.parse_args()
    if asked.verb == "record":
        RESULTS.write_text(
            json.dumps(record(asked.out), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        return
    encoders(asked.models, asked.out)
    for command in COMMANDS:
        print(command.format(**vars(asked)))


if __name__ == "__main__":
    main()
