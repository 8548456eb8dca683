"""The verbs that reproduce the paper's experiments: ablate, baselines and inside."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emimic.cli.common import TRAIN, Folder, LabelScale, Quiet, app, check_corpora, echo, quiet_libraries

if TYPE_CHECKING:
    from emimic.experiments.results_table import Outcome

_Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of all runs and of the tables.")]
_Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings of every row in YAML.")]
_Sets = Annotated[list[str] | None, typer.Option("--set", "-s", help="name=value for every row. Repeatable.")]


def _read_grid_options(
    *,
    seeds: Annotated[str, typer.Option(help="Seeds, comma-separated.")] = "0,1,2",
    config: _Config = None,
    sets: _Sets = None,
    split: Annotated[str, typer.Option(help="The split to score; valid chooses the epochs.")] = "valid",
    against: Annotated[str | None, typer.Option(help="The row that others are compared with.")] = None,
    label_scale: LabelScale = None,
    torchrun: Annotated[int, typer.Option(min=1, help="Processes of each training.")] = 1,
    quiet: Quiet = False,
) -> dict[str, Any]:
    """Return the options that both grids have, as `experiments.run.Request` takes them."""
    return {
        "seeds": seeds, "config": config, "sets": sets or (), "split": split, "against": against,
        "label_scale": label_scale, "processes": torchrun, "show": not quiet,
    }  # fmt: skip


def _add_grid_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options of `_read_grid_options`, whose result it takes as `options`."""
    shared = inspect.signature(_read_grid_options).parameters
    own = inspect.signature(command).parameters

    @functools.wraps(command)
    def run(**values: Any) -> None:
        command(options=_read_grid_options(**{name: values.pop(name) for name in shared}), **values)

    parameters = [*(own[name] for name in own if name != "options"), *shared.values()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@app.command(rich_help_panel=TRAIN)
@_add_grid_options
def ablate(
    folder: Folder,
    out: _Out,
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            "--only",
            help="Rows or tables, comma-separated: table2, frozen, dropout, padding, losses, cut, vision, gv, ...",
        ),
    ] = None,
    encoders: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder", help="w2v2-l=FOLDER, vision-convnext=CONFIG.json: encoder of that row. Repeatable."
        ),
    ] = None,
    *,
    options: dict[str, Any],
) -> None:
    """Reproduce Table 2, and compare padding, losses, cuts, vision.

    Each row and seed is a training run. Resumable: rerun the command. Start it several times to divide the runs.

    Example: emimic ablate hume-vidmimic2 --out ablation --rows table2 --set epochs=10
    """
    check_corpora(folder)
    from emimic.experiments.run import Request
    from emimic.experiments.table2 import ablate as run

    quiet_libraries()
    request = Request(folder, out, chosen=rows, **options)
    _run_grid(out, lambda log: run(request, encoders or (), log))


@app.command(rich_help_panel=TRAIN)
@_add_grid_options
def baselines(
    folder: Folder,
    out: _Out,
    rows: Annotated[
        str | None,
        typer.Option(help="Rows or tables, comma-separated: table1, record, audio, savchenko, ..."),
    ] = None,
    modality: Annotated[
        list[str] | None,
        typer.Option(help="MODALITY=NAME, as audio=wavlm: features of a modality. Repeatable."),
    ] = None,
    encoders: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder", help="wavlm_tcn=FOLDER, ours-vision-expression=FOLDER: encoder of that row."
        ),
    ] = None,
    *,
    options: dict[str, Any],
) -> None:
    """Reproduce Table 1 and later challenge results on features.

    Each baseline and seed is a training run. Resumable: rerun the command. Start it several times to divide the runs.

    Example: emimic baselines hume-vidmimic2 --out baselines --rows table1
    """
    check_corpora(folder)
    from emimic.experiments.run import Request
    from emimic.experiments.table1 import run_baselines as run

    quiet_libraries()
    request = Request(folder, out, chosen=rows, **options)
    _run_grid(out, lambda log: run(request, modality or (), encoders or (), log))


@app.command(rich_help_panel=TRAIN)
def inside(
    folder: Folder,
    out: _Out,
    config: _Config = None,
    sets: _Sets = None,
    label_scale: LabelScale = None,
    quiet: Quiet = False,
) -> None:
    """Train and score inside train and inside valid, divided 2:1.

    The paper did so by clip, which leaves the same speakers in both parts. Resumable: rerun the command.

    Example: emimic inside hume-vidmimic2 --out inside --set audio=false --set vision.encoder=facebook/convnext-tiny-224
    """
    check_corpora(folder)
    from emimic.experiments.inside import RESULTS, format_table, run_inside
    from emimic.training.settings import TrainSettings, parse_overrides

    quiet_libraries()
    scale = {} if label_scale is None else {"label_scale": label_scale}
    settings = TrainSettings.read(config, parse_overrides(sets or []) | scale)
    results = run_inside(folder, out, settings, lambda line: echo(line, err=True), show=not quiet)
    stopped = next((result.signal for result in results if result.signal is not None), None)
    if stopped is not None:
        echo(f"stopped by signal {stopped}; rerun the command to continue", err=True)
        raise typer.Exit(128 + stopped)
    echo(format_table(results))
    echo(f"written: {out / RESULTS}", err=True)


def _run_grid(out: Path, run: "Callable[[Callable[[str], None]], Outcome]") -> None:
    """Run a grid and print its tables.

    Exit with 128 + N after signal N, and with 1 where another command still has runs of the grid.
    """
    from emimic.experiments.grid import Stopped
    from emimic.experiments.results_table import RESULTS, TABLE

    try:
        outcome = run(lambda line: echo(line, err=True))
    except Stopped as stopped:
        echo(f"{stopped}; rerun the command to continue", err=True)
        raise typer.Exit(128 + stopped.number) from None
    echo(outcome.to_markdown())
    echo(f"written: {', '.join(str(out / name) for name in (TABLE, RESULTS))}", err=True)
    if outcome.elsewhere:
        echo(
            f"not all runs are done: another command has some ({', '.join(outcome.elsewhere)}); rerun the command once "
            "it has ended to print the whole table",
            err=True,
        )
        raise typer.Exit(1)
