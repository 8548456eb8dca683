"""The verb that makes a run's predictions mean what they say."""

from pathlib import Path
from typing import Annotated

import typer

from emimic.cli.common import (
    TRAIN,
    BatchSeconds,
    LabelScale,
    Quiet,
    RunFolder,
    Workers,
    app,
    check_corpora,
    check_run,
    echo,
    quiet_libraries,
)


@app.command(rich_help_panel=TRAIN)
def calibrate(
    run: RunFolder,
    corpora: Annotated[list[Path], typer.Argument(help="Corpora in the ABAW layout.")],
    split: Annotated[str, typer.Option(help="Labelled clips that the run did not learn from.")] = "valid",
    weight: Annotated[
        list[str] | None,
        typer.Option(help="NAME=x, how much a corpus counts; 1 by default. Repeatable."),
    ] = None,
    clips: Annotated[int, typer.Option(min=2, help="Of each corpus, for the novelty score.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of these clips.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Another folder than RUN, for export --calibration.")
    ] = None,
    label_scale: LabelScale = None,
    batch_seconds: BatchSeconds = 60.0,
    workers: Workers = 2,
    quiet: Quiet = False,
) -> None:
    """Fit a run's intensities to labels, and learn what is new to it.

    Predictions of the run and of its exports then lie in [0, 1], and clips unlike the training data are marked.

    Example: emimic calibrate runs/paper hume-vidmimic2 speech --weight speech=2
    """
    check_run(run)
    check_corpora(*corpora)
    from emimic.training.calibrate import calibrate as fit

    quiet_libraries()
    report = fit(
        run, corpora, split=split, weights=dict(map(_weight, weight or ())), clips=clips, seed=seed, out=out,
        label_scale=label_scale, batch_seconds=batch_seconds, workers=workers, progress=not quiet,
    )  # fmt: skip
    echo(report.table())


def _weight(text: str) -> tuple[str, float]:
    """NAME=x -> name and weight."""
    from emimic.data.cells import read_number

    name, _, value = text.rpartition("=")
    number = read_number(value)
    if not value or number is None:
        raise typer.BadParameter(f"found {text!r}, expected NAME=x, as speech=2", param_hint="--weight")
    return name, number
