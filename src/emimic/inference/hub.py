"""Models on the Hugging Face hub: `hf:USER/NAME` or `hf:USER/NAME@REVISION` in place of a folder."""

import os
import re
from pathlib import Path
from typing import Final

from emimic.install import install
from emimic.task import ModelError

PREFIX: Final = "hf:"

EXPORTED: Final = "onnx"
"""The folder of a repository that has the exported model."""

RUN_FILES: Final = ("config.json", "model.safetensors", "calibration.json")
"""Files of a training run that a repository has; never pickled weights, never code."""

_NAME: Final = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_on_hub(source: str | os.PathLike[str]) -> bool:
    """Return True if a model's source names a repository of the hub."""
    return os.fspath(source).startswith(PREFIX)


def find_model(source: str | os.PathLike[str]) -> Path:
    """Return a model's folder; one on the hub is downloaded first, or taken from the cache.

    All files are of one commit. The exported model is taken if there is one, as it needs no torch.

    Args:
        source: A folder, or hf:USER/NAME[@REVISION], a branch, tag or commit; default: main.

    Raises:
        ModelError: huggingface_hub isn't installed, or the repository can't be read or holds no model.
    """
    if not is_on_hub(source):
        return Path(source)
    match = _NAME.fullmatch(os.fspath(source))
    if match is None:
        raise ModelError(f"{os.fspath(source)}: expected hf:USER/NAME or hf:USER/NAME@REVISION; write it so")
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{source} is on the hub, which needs {error.name}, and it isn't installed: {install('hub')}"
        ) from error
    name, revision = match["name"], match["revision"]
    try:
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            commit, exported = revision, None
        else:
            info = HfApi().model_info(name, revision=revision)
            commit = info.sha
            exported = any(file.rfilename.startswith(f"{EXPORTED}/") for file in info.siblings or ())
        patterns = [f"{EXPORTED}/*"] if exported else [*RUN_FILES] if exported is False else None
        folder = Path(snapshot_download(name, revision=commit, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{source} can't be downloaded: {reason}. Check the name and the revision, and whether the hub is reachable"
        ) from error
    return folder / EXPORTED if (folder / EXPORTED).is_dir() else folder
