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


class Coupling(StrEnum):
    """Signs of the similarity that is tested."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    BOTH = "both"


_Seed = Annotated[
    Path | None, typer.Argument(help="The recording imitated, or one with two channels.", show_default=False)
]
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
_Coupling = Annotated[
    Coupling, typer.Option(help="Sign of the similarity that is tested; negative and both: windowed.")
]
_AllVoices = Annotated[
    bool,
    typer.Option(
        "--all-voices", help="Compare all channels of all files: one conversation of several voices."
    ),
]
_Study = Annotated[
    Path | None,
    typer.Option(
        help="A table of sessions (CSV: id, file, channels, group, role1, ...), compared with each other."
    ),
]
_Ray = Annotated[
    str | None,
    typer.Option(help="Predict a study's recordings on a Ray cluster: auto, or HOST:PORT (extra ray)."),
]
_Fresh = Annotated[bool, typer.Option("--fresh", help="Predict a study's recordings again.")]
_Rmea = Annotated[bool, typer.Option("--rmea", help="Also write each pair of a study as a CSV for R's rMEA.")]
_Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")]


@app.command()
def mimicry(
    seed: _Seed = None,
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
    coupling: _Coupling = Coupling.POSITIVE,
    all_voices: _AllVoices = False,
    study: _Study = None,
    ray: _Ray = None,
    fresh: _Fresh = False,
    rmea: _Rmea = False,
    threads: _Threads = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Compare a seed with its imitations, or voices of conversations.

    Example: emimic mimicry seed.mp4 mimic.mp4 --out mimicry; of a conversation: emimic mimicry stereo.wav --channels;
    of many: emimic mimicry --study sessions.csv --out study
    """
    from emimic.cli import mimicry_request, study_request
    from emimic.mimicry import MimicryError, Settings

    quiet_for(model)
    settings = Settings(
        alignment="windowed" if study or channels or all_voices else alignment.value, window=window, lag=lag,
        voice=voice, draws=draws, level=level, seed=random_seed, coupling=coupling.value,
    )  # fmt: skip
    if study is not None:
        if seed or mimics or channels or all_voices or against or kinds or plot or html or out is None:
            raise MimicryError(
                "--study takes its recordings from the table, and writes files: give --out FOLDER, and neither a SEED, "
                "a MIMIC, --channels, --all-voices, --against, --formats, --plot nor --html"
            )
        whole = study_request.Request(
            table=study, out=out, settings=settings, model=model, device=device, threads=threads, progress=not quiet,
            ray=ray, fresh=fresh, rmea=rmea,
        )  # fmt: skip
        if study_request.run(whole, lambda line: echo(line, err=True)).failed:
            raise typer.Exit(1)
        return
    if seed is None or ray or fresh or rmea:
        raise MimicryError(
            "give a SEED, and its imitations or --channels; --ray, --fresh and --rmea belong to --study TABLE"
        )
    request = mimicry_request.Request(
        seed=seed, mimics=tuple(mimics or ()), channels=channels, against=against, settings=settings, model=model,
        out=out, device=device, threads=threads, progress=not quiet, kinds=parse_formats(kinds), plot=plot, html=html,
        all_voices=all_voices,
    )  # fmt: skip
    report = mimicry_request.run(request, lambda line: echo(line, err=True))
    if report.failed:
        raise typer.Exit(1)
