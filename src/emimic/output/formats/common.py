"""What several formats write: names, values, the libraries they need."""

import importlib
from pathlib import PurePath
from types import ModuleType
from typing import Any, Final

from emimic.files import writable
from emimic.install import install
from emimic.task import EmimicError

VOICE_SEGMENTS: Final = "voice segments"
"""Name of the tier or table of the stretches in which a voice is heard."""


def label(value: float) -> str:
    """A value as people read it: three decimals, no minus zero."""
    return f"{round(value, 3) + 0.0:.3f}"


def media_name(path: PurePath) -> str:
    """The recording's file name, for a format that names it."""
    return writable(path.name) or "recording"


def library(name: str, kind: str) -> ModuleType | Any:
    """A library that only some formats need.

    Raises:
        EmimicError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise EmimicError(
            f"the format {kind!r} is written by {package}, which is not installed: {install('formats')}"
        ) from error
