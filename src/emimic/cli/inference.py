"""The verbs that use a finished model."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from emimic.cli.common import (
    TRAIN,
    BatchSeconds,
    Device,
    Quiet,
    RunFolder,
    Workers,
    app,
    check_run,
    echo,
    quiet_for,
    quiet_libraries,
    quiet_tracer,
)


class Format(StrEnum):
    """What `predict` prints."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Runtime(StrEnum):
    """What `export` writes for."""

    ONNX = "onnx"
    OPENVINO = "openvino"


class Video(StrEnum):
    """How a page shows the recording's video."""

    LINK = "link"
    EMBED = "embed"


class Clock(StrEnum):
    """Whether a seed and its mimic run at their own speeds, or two recordings at the same time."""

    OWN = "own"
    COMMON = "common"


Formats = Annotated[
    str | None,
    typer.Option(
        "--formats",
        help="Write timelines: json, csv, nova; with the extra formats textgrid, eaf, audformat, vtt.",
    ),
]


def _kinds(text: str | None) -> tuple[str, ...]:
    """`TextGrid, elan` -> the names of formats, without their other names."""
    from emimic.output.formats import named

    return () if text is None else tuple(map(named, text.split(",")))


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
    plot: Annotated[bool, typer.Option("--plot", help="Draw each timeline: PNG, SVG (extra plots).")] = False,
    html: Annotated[bool, typer.Option("--html", help="A page of each timeline with its sound.")] = False,
    video: Annotated[
        Video | None, typer.Option(help="A page with its video: where it lies, or inside (up to 24 MB).")
    ] = None,
    kinds: Formats = None,
    channels: Annotated[
        bool, typer.Option("--channels", help="A timeline for each channel, a voice each.")
    ] = False,
    mic: Annotated[
        float | None, typer.Option(min=0, help="Listen for so many seconds; 0 is until Ctrl-C (extra mic).")
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
    ray: Annotated[
        str | None, typer.Option(help="Hear on a Ray cluster: auto, local or HOST:PORT (extra ray).")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Hear all again, also what the folder's journal.jsonl holds.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Intensities of recordings, their curves, pictures and files.

    A broken file is named and costs only itself. With --out, a run that was stopped goes on where it was.

    Example: emimic predict interview.mp4 clips/ --html --out results
    """
    from emimic.cli import predict_request

    quiet_for(model)
    asked = predict_request.Request(
        files=tuple(files or ()), model=model, form=form.value, out=out, timeline=timeline, window=window, hop=hop,
        plot=plot, html=html or video is not None, video=None if video is None else video.value,
        kinds=_kinds(kinds), mic=mic, threads=threads, streams=streams, batch_seconds=batch_seconds, workers=workers,
        device=device, ray=ray, fresh=fresh, channels=channels, progress=not quiet,
    )  # fmt: skip
    try:
        results = predict_request.run(asked, lambda line: echo(line, err=True))
    except KeyboardInterrupt:
        echo(predict_request.stopped(asked), err=True)
        raise typer.Exit(130) from None
    if results.failed or predict_request.missing(asked):
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
    kinds: Formats = None,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw each recording's timeline too (extra plots).")
    ] = False,
    html: Annotated[bool, typer.Option("--html", help="A page of each recording's timeline.")] = False,
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
    from emimic.cli import mimicry as session
    from emimic.mimicry import Settings

    quiet_for(model)

    settings = Settings(
        clock=clock.value, window=window, lag=lag, voice=voice, draws=draws, level=level, seed=random_seed
    )
    report = session.run(
        session.Request(
            seed=seed, mimics=tuple(mimics or ()), channels=channels, against=against, settings=settings, model=model,
            out=out, device=device, threads=threads, progress=not quiet, kinds=_kinds(kinds), plot=plot, html=html,
        ),
        tell=lambda line: echo(line, err=True),
    )  # fmt: skip
    if report.failed:
        raise typer.Exit(1)


@app.command()
def doctor(
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="A run or engine folder; default: the one included.")
    ] = None,
    hub: Annotated[bool, typer.Option("--hub", help="Also ask whether the model hub results.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What is installed here, and whether it can predict.

    Example: emimic doctor
    """
    import json

    from emimic.files import encodable
    from emimic.tools.doctor import examine

    report = examine(model, hub=hub)
    if as_json:
        # A name that is not UTF-8 would leave half a character; the rest is ASCII, which any code page can hold.
        clean = json.loads(encodable(json.dumps(report.to_dict(), ensure_ascii=False)))
        echo(json.dumps(clean, indent=1))
    else:
        echo(report.table())
    if report.troubles:
        raise typer.Exit(1)


@app.command(rich_help_panel=TRAIN)
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
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of `emimic calibrate`; by default the run's own.")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="A model card, put in as README.md.")] = None,
    licence: Annotated[Path | None, typer.Option(help="Put in as LICENSE.")] = None,
    quiet: Quiet = False,
) -> None:
    """Make a run an engine folder, which predicts without torch.

    A run is heard with the quickest float32 engine in its engines/.

    Example: emimic export runs/paper --out engine --int8 --calibrate clips/
    """
    check_run(run)
    from emimic.export.export import export as write

    quiet_libraries()
    quiet_tracer()
    report = write(
        run, out, to=to.value, int8=int8, calibrate=calibrate, least=least, calibration=calibration, card=card,
        licence=licence, progress=not quiet,
    )  # fmt: skip
    echo(report.table())
