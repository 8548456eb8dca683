"""Documents of a result: JSON, CSV, WebVTT, Praat TextGrid, ELAN or an HTML page, each in memory."""

import json
from dataclasses import dataclass
from typing import Final

from emimic.inference.results import Result
from emimic.media.waveform import Wave
from emimic.output import formats, html_page, html_sound
from emimic.server.upload import Upload

MEDIA_TYPES: Final = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "textgrid": "text/praat-textgrid; charset=utf-8",
    "eaf": "text/x-eaf+xml; charset=utf-8",
    "html": "text/html; charset=utf-8",
}
"""The media type of each response format."""


@dataclass(frozen=True, slots=True)
class Document:
    """A response's content and media type."""

    content: bytes
    media_type: str


def make_document(result: Result, name: str, upload: Upload, samples: Wave) -> Document:
    """Return a result in a response format.

    Args:
        result: Of the recording.
        name: Of MEDIA_TYPES.
        upload: The recording; an HTML page embeds it.
        samples: (sample,) at 16 kHz of it.
    """
    if name == "json":
        text = json.dumps(result.to_dict(), allow_nan=False)
    elif name == "html":
        sound, media_type = html_sound.make_playable(upload.content, samples, notes=[])
        text = html_page.make_page(result, sound, media_type, samples)
    else:
        text = formats.render(result, name)
    return Document(text.encode(), MEDIA_TYPES[name])
