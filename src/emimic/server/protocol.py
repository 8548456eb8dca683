"""Uvicorn's server without its signals, and its HTTP protocol with limits of connections and of slow headers."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from emimic.server.errors import ApiError
from emimic.server.limits import Limits


class Server(uvicorn.Server):
    """Uvicorn's server; signals are the program's: uvicorn would raise them again before decoders are ended."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signal."""
        yield


class LimitedProtocol(H11Protocol):
    """A connection that is closed if a request's header, or the rest of a body that is ignored, takes too long."""

    limits = Limits(at_work=1)
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take a connection, or drop it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
        else:
            self._limit()

    def data_received(self, data: bytes) -> None:
        """Take bytes; only those that complete a header or belong to a request's body give more time."""
        super().data_received(data)
        self._limit()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, as JSON like every error, unless a response has begun, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            error = ApiError("malformed_http", "found no valid HTTP request.")
            response = error.to_response()
            headers = [*response.raw_headers, (b"connection", b"close")]
            for event in (
                h11.Response(status_code=error.status, headers=headers, reason=b"Bad Request"),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event))
        self.transport.close()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection to a WebSocket, which has limits of its own."""
        self._cancel()
        super().handle_websocket_upgrade(event)

    def _limit(self) -> None:
        """Start the timer unless it runs, or stop it."""
        waits_for_header = self.conn.their_state is h11.IDLE
        is_ignored = self.cycle is not None and self.cycle.response_complete
        if not (waits_for_header or is_ignored):
            self._cancel()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.limits.pause, self.transport.close)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def make_protocol(limits: Limits) -> type[LimitedProtocol]:
    """Return the protocol with these limits."""
    return type("Protocol", (LimitedProtocol,), {"limits": limits})
