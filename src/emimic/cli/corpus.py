"""The verbs of a corpus: import, prepare, describe, features and submit."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from emimic.cli.common import (
    TRAIN,
    BatchSeconds,
    Device,
    Folder,
    LabelScale,
    OptionalWorkers,
    Quiet,
    RunFolder,
    Workers,
    app,
    check_corpora,
    check_run,
    echo,
    quiet_libraries,
)


class Published(StrEnum):
    """Corpora that `import` can read."""

    CREMA_D = "crema-d"
    RAVDESS = "ravdess"
    EMODB = "emodb"
    NEMO = "nemo"
    MSP_PODCAST = "msp-podcast"


class TestSet(StrEnum):
    """Published test sets with labels."""

    TEST1 = "Test1"
    TEST2 = "Test2"


class Codec(StrEnum):
    """Formats that `prepare` writes."""

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


class Fill(StrEnum):
    """Stand-ins in a submission for the predictions of an unreadable file."""

    MEAN = "mean"


@app.command("import")
def import_corpus(
    name: Annotated[Published, typer.Argument(help="Name of the published corpus.")],
    folder: Annotated[Path, typer.Argument(help="The corpus as it was unpacked.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The corpus folder to make.")],
    valid_speakers: Annotated[
        int | None,
        typer.Option(min=0, help="Validation speakers, where no split is published; default: a fifth."),
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Make symbolic links in place of copies.")] = False,
    trim: Annotated[bool, typer.Option("--trim", help="Remove digital zeros at the end (PCM WAV).")] = False,
    song: Annotated[bool, typer.Option("--song", help="Import singing too (ravdess).")] = False,
    test_set: Annotated[
        TestSet | None, typer.Option(help="The test split's test set (msp-podcast); default: Test1.")
    ] = None,
    workers: OptionalWorkers = None,
    quiet: Quiet = False,
) -> None:
    """Convert a published corpus to a corpus folder; resumable.

    docs/import.md describes the labels and their masks, the speakers and the splits.

    Example: emimic import emodb downloads/emodb --out corpora/emodb --trim
    """
    from emimic.data.importers import find_layout, import_layout

    report = import_layout(
        find_layout(name.value), folder, out, valid_speakers=valid_speakers, link=link, trim=trim, song=song,
        test_set=test_set and test_set.value, workers=workers, progress=not quiet,
    )  # fmt: skip
    echo(report.to_text())
    if report.failed:
        raise typer.Exit(1)


@app.command()
def prepare(
    folder: Folder,
    codec: Annotated[Codec, typer.Option(help="mp3: mono, 16 kHz, 64 kb/s; flac: lossless.")] = Codec.MP3,
    workers: OptionalWorkers = None,
    quiet: Quiet = False,
) -> None:
    """Extract a corpus's audio/ from its raw/ videos; resumable.

    Example: emimic prepare hume-vidmimic2
    """
    check_corpora(folder)
    from emimic.data.prepare import prepare as extract

    report = extract(folder, codec=codec.value, workers=workers, progress=not quiet)
    echo(report.to_text())
    echo(f"written: {folder / 'audio'}", err=True)
    if report.failed:
        raise typer.Exit(1)


@app.command(rich_help_panel=TRAIN)
def describe(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write; default: FOLDER/description.")
    ] = None,
    cut: Annotated[
        float, typer.Option(help="Maximum clip length whose effect is reported, in seconds.")
    ] = 12.0,
    label_scale: LabelScale = None,
    workers: OptionalWorkers = None,
    quiet: Quiet = False,
) -> None:
    """Describe a corpus in numbers and plots; resumable.

    Covers the paper's sections 3.1 and 3.2: labels, durations, fps, faces, sound, damage.

    Example: emimic describe hume-vidmimic2 --out description
    """
    check_corpora(folder)
    from emimic.describe.report import describe as measure

    report = measure(folder, out=out, cut=cut, label_scale=label_scale, workers=workers, progress=not quiet)
    echo(report.to_text())


@app.command(rich_help_panel=TRAIN)
def features(
    folder: Folder,
    kind: Annotated[Kind, typer.Option(help="Kind of features.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the features, in FOLDER/features/; default: the kind's.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="For kinds that need one: a path, or a name on the hub."),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="name=value, a setting of the kind. Repeatable.")
    ] = None,
    workers: OptionalWorkers = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Extract features: faces, speech, text and more; resumable.

    challenge: the challenge's vit/*.pkl and wav2vec2/*.pkl, read safely. speech: frames of a speech encoder.
    log-mel: the input of VGGish. faces: crops by an ONNX detector. face-descriptors: an ONNX network over the crops.
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
        echo(report.to_text())
    if any(report.failed for report in reports):
        raise typer.Exit(1)


@app.command(rich_help_panel=TRAIN)
def submit(
    run: RunFolder,
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV to write.")],
    split: Annotated[str, typer.Option(help="The split to predict.")] = "test",
    fill: Annotated[
        Fill | None, typer.Option(help="Stand-in for the predictions of an unreadable file.")
    ] = None,
    batch_seconds: BatchSeconds = 60.0,
    workers: Workers = 2,
    quiet: Quiet = False,
) -> None:
    """Write a run's predictions as the challenge's CSV.

    One row per listed file, values within [0, 1].

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
    echo(report.to_text())
