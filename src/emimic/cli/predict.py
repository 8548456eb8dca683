"""The verb `predict`; what it does is in `predict_request`, which is imported late so that --help is fast."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from emimic.cli.common import (
    BatchSeconds,
    Device,
    ModelFolder,
    Quiet,
    Workers,
    app,
    echo,
    quiet_for,
    quiet_libraries,
)


class Format(StrEnum):
    """Forms of the results on standard output."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Video(StrEnum):
    """Ways in which an HTML page shows the recording's video."""

    LINK = "link"
    EMBED = "embed"


Formats = Annotated[
    str | None,
    typer.Option(
        "--formats",
        help="Write timelines: json, csv, intervals, nova; with the extra formats textgrid, eaf, audformat, vtt.",
    ),
]

_Files = Annotated[
    list[str] | None,
    typer.Argument(help="Audio or video files, folders, 'patterns*', or - for standard input."),
]
_Form = Annotated[Format, typer.Option("--format", "-f", help="Form of the results that are printed.")]
_Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Folder for files; replaces those with the same name. Default, if needed: emimic-out.",
    ),
]
_Timeline = Annotated[
    bool, typer.Option("--timeline", "-t", help="Predict over time too, with a sliding window.")
]
_Window = Annotated[float | None, typer.Option(help="Window of the timeline in seconds; default: 2.5.")]
_Hop = Annotated[float | None, typer.Option(help="Step of the timeline in seconds; default: 0.2.")]
_Exact = Annotated[
    bool, typer.Option("--exact", help="Predict each window of a timeline as a clip, many times slower.")
]
_VadFrames = Annotated[
    bool,
    typer.Option("--vad-frames", help="V/A/D of a timeline's frames, 50 per second, not of its windows."),
]
_Plot = Annotated[bool, typer.Option("--plot", help="Plot each timeline as PNG and SVG (extra plots).")]
_Html = Annotated[bool, typer.Option("--html", help="Write an HTML page of each timeline with its sound.")]
_Video = Annotated[
    Video | None,
    typer.Option(help="Write HTML pages with the video: linked, or embedded (up to 24 MB)."),
]
_Channels = Annotated[
    bool, typer.Option("--channels", help="Predict each channel alone, as with one speaker per channel.")
]
_Mic = Annotated[
    float | None,
    typer.Option(
        min=0, help="Record from the microphone for this many seconds; 0: until Ctrl-C (extra mic)."
    ),
]
_Sentences = Annotated[
    bool, typer.Option("--sentences", help="Predict each sentence too: its words, times and values.")
]
_Transcriber = Annotated[
    str | None,
    typer.Option(help="Whisper model that finds the words: a folder, or a name on the hub (extra train)."),
]
_Transcripts = Annotated[
    Path | None,
    typer.Option(help="Folder of transcripts, ID.json of `emimic features --kind transcripts`, or ID.txt."),
]
_Language = Annotated[str | None, typer.Option(help="Spoken language, such as en; default: detected.")]
_Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without", help="text, vision: leave out the words, or the images, of a model that takes some."
    ),
]
_Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; default: all cores. With --ray, of each actor: 1.")
]
_Streams = Annotated[
    int | None,
    typer.Option(min=1, help="Batches in parallel; default: 1, for many files one per thread."),
]
_Ray = Annotated[
    str | None, typer.Option(help="Predict on a Ray cluster: auto, local or HOST:PORT (extra ray).")
]
_Fresh = Annotated[
    bool, typer.Option("--fresh", help="Predict all files again, also those in the folder's journal.jsonl.")
]


def parse_formats(text: str | None) -> tuple[str, ...]:
    """Return the formats' names in `TextGrid, elan`, aliases resolved."""
    from emimic.output.formats import resolve

    return () if text is None else tuple(map(resolve, text.split(",")))


@app.command()
def predict(
    files: _Files = None,
    model: ModelFolder = None,
    form: _Form = Format.TABLE,
    out: _Out = None,
    timeline: _Timeline = False,
    window: _Window = None,
    hop: _Hop = None,
    exact: _Exact = False,
    vad_frames: _VadFrames = False,
    plot: _Plot = False,
    html: _Html = False,
    video: _Video = None,
    kinds: Formats = None,
    channels: _Channels = False,
    mic: _Mic = None,
    threads: _Threads = None,
    streams: _Streams = None,
    batch_seconds: BatchSeconds = 30.0,
    workers: Workers = 2,
    device: Device = None,
    ray: _Ray = None,
    sentences: _Sentences = False,
    transcriber: _Transcriber = None,
    transcripts: _Transcripts = None,
    language: _Language = None,
    without: _Without = None,
    fresh: _Fresh = False,
    quiet: Quiet = False,
) -> None:
    """Predict intensities of recordings; write timelines and plots.

    An unreadable file is skipped and reported. With --out it is resumable: rerun the command.

    Example: emimic predict interview.mp4 clips/ --html --out results
    """
    from emimic.cli import predict_request
    from emimic.inference.words import WordSource

    if transcriber is None:
        quiet_for(model)
    else:
        quiet_libraries()
    words = None
    if transcriber is not None or transcripts is not None:
        words = WordSource(transcripts, transcriber, language, device)
    request = predict_request.Request(
        files=tuple(files or ()), model=model, form=form.value, out=out, timeline=timeline, window=window, hop=hop,
        exact=exact, vad_frames=vad_frames, plot=plot, html=html or video is not None,
        video=None if video is None else video.value,
        kinds=parse_formats(kinds), mic=mic, threads=threads, streams=streams, batch_seconds=batch_seconds,
        workers=workers, device=device, ray=ray, fresh=fresh, channels=channels, progress=not quiet,
        sentences=sentences, without=tuple(without or ()), words=words,
    )  # fmt: skip
    try:
        results = predict_request.run(request, lambda line: echo(line, err=True))
    except KeyboardInterrupt:
        echo(predict_request.describe_stop(request), err=True)
        raise typer.Exit(130) from None
    if results.failed or predict_request.find_missing(request):
        raise typer.Exit(1)
