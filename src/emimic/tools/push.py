"""Upload of a training run to the Hugging Face hub, with its exported model and a card."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emimic.files import read_json
from emimic.inference.engine import find_fastest
from emimic.inference.hub import EXPORTED, RUN_FILES
from emimic.install import install
from emimic.task import VAD, ModelError

NON_COMMERCIAL: Final = {"wav2vec2-large-robust-12-ft-emotion-msp-dim": "cc-by-nc-sa-4.0"}
"""Encoder, without its user -> the license that weights derived from it keep (audeering's model card)."""


@dataclass(frozen=True)
class Pushed:
    """What was uploaded.

    Attributes:
        name: USER/NAME.
        commit: its hash.
        files: their names in the repository.
    """

    name: str
    commit: str
    files: tuple[str, ...]

    def to_text(self) -> str:
        """Return the name with which it is predicted, and the files."""
        return "\n".join([f"hf:{self.name}@{self.commit}", *(f"  {file}" for file in self.files)])


def push(
    run: Path, name: str, *, license_id: str, private: bool = False, exported: Path | None = None
) -> Pushed:
    """Upload a run in one commit: safetensors and config, the exported model under onnx/, and a card.

    Args:
        run: folder of the training run.
        name: USER/NAME on the hub; created if it doesn't exist.
        license_id: the hub's identifier, such as apache-2.0.
        private: make a new repository private.
        exported: folder of an exported model; None: the fastest in float32 inside the run, if there is one.

    Raises:
        ModelError: huggingface_hub isn't installed, the run is incomplete, its weights come from a non-commercial
            encoder and the license is another one, or the hub refuses.
    """
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
        from huggingface_hub.errors import HfHubHTTPError
    except ModuleNotFoundError as error:
        raise ModelError(f"push needs {error.name}, which isn't installed: {install('hub')}") from error
    files = _list_files(run, find_fastest(run) if exported is None else exported)
    facts = _read(run / "train.json")
    _check_license(run, facts, license_id)
    card = make_card(run, name, license_id, facts)
    operations = [
        CommitOperationAdd("README.md", card.encode()),
        *(CommitOperationAdd(target, str(file)) for target, file in files.items()),
    ]
    try:
        api = HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        commit = api.create_commit(name, operations, commit_message="Upload a model of emimic")
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{name} can't be uploaded: {reason}. Log in (hf auth login), or check the name"
        ) from error
    return Pushed(name, commit.oid, ("README.md", *files))


def _list_files(run: Path, exported: Path | None) -> dict[str, Path]:
    """Return name in the repository -> file."""
    if not all((run / file).is_file() for file in RUN_FILES[:2]):
        raise ModelError(
            f"{run}: found no {' or no '.join(RUN_FILES[:2])}, expected a finished training run: give its folder"
        )
    files = {file: run / file for file in RUN_FILES if (run / file).is_file()}
    if exported is not None:
        files |= {f"{EXPORTED}/{file.name}": file for file in sorted(exported.iterdir()) if file.is_file()}
    return files


def _read(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _check_license(run: Path, facts: dict[str, Any], license_id: str) -> None:
    """Raise ModelError where an encoder's license forbids the one that is given."""
    encoder = (
        str(facts.get("settings", {}).get("encoder") or "").replace("\\", "/").rstrip("/").split("/")[-1]
    )
    needed = NON_COMMERCIAL.get(encoder)
    if needed is not None and license_id.lower() != needed:
        raise ModelError(
            f"{run}: found the license {license_id}, expected {needed}: its weights come from the encoder {encoder}, "
            f"whose license they keep. Give --license {needed}"
        )


def make_card(run: Path, name: str, license_id: str, facts: dict[str, Any]) -> str:
    """Return the README.md of a repository: metadata with the scores of each evaluated split, and how to use it."""
    from huggingface_hub import EvalResult, ModelCardData

    config = _read(run / "config.json")
    targets = config.get("targets") or []
    reports = [_read(file) for file in sorted(run.glob("evaluation/*/report.json"))]
    corpus = str(facts.get("corpus", {}).get("folder") or "unknown")
    results = [
        EvalResult(
            task_type="audio-classification",
            dataset_type=corpus,
            dataset_name=corpus,
            dataset_split=report["split"],
            metric_type="pearsonr",
            metric_name="mean Pearson",
            metric_value=score,
        )
        for report in reports
        if (score := _get_mean(report)) is not None
    ]
    data = ModelCardData(
        license=license_id,
        library_name="emimic",
        pipeline_tag="audio-classification",
        tags=["speech-emotion-recognition"],
        model_name=name.split("/")[-1],
        eval_results=results or None,
    )
    lines = [
        f"# {name.split('/')[-1]}",
        "",
        "Predicts from a voice: "
        + ", ".join([*targets, *(["V/A/D"] if config.get("vad_head") else [])])
        + ".",
        *([f"V/A/D are in the order {', '.join(VAD)}."] if config.get("vad_head") else []),
        "",
        "```console",
        f"emimic predict recording.wav --model hf:{name}",
        "```",
        "",
        f"Trained with emimic {facts.get('versions', {}).get('emimic', '')} on {corpus}.",
        *(f"Mean Pearson on {result.dataset_split}: {result.metric_value:.4f}." for result in results),
        "",
        "Settings:",
        "",
        "```json",
        json.dumps(_drop_paths(facts.get("settings", {})), indent=1),
        "```",
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n"


def _get_mean(report: dict[str, Any]) -> float | None:
    """Return the mean Pearson of an evaluation's report."""
    value = report.get("metrics", {}).get("pearson", {}).get("mean", {})
    value = value.get("value") if isinstance(value, dict) else value
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _drop_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with the last part of paths only, as the rest is private."""
    return {
        key: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in settings.items()
    }
