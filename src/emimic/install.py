"""The pip command for a missing extra, in the form that fits this installation of emimic."""

import json
import os
import shlex
from functools import cache
from pathlib import Path


def install(extra: str) -> str:
    """Return the pip command for an extra: `pip install '/home/you/emimic[train]'` for a clone or a wheel.

    Where neither is present (installed from an index, or removed since): `pip install 'emimic[train]'`.
    """
    source = _find_source()
    target = f"{'emimic' if source is None else source}[{extra}]"
    return "pip install " + (f'"{target}"' if os.name == "nt" else shlex.quote(target))


@cache
def _find_source() -> Path | None:
    """Return the running clone, or the file or folder that pip recorded (PEP 610); None if it doesn't exist."""
    clone = Path(__file__).absolute().parents[2]
    if (clone / "pyproject.toml").is_file() and (clone / "src" / "emimic").is_dir():
        return clone
    from importlib.metadata import PackageNotFoundError, distribution  # slow to import
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        recorded = json.loads(distribution("emimic").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    address = urlsplit(recorded.get("url", ""))
    path = Path(url2pathname(address.path))
    return path if address.scheme == "file" and address.path and path.exists() else None
