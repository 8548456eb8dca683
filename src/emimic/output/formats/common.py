"""Common parts of the formats: their declaration, values, names, and the import of optional libraries."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.files import make_writable
from emimic.inference.results import Result, Sentence
from emimic.install import install
from emimic.output.extras import Extra
from emimic.task import EmimicError

VOICE_SEGMENTS: Final = "voice segments"
"""Name of the tier or table of the voice segments."""

SENTENCES: Final = "sentences"
"""Name of the tier of the sentences' words."""

Pieces = list[tuple[int, int, str]]
"""Intervals of a tier: start and end in ms, and the text; in order, without overlap."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format for the timeline of a recording.

    name: as users write it. description: for users. write: writes a result into a folder, with a stem for the files'
    names, and returns their paths. aliases: other names, such as of the programs that open it. extra: the packages it
    needs, None for those of the base install. render: returns the text of the only file, which names no other file;
    None if there are several.
    """

    name: str
    description: str
    write: Callable[[Result, Path, str], list[Path]]
    aliases: tuple[str, ...] = ()
    extra: Extra | None = None
    render: Callable[[Result], str] | None = None


def format_value(value: float) -> str:
    """Return a value as a label: three decimals, no minus zero."""
    return f"{round(value, 3) + 0.0:.3f}"


def list_tiers(result: Result) -> dict[str, Pieces]:
    """Return the tiers of a recording by name: voice segments, each dimension's steps, and the sentences, if any.

    Sentences have a tier of their words and one of values for each dimension, named as in `Joy (sentences)`.
    """
    grid = result.to_steps()
    tiers: dict[str, Pieces] = {VOICE_SEGMENTS: [(start, end, "voice") for start, end in grid.voice_segments]}
    for column, name in enumerate(grid.names):
        tiers[name] = [(start, end, format_value(value)) for start, end, value in grid.list_pieces(column)]
    if result.sentences is None:
        return tiers
    spans = list_spans(result)
    tiers[SENTENCES] = [(start, end, sentence.text) for start, end, sentence in spans]
    for column, name in enumerate(grid.names):
        values = [(start, end, float(_get_values(sentence)[column])) for start, end, sentence in spans]
        tiers[f"{name} ({SENTENCES})"] = [
            (start, end, format_value(value)) for start, end, value in values if np.isfinite(value)
        ]
    return tiers


def list_spans(result: Result) -> list[tuple[int, int, Sentence]]:
    """Return (start ms, end ms, sentence) of a recording's sentences, in order, without overlap, each 1 ms or more."""
    total = max(1, round(result.seconds * 1000))
    spans: list[tuple[int, int, Sentence]] = []
    for sentence in sorted(result.sentences or (), key=lambda sentence: sentence.start):
        start = max(round(sentence.start * 1000), spans[-1][1] if spans else 0)
        end = min(max(round(sentence.end * 1000), start + 1), total)
        if start < end:
            spans.append((start, end, sentence))
    return spans


def _get_values(sentence: Sentence) -> NDArray[np.float32]:
    """Return intensities, then V/A/D if there are any."""
    return (
        sentence.intensities if sentence.vad is None else np.concatenate([sentence.intensities, sentence.vad])
    )


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
