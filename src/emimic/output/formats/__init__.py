"""Files of results in the formats of this field's programs: one module per format, one function to write any."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from emimic.files import make_folder, write_atomically
from emimic.inference.results import SCHEMA, Result, Results
from emimic.output.formats import (
    audformat,
    elan,
    elan_series,
    json_csv,
    nova,
    nova_stream,
    praat,
    webvtt,
)
from emimic.output.formats.common import Format
from emimic.output.formats.json_csv import to_csv, to_json, to_sentences_csv, to_steps_csv
from emimic.output.formats.names import make_safe, make_unique
from emimic.progress import show_progress
from emimic.task import EmimicError
from emimic.wording import suggest_name

__all__ = [
    "FORMATS",
    "SCHEMA",
    "TAKEN",
    "Format",
    "describe_missing",
    "make_unique",
    "render",
    "resolve",
    "to_csv",
    "to_json",
    "to_sentences_csv",
    "to_steps_csv",
    "write",
    "write_all",
]  # fmt: skip

FORMATS: Final = {
    form.name: form
    for form in (
        json_csv.JSON,
        json_csv.CSV,
        json_csv.INTERVALS,
        praat.FORMAT,
        elan.FORMAT,
        elan_series.FORMAT,
        nova.FORMAT,
        nova_stream.FORMAT,
        audformat.FORMAT,
        webvtt.FORMAT,
    )
}
"""The formats that `write` can write, by name."""

TAKEN: Final = ("intensities", "results", "sentences")
"""Stems of the files of all recordings."""

_ALIASES: Final = {alias: form.name for form in FORMATS.values() for alias in form.aliases}

_SPREADSHEETS: Final = frozenset({"excel", "xls", "xlsx", "ods", "calc", "spss", "sav", "tsv"})
"""Formats of spreadsheet and statistics programs, which open csv."""


def resolve(text: str) -> str:
    """Return the name in FORMATS for a name or an alias: `ELAN`, `.eaf` and `eaf` are one format.

    Raises:
        EmimicError: no format has this name.
    """
    name = text.strip().casefold().removeprefix(".")
    name = _ALIASES.get(name, name)
    if name not in FORMATS:
        hint = (
            " (csv is what spreadsheets and statistics programs open)"
            if name in _SPREADSHEETS
            else suggest_name(name, [*FORMATS, *_ALIASES])
        )
        raise EmimicError(
            f"no format is called {text.strip()!r}{hint}: expected some of {', '.join(FORMATS)}"
        )
    return name


def describe_missing(kinds: Iterable[str]) -> dict[str, str]:
    """Return a message about the missing extra for each of FORMATS that can't be written here."""
    messages = {}
    for kind in dict.fromkeys(kinds):
        extra = FORMATS[resolve(kind)].extra
        if extra is not None and (message := extra.describe_missing()):
            messages[kind] = message
    return messages


def render(result: Result, kind: str) -> str:
    """Return the text of a recording's file in a format that has a single one.

    Raises:
        EmimicError: an unknown format, one of several files, or a missing extra.
    """
    form = FORMATS[resolve(kind)]
    if form.render is None:
        raise EmimicError(f"the format {form.name} has several files. Write them into a folder")
    return form.render(result)


def write(result: Result, out: Path, kinds: Sequence[str], *, name: str | None = None) -> list[Path]:
    """Write a recording's files into the folder `out`, which is made if it is missing.

    Existing files of that name are replaced atomically. `make_unique` makes names for several recordings.

    Args:
        result: of one recording.
        out: the folder.
        kinds: names or aliases of FORMATS; each writes one or more files.
        name: stem of the files' names; default: the recording's stem. Characters that some system refuses become `_`.

    Returns:
        The paths of the files.

    Raises:
        EmimicError: an unknown format; or a missing extra, after the other formats are written.
        OutputError: the folder can't be made or written to.
    """
    kinds = [resolve(kind) for kind in kinds]
    missing = describe_missing(kinds)
    make_folder(out)
    stem = make_safe(result.name if name is None else name)
    usable = [kind for kind in dict.fromkeys(kinds) if kind not in missing]
    written = [path for kind in usable for path in FORMATS[kind].write(result, out, stem)]
    if missing:
        raise EmimicError("; ".join(missing.values()))
    return written


def write_all(results: Results, out: Path, kinds: Sequence[str], *, progress: bool = False) -> list[Path]:
    """Write intensities.csv, results.json and any sentences.csv of all recordings, and each recording's files.

    Recordings with the same stem get numbers after their names.

    Args:
        results: of any number of recordings.
        out: the folder; made if it is missing.
        kinds: names or aliases of FORMATS, for each recording.
        progress: show a progress bar on standard error.

    Returns:
        The paths of the files.

    Raises:
        EmimicError: see `write`.
        OutputError: see `write`.
    """
    make_folder(out)
    written = [out / "intensities.csv", out / "results.json"]
    write_atomically(written[0], to_csv(results))
    write_atomically(written[1], to_json(results))
    if any(clip.sentences is not None for clip in results.clips):
        written.append(out / "sentences.csv")
        write_atomically(written[2], to_sentences_csv(results))
    names = make_unique((clip.name for clip in results.clips), taken=TAKEN)
    clips = zip(results.clips, names, strict=True)
    kinds = [resolve(kind) for kind in kinds]
    missing = describe_missing(kinds)
    usable = [kind for kind in kinds if kind not in missing]
    for result, name in show_progress(clips, "files", total=len(results.clips), show=progress):
        written += write(result, out, usable, name=name)
    if missing:
        raise EmimicError("; ".join(missing.values()))
    return written
