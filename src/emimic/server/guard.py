"""The guard around the application: access, security headers, metrics, logs, and errors that nobody expected."""

import logging
import time
import traceback
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emimic.server.access import Access
from emimic.server.errors import ApiError
from emimic.server.metrics import Metrics

_LOG: Final = logging.getLogger("emimic.server")
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send a form with the origin null
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of each response that has none of its own by that name."""

_UNMATCHED: Final = "unmatched"
_FRAMES: Final = 5  # of an unexpected error, from its place outwards


class Guard:
    """An ASGI application that checks access to another one, and reports on its requests.

    Logs and metrics have the route, the status and times; never a name, a query, a header or a result.
    """

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics) -> None:
        self._app, self._access, self._metrics = app, access, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a WebSocket."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._serve_socket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, status = time.perf_counter(), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._access.check(scope["path"], Headers(scope=scope))
            await self._app(scope, receive, send_guarded)
        except ApiError as error:
            self._metrics.errors.labels(error.code).inc()
            await error.to_response()(scope, receive, send_guarded)
        except ClientDisconnect:
            status = 499  # as nginx counts clients that went
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may hold a name
            self._metrics.errors.labels("internal").inc()
            _LOG.error("unexpected %s\n%s", type(error).__name__, _format_place(error))
            if not status:
                response = ApiError("internal", "the server failed; its log has the place.").to_response()
                await response(scope, receive, send_guarded)
        finally:
            self._report(scope, status, time.perf_counter() - start)

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = False

        async def send_guarded(message: Message) -> None:
            nonlocal is_open
            is_open |= message["type"] == "websocket.accept"
            if not is_open and message["type"] == "websocket.close":
                raise ApiError("not_found", "Not Found.")
            await send(message)

        try:
            self._access.check(scope["path"], Headers(scope=scope))
            await self._app(scope, receive, send_guarded)
        except ApiError as error:
            self._metrics.errors.labels(error.code).inc()
            await error.to_response()(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may hold a name
            self._metrics.errors.labels("internal").inc()
            _LOG.error("unexpected %s\n%s", type(error).__name__, _format_place(error))

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        path = getattr(route, "path", None) or _UNMATCHED
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS") else "other"
        self._metrics.requests.labels(method, path, str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        _LOG.info("%s %s %d in %.0f ms", method, path, status, 1000 * seconds)


def _format_place(error: BaseException) -> str:
    """Return where an error was raised, without its text."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
