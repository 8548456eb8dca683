"""The verb `mimicry`; what it does is in `mimicry_request`, which is imported late so that --help is fast."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from emimic.cli.common import Device, ModelFolder, Quiet, app, echo, quiet_for
from emimic.cli.predict import Formats, parse_formats


class Alignment(StrEnum):
    """Alignments of two recordings: by dynamic time warping, or window by window at the same time."""

    DTW = "dtw"
    WINDOWED = "windowed"


_Seed = Annotated[Path, typer.Argument(help="The recording imitated, or one with two channels.")]
_Mimics = Annotated[
    list[Path] | None, typer.Argument(help="Imitations of it, or the other speaker of a conversation.")
]
_Alignment = Annotated[
    Alignment,
    typer.Option(help="dtw: each at its own speed; windowed: two speakers of one conversation."),
]
_Channels = Annotated[bool, typer.Option("--channels", help="Compare SEED's two channels.")]
_Against = Annotated[
    Path | None, typer.Option(help="A folder of unrelated recordings, for the similarity expected by chance.")
]
_Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the JSON and the plots.")]
_Plot = Annotated[bool, typer.Option("--plot", help="Plot each recording's timeline too (extra plots).")]
_Html = Annotated[bool, typer.Option("--html", help="Write an HTML page of each recording's timeline.")]
_Window = Annotated[float, typer.Option(help="Seconds of a window (windowed).")]
_Lag = Annotated[float, typer.Option(help="Maximum lag in seconds (windowed).")]
_Voice = Annotated[float, typer.Option(help="Minimum fraction of a window with voice in both (windowed).")]
_Draws = Annotated[int, typer.Option(help="Surrogates that estimate the similarity by chance.")]
_Level = Annotated[float, typer.Option(help="Fraction of unrelated pairs that stay within chance.")]
_RandomSeed = Annotated[int, typer.Option("--random-seed", help="Seed of the surrogates.")]
_Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")]


@app.command()
def mimicry(
    seed: _Seed,
    mimics: _Mimics = None,
    alignment: _Alignment = Alignment.DTW,
    channels: _Channels = False,
    against: _Against = None,
    model: ModelFolder = None,
    out: _Out = None,
    kinds: Formats = None,
    plot: _Plot = False,
    html: _Html = False,
    window: _Window = 5.0,
    lag: _Lag = 2.5,
    voice: _Voice = 0.3,
    draws: _Draws = 999,
    level: _Level = 0.95,
    random_seed: _RandomSeed = 0,
    threads: _Threads = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Compare a seed with its imitations, and with chance.

    Example: emimic mimicry seed.mp4 mimic.mp4 --out mimicry; of a conversation: emimic mimicry stereo.wav --channels
    """
    from emimic.cli import mimicry_request
    from emimic.mimicry import Settings

    quiet_for(model)
    settings = Settings(
        alignment=alignment.value, window=window, lag=lag, voice=voice, draws=draws, level=level, seed=random_seed,
    )  # fmt: skip
    request = mimicry_request.Request(
        seed=seed, mimics=tuple(mimics or ()), channels=channels, against=against, settings=settings, model=model,
        out=out, device=device, threads=threads, progress=not quiet, kinds=parse_formats(kinds), plot=plot, html=html,
    )  # fmt: skip
    report = mimicry_request.run(request, lambda line: echo(line, err=True))
    if report.failed:
        raise typer.Exit(1)
