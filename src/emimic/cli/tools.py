"""The verbs `doctor` (the installation), `discover` (a module for DISCOVER) and `push` (uploads a run)."""

from pathlib import Path
from typing import Annotated

import typer

from emimic.cli.common import TRAIN, ModelFolder, RunFolder, app, check_run, echo


@app.command()
def doctor(
    model: ModelFolder = None,
    hub: Annotated[
        bool, typer.Option("--hub", help="Also check whether the model hub is reachable.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Report what is installed, and whether it can predict.

    Example: emimic doctor
    """
    import json

    from emimic.files import make_encodable
    from emimic.tools.doctor import examine

    report = examine(model, hub=hub)
    if as_json:
        # A name that is not UTF-8 would leave half a character; the rest is ASCII, which any code page can hold.
        clean = json.loads(make_encodable(json.dumps(report.to_dict(), ensure_ascii=False)))
        echo(json.dumps(clean, indent=1))
    else:
        echo(report.to_text())
    if report.troubles:
        raise typer.Exit(1)


@app.command()
def discover(
    out: Annotated[Path, typer.Option("--out", "-o", help="The module's folder, new.")],
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="An exported model; default: the included one.")
    ] = None,
) -> None:
    """Write a module for DISCOVER, the server behind NOVA.

    Example: emimic discover --out modules/emimic
    """
    from emimic.tools.discover import write_module

    for path in write_module(out, model):
        echo(str(path))


@app.command(rich_help_panel=TRAIN)
def push(
    run: RunFolder,
    name: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="The repository, created if there is none.")
    ],
    license_id: Annotated[str, typer.Option("--license", help="The hub's identifier, such as apache-2.0.")],
    exported: Annotated[
        Path | None,
        typer.Option(help="An exported model; default: the fastest in float32 inside the run, if any."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Upload a run to the Hugging Face hub.

    The repository has safetensors, the exported model, and a card with license and scores. Anyone with access predicts
    with it: emimic predict FILE --model hf:USER/NAME.

    Example: emimic push runs/paper someone/voice --license cc-by-nc-sa-4.0
    """
    check_run(run)
    from emimic.tools.push import push as upload

    echo(upload(run, name, license_id=license_id, private=private, exported=exported).to_text())
