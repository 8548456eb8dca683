"""Folder of an adapted run: what may be written into it, and the settings that it was started with."""

import json
from pathlib import Path
from typing import Final

from emimic.files import fingerprint, read_json, write_atomically
from emimic.inference.description import DESCRIPTION
from emimic.model.model import WEIGHTS
from emimic.task import SettingsError
from emimic.training import checkpoint
from emimic.training.adapt_rows import INDEX
from emimic.training.adapt_settings import AdaptSettings

SCHEMA: Final = "emimic/adapt/1"
SETTINGS: Final = "adapt.json"
"""File of the settings in an adapted run."""


def check(out: Path, *, resume: bool) -> None:
    """Raise SettingsError where `out` holds another model, or a run that isn't resumed."""
    is_started = _is_started(out)
    if is_started and not resume:
        raise SettingsError(f"{out} already holds a run: resume it (--resume), or name another folder")
    if not is_started and any((out / name).exists() for name in (checkpoint.SETTINGS, WEIGHTS, DESCRIPTION)):
        raise SettingsError(f"{out} holds a model that adapt has not begun: name another folder")


def read_settings(run: Path, out: Path, settings: AdaptSettings | None) -> AdaptSettings:
    """Return the settings of the run in `out`, or write those of a new one."""
    weights = fingerprint(run / WEIGHTS)
    file = out / SETTINGS
    if _is_started(out):
        try:
            stored = read_json(file)
            before = AdaptSettings.read(stored["settings"])
            is_same = stored["weights"] == weights
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{file} can't be read ({error}): name another folder") from error
        if not is_same:
            raise SettingsError(
                f"{out} was started from another run than {run}: give that one, or name another folder"
            )
        if settings not in (None, before):
            old, new = before.model_dump(), {} if settings is None else settings.model_dump()
            others = ", ".join(
                f"{name}={old[name]}, not {new[name]}" for name in old if old[name] != new[name]
            )
            raise SettingsError(
                f"{out} was started with other settings ({others}): resume without settings, or name another folder"
            )
        return before
    settings = settings or AdaptSettings.read()
    described = {"schema": SCHEMA, "weights": weights, "settings": settings.model_dump(mode="json")}
    write_atomically(file, json.dumps(described, indent=1) + "\n")
    return settings


def _is_started(out: Path) -> bool:
    return (out / SETTINGS).exists() and (out / INDEX).exists()  # without an index nothing has been learned
