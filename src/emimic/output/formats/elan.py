"""ELAN .eaf (format 2.8): a tier for the voice's voice_segments, then one a dimension, times in whole milliseconds."""

import mimetypes
import os
from pathlib import Path

from emimic.files import writable, write_atomic
from emimic.inference.results import Result
from emimic.output.formats.common import VOICE_SEGMENTS, label, library
from emimic.version import __version__


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """`stem`.eaf, linked to the recording when that is a file; a gap has no annotation."""
    elan = library("pympi.Elan", "eaf")
    grid = result.steps()
    eaf = elan.Eaf(author=f"emimic {__version__}")
    eaf.remove_tier("default")
    eaf.header = {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"}
    if result.path.is_file():
        absolute, relative = _addresses(result.path, folder)
        # Time 0 of the curves is the media file's.
        eaf.add_linked_file(absolute, relative, mimetype=_mime(result.path), time_origin=0)
    tiers = {VOICE_SEGMENTS: [(start, end, "voice") for start, end in grid.voice_segments]}
    for column, name in enumerate(grid.names):
        tiers[name] = [(start, end, label(value)) for start, end, value in grid.pieces(column)]
    # pympi numbers time slots as annotations come; ELAN wants them in the order of time, and an annotation's own.
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
    path = folder / f"{stem}.eaf"
    # Its own to_file would leave the temporary file of an atomic write behind, as a .bak.
    write_atomic(path, '<?xml version="1.0" encoding="UTF-8"?>\n' + elan.to_string(eaf))
    return [path]


def _addresses(media: Path, folder: Path) -> tuple[str, str]:
    """The recording's absolute and relative address as ELAN reads them: it drops `file://` and decodes nothing.

    From another drive or network share (Windows) no relative address leads to the recording: the absolute one stands in
    for it.
    """
    absolute = media.absolute().as_posix()
    absolute = writable(f"file://{'' if absolute.startswith('/') else '/'}{absolute}")
    try:
        relative = Path(os.path.relpath(media, folder)).as_posix()
    except ValueError:
        return absolute, absolute
    return absolute, writable(f"./{relative}")


def _mime(media: Path) -> str:
    if media.suffix.lower() == ".wav":
        return "audio/x-wav"  # as ELAN calls it
    return mimetypes.guess_type(media.name)[0] or "unknown"
