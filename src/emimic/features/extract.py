"""Features of a corpus, by kind: `emimic features FOLDER --kind KIND`; the baselines of Table 1 read them.

A kind is a module with its `Settings` and `plan`, which returns the work for a folder. `extractor` does the rest for
all kinds.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from emimic.cpus import count_available
from emimic.features.extractor import Job, Report, make_missing
from emimic.features.kinds import check_source
from emimic.task import CorpusError, SettingsError
from emimic.validation import explain

KINDS: Final = {
    "challenge": "challenge",
    "speech": "speech",
    "log-mel": "logmel",
    "faces": "faces",
    "face-descriptors": "descriptors",
    "transcripts": "transcripts",
    "text": "text",
}
"""Kind -> its module in this package, which is imported on demand."""


def get_schema(kind: str) -> Any:
    """Return the settings of a kind, a pydantic model with descriptions of its fields.

    Raises:
        SettingsError: if the kind is unknown.
    """
    if kind not in KINDS:
        raise SettingsError(f"kind is {kind!r}, expected one of {', '.join(KINDS)}")
    return importlib.import_module(f"{__package__}.{KINDS[kind]}").Settings


def extract(
    folder: str | Path,
    kind: str,
    *,
    name: str | None = None,
    model: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    workers: int | None = None,
    device: str | None = None,
    progress: bool = False,
) -> list[Report]:
    """Make features of a kind under `folder/features/NAME/`, where they aren't there yet.

    Args:
        folder: the corpus.
        kind: one of KINDS.
        name: of the features, by default the kind's.
        model: a path or a name on the hub, for kinds that need one.
        overrides: the kind's settings.
        workers: threads, by default one per core.
        device: of the model, such as "cuda".
        progress: whether to show a bar on stderr.

    Returns:
        A report for each folder of features, which lists the clips that failed.

    Raises:
        CorpusError: if the corpus has nothing to make them from, or the folder has features of another model or
            other settings.
        ModelError: if no model is named, or it can't be used.
        SettingsError: if the kind is unknown, or settings are invalid.
    """
    schema = get_schema(kind)
    check_source(model, kind)
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder; expected a corpus with audio/ or raw/")
    if name is not None and (
        not name or Path(name).name != name or name.startswith(".") or name != name.strip()
    ):
        raise SettingsError(f"name is {name!r}, expected a plain folder name such as {kind}")
    try:
        settings = schema.model_validate(dict(overrides or {}))
    except ValidationError as error:
        raise SettingsError(explain(error, schema)) from error
    job = Job(folder, kind, name, model, workers or count_available(), device, progress)
    plan = importlib.import_module(schema.__module__).plan
    return [make_missing(work, progress=progress) for work in plan(job, settings)]
