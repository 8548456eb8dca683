"""The video of an HTML page: linked, or embedded in the page."""

import base64
import os
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from emimic.media.container import has_video

Mode = Literal["link", "embed"]

MAX_BYTES: Final = 24 * 2**20
"""Maximum size of an embedded video: 32 MB in base64, the longest address that Firefox plays."""


def make_address(source: Path | bytes, folder: Path, mode: Mode) -> tuple[str | None, str | None]:
    """Return the address of a recording's video for a page in `folder`, or a note for the user on why there is none.

    Both are None for a recording without a video track. A link is relative, so that folder and video may move together
    (absolute on another drive). An embedded video has at most 24 MB.
    """
    if not has_video(source):
        return None, None
    media_type = _detect_media_type(source)
    if media_type is None:
        return None, "browsers don't play this kind of video: convert it to mp4 to see it in the page"
    if mode == "link":
        if isinstance(source, bytes):
            return None, "a video from standard input can't be linked: give the file, or --video embed"
        return _make_relative(source, folder), None
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MAX_BYTES:
        return None, f"its {size / 2**20:.0f} MB are too large to embed (at most 24): use --video link"
    data = source if isinstance(source, bytes) else source.read_bytes()
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}", None


def _detect_media_type(source: Path | bytes) -> str | None:
    """Return the media type of a video that browsers play, by its content; None for others."""
    if isinstance(source, bytes):
        head = source[:64]
    else:
        with source.open("rb") as file:
            head = file.read(64)
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return "video/webm" if head[:4] == b"\x1aE\xdf\xa3" and b"webm" in head else None


def _make_relative(media: Path, folder: Path) -> str:
    """Return a video's address relative to a folder, absolute on another drive."""
    try:
        path = os.path.relpath(media, folder)
    except ValueError:  # another drive
        return media.absolute().as_uri()
    return quote(os.fsencode(Path(path).as_posix()))
