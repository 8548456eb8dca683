"""The command line: one short function a verb; what a verb needs is imported inside it, so that --help is quick."""

import logging
import os
import sys
import warnings
from typing import Annotated, Any, Final

import typer

from emimic.cli import calibrate, corpus, inference, study
from emimic.cli.common import app, echo
from emimic.cli.streams import GONE, safe_streams
from emimic.install import install
from emimic.task import EmimicError, EmimicWarning
from emimic.version import __version__

__all__ = ["app", "calibrate", "corpus", "inference", "main", "study"]


_EXTRAS: Final = {
    "audformat": "formats",
    "matplotlib": "plots",
    "openvino": "openvino",
    "praatio": "formats",
    "pympi": "formats",
    "ray": "ray",
    "sounddevice": "mic",
    "webvtt": "formats",
}
"""The extra that brings a package; all others come with [train]."""


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
    """The command `emimic`: an error is one line, not a traceback; exit code 2 where a user can mend it, else 1.

    Only emimic writes to standard error: warnings and logs of libraries are left out, unless Python's -W or --debug
    asks for them. A failing print never stops the work; at the end it is told, and the exit code is 1.
    """
    verbose = "--debug" in sys.argv or bool(os.environ.get("EMIMIC_DEBUG"))
    python = warnings.formatwarning

    def one_line(message: Warning | str, category: type[Warning], *rest: Any) -> str:
        if issubclass(category, EmimicWarning):
            return f"emimic: {message}\n"
        return python(message, category, *rest) if verbose or sys.warnoptions else ""

    warnings.formatwarning = one_line  # type: ignore[assignment]
    if not verbose:
        logging.getLogger().addHandler(logging.NullHandler())  # else Python prints what has no handler
    with safe_streams(native=verbose) as output:
        code = _run()
        sys.stdout.flush()
        failure = None if output is None else output.failure
        if failure is not None and failure.errno not in GONE:
            reason = f"standard output can't be written ({failure.strerror}): what was printed is cut off"
            echo(f"emimic: {reason}", err=True)
            code = code or 1
    sys.exit(code)


def _run() -> int:
    """Run the verb; return its exit code."""
    try:
        sys.argv = sys.argv or ["emimic"]  # a program that runs Python inside may leave it empty
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        if os.environ.get("EMIMIC_DEBUG"):
            raise
        echo(f"emimic: {_told(error)}", err=True)
        known = isinstance(error, EmimicError | EmimicWarning | OSError | ModuleNotFoundError)
        return 2 if known else 1
    return 0


def _told(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "a package").partition(".")[0]
        return f"{package} isn't installed; this verb needs: {install(_EXTRAS.get(package, 'train'))}"
    if isinstance(error, EmimicError | EmimicWarning | OSError):  # a warning only with -W error
        return str(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this should not have happened ({what}): please report it, with what `emimic --debug ...` shows"
