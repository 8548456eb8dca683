"""Common parts of the formats: their declaration, values, names, and the import of optional libraries."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, Final

from emimic.files import make_writable
from emimic.inference.results import Result
from emimic.install import install
from emimic.output.extras import Extra
from emimic.task import EmimicError

VOICE_SEGMENTS: Final = "voice segments"
"""Name of the tier or table of the voice segments."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format for the timeline of a recording.

    name: as users write it. description: for users. write: writes a result into a folder, with a stem for the files'
    names, and returns their paths. aliases: other names, such as of the programs that open it. extra: the packages it
    needs, None for those of the base install.
    """

    name: str
    description: str
    write: Callable[[Result, Path, str], list[Path]]
    aliases: tuple[str, ...] = ()
    extra: Extra | None = None


def format_value(value: float) -> str:
    """Return a value as a label: three decimals, no minus zero."""
    return f"{round(value, 3) + 0.0:.3f}"


def find_media_name(path: PurePath) -> str:
    """Return the recording's file name, for a format that contains it."""
    return make_writable(path.name) or "recording"


def import_library(name: str, kind: str) -> ModuleType | Any:
    """Import a library that only some formats need.

    Raises:
        EmimicError: the library is not installed.
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
