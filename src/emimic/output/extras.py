"""What of the outputs needs an extra, and which of that is missing here."""

import sys
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Final

from emimic.install import install
from emimic.task import EmimicError

PLOT: Final = "plot"
"""Stands for pictures, beside the names of formats."""

_NEEDS: Final = {
    "textgrid": ("Praat TextGrids", ("praatio",)),
    "eaf": ("ELAN files", ("pympi",)),
    "audformat": ("audformat databases", ("audformat", "pandas")),
    "vtt": ("WebVTT captions", ("webvtt",)),
    PLOT: ("pictures", ("matplotlib",)),
    "ray": ("a Ray cluster (--ray)", ("ray",)),
    "mic": ("a microphone (--mic)", ("sounddevice",)),
}
"""What is needed for it, in words, and the packages."""


def missing(kinds: Iterable[str]) -> dict[str, str]:
    """Return the kinds that are unavailable here -> what they need, as "ELAN files need: pip install ..."."""
    found = {}
    for kind in dict.fromkeys(kinds):
        what, packages = _NEEDS.get(kind, ("", ()))
        if absent := [name for name in packages if not _installed(name)]:
            extra = {PLOT: "plots", "ray": "ray", "mic": "mic"}.get(kind, "formats")
            verb = "needs" if what.startswith("a ") else "need"
            found[kind] = f"{what} {verb}: {install(extra)} ({', '.join(absent)} is not installed)"
    return found


def _installed(name: str) -> bool:
    return sys.modules[name] is not None if name in sys.modules else find_spec(name) is not None


def require(kind: str) -> None:
    """Raise EmimicError where a kind is unavailable here."""
    for reason in missing([kind]).values():
        raise EmimicError(reason)
