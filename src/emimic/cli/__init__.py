"""The command line: one short function a verb; what a verb needs is imported inside it, so that --help is quick."""

import os
import sys
import warnings
from typing import Annotated, Any, Final

import typer

from emimic import __version__
from emimic.cli import calibrate, hear, imports, learn
from emimic.cli.common import app
from emimic.task import EmimicError, EmimicWarning

__all__ = ["app", "calibrate", "hear", "imports", "learn", "main"]


_EXTRAS: Final = {
    "audformat": "service",
    "faster_whisper": "features",
    "openvino": "openvino",
    "optuna": "ablate",
    "praatio": "service",
    "pympi": "service",
    "ray": "ray",
    "sounddevice": "mic",
    "webvtt": "service",
}
"""The extra that brings a package; all others come with [study]."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"emimic {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
    # Out of the help, which fits a screen: an unexpected error names it.
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the model hub.")] = False,
) -> None:
    if debug:
        os.environ["EMIMIC_DEBUG"] = "1"
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's client is first imported


def main() -> None:
    """The command `emimic`: an error is one line, not a traceback; exit code 2 where a user can mend it, else 1."""
    python = warnings.formatwarning

    def one_line(message: Warning | str, category: type[Warning], *rest: Any) -> str:
        return (
            f"emimic: {message}\n"
            if issubclass(category, EmimicWarning)
            else python(message, category, *rest)
        )

    warnings.formatwarning = one_line  # type: ignore[assignment]
    try:
        app()
    except Exception as error:
        if os.environ.get("EMIMIC_DEBUG"):
            raise
        known = isinstance(error, EmimicError | OSError | ModuleNotFoundError)
        typer.echo(f"emimic: {_told(error)}", err=True)
        sys.exit(2 if known else 1)


def _told(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "a package").partition(".")[0]
        return f"{package} isn't installed; this verb needs: pip install 'emimic[{_EXTRAS.get(package, 'study')}]'"
    if isinstance(error, EmimicError | OSError):
        return str(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this should not have happened ({what}): please report it, with what `emimic --debug ...` shows"
