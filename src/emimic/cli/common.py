"""Shared parts of the verbs: the application, common options, checks of paths, and quiet libraries."""

import re
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import typer
from typer.core import TyperGroup

from emimic.files import make_printable
from emimic.install import install
from emimic.task import CorpusError, ModelError, SettingsError

TRAIN: Final = "Commands that need the extra train (torch and more)"
"""Heading, in the help, of the verbs that the base install can't run."""

_VERBS: Final = (
    "import", "predict", "mimicry", "doctor", "prepare", "calibrate", "export", "describe", "features", "train",
    "distill", "evaluate", "submit", "ablate", "baselines",
)  # fmt: skip
"""The verbs in the order of the help."""

_NO_NUMBER: Final = re.compile(r"[-+]?(nan|inf(inity)?|[\d.]*_[\d._]*(e[-+]?\d+)?)", re.I)


class _Group(TyperGroup):
    """The verbs. Typer takes 0_2 for 2, and nan within any limit: such an option's number is refused."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the verbs' names in the order of the help."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _VERBS.index(name) if name in _VERBS else len(_VERBS))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb; the help of one that the base install can't run ends with the extra it needs."""
        command: Any = super().get_command(ctx, cmd_name)
        if getattr(command, "rich_help_panel", None) == TRAIN:
            needs = install("train").replace("[", r"\[")  # else its brackets are taken for markup
            command.epilog = f"Needs the extra train: {needs}"
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb and its arguments, as typer does; raise SettingsError at such a number."""
        resolved = super().resolve_command(ctx, args)
        command: Any = resolved[1]
        hints = getattr(command.callback, "__annotations__", {})
        numbers = {name for name, hint in hints.items() if {int, float} & _list_types(hint)}
        options = {option for param in command.params if param.name in numbers for option in param.opts}
        words = [word.partition("=") for word in resolved[2]]
        for (option, equals, value), (following, *_) in pairwise([*words, ("", "", "")]):
            number = value if equals else following
            if option in options and _NO_NUMBER.fullmatch(number):
                raise SettingsError(f"{option} is {number}, expected a number such as 0.5 or 10")
        return resolved


def _list_types(hint: Any) -> set[Any]:
    """Return the types that an annotation allows."""
    return set().union(*map(_list_types, get_args(hint))) if get_args(hint) else {hint}


app = typer.Typer(
    cls=_Group,
    name="emimic",
    help="Predict emotion intensities from voices. Example: emimic predict clip.wav",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[
    Path, typer.Argument(help="A corpus in the ABAW layout: *_split.csv beside audio/ or raw/.")
]
RunFolder = Annotated[Path, typer.Argument(help="A run folder written by `emimic train`.")]
ModelFolder = Annotated[
    Path | None,
    typer.Option(
        "--model", "-m", help="A run folder, an exported model, or hf:USER/NAME; default: the included one."
    ),
]
Workers = Annotated[int, typer.Option(help="Threads that decode ahead.", min=1)]
OptionalWorkers = Annotated[int | None, typer.Option(min=1, help="Threads; default: one per core.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
BatchSeconds = Annotated[float, typer.Option(help="Maximum audio of a forward pass, in seconds.", min=0.1)]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: a GPU where there is one.")]
LabelScale = Annotated[float | None, typer.Option(help="Divide labels by this, e.g. 100 for a 0-100 scale.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="name=value, overrides other settings. Repeatable."),
]


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, without what would move the cursor or ring the bell (a file's name may hold anything)."""
    typer.echo(make_printable(text), err=err)


# Verbs call these before they import any library, so that a wrong path is reported even where one is missing.


def check_models(models: Sequence[Path]) -> None:
    """Raise ModelError where a path is no model folder."""
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
    """Raise CorpusError where a path is no folder."""
    for folder in folders:
        if not folder.is_dir():
            raise CorpusError(
                f"{folder} is not a folder; expected a corpus with train_split.csv and audio/ or raw/"
            )


def quiet_for(model: Path | None) -> None:
    """Quiet the libraries that a run folder needs; an exported model and a wrong path need none."""
    if model is not None and not (model / "engine.json").exists() and (model / "config.json").exists():
        quiet_libraries()


def quiet_tracer() -> None:
    """Ignore torch's warnings while it traces a model, also with -W error: an export is checked."""
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
    """Turn off other libraries' progress bars and logs; where they are missing, the verb itself reports it."""
    try:
        from transformers.utils import logging
    except ModuleNotFoundError:
        return
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    # torch asks WavLM's code, not the user, to change.
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    # transformers takes the std of one token's times.
    warnings.filterwarnings("ignore", message=r"std\(\): degrees of freedom")
