"""The verb `serve`; what it does is in `emimic.server`, which is imported late so that --help is fast."""

from pathlib import Path
from typing import Annotated

import typer

from emimic.cli.common import Device, ModelFolder, app, check_models, echo, quiet_for

_Host = Annotated[str, typer.Option(help="Address to bind to; another than this machine's needs a token.")]
_Port = Annotated[
    int, typer.Option(min=0, max=65535, envvar="EMIMIC_PORT", help="Port to bind to; 0: any free one.")
]
_Token = Annotated[Path | None, typer.Option("--token-file", help="File with the token that requests need.")]
_Insecure = Annotated[bool, typer.Option("--insecure", help="Let other machines in without a token.")]
_Origin = Annotated[
    list[str] | None,
    typer.Option("--origin", help="Other web page that may use the server, https://... Repeatable."),
]
_AllowedHost = Annotated[
    list[str] | None,
    typer.Option("--allowed-host", help="Name that requests may call the server by. Repeatable."),
]
_Page = Annotated[
    Path | None, typer.Option(help="Folder of the page at /; default: the built one, or a plain form.")
]
_Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]
_AtWork = Annotated[
    int | None, typer.Option("--at-work", min=1, help="Requests at work at once; default: one per core.")
]
_Waiting = Annotated[int, typer.Option(min=0, help="Requests that may wait; beyond, they get 503.")]
_Streams = Annotated[int, typer.Option(min=0, help="WebSocket streams at once.")]
_Megabytes = Annotated[float, typer.Option(min=0.001, max=2000, help="Largest body in MB.")]
_Seconds = Annotated[float, typer.Option(min=1, max=86400, help="Longest recording in seconds.")]
_Timeout = Annotated[float, typer.Option(min=1, max=86400, help="Seconds that a request may wait and work.")]
_Log = Annotated[bool, typer.Option("--log", help="Log each request: route, status, time.")]


@app.command()
def serve(
    model: ModelFolder = None,
    host: _Host = "127.0.0.1",
    port: _Port = 8000,
    token: _Token = None,
    insecure: _Insecure = False,
    origin: _Origin = None,
    allowed_host: _AllowedHost = None,
    page: _Page = None,
    opens: _Open = False,
    at_work: _AtWork = None,
    waiting: _Waiting = 16,
    streams: _Streams = 8,
    megabytes: _Megabytes = 25.0,
    seconds: _Seconds = 600.0,
    timeout: _Timeout = 120.0,
    device: Device = None,
    log: _Log = False,
) -> None:
    """Serve predictions over HTTP and WebSocket, and a page.

    Example: emimic serve --open
    """
    import logging

    from emimic.cpus import count_cores
    from emimic.output.extras import SERVER
    from emimic.task import SettingsError

    check_models([] if model is None else [model])
    SERVER.require()
    quiet_for(model)
    if page is not None and not (page / "index.html").is_file():
        raise SettingsError(f"--page {page} has no index.html, expected a folder that `make page` builds")
    from emimic.server.access import make_access
    from emimic.server.limits import MEGABYTE, Limits
    from emimic.server.pages import find_page
    from emimic.server.program import Program, Settings

    access = make_access(
        host, token_file=token, insecure=insecure, origins=origin or (), hosts=allowed_host or ()
    )
    limits = Limits(
        body=round(megabytes * MEGABYTE), sound=seconds, at_work=at_work or count_cores(), waiting=waiting,
        work=timeout, streams=streams,
    )  # fmt: skip
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("emimic: %(message)s"))
    logger = logging.getLogger("emimic.server")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if log else logging.WARNING)
    Program(
        Settings(
            model=model,
            device=device,
            host=host,
            port=port,
            access=access,
            page=find_page(page),
            limits=limits,
            opens=opens,
        ),
        lambda line: echo(line, err=True),
    ).run()
