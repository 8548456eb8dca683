"""The program: an HTTP server around the application, which ends gracefully."""

import asyncio
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from emimic.server.access import Access
from emimic.server.limits import Limits
from emimic.server.service import Service
from emimic.task import EmimicError

if TYPE_CHECKING:
    import uvicorn

_KEEP_ALIVE: Final = 30  # seconds between two requests of a connection; clients give up after 5 to 15
_AFTER: Final = 5  # seconds beyond the time limit of a request that a graceful end may take


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the program.

    Attributes:
        model: See `Service`.
        device: See `Service`.
        host: To bind to.
        port: To bind to; 0: any free one.
        access: Rules of access.
        page: Folder of the page at `/`, None for a plain one.
        limits: Of the server.
        opens: Open the page in the browser.
    """

    model: Path | None = None
    device: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    access: Access = field(default_factory=Access)
    page: Path | None = None
    limits: Limits = field(default_factory=Limits)
    opens: bool = False


class Program:
    """The server, from its start to its end.

    Attributes:
        settings: Of the program.
        address: Its URL as this machine's browser opens it; None before it is bound.
    """

    def __init__(self, settings: Settings, log: Callable[[str], object]) -> None:
        self.settings = settings
        self.address: str | None = None
        self._log = log
        self._is_stopped = False
        self._server: uvicorn.Server | None = None

    def run(self) -> None:
        """Serve until SIGTERM, Ctrl-C or `stop`; requests at work are then finished.

        Raises:
            EmimicError: The port is taken, or the model can't be opened.
        """
        listener = _bind(self.settings.host, self.settings.port)
        self.address = make_address(self.settings.host, listener.getsockname()[1])
        try:
            asyncio.run(self._serve(listener, self.address))
        finally:
            listener.close()

    def stop(self, *_: object) -> None:
        """Begin to end; a second call drops the requests at work. May be called from any thread, and by a signal."""
        if self._server is not None:
            self._server.force_exit = self._is_stopped
            self._server.should_exit = True
        self._is_stopped = True

    @contextmanager
    def _take_signals(self) -> Iterator[None]:
        """Let SIGTERM and Ctrl-C stop the server, where signals can be taken."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {kind: signal.signal(kind, self.stop) for kind in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    async def _serve(self, listener: socket.socket, address: str) -> None:
        service = Service(self.settings.model, self.settings.limits, device=self.settings.device)
        service.on_failure = self.stop
        with self._take_signals():
            await self._serve_with(service, listener, address)
        if service.failure is not None:
            raise service.failure

    async def _serve_with(self, service: Service, listener: socket.socket, address: str) -> None:
        """Serve until the end, and end the service."""
        await service.start()
        try:
            self._server = _make_server(self.settings, service)
            self._log(f"emimic: {address} (Ctrl-C stops)")
            if self.settings.opens:
                # It connects to the listener, and waits; a browser in the terminal would block this thread.
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            if not self._is_stopped:
                await self._server.serve(sockets=[listener])
        finally:
            await service.close()


def _make_server(settings: Settings, service: Service) -> "uvicorn.Server":
    """Return the HTTP server around a service."""
    import uvicorn  # it and FastAPI take half a second, while the model opens and the first decoder starts

    from emimic.server.app import create_app
    from emimic.server.protocol import Server, make_protocol

    limits = settings.limits
    return Server(
        uvicorn.Config(
            create_app(service, settings.access, settings.page),
            http=make_protocol(limits),
            ws="websockets-sansio",
            ws_max_size=limits.message,
            ws_max_queue=4,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=round(limits.work) + _AFTER,
        )
    )


def make_address(host: str, port: int) -> str:
    """Return the server's URL as this machine's browser opens it."""
    name = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/"


def _bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        EmimicError: The address is invalid or taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except (OSError, OverflowError) as error:
        listener.close()
        raise EmimicError(f"{host}:{port} can't be bound ({error}). Give another --host or --port") from None
    return listener
