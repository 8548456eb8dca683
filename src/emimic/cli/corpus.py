"""The verb that brings published corpora in."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from emimic.cli.common import Quiet, app, echo


class Published(StrEnum):
    """Corpora that `import` knows."""

    CREMA_D = "crema-d"
    RAVDESS = "ravdess"
    EMODB = "emodb"
    NEMO = "nemo"
    MSP_PODCAST = "msp-podcast"


class TestSet(StrEnum):
    """Published test sets with labels."""

    TEST1 = "Test1"
    TEST2 = "Test2"


@app.command("import")
def import_corpus(
    name: Annotated[Published, typer.Argument(help="Which published corpus it is.")],
    folder: Annotated[Path, typer.Argument(help="The corpus as it was unpacked.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The corpus folder to make.")],
    valid_speakers: Annotated[
        int | None,
        typer.Option(min=0, help="Speakers for validation, where no split is published; default a fifth."),
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Symbolic links in place of copies.")] = False,
    trim: Annotated[bool, typer.Option("--trim", help="Without digital zeros at the end (PCM WAV).")] = False,
    song: Annotated[bool, typer.Option("--song", help="Singing too (ravdess).")] = False,
    test_set: Annotated[
        TestSet | None, typer.Option(help="Which becomes the test split (msp-podcast); default Test1.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1)] = None,
    quiet: Quiet = False,
) -> None:
    """Make a corpus folder of a published corpus; resumable.

    Labels with masks, speakers, splits: docs/import.md says which.

    Example: emimic import emodb downloads/emodb --out corpora/emodb --trim
    """
    from emimic.data.importers import find_layout, import_layout

    report = import_layout(
        find_layout(name.value), folder, out, valid_speakers=valid_speakers, link=link, trim=trim, song=song,
        test_set=test_set and test_set.value, workers=workers, progress=not quiet,
    )  # fmt: skip
    echo(report.summary())
    if report.failed:
        raise typer.Exit(1)
