"""The verbs of the study: a corpus, its features, training, scores, the paper's tables."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from emimic.cli.common import (
    TRAIN,
    BatchSeconds,
    Device,
    Folder,
    LabelScale,
    Quiet,
    RunFolder,
    Workers,
    app,
    check_corpora,
    check_models,
    check_run,
    echo,
    quiet_libraries,
)
from emimic.cpus import launched


class Codec(StrEnum):
    """Formats `prepare` writes."""

    MP3 = "mp3"
    FLAC = "flac"


class Kind(StrEnum):
    """Features that `features` makes."""

    CHALLENGE = "challenge"
    SPEECH = "speech"
    LOG_MEL = "log-mel"
    FACES = "faces"
    FACE_DESCRIPTORS = "face-descriptors"
    TRANSCRIPTS = "transcripts"
    TEXT = "text"


class TrainOn(StrEnum):
    """Splits `train` learns from."""

    TRAIN = "train"
    BOTH = "train+valid"


class Fill(StrEnum):
    """What stands in a submission for a file that could not be read."""

    MEAN = "mean"


@app.command()
def prepare(
    folder: Folder,
    codec: Codec = Codec.MP3,
    workers: Annotated[int | None, typer.Option(min=1)] = None,
    quiet: Quiet = False,
) -> None:
    """Make a corpus's audio/ from its raw/ videos; resumable.

    mp3 mono 16 kHz 64 kb/s, or flac.

    Example: emimic prepare hume-vidmimic2
    """
    check_corpora(folder)
    from emimic.data.prepare import prepare as run

    report = run(folder, codec=codec.value, workers=workers, progress=not quiet)
    echo(report.summary())
    echo(f"written: {folder / 'audio'}", err=True)
    if report.failed:
        raise typer.Exit(1)


@app.command(rich_help_panel=TRAIN)
def describe(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write; default FOLDER/description.")
    ] = None,
    cut: Annotated[float, typer.Option(help="Seconds of a cut whose cost is told.")] = 12.0,
    label_scale: LabelScale = None,
    workers: Annotated[int | None, typer.Option(min=1)] = None,
    quiet: Quiet = False,
) -> None:
    """Numbers and figures of a corpus, beside the paper's.

    Section 3.2: labels, durations, fps, faces, sound, damage. Resumable.

    Example: emimic describe hume-vidmimic2 --out description
    """
    check_corpora(folder)
    from emimic.describe.report import describe as run

    description = run(folder, out=out, cut=cut, label_scale=label_scale, workers=workers, progress=not quiet)
    echo(description.table())


@app.command(rich_help_panel=TRAIN)
def features(
    folder: Folder,
    kind: Annotated[Kind, typer.Option(help="What to make of the clips.")],
    name: Annotated[
        str | None, typer.Option(help="Of the features, in FOLDER/features/; by default the kind's.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="For kinds that need one: a path, or a name on the hub."),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="name=value, a setting of the kind. Repeatable.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; by default one a core.")] = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Make features for other systems: faces, speech, text; resumable.

    challenge: the challenge's vit/*.pkl and wav2vec2/*.pkl, read safely. speech: frames of a speech encoder.
    log-mel: as VGGish hears. faces: crops by an ONNX detector. face-descriptors: an ONNX network over the crops.
    transcripts: Whisper. text: a text encoder over the transcripts.

    Example: emimic features hume-vidmimic2 --kind speech --model microsoft/wavlm-large --set layers=12
    """
    from emimic.features.kinds import check_source

    check_source(model, kind.value)
    check_corpora(folder)
    from emimic.features.extract import extract
    from emimic.training.settings import parse_overrides

    if kind in (Kind.SPEECH, Kind.TRANSCRIPTS, Kind.TEXT):
        quiet_libraries()
    reports = extract(
        folder, kind.value, name=name, model=model, overrides=parse_overrides(sets or []), workers=workers,
        device=device, progress=not quiet,
    )  # fmt: skip
    for report in reports:
        echo(report.summary())
    if any(report.failed for report in reports):
        raise typer.Exit(1)


def _print_settings(asked: bool) -> None:
    if asked:
        from emimic.training.settings_text import format_settings

        typer.echo(format_settings(), nl=False)
        raise typer.Exit


@app.command(rich_help_panel=TRAIN)
def train(
    corpora: Annotated[
        list[Path],
        typer.Argument(
            metavar="CORPUS",
            help="A corpus in the ABAW layout: *_split.csv beside audio/ or raw/. Of several, the first makes the "
            "epochs, and `corpora` in the settings says how each counts.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Settings in YAML.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="name=value, over the file's. Repeatable.")
    ] = None,
    train_on: Annotated[
        TrainOn | None, typer.Option(help="Learn from train, or from both labelled splits.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs (paper: 30).")] = None,
    label_scale: LabelScale = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    quiet: Quiet = False,
    _: Annotated[
        bool,
        typer.Option(
            "--settings", help="Print all settings as YAML and exit.", is_eager=True, callback=_print_settings
        ),
    ] = False,
) -> None:
    """Train the paper's model, or any switch of it, on corpora.

    Example: emimic train hume-vidmimic2 --out runs/paper --set lr=5e-5
    """
    check_corpora(*corpora)
    from emimic.training.settings import TrainSettings, check_new, parse_overrides

    if not resume:
        check_new(out)  # before torch is imported
    quiet_libraries()
    given: dict[str, Any] = {
        "train_on": train_on and train_on.value,
        "epochs": epochs,
        "label_scale": label_scale,
    }
    overrides = parse_overrides(sets or []) | {
        name: value for name, value in given.items() if value is not None
    }
    settings = None if resume and config is None and not overrides else TrainSettings.read(config, overrides)
    _learn(corpora, out, settings, resume=resume, quiet=quiet)


def _learn(corpora: list[Path], out: Path, settings: Any, *, resume: bool, quiet: bool) -> None:
    """Train, and tell how it went."""
    from emimic.training.loop import train

    result = train(corpora, out, settings, resume=resume, show=not quiet)
    if launched("RANK", 0) == 0:
        echo(result.table())
    if result.signal is not None:
        echo(f"stopped by signal {result.signal}; go on with --resume", err=True)
        raise typer.Exit(128 + result.signal)


@app.command(rich_help_panel=TRAIN)
def distill(
    teacher: Annotated[Path, typer.Argument(help="A run folder or an exported model.")],
    folder: Annotated[Path, typer.Argument(help="A corpus in the ABAW layout, or any folder of recordings.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The student's run folder.")],
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option("--unlabelled", "-u", help="A further folder of recordings. Repeatable."),
    ] = None,
    teacher_cache: Annotated[
        Path | None,
        typer.Option(help="Folder of the teacher's predictions, for several students; default in RUN."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings in YAML, over the student's.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="name=value, over both. Repeatable.")
    ] = None,
    train_on: Annotated[TrainOn | None, typer.Option(help="Learn from train, or from valid, too.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over all recordings.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a small model on a large one's predictions.

    TEACHER predicts every recording first (cached, resumable); labels are used where there are any.

    Example: emimic distill runs/paper hume-vidmimic2 --out runs/student --unlabelled podcasts
    """
    check_models([teacher])
    from emimic.training.settings import check_new, parse_overrides

    if not resume:
        check_new(out)  # before the teacher predicts for hours
    from emimic.training import distill_corpus as student
    from emimic.training.teacher import predict_recordings

    quiet_libraries()
    given: dict[str, Any] = {
        "train_on": train_on and train_on.value,
        "epochs": epochs,
        "unlabelled": unlabelled and [str(place.resolve()) for place in unlabelled],
        "teacher_cache": teacher_cache and str(teacher_cache.resolve()),
    }
    overrides = parse_overrides(sets or []) | {
        name: value for name, value in given.items() if value is not None
    }
    task = student.plan(folder, out, config, overrides, resume=resume)
    report = predict_recordings(
        teacher, task.recordings, task.teacher_cache, threads=task.settings.threads,
        workers=task.settings.workers, progress=not quiet,
    )  # fmt: skip
    if launched("RANK", 0) == 0:
        echo(report.table())
    _learn([folder], out, task.set_teacher(report.teacher.key), resume=resume, quiet=quiet)


@app.command(rich_help_panel=TRAIN)
def evaluate(
    run: RunFolder,
    folder: Folder,
    split: Annotated[str, typer.Option(help="The split to score.")] = "valid",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write; default RUN/evaluation/SPLIT.")
    ] = None,
    label_scale: LabelScale = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Score each value of a column of the table too, e.g. Gender. Repeatable."),
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the 95 % intervals.", min=10)] = 1000,
    batch_seconds: BatchSeconds = 60.0,
    workers: Workers = 2,
    quiet: Quiet = False,
) -> None:
    """Score a run, also by group: intervals, calibration, pictures.

    Pearson, CCC, MSE, AUC of 0/1 labels, calibration error. An empty label is left out of its target's scores.

    Example: emimic evaluate runs/paper hume-vidmimic2 --split valid --by Gender
    """
    check_run(run)
    check_corpora(folder)
    from emimic.evaluation.evaluate import evaluate as score

    quiet_libraries()
    report = score(
        run, folder, split=split, out=out, label_scale=label_scale, n_bootstrap=bootstrap, batch_seconds=batch_seconds,
        workers=workers, progress=not quiet, by=by or (),
    )  # fmt: skip
    echo(report.table())
    echo(f"written: {', '.join(map(str, report.written))}", err=True)


@app.command(rich_help_panel=TRAIN)
def submit(
    run: RunFolder,
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV to write.")],
    split: Annotated[str, typer.Option(help="The split to predict.")] = "test",
    fill: Annotated[Fill | None, typer.Option(help="Stand-in for a file that can't be read.")] = None,
    batch_seconds: BatchSeconds = 60.0,
    workers: Workers = 2,
    quiet: Quiet = False,
) -> None:
    """Write the challenge's CSV.

    A row for every listed file, values within [0, 1].

    Example: emimic submit runs/paper hume-vidmimic2 --split test --out predictions.csv
    """
    check_run(run)
    check_corpora(folder)
    from emimic.evaluation.submit import submit as write

    quiet_libraries()
    report = write(
        run, folder, split=split, out=out, fill="mean" if fill else None,
        batch_seconds=batch_seconds, workers=workers, progress=not quiet,
    )  # fmt: skip
    echo(report.table())


# What the two grids share
GridFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder of all runs and of the tables.")]
Seeds = Annotated[str, typer.Option(help="With commas.")]
RowsConfig = Annotated[Path | None, typer.Option("--config", "-c", help="Settings of every row in YAML.")]
RowsSets = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="name=value for every row. Repeatable.")
]
ScoredSplit = Annotated[str, typer.Option(help="The split to score; valid chooses the epochs.")]
Against = Annotated[str | None, typer.Option(help="The row that others are compared with.")]
Torchrun = Annotated[int, typer.Option(min=1, help="Processes of each training.")]


@app.command(rich_help_panel=TRAIN)
def ablate(
    folder: Folder,
    out: GridFolder,
    cells: Annotated[
        str | None,
        typer.Option(
            help="Rows or tables, with commas: table2, frozen, dropout, padding, losses, cut, gv, ..."
        ),
    ] = None,
    seeds: Seeds = "0,1,2",
    config: RowsConfig = None,
    sets: RowsSets = None,
    encoders: Annotated[
        list[str] | None,
        typer.Option("--encoder", help="w2v2-l=FOLDER, xlsr=CONFIG.json: the two rows' own. Repeatable."),
    ] = None,
    split: ScoredSplit = "valid",
    against: Against = None,
    label_scale: LabelScale = None,
    torchrun: Torchrun = 1,
    quiet: Quiet = False,
) -> None:
    """Re-run the paper's Table 2, and padding, losses, cuts.

    Each row and seed is a run. Resumable: rerun the command; start it several times to share the runs.

    Example: emimic ablate hume-vidmimic2 --out ablation --cells table2 --set epochs=10
    """
    check_corpora(folder)
    from emimic.experiments.run import Request
    from emimic.experiments.table2 import ablate as run

    quiet_libraries()
    request = Request(
        folder, out, chosen=cells, seeds=seeds, config=config, sets=sets or (), split=split, against=against,
        processes=torchrun, show=not quiet, label_scale=label_scale,
    )  # fmt: skip
    _grid(out, lambda tell: run(request, encoders or (), tell))


@app.command(rich_help_panel=TRAIN)
def baselines(
    folder: Folder,
    out: GridFolder,
    cells: Annotated[
        str | None, typer.Option(help="Rows or tables, with commas: table1, record, audio, savchenko, ...")
    ] = None,
    seeds: Seeds = "0,1,2",
    config: RowsConfig = None,
    sets: RowsSets = None,
    modality: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=NAME, as audio=wavlm: what systems read in a role. Repeatable."),
    ] = None,
    encoders: Annotated[
        list[str] | None, typer.Option("--encoder", help="wavlm_tcn=FOLDER, or =CONFIG.json: its own.")
    ] = None,
    split: ScoredSplit = "valid",
    against: Against = None,
    label_scale: LabelScale = None,
    torchrun: Torchrun = 1,
    quiet: Quiet = False,
) -> None:
    """Re-run Table 1 and the record since, on features.

    Each system and seed is a run. Resumable: rerun the command; start it several times to share the runs.

    Example: emimic baselines hume-vidmimic2 --out baselines --cells table1
    """
    check_corpora(folder)
    from emimic.experiments.run import Request
    from emimic.experiments.table1 import baselines as run

    quiet_libraries()
    request = Request(
        folder, out, chosen=cells, seeds=seeds, config=config, sets=sets or (), split=split, against=against,
        processes=torchrun, show=not quiet, label_scale=label_scale,
    )  # fmt: skip
    _grid(out, lambda tell: run(request, modality or (), encoders or (), tell))


def _grid(out: Path, run: Any) -> None:
    """Run a grid and print its tables; exit as the signal says that stopped it, with 1 where runs are left to another
    command."""
    from emimic.experiments.grid import Stopped
    from emimic.experiments.results_table import RESULTS, TABLE

    try:
        outcome = run(lambda line: echo(line, err=True))
    except Stopped as stopped:
        echo(f"{stopped}; the same command goes on", err=True)
        raise typer.Exit(128 + stopped.number) from None
    echo(outcome.markdown())
    echo(f"written: {', '.join(str(out / name) for name in (TABLE, RESULTS))}", err=True)
    if outcome.elsewhere:
        echo(
            f"not all runs are done: another command is at them ({', '.join(outcome.elsewhere)}); once it has ended, "
            "the same command prints the whole table",
            err=True,
        )
        raise typer.Exit(1)
