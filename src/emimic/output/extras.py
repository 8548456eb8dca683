"""Optional extras of the outputs, and messages about those that are not installed."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from emimic.install import install
from emimic.task import EmimicError


@dataclass(frozen=True, slots=True)
class Extra:
    """Packages that a feature needs.

    name: of the extra that installs them. feature: in words, for messages. packages: as they are imported.
    """

    name: str
    feature: str
    packages: tuple[str, ...]

    def describe_missing(self) -> str | None:
        """Return "ELAN files need: pip install ..." if a package is not installed, else None."""
        missing = [package for package in self.packages if not _is_installed(package)]
        if not missing:
            return None
        verb = "needs" if self.feature.startswith("a ") else "need"
        return f"{self.feature} {verb}: {install(self.name)} ({', '.join(missing)} is not installed)"

    def require(self) -> None:
        """Raise EmimicError unless all packages are installed."""
        if message := self.describe_missing():
            raise EmimicError(message)


PLOTS: Final = Extra("plots", "plots", ("matplotlib",))
RAY: Final = Extra("ray", "a Ray cluster (--ray)", ("ray",))
MIC: Final = Extra("mic", "a microphone (--mic)", ("sounddevice",))
SERVER: Final = Extra(
    "server",
    "a server",
    (
        "fastapi", "uvicorn", "python_multipart", "prometheus_client", "websockets",
        "pympi", "webvtt", "praatio",
    ),
)  # fmt: skip


def _is_installed(package: str) -> bool:
    """Return True if a package can be imported."""
    return sys.modules[package] is not None if package in sys.modules else find_spec(package) is not None
