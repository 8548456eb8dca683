"""Results as files that the tools of this field open: a module a format, and one function that writes any of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from emimic.files import make_folder, write_atomic
from emimic.inference.results import SCHEMA, Result, Results
from emimic.output import extras
from emimic.output.formats import audformat, elan, json_csv, nova, praat, webvtt
from emimic.output.formats.json_csv import steps_to_csv, to_csv, to_json
from emimic.output.formats.names import safe, unique
from emimic.progress import shown
from emimic.task import EmimicError
from emimic.wording import did_you_mean

__all__ = ["KINDS", "SCHEMA", "named", "steps_to_csv", "to_csv", "to_json", "unique", "write", "write_all"]

KINDS: Final = {
    "json": "JSON with a schema: everything",
    "csv": "CSV: a row a step",
    "textgrid": "Praat TextGrid: a tier a dimension",
    "eaf": "ELAN: a tier a dimension, linked to the recording",
    "nova": "NOVA: an annotation pair a dimension",
    "audformat": "audformat: a database with tables",
    "vtt": "WebVTT: captions for video players",
}
"""What `write` can write, and how each is described to people."""

_ALIASES: Final = {
    "praat": "textgrid",
    "elan": "eaf",
    "webvtt": "vtt",
    "subtitles": "vtt",
    "annotation": "nova",
    "audb": "audformat",
}
"""Other names of formats: of the program that opens them."""

_TABLES: Final = frozenset({"excel", "xls", "xlsx", "ods", "calc", "spss", "sav", "tsv"})
"""What programs of tables write themselves; they open csv."""


def named(text: str) -> str:
    """Return the format of KINDS that a user means: `ELAN`, `.eaf` and `eaf` are one.

    Raises:
        EmimicError: there is none of that name.
    """
    name = text.strip().casefold().removeprefix(".")
    name = _ALIASES.get(name, name)
    if name not in KINDS:
        near = (
            " (csv is what spreadsheets and statistics programs open)"
            if name in _TABLES
            else did_you_mean(name, [*KINDS, *_ALIASES])
        )
        raise EmimicError(f"no format is called {text.strip()!r}{near}: expected some of {', '.join(KINDS)}")
    return name


_WRITERS: Final[dict[str, Callable[[Result, Path, str], list[Path]]]] = {
    "json": json_csv.write_json,
    "csv": json_csv.write_csv,
    "textgrid": praat.write,
    "eaf": elan.write,
    "nova": nova.write,
    "audformat": audformat.write,
    "vtt": webvtt.write,
}


def write(result: Result, out: Path, kinds: Sequence[str], *, name: str | None = None) -> list[Path]:
    """Files for one recording in the folder `out` (made when missing), one or more a kind of KINDS; their paths.

    name: what the files are called; the recording's stem unless given. Characters that some system refuses become `_`.
    Files of that name are replaced, each as a whole; `unique` makes names that keep several recordings apart.

    Raises:
        EmimicError: an unknown kind; or a library that a kind needs is not installed, once the others are written.
        OutputError: the folder can't be made or written to.
    """
    kinds = [named(kind) for kind in kinds]
    lacking = extras.missing(kinds)
    make_folder(out)
    stem = safe(result.name if name is None else name)
    usable = [kind for kind in dict.fromkeys(kinds) if kind not in lacking]
    written = [path for kind in usable for path in _WRITERS[kind](result, out, stem)]
    if lacking:
        raise EmimicError("; ".join(lacking.values()))
    return written


def write_all(results: Results, out: Path, kinds: Sequence[str], *, progress: bool = False) -> list[Path]:
    """Into the folder `out`: intensities.csv and results.json of all, and the files of `kinds` for each recording.

    Recordings of one stem from several folders get numbers behind their names.

    Raises:
        EmimicError, OutputError: see `write`.
    """
    make_folder(out)
    written = [out / "intensities.csv", out / "results.json"]
    write_atomic(written[0], to_csv(results))
    write_atomic(written[1], to_json(results))
    names = unique((a.name for a in results.clips), taken=("intensities", "results"))
    clips = zip(results.clips, names, strict=True)
    kinds = [named(kind) for kind in kinds]
    lacking = extras.missing(kinds)
    usable = [kind for kind in kinds if kind not in lacking]
    for result, name in shown(clips, "files", total=len(results.clips), show=progress):
        written += write(result, out, usable, name=name)
    if lacking:
        raise EmimicError("; ".join(lacking.values()))
    return written
