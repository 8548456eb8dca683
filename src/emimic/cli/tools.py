"""The verb `doctor`, which reports on the installation."""

from typing import Annotated

import typer

from emimic.cli.common import ModelFolder, app, echo


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
