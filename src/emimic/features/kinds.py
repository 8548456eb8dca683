"""The check of the model of a kind of features, before anything is imported, listed or opened."""

import re
from pathlib import Path
from typing import Final

from emimic.task import ModelError

_FILES: Final = frozenset({"faces", "face-descriptors"})
"""Kinds whose model is an ONNX file; that of the others is a folder."""

_ON_HUB: Final = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FILE_ON_HUB: Final = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*/.+\.onnx")


def check_source(model: str | None, kind: str = "") -> None:
    """Check that a model exists, or may be a name on the hub.

    Args:
        model: a path, or a name on the hub; None passes.
        kind: of features; it determines whether a file or a folder is expected.

    Raises:
        ModelError: if it is neither.
    """
    if model is None:
        return
    is_file = kind in _FILES
    what = "an ONNX file" if is_file else "a folder with config.json"
    name = "OWNER/REPOSITORY/FILE.onnx" if is_file else "OWNER/NAME"
    try:
        path = Path(model)
        exists = path.exists()
        fits = path.is_file() if is_file else (path / "config.json").is_file()
    except (OSError, ValueError) as error:  # a name too long; a NUL in it
        raise ModelError(f"{model!r} can't be looked up ({error}). Check the model") from None
    if exists and not fits:
        has = (
            "a folder"
            if path.is_dir() and is_file
            else "a file"
            if path.is_file()
            else "no config.json in it"
        )
        raise ModelError(f"{model}: found {has}, expected {what}. Check the model")
    if not exists and not (_FILE_ON_HUB if is_file else _ON_HUB).fullmatch(model):
        kind_of = "file" if is_file else "folder"
        raise ModelError(
            f"{model}: no such {kind_of}, expected {what}, or {name} on the hub. Check the model"
        )
