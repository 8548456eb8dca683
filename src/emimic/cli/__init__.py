"""The command line. A verb imports what it needs inside its function, so that --help is fast."""

import logging
import os
import sys
import warnings
from typing import Annotated, Any, Final

import typer

from emimic.cli import corpus, experiments, mimicry, predict, serve, tools, train
from emimic.cli.common import app, echo
from emimic.cli.standard_streams import GONE, safe_streams
from emimic.install import install
from emimic.task import EmimicError, EmimicWarning
from emimic.version import __version__

__all__ = ["app", "corpus", "experiments", "main", "mimicry", "predict", "serve", "tools", "train"]


_EXTRAS: Final = {
    "audformat": "formats",
    "fastapi": "server",
    "matplotlib": "plots",
    "openvino": "openvino",
    "praatio": "formats",
    "pympi": "formats",
    "ray": "ray",
    "sounddevice": "mic",
    "uvicorn": "server",
    "webvtt": "formats",
}
"""The extra that brings a package; all others come with [train]."""


def _print_version(requested: bool) -> None:
    """Print the version, and exit."""
    if requested:
        typer.echo(f"emimic {__version__}")
        raise typer.Exit


@app.callback()
def _set_options(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
    # Not in the help, which fits a screen: an unexpected error names it.
    debug: Annotated[bool, typer.Option("--debug", hidden=True)] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never contact the model hub.")] = False,
) -> None:
    """Set the options of all verbs in the environment."""
    if debug:
        os.environ["EMIMIC_DEBUG"] = "1"
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's client is first imported


def main() -> None:
    """Run the command `emimic`.

    An error is one line without a traceback; the exit code is 2 if the user can fix it, else 1. Only emimic writes to
    standard error: warnings and logs of libraries are left out, unless Python's -W or --debug asks for them. A failing
    print never stops the work; it is reported at the end, with exit code 1.
    """
    verbose = "--debug" in sys.argv or bool(os.environ.get("EMIMIC_DEBUG"))
    format_python = warnings.formatwarning

    def format_line(message: Warning | str, category: type[Warning], *rest: Any) -> str:
        if issubclass(category, EmimicWarning):
            return f"emimic: {message}\n"
        return format_python(message, category, *rest) if verbose or sys.warnoptions else ""

    warnings.formatwarning = format_line  # type: ignore[assignment]
    if not verbose:
        logging.getLogger().addHandler(logging.NullHandler())  # else Python prints what has no handler
    with safe_streams(native=verbose) as output:
        code = _run_verb()
        sys.stdout.flush()
        failure = None if output is None else output.failure
        if failure is not None and failure.errno not in GONE:
            reason = f"standard output can't be written ({failure.strerror}): what was printed is cut off"
            echo(f"emimic: {reason}", err=True)
            code = code or 1
    sys.exit(code)


def _run_verb() -> int:
    """Run the verb and return its exit code."""
    try:
        sys.argv = sys.argv or ["emimic"]  # a program that embeds Python may leave it empty
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:
        if os.environ.get("EMIMIC_DEBUG"):
            raise
        echo(f"emimic: {_describe_error(error)}", err=True)
        expected = isinstance(error, EmimicError | EmimicWarning | OSError | ModuleNotFoundError)
        return 2 if expected else 1
    return 0


def _describe_error(error: Exception) -> str:
    """Return an error's message, with a remedy where it is not emimic's own."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "a package").partition(".")[0]
        return f"{package} isn't installed; this verb needs: {install(_EXTRAS.get(package, 'train'))}"
    if isinstance(error, EmimicError | EmimicWarning | OSError):  # a warning only with -W error
        return str(error)
    detail = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"this should not have happened ({detail}): please report it, with the output of `emimic --debug ...`"
    )
