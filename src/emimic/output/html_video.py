"""The video beside a page's curves: linked from where it lies, or inside the page."""

import base64
import os
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from emimic.media.container import has_picture

Mode = Literal["link", "embed"]

MOST_BYTES: Final = 24 * 2**20
"""Of an embedded video: in base64 these are 32 MB, the longest address that Firefox plays."""


def address(source: Path | bytes, folder: Path, mode: Mode) -> tuple[str | None, str | None]:
    """Return the address of a recording's video for a page in `folder`, and a note for the user where there is none.

    Neither is given for a recording without a video track. link: relative, so that folder and video may move together
    (on another drive absolute). embed: all of the file, of at most 24 MB.
    """
    if not has_picture(source):
        return None, None
    kind = _kind(source)
    if kind is None:
        return None, "browsers don't play this kind of video: convert it to mp4 to see it beside the curves"
    if mode == "link":
        if isinstance(source, bytes):
            return None, "a video from standard input can't be linked: give the file, or --video embed"
        return _relative(source, folder), None
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MOST_BYTES:
        return None, f"its {size / 2**20:.0f} MB are too large to embed (at most 24): use --video link"
    data = source if isinstance(source, bytes) else source.read_bytes()
    return f"data:{kind};base64,{base64.b64encode(data).decode()}", None


def _kind(source: Path | bytes) -> str | None:
    """The media type of a video that browsers play, by its content."""
    if isinstance(source, bytes):
        head = source[:64]
    else:
        with source.open("rb") as file:
            head = file.read(64)
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return "video/webm" if head[:4] == b"\x1aE\xdf\xa3" and b"webm" in head else None


def _relative(media: Path, folder: Path) -> str:
    try:
        path = os.path.relpath(media, folder)
    except ValueError:  # another drive
        return media.absolute().as_uri()
    return quote(os.fsencode(Path(path).as_posix()))
