"""ELAN .eaf (format 2.8): tiers for voice segments, each dimension and sentences; times in milliseconds."""

import mimetypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from emimic.files import make_writable, write_atomically
from emimic.inference.results import Result
from emimic.output.extras import Extra
from emimic.output.formats.common import Format, Pieces, import_library, list_tiers
from emimic.version import __version__


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.eaf, linked to the recording if that is a file; a silent step has no annotation."""
    path = folder / f"{stem}.eaf"
    # pympi's to_file would leave the temporary file of an atomic write as a .bak file.
    write_atomically(path, _render(result, folder if result.path.is_file() else None))
    return [path]


def render(result: Result) -> str:
    """Return the tiers as an ELAN file that is linked to no recording."""
    return _render(result, None)


def _render(result: Result, folder: Path | None) -> str:
    """Return an ELAN file for a folder, linked to the recording; None: without a link."""
    return render_tiers(result, list_tiers(result), folder)


def render_tiers(
    result: Result, tiers: Mapping[str, Pieces], folder: Path | None, links: Sequence[tuple[Path, str]] = ()
) -> str:
    """Return an ELAN file.

    Args:
        result: Of a recording.
        tiers: Intervals by name of the tier.
        folder: The file's folder; None: without a link to the recording.
        links: Other linked files, in the same folder, and their media types.
    """
    elan = import_library("pympi.Elan", "eaf")
    eaf = elan.Eaf(author=f"emimic {__version__}")
    eaf.remove_tier("default")
    eaf.header = {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"}
    if folder is not None:
        absolute, relative = _make_addresses(result.path, folder)
        # The timeline starts at the media file's time 0.
        eaf.add_linked_file(absolute, relative, mimetype=_guess_media_type(result.path), time_origin=0)
    for path, media_type in links:
        eaf.add_secondary_linked_file(
            make_address(path), f"./{make_writable(path.name)}", mimetype=media_type
        )
    tiers = {name: _clean(pieces) for name, pieces in tiers.items()}
    # pympi numbers time slots in the order of annotations; ELAN expects the order of time, and no shared slots.
    edges = [
        (time, name, number, side)
        for name, pieces in tiers.items()
        for number, (start, end, _) in enumerate(pieces)
        for side, time in enumerate((start, end))
    ]
    slots = {(name, number, side): eaf.generate_ts_id(time) for time, name, number, side in sorted(edges)}
    for name, pieces in tiers.items():
        eaf.add_tier(name)
        for number, (_, _, text) in enumerate(pieces):
            annotation = eaf.generate_annotation_id()
            eaf.tiers[name][0][annotation] = (slots[name, number, 0], slots[name, number, 1], text, None)
    eaf.properties = [("lastUsedAnnotationId", sum(map(len, tiers.values())))]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{elan.to_string(eaf)}'


def _clean(pieces: Pieces) -> Pieces:
    """Return a tier's intervals with texts that XML can hold."""
    return [
        (start, end, "".join(c for c in make_writable(text) if c.isprintable()))
        for start, end, text in pieces
    ]


def make_address(path: Path) -> str:
    """Return a file's absolute address for ELAN, which drops `file://` and decodes nothing."""
    absolute = path.absolute().as_posix()
    return make_writable(f"file://{'' if absolute.startswith('/') else '/'}{absolute}")


def _make_addresses(media: Path, folder: Path) -> tuple[str, str]:
    """Return the recording's absolute and relative address.

    On another drive or network drive (Windows) there is no relative address: it is then the absolute one.
    """
    absolute = make_address(media)
    try:
        relative = Path(os.path.relpath(media, folder)).as_posix()
    except ValueError:
        return absolute, absolute
    return absolute, make_writable(f"./{relative}")


def _guess_media_type(media: Path) -> str:
    """Return the media type of a recording by its suffix."""
    if media.suffix.lower() == ".wav":
        return "audio/x-wav"  # as ELAN calls it
    return mimetypes.guess_type(media.name)[0] or "unknown"


FORMAT: Final = Format(
    "eaf",
    "ELAN: one tier per dimension, linked to the recording",
    write,
    aliases=("elan",),
    extra=Extra("formats", "ELAN files", ("pympi",)),
    render=render,
)
