"""What the verbs share: the application, options that several have, other libraries kept quiet."""

import re
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import typer
from typer.core import TyperGroup

from emimic.files import printable
from emimic.install import install
from emimic.task import CorpusError, ModelError, SettingsError

_NO_NUMBER: Final = re.compile(r"[-+]?(nan|inf(inity)?|[\d.]*_[\d._]*(e[-+]?\d+)?)", re.I)


class _Group(TyperGroup):
    """The verbs. Typer takes 0_2 for 2, and nan within any limit: such an option's number is refused."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb; the help of one that the base install can't run ends with what it needs."""
        command: Any = super().get_command(ctx, cmd_name)
        if getattr(command, "rich_help_panel", None) == TRAIN:
            needs = install("train").replace("[", r"\[")  # else its brackets are taken for markup
            command.epilog = f"Needs the extra train: {needs}"
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb and its arguments, as typer does; raise SettingsError at such a number."""
        found = super().resolve_command(ctx, args)
        command: Any = found[1]
        hints = getattr(command.callback, "__annotations__", {})
        numbers = {name for name, hint in hints.items() if {int, float} & _types(hint)}
        options = {one for param in command.params if param.name in numbers for one in param.opts}
        words = [word.partition("=") for word in found[2]]
        for (option, equals, value), (following, *_) in pairwise([*words, ("", "", "")]):
            given = value if equals else following
            if option in options and _NO_NUMBER.fullmatch(given):
                raise SettingsError(f"{option} is {given}, expected a number such as 0.5 or 10")
        return found


def _types(hint: Any) -> set[Any]:
    """The types that an annotation allows."""
    return set().union(*map(_types, get_args(hint))) if get_args(hint) else {hint}


app = typer.Typer(
    cls=_Group,
    name="emimic",
    help="How strongly a voice expresses six emotions; no voice leaves this computer.\n"
    "Example: emimic predict clip.wav",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

TRAIN = "Commands that need the extra train (torch and more)"
"""Heading, in the help, of the verbs that the base install can't run."""

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


# A wrong path is told before any library is imported, which may be missing: verbs call these first.


def check_models(models: Sequence[Path]) -> None:
    """Raise ModelError where one is no model's folder."""
    from emimic.inference.engine import check_model

    for model in models:
        check_model(model)


def check_run(run: Path) -> None:
    """Raise ModelError where a path is no training run's folder."""
    if not run.is_dir():
        raise ModelError(f"{run} is no folder; expected a run folder written by emimic train")
    if not (run / "config.json").exists():
        raise ModelError(f"{run} is no run: it has no config.json. Give a folder written by emimic train")


def check_corpora(*folders: Path) -> None:
    """Raise CorpusError where one is no folder."""
    for folder in folders:
        if not folder.is_dir():
            raise CorpusError(
                f"{folder} is not a folder; expected a corpus with train_split.csv and audio/ or raw/"
            )


def quiet_for(model: Path | None) -> None:
    """Quiet the libraries that a model needs: a run may need torch, an engine and a wrong path need none."""
    if model is not None and not (model / "engine.json").exists() and (model / "config.json").exists():
        quiet_libraries()


def quiet_tracer() -> None:
    """Leave out what torch warns of while it traces a model, also with -W error: an export is checked."""
    for message in (
        "Converting a tensor to a",
        "Constant folding",
        "You are using the legacy TorchScript-based ONNX export",
        "The feature will be removed",
        "Exporting ",
        "Support for mismatched key_padding_mask",
        "Iterating over a tensor",
        "torch.tensor results are registered as constants",
    ):
        warnings.filterwarnings("ignore", message=message)


def quiet_libraries() -> None:
    """Keep other libraries' progress bars from between ours; where they are missing, what needs them says so."""
    try:
        from transformers.utils import logging
    except ModuleNotFoundError:
        return
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    # torch tells WavLM's code, not the user, to change.
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    # transformers takes the spread of one token's times where only one was said.
    warnings.filterwarnings("ignore", message=r"std\(\): degrees of freedom")
