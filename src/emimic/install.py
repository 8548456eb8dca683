"""The command that installs what is missing, in the form that works for how this copy of emimic was installed."""

import json
import os
import shlex
from functools import cache
from pathlib import Path


def install(extra: str) -> str:
    """Return the command for an optional part: `pip install '/home/you/emimic[train]'` of a clone or a wheel.

    Without a trace of either (from an index, or they are gone): `pip install 'emimic[train]'`.
    """
    source = _source()
    what = f"{'emimic' if source is None else source}[{extra}]"
    return "pip install " + (f'"{what}"' if os.name == "nt" else shlex.quote(what))


@cache
def _source() -> Path | None:
    """The clone that runs, or the file or folder that pip wrote down (PEP 610); None when it isn't there."""
    clone = Path(__file__).absolute().parents[2]
    if (clone / "pyproject.toml").is_file() and (clone / "src" / "emimic").is_dir():
        return clone
    from importlib.metadata import PackageNotFoundError, distribution  # both cost time at every start
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        recorded = json.loads(distribution("emimic").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    address = urlsplit(recorded.get("url", ""))
    path = Path(url2pathname(address.path))
    return path if address.scheme == "file" and address.path and path.exists() else None
