"""The command line: one short function a verb; what a verb needs is imported inside it, so that --help is quick."""

import os
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from emimic import __version__
from emimic.task import EmimicError, EmimicWarning

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


class Format(StrEnum):
    """What `predict` prints."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Runtime(StrEnum):
    """What `export` writes for."""

    ONNX = "onnx"
    OPENVINO = "openvino"


class Clock(StrEnum):
    """Whether a seed and its mimic run at their own speeds, or two recordings at the same time."""

    OWN = "own"
    COMMON = "common"


class Fill(StrEnum):
    """What stands in a submission for a file that could not be read."""

    MEAN = "mean"


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


@app.command()
def predict(
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Audio or video files, folders, 'patterns*', or - for standard input."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="A run or engine folder; by default the one included."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="What to print.")] = Format.TABLE,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for files (those there are replaced); default emimic-out where one is needed.",
        ),
    ] = None,
    timeline: Annotated[bool, typer.Option("--timeline", "-t", help="Also curves over time.")] = False,
    window: Annotated[
        float | None, typer.Option(help="Curves: seconds heard around each time, 2.5 by default.")
    ] = None,
    hop: Annotated[float | None, typer.Option(help="Curves: seconds between times, 0.2 by default.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw each timeline (PNG, SVG).")] = False,
    html: Annotated[bool, typer.Option("--html", help="A page of each timeline with its sound.")] = False,
    kinds: Annotated[
        str | None,
        typer.Option("--formats", help="Write timelines as json, csv, textgrid, eaf, nova, audformat, vtt."),
    ] = None,
    mic: Annotated[
        float | None, typer.Option(min=0, help="Listen for so many seconds; 0 is until Ctrl-C.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="By default all cores; of each actor of --ray, 1.")
    ] = None,
    streams: Annotated[
        int | None, typer.Option(min=1, help="Batches heard at once; default: for many files a thread each.")
    ] = None,
    batch_seconds: BatchSeconds = 30.0,
    workers: Workers = 2,
    device: Device = None,
    ray: Annotated[str | None, typer.Option(help="Hear on a Ray cluster: auto, local or HOST:PORT.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Hear all anew, also what the folder's journal.jsonl holds.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Intensities of recordings, their curves, pictures and files.

    A broken file is named and costs only itself. With --out, a run that was stopped goes on where it was.

    Example: emimic predict interview.mp4 clips/ --html --out answers
    """
    from emimic.service import request

    if model is not None and not (model / "engine.json").exists():
        _quiet_libraries()
    asked = request.Request(
        files=tuple(files or ()), model=model, form=form.value, out=out, timeline=timeline, window=window, hop=hop,
        plot=plot, html=html, kinds=() if kinds is None else tuple(kinds.lower().replace(" ", "").split(",")), mic=mic,
        threads=threads, streams=streams, batch_seconds=batch_seconds, workers=workers, device=device, ray=ray,
        fresh=fresh, progress=not quiet,
    )  # fmt: skip
    try:
        answers = request.run(asked, lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        typer.echo(request.stopped(asked), err=True)
        raise typer.Exit(130) from None
    if answers.failed:
        raise typer.Exit(1)


@app.command()
def mimicry(
    seed: Annotated[Path, typer.Argument(help="The recording imitated, or one with two channels.")],
    mimics: Annotated[list[Path] | None, typer.Argument(help="Imitations of it, or the other voice.")] = None,
    clock: Annotated[
        Clock, typer.Option(help="own: each at its own speed; common: two voices of one conversation.")
    ] = Clock.OWN,
    channels: Annotated[bool, typer.Option("--channels", help="Compare SEED's two channels.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="A folder of unrelated recordings, to see what chance reaches.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="A run or engine folder; default: the one included.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write a JSON and pictures here.")] = None,
    window: Annotated[float, typer.Option(help="Seconds of a window (common clock).")] = 5.0,
    lag: Annotated[float, typer.Option(help="Longest lag in seconds (common clock).")] = 2.5,
    voice: Annotated[float, typer.Option(help="Share of a window to be heard in both (common clock).")] = 0.3,
    draws: Annotated[int, typer.Option(help="Surrogates that show what chance reaches.")] = 999,
    level: Annotated[float, typer.Option(help="Share of unrelated pairs within chance.")] = 0.95,
    random_seed: Annotated[int, typer.Option("--random-seed", help="Of the surrogates.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="By default all cores.")] = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """How alike a seed and its imitations are, and whether by chance.

    Example: emimic mimicry seed.mp4 mimic.mp4 --out mimicry; of a conversation: emimic mimicry stereo.wav --channels
    """
    from emimic.service.mimicry import Settings, session

    if model is not None and not (model / "engine.json").exists():
        _quiet_libraries()

    settings = Settings(
        clock=clock.value, window=window, lag=lag, voice=voice, draws=draws, level=level, seed=random_seed
    )
    report = session.run(
        session.Request(
            seed=seed, mimics=tuple(mimics or ()), channels=channels, against=against, settings=settings, model=model,
            out=out, device=device, threads=threads, progress=not quiet,
        ),
        tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    if report.failed:
        raise typer.Exit(1)


@app.command()
def doctor(
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="A run or engine folder; default: the one included.")
    ] = None,
    hub: Annotated[bool, typer.Option("--hub", help="Also ask whether the model hub answers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What is installed here, and whether it can predict.

    Example: emimic doctor
    """
    import json

    from emimic.service.doctor import examine

    report = examine(model, hub=hub)
    typer.echo(json.dumps(report.to_dict(), indent=1, ensure_ascii=False) if as_json else report.table())
    if report.troubles:
        raise typer.Exit(1)


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
    from emimic.study.prepare import prepare as run

    report = run(folder, codec=codec.value, workers=workers, progress=not quiet)
    typer.echo(report.summary())
    if report.failed:
        raise typer.Exit(1)


@app.command()
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
    from emimic.study.describe import describe as run

    description = run(folder, out=out, cut=cut, label_scale=label_scale, workers=workers, progress=not quiet)
    typer.echo(description.table())


@app.command()
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
    from emimic.study.extract import extract
    from emimic.study.settings import parse_overrides

    if kind in (Kind.SPEECH, Kind.TRANSCRIPTS, Kind.TEXT):
        _quiet_libraries()
    reports = extract(
        folder, kind.value, name=name, model=model, overrides=parse_overrides(sets or []), workers=workers,
        device=device, progress=not quiet,
    )  # fmt: skip
    for report in reports:
        typer.echo(report.summary())
    if any(report.failed for report in reports):
        raise typer.Exit(1)


@app.command()
def train(
    folder: Folder,
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
) -> None:
    """Train the paper's model, or any switch of it, on a corpus.

    Example: emimic train hume-vidmimic2 --out runs/paper --set lr=5e-5
    """
    from emimic.study.settings import TrainSettings, parse_overrides

    _quiet_libraries()
    given: dict[str, Any] = {
        "train_on": train_on and train_on.value,
        "epochs": epochs,
        "label_scale": label_scale,
    }
    overrides = parse_overrides(sets or []) | {
        name: value for name, value in given.items() if value is not None
    }
    settings = None if resume and config is None and not overrides else TrainSettings.read(config, overrides)
    _learn(folder, out, settings, resume=resume, quiet=quiet)


def _learn(folder: Path, out: Path, settings: Any, *, resume: bool, quiet: bool) -> None:
    """Train, and tell how it went."""
    from emimic.study.train import train

    result = train(folder, out, settings, resume=resume, show=not quiet)
    if int(os.environ.get("RANK", "0")) == 0:
        typer.echo(result.table())
    if result.signal is not None:
        typer.echo(f"stopped by signal {result.signal}; go on with --resume", err=True)
        raise typer.Exit(128 + result.signal)


@app.command()
def distill(
    teacher: Annotated[Path, typer.Argument(help="A run or engine folder.")],
    folder: Annotated[Path, typer.Argument(help="A corpus in the ABAW layout, or any folder of recordings.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The student's run folder.")],
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option("--unlabelled", "-u", help="A further folder of recordings. Repeatable."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="Where the teacher's answers lie, for several students; default in RUN."),
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
    """Train a small model on a large one's answers.

    TEACHER answers every recording first (kept, resumable); labels count where there are some.

    Example: emimic distill runs/paper hume-vidmimic2 --out runs/student --unlabelled podcasts
    """
    from emimic.service.teach import teach
    from emimic.study import distill as student
    from emimic.study.settings import parse_overrides

    _quiet_libraries()
    given: dict[str, Any] = {
        "train_on": train_on and train_on.value,
        "epochs": epochs,
        "unlabelled": unlabelled and [str(place.resolve()) for place in unlabelled],
        "answers": answers and str(answers.resolve()),
    }
    overrides = parse_overrides(sets or []) | {
        name: value for name, value in given.items() if value is not None
    }
    task = student.plan(folder, out, config, overrides, resume=resume)
    taught = teach(
        teacher, task.recordings, task.answers, threads=task.settings.threads, workers=task.settings.workers,
        progress=not quiet,
    )  # fmt: skip
    if int(os.environ.get("RANK", "0")) == 0:
        typer.echo(taught.table())
    _learn(folder, out, task.taught_by(taught.teacher.key), resume=resume, quiet=quiet)


@app.command()
def evaluate(
    run: RunFolder,
    folder: Folder,
    split: Annotated[str, typer.Option(help="The split to score.")] = "valid",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write; default RUN/evaluation/SPLIT.")
    ] = None,
    label_scale: LabelScale = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the 95 % intervals.", min=10)] = 1000,
    batch_seconds: BatchSeconds = 60.0,
    workers: Workers = 2,
    quiet: Quiet = False,
) -> None:
    """Score a run: Pearson, CCC, MSE, with intervals and pictures.

    Example: emimic evaluate runs/paper hume-vidmimic2 --split valid
    """
    from emimic.study.evaluate import evaluate as score

    _quiet_libraries()
    report = score(
        run, folder, split=split, out=out, label_scale=label_scale, n_bootstrap=bootstrap, batch_seconds=batch_seconds,
        workers=workers, progress=not quiet,
    )  # fmt: skip
    typer.echo(report.table())


@app.command()
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
    from emimic.study.submit import submit as write

    _quiet_libraries()
    report = write(
        run, folder, split=split, out=out, fill="mean" if fill else None,
        batch_seconds=batch_seconds, workers=workers, progress=not quiet,
    )  # fmt: skip
    typer.echo(report.table())


@app.command()
def ablate(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of all runs and of the tables.")],
    cells: Annotated[
        str | None,
        typer.Option(
            help="Rows or tables, with commas: table2, frozen, dropout, padding, losses, cut, gv, ..."
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="With commas.")] = "0,1,2",
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings of every row in YAML.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="name=value for every row. Repeatable.")
    ] = None,
    encoders: Annotated[
        list[str] | None,
        typer.Option("--encoder", help="w2v2-l=FOLDER, xlsr=CONFIG.json: the two rows' own. Repeatable."),
    ] = None,
    split: Annotated[str, typer.Option(help="The split to score; valid chooses the epochs.")] = "valid",
    torchrun: Annotated[int, typer.Option(min=1, help="Processes of each training.")] = 1,
    storage: Annotated[
        str | None,
        typer.Option(help="Share the runs: an Optuna study's URL, or a file. Start the command often."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Re-run the paper's Table 2 and its further findings.

    Each row and seed is a run; stopped or killed, the same command goes on.

    Example: emimic ablate hume-vidmimic2 --out ablation --cells table2 --set epochs=10
    """
    from emimic.study.ablation import ablate as run
    from emimic.study.comparison import Request

    _quiet_libraries()
    request = Request(
        folder, out, chosen=cells, seeds=seeds, config=config, sets=sets or (), split=split, processes=torchrun,
        storage=storage, show=not quiet,
    )  # fmt: skip
    _grid(lambda tell: run(request, encoders or (), tell))


@app.command()
def rivals(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of all runs and of the tables.")],
    cells: Annotated[
        str | None, typer.Option(help="Rows or tables, with commas: table1, record, audio, savchenko, ...")
    ] = None,
    seeds: Annotated[str, typer.Option(help="With commas.")] = "0,1,2",
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings of every row in YAML.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="name=value for every row. Repeatable.")
    ] = None,
    modality: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=NAME, as audio=wavlm: what systems read in a role. Repeatable."),
    ] = None,
    encoders: Annotated[
        list[str] | None, typer.Option("--encoder", help="wavlm_tcn=FOLDER, or =CONFIG.json: its own.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split to score; valid chooses the epochs.")] = "valid",
    torchrun: Annotated[int, typer.Option(min=1, help="Processes of each training.")] = 1,
    storage: Annotated[
        str | None,
        typer.Option(help="Share the runs: an Optuna study's URL, or a file. Start the command often."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Re-run Table 1 and the record since, on features.

    Each system and seed is a run; stopped or killed, the same command goes on.

    Example: emimic rivals hume-vidmimic2 --out rivals --cells table1
    """
    from emimic.study.comparison import Request
    from emimic.study.record import rivals as run

    _quiet_libraries()
    request = Request(
        folder, out, chosen=cells, seeds=seeds, config=config, sets=sets or (), split=split, processes=torchrun,
        storage=storage, show=not quiet,
    )  # fmt: skip
    _grid(lambda tell: run(request, modality or (), encoders or (), tell))


def _grid(run: Any) -> None:
    """Run a grid and print its tables; exit as the signal says that stopped it."""
    from emimic.study.grid import Stopped

    try:
        outcome = run(lambda line: typer.echo(line, err=True))
    except Stopped as stopped:
        typer.echo(f"{stopped}; the same command goes on", err=True)
        raise typer.Exit(128 + stopped.number) from None
    typer.echo(outcome.markdown())


@app.command()
def export(
    run: RunFolder,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The engine's folder, new; by default RUN/engines/NAME."),
    ] = None,
    to: Annotated[Runtime, typer.Option(help="What shall run it.")] = Runtime.ONNX,
    int8: Annotated[bool, typer.Option("--int8", help="Small and quick: 8 bits.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="Folder of recordings for --int8, 100 or so.")
    ] = None,
    least: Annotated[
        float, typer.Option(help="Least mean Pearson with float32; what costs more stays float32.")
    ] = 0.999,
    card: Annotated[Path | None, typer.Option(help="A model card, put in as README.md.")] = None,
    licence: Annotated[Path | None, typer.Option(help="Put in as LICENSE.")] = None,
    quiet: Quiet = False,
) -> None:
    """Make a run an engine folder, which predicts without torch.

    A run is heard with the quickest float32 engine in its engines/.

    Example: emimic export runs/paper --out engine --int8 --calibrate clips/
    """
    from emimic.service.export import export as write

    _quiet_libraries()
    report = write(
        run, out, to=to.value, int8=int8, calibrate=calibrate, least=least, card=card, licence=licence,
        progress=not quiet,
    )  # fmt: skip
    typer.echo(report.table())


@app.command()
def bench(
    models: Annotated[
        list[Path] | None, typer.Argument(help="Runs or engine folders; default: the model included.")
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Also the paper's size, random weights: 10 minutes, 10 GB.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer clips and turns.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="The most; by default all cores.")] = None,
    file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    quiet: Quiet = False,
) -> None:
    """How fast models are on this machine, and what to choose.

    Example: emimic bench runs/paper engine --json bench.json
    """
    import json

    from rich.console import Console

    from emimic.files import write_atomic
    from emimic.service.bench import measure

    report = measure(models or (), paper=paper, quick=quick, threads=threads, progress=not quiet)
    if file is not None:
        write_atomic(file, json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n")
    console = Console()
    console.width = max(console.width, 100)  # a narrower table would lose what it says
    for part in report.tables():
        console.print(part)


def _quiet_libraries() -> None:
    """No progress bars of other libraries between ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    # torch tells WavLM's code, not the user, to change.
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")


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
        return f"{error.name} isn't installed; this verb needs: pip install 'emimic[study,service]'"
    if isinstance(error, EmimicError | OSError):
        return str(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this should not have happened ({what}): please report it, with what `emimic --debug ...` shows"
