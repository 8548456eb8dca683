"""The verbs of a model: train, distill, adapt, calibrate, evaluate and export."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from emimic.cli.common import (
    TRAIN,
    BatchSeconds,
    Folder,
    LabelScale,
    Quiet,
    RunFolder,
    Sets,
    Workers,
    app,
    check_corpora,
    check_models,
    check_run,
    echo,
    quiet_libraries,
    quiet_tracer,
)
from emimic.cpus import read_launcher_variable


class TrainOn(StrEnum):
    """Splits that `train` can learn from."""

    TRAIN = "train"
    BOTH = "train+valid"


class Runtime(StrEnum):
    """Runtimes that `export` can write for."""

    ONNX = "onnx"
    OPENVINO = "openvino"


_Corpora = Annotated[
    list[Path],
    typer.Argument(
        metavar="CORPUS",
        help="A corpus in the ABAW layout: *_split.csv beside audio/ or raw/. With several, the first sets the length "
        "of an epoch, and `corpora` in the settings weights each.",
    ),
]
_Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings in YAML.")]
_TrainOn = Annotated[TrainOn | None, typer.Option(help="Learn from train, or from both labeled splits.")]
_Resume = Annotated[bool, typer.Option("--resume", help="Continue a stopped run.")]


def _print_settings(requested: bool) -> None:
    """Print all settings as YAML, and exit."""
    if requested:
        from emimic.training.settings_text import format_settings

        typer.echo(format_settings(), nl=False)
        raise typer.Exit


@app.command(rich_help_panel=TRAIN)
def train(
    corpora: _Corpora,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")],
    config: _Config = None,
    sets: Sets = None,
    train_on: _TrainOn = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs (paper: 30).")] = None,
    label_scale: LabelScale = None,
    resume: _Resume = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Take four steps, print time, memory and operations of the training; write nothing.",
        ),
    ] = False,
    quiet: Quiet = False,
    _: Annotated[
        bool,
        typer.Option(
            "--settings", help="Print all settings as YAML and exit.", is_eager=True, callback=_print_settings
        ),
    ] = False,
) -> None:
    """Train the paper's model, or a variant of it, on corpora.

    Example: emimic train hume-vidmimic2 --out runs/paper --set lr=5e-5
    """
    check_corpora(*corpora)
    from emimic.training.settings import TrainSettings, check_encoder, check_new

    if not resume:
        check_new(out)
    overrides = _merge(sets, train_on=train_on and train_on.value, epochs=epochs, label_scale=label_scale)
    settings = None if resume and config is None and not overrides else TrainSettings.read(config, overrides)
    check_encoder(out, settings)
    quiet_libraries()  # imports torch
    if dry_run:
        from emimic.training.dry_run import estimate

        echo(estimate(corpora, settings or TrainSettings.read(), show=not quiet).to_text())
        return
    _fit(corpora, out, settings, resume=resume, quiet=quiet)


@app.command(rich_help_panel=TRAIN)
def distill(
    teacher: Annotated[Path, typer.Argument(help="A run folder or an exported model.")],
    folder: Annotated[Path, typer.Argument(help="A corpus in the ABAW layout, or any folder of recordings.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The student's run folder.")],
    unlabeled: Annotated[
        list[Path] | None,
        typer.Option("--unlabeled", "-u", help="Another folder of recordings. Repeatable."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Folder of the teacher's predictions, for several students; default: in OUT."),
    ] = None,
    config: _Config = None,
    sets: Sets = None,
    train_on: _TrainOn = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over all recordings.")] = None,
    resume: _Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train a small model on a large one's predictions.

    TEACHER first predicts every recording (cached, resumable). Labels are used where there are any.

    Example: emimic distill runs/paper hume-vidmimic2 --out runs/student --unlabeled podcasts
    """
    check_models([teacher])
    from emimic.training.settings import check_new

    if not resume:
        check_new(out)  # before the teacher predicts for hours
    from emimic.training import distill_corpus
    from emimic.training.teacher import predict_recordings

    quiet_libraries()
    overrides = _merge(
        sets,
        train_on=train_on and train_on.value,
        epochs=epochs,
        unlabeled=unlabeled and [str(path.resolve()) for path in unlabeled],
        teacher_cache=predictions and str(predictions.resolve()),
    )
    task = distill_corpus.plan(folder, out, config, overrides, resume=resume)
    report = predict_recordings(
        teacher, task.recordings, task.teacher_cache, threads=task.settings.threads, workers=task.settings.workers,
        progress=not quiet,
    )  # fmt: skip
    if read_launcher_variable("RANK", 0) == 0:
        echo(report.to_text())
    _fit([folder], out, task.set_teacher(report.teacher.key), resume=resume, quiet=quiet)


def _merge(sets: list[str] | None, **options: Any) -> dict[str, Any]:
    """Return the settings of --set and, over them, those of the options that are not None."""
    from emimic.training.settings import parse_overrides

    return parse_overrides(sets or []) | {name: value for name, value in options.items() if value is not None}


def _fit(corpora: list[Path], out: Path, settings: Any, *, resume: bool, quiet: bool) -> None:
    """Train a model and print the result; exit with 128 + N after signal N."""
    from emimic.training.loop import train

    result = train(corpora, out, settings, resume=resume, show=not quiet)
    if read_launcher_variable("RANK", 0) == 0:
        echo(result.to_text())
    if result.signal is not None:
        echo(f"stopped by signal {result.signal}; go on with --resume", err=True)
        raise typer.Exit(128 + result.signal)


@app.command(rich_help_panel=TRAIN)
def adapt(
    run: RunFolder,
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="Folders of recordings, without labels.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The adapted run's folder.")],
    sets: Sets = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps (default: 1600).")] = None,
    resume: _Resume = False,
    quiet: Quiet = False,
) -> None:
    """Adapt a run to timelines in one pass.

    Train a copy of RUN so that a timeline in one pass agrees with its windows predicted as clips. It learns from the
    hidden states of RUN, without labels. A folder that is given twice is drawn twice as often.

    Example: emimic adapt runs/paper podcasts interviews --out runs/adapted
    """
    check_run(run)
    from emimic.training.adapt import adapt as fit
    from emimic.training.adapt_settings import AdaptSettings

    quiet_libraries()
    overrides = _merge(sets, steps=steps)
    settings = None if resume and not overrides else AdaptSettings.read(overrides)
    report = fit(run, folders, out, settings, resume=resume, show=not quiet)
    echo(report.to_text())
    if report.signal is not None:
        echo(f"stopped by signal {report.signal}; go on with --resume", err=True)
        raise typer.Exit(128 + report.signal)


@app.command(rich_help_panel=TRAIN)
def calibrate(
    run: RunFolder,
    corpora: Annotated[list[Path], typer.Argument(help="Corpora in the ABAW layout.")],
    split: Annotated[str, typer.Option(help="Labeled clips that the run was not trained on.")] = "valid",
    weight: Annotated[
        list[str] | None,
        typer.Option(help="NAME=x, the weight of a corpus; default: 1. Repeatable."),
    ] = None,
    clips: Annotated[int, typer.Option(min=2, help="Clips of each corpus for the novelty score.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of these clips.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Another folder than RUN, for export --calibration.")
    ] = None,
    label_scale: LabelScale = None,
    batch_seconds: BatchSeconds = 60.0,
    workers: Workers = 2,
    quiet: Quiet = False,
) -> None:
    """Calibrate a run on labels, and fit its novelty score.

    Predictions of the run and of its exports then lie in [0, 1], and clips unlike the training data are marked.

    Example: emimic calibrate runs/paper hume-vidmimic2 speech --weight speech=2
    """
    check_run(run)
    check_corpora(*corpora)
    from emimic.training.calibrate import calibrate as fit

    quiet_libraries()
    report = fit(
        run, corpora, split=split, weights=dict(map(_parse_weight, weight or ())), clips=clips, seed=seed, out=out,
        label_scale=label_scale, batch_seconds=batch_seconds, workers=workers, progress=not quiet,
    )  # fmt: skip
    echo(report.to_text())


def _parse_weight(text: str) -> tuple[str, float]:
    """Return the name and the weight in NAME=x."""
    from emimic.data.fields import read_number

    name, _, value = text.rpartition("=")
    number = read_number(value)
    if not value or number is None:
        raise typer.BadParameter(f"found {text!r}, expected NAME=x, as speech=2", param_hint="--weight")
    return name, number


@app.command(rich_help_panel=TRAIN)
def evaluate(
    run: RunFolder,
    folder: Folder,
    split: Annotated[str, typer.Option(help="The split to score.")] = "valid",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write; default: RUN/evaluation/SPLIT.")
    ] = None,
    label_scale: LabelScale = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also score each value of a column of the split's table, e.g. Gender. Repeatable."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="text: score without the words of a model that takes some. Repeatable."),
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the 95 % intervals.", min=10)] = 1000,
    batch_seconds: BatchSeconds = 60.0,
    workers: Workers = 2,
    quiet: Quiet = False,
) -> None:
    """Score a run, also by group: intervals, calibration, plots.

    Reports Pearson, CCC, MSE, AUC of 0/1 labels, and calibration error. A clip without a label is left out of that
    target's scores.

    Example: emimic evaluate runs/paper hume-vidmimic2 --split valid --by Gender
    """
    check_run(run)
    check_corpora(folder)
    from emimic.evaluation.evaluate import evaluate as score

    quiet_libraries()
    report = score(
        run, folder, split=split, out=out, label_scale=label_scale, n_bootstrap=bootstrap, batch_seconds=batch_seconds,
        workers=workers, progress=not quiet, by=by or (), without=without or (),
    )  # fmt: skip
    echo(report.to_text())
    echo(f"written: {', '.join(map(str, report.written))}", err=True)


@app.command(rich_help_panel=TRAIN)
def export(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The exported model's folder, new; default: RUN/engines/NAME."),
    ] = None,
    to: Annotated[Runtime, typer.Option(help="The runtime to export for.")] = Runtime.ONNX,
    int8: Annotated[bool, typer.Option("--int8", help="Quantize to 8 bits: smaller and faster.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="Folder of recordings for --int8, 100 or so.")
    ] = None,
    min_pearson: Annotated[
        float,
        typer.Option(
            "--least", help="Minimum mean Pearson with float32; layers that cost more stay float32."
        ),
    ] = 0.999,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of `emimic calibrate`; default: the run.")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="A model card, copied as README.md.")] = None,
    license_file: Annotated[
        Path | None, typer.Option("--license", help="A license, copied as LICENSE.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Export a run as a model that predicts without torch.

    A run folder predicts with the fastest float32 model in its engines/.

    Example: emimic export runs/paper --out engine --int8 --calibrate clips/
    """
    check_run(run)
    from emimic.export.export import export as write

    quiet_libraries()
    quiet_tracer()
    report = write(
        run, out, to=to.value, int8=int8, calibrate=calibrate, min_pearson=min_pearson, calibration=calibration,
        card=card, license_file=license_file, progress=not quiet,
    )  # fmt: skip
    echo(report.to_text())
