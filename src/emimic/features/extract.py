"""Features of a corpus, by kind: `emimic features FOLDER --kind KIND` (the systems of Table 1 stand on them).

A kind is a module with `Settings`, what may be set, and `plan`, what is to be made of a folder; `session` does the rest
the same way for all: which clips, what is there already, what failed.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from emimic.cpus import available
from emimic.features.extractor import Job, Report, run
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
"""Kind -> its module here; what a kind needs is imported with it."""


def settings_of(kind: str) -> Any:
    """What may be set for a kind: a pydantic model whose fields say what they are. Raises SettingsError."""
    if kind not in KINDS:
        raise SettingsError(f"kind is {kind!r}, expected one of {', '.join(KINDS)}")
    return importlib.import_module(f"emimic.features.{KINDS[kind]}").Settings


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
    """Make features of a kind under `folder/features/NAME/`, where they aren't there yet; what can't be used is named.

    name: of the features, by default the kind's. model: a path or a name on the hub, for kinds that need one.
    overrides: the kind's settings. workers: threads, default one a core. progress: show a bar on stderr.

    Raises:
        CorpusError: nothing to make them of; features of another model or other settings are there.
        ModelError: no model, or one that can't be used.
        SettingsError: an unknown kind, or settings that make no sense.
    """
    schema = settings_of(kind)
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
    job = Job(folder, kind, name, model, workers or available(), device, progress)
    plan = importlib.import_module(schema.__module__).plan
    return [run(work, progress=progress) for work in plan(job, settings)]
