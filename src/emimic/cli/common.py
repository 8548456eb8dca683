"""What the verbs share: the application, options that several have, other libraries kept quiet."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from emimic.files import printable

app = typer.Typer(
    name="emimic",
    help="How strongly a voice expresses six emotions; no voice leaves this computer.\n"
    "Example: emimic predict clip.wav",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[
    Path, typer.Argument(help="A corpus in the ABAW layout: *_split.csv beside audio/ or raw/.")
]
RunFolder = Annotated[Path, typer.Argument(help="A run folder written by `emimic train`.")]
Workers = Annotated[int, typer.Option(help="Threads that decode ahead.", min=1)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
BatchSeconds = Annotated[float, typer.Option(help="Most audio of one forward pass, in seconds.", min=0.1)]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; by default a GPU where there is one.")]
LabelScale = Annotated[float | None, typer.Option(help="Divide labels by this, e.g. 100 for a 0-100 scale.")]


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, without what would move the cursor or ring the bell (a file's name may hold anything)."""
    typer.echo(printable(text), err=err)


def quiet_libraries() -> None:
    """No progress bars of other libraries between ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    # torch tells WavLM's code, not the user, to change.
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    # transformers takes the spread of one token's times where only one was said.
    warnings.filterwarnings("ignore", message=r"std\(\): degrees of freedom")
