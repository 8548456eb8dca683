"""The description of an exported model, engine.json: its spec, and the checksums of its files."""

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from emimic import calibration
from emimic.files import compute_sha256, fingerprint, read_json
from emimic.inference.spec import Spec
from emimic.media.waveform import ClipFormat
from emimic.task import ModelError

SCHEMA: Final = "emimic/engine/1"
DESCRIPTION: Final = "engine.json"

PARTS: Final = ("encoder", "head")
"""Graphs of an exported model, in the order in which they run."""


def hash_model(folder: Path) -> str:
    """Return a SHA-256 of everything that determines a model's predictions, for the keys of all that is stored of them.

    It covers the preparation of clips, and an exported model's description, which holds the hashes of its files, or a
    training run's configuration, weights and calibration.
    """
    names = [DESCRIPTION] if (folder / DESCRIPTION).is_file() else ["config.json", "model.safetensors"]
    if names[0] != DESCRIPTION and (folder / calibration.FILE).is_file():
        names.append(calibration.FILE)  # it holds the hash of its arrays
    parts = [str(ClipFormat.version), *(compute_sha256(folder / name) for name in names)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read_description(folder: Path) -> dict[str, Any]:
    """Return the engine.json of an exported model.

    Raises:
        ModelError: The file is damaged or of another version.
    """
    file = folder / DESCRIPTION
    try:
        description = read_json(file)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file} can't be read as JSON ({error}): copy or export the folder again"
        ) from error
    schema = description.get("schema") if isinstance(description, dict) else None
    if schema != SCHEMA:
        raise ModelError(
            f"{file} has the schema {schema!r}, this emimic reads {SCHEMA!r}: export the run again, or use the emimic "
            "that wrote it"
        )
    return description  # type: ignore[no-any-return]


def read_spec(description: dict[str, Any], file: Path) -> Spec:
    """Return the spec in a description.

    Args:
        description: Of an exported model.
        file: Its file, for messages.

    Raises:
        ModelError: The spec is missing or impossible.
    """
    values = description.get("spec")
    try:
        given = {field.name: values[field.name] for field in fields(Spec) if field.name in values}  # type: ignore[index,operator]
        spec = Spec(**{**given, "targets": tuple(given["targets"])})
        is_valid = all(isinstance(name, str) for name in spec.targets) and (
            spec.max_seconds > 0 and spec.min_samples > 0 and spec.hop > 0 and spec.first >= 0
        )
    except (TypeError, KeyError) as error:
        raise ModelError(f"{file} has no valid spec of the model ({error!r}): export it again") from error
    if not is_valid:
        raise ModelError(f"{file} has an impossible spec of the model ({spec}): export it again")
    return spec


def check_files(folder: Path, description: dict[str, Any], *, full: bool = False) -> None:
    """Check that every file of an exported model is the one described.

    Large files are read in samples unless `full`: reading them would take longer than predicting.

    Raises:
        ModelError: A file is missing or changed.
    """
    files = description.get("files")
    if not isinstance(files, dict) or not all(
        isinstance(hashes, dict) and isinstance(hashes.get("sha256"), str) for hashes in files.values()
    ):
        raise ModelError(
            f"{folder / DESCRIPTION} doesn't name its files; it is damaged: copy or export the folder again"
        )
    for name, hashes in files.items():
        file = folder / name
        if not file.is_file():
            raise ModelError(f"{folder} has no {name}; the folder is incomplete: copy or export it again")
        kind = "fingerprint" if "fingerprint" in hashes and not full else "sha256"
        value = fingerprint(file) if kind == "fingerprint" else compute_sha256(file)
        if hashes[kind] != value:
            raise ModelError(
                f"{file} is not the file its {DESCRIPTION} describes ({kind} {value[:12]}..., expected "
                f"{str(hashes[kind])[:12]}...): copy or export the folder again"
            )


def list_graphs(description: dict[str, Any], suffix: str) -> tuple[str, ...]:
    """Return the names of an exported model's graphs: encoder and head, or the only one of an older export.

    Args:
        description: Of an exported model.
        suffix: Of the runtime's files.
    """
    graphs = description.get("graphs")
    return (f"model{suffix}",) if graphs is None else tuple(graphs[part] for part in PARTS)
