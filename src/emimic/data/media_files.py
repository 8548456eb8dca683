"""Media files of a corpus: the folders they lie in, and the clips they belong to."""

from pathlib import Path
from typing import Final

from emimic.data.split_tables import get_clip_key
from emimic.files import list_visible
from emimic.media import decode
from emimic.task import CorpusError

MEDIA_FOLDERS: Final = ("audio", "raw")
"""Folders that are searched for clips, in this order: what `prepare` made is preferred to the video it came from."""

FACES: Final = "face_images"
"""The corpus's folder of face crops, one folder per clip."""


def list_media(folder: Path, *, pipes: bool = False) -> dict[str, list[Path]]:
    """Return clip key -> its files in one folder, sorted, without hidden ones; empty when there is no such folder.

    Args:
        folder: is not searched recursively.
        pipes: list pipes and devices too, for callers that report what they can't open.

    Raises:
        CorpusError: the folder can't be listed.
    """
    if not folder.is_dir():
        return {}
    media: dict[str, list[Path]] = {}
    # One listing instead of a query for each of 17,000 clips: folders on a cluster's disk are slow.
    try:
        for entry in list_visible(folder):
            is_media = Path(entry.name).suffix.lower() in decode.MEDIA_SUFFIXES
            if is_media and (not entry.is_dir() if pipes else entry.is_file()):
                media.setdefault(get_clip_key(entry.name), []).append(folder / entry.name)
    except OSError as error:
        raise CorpusError(f"{folder} can't be listed ({error}); expected a folder you may read") from error
    return {key: sorted(paths) for key, paths in media.items()}
