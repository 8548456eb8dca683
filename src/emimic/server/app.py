"""The application: routes, pages and errors around a service."""

import os
import re
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from emimic.server.access import Access
from emimic.server.errors import STATUSES, ApiError
from emimic.server.guard import Guard
from emimic.server.options import describe_errors
from emimic.server.pages import PACKED, PLAIN_POLICY, STATIC_POLICY, make_start_page
from emimic.server.routes import router
from emimic.server.service import Service
from emimic.version import __version__

DESCRIPTION: Final = (
    "Predicts how strongly a voice expresses six emotions. Intended for research on expressed emotion with the "
    "knowledge of the speakers; see the law in the documentation. Samples over WebSocket: /v1/emotions/stream."
)
_ACCEPTS_GZIP: Final = re.compile(r"(?:^|[,\s])gzip\s*(?:,|$|;\s*q=(?!0(?:\.0*)?\s*(?:,|$)))", re.IGNORECASE)
_CODES: Final = {404: "not_found", 405: "method_not_allowed"}


class _Page(StaticFiles):
    """The built page's files, compressed, with its security policy: a worker's own script needs it, too."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Content-Security-Policy"] = STATIC_POLICY
        response.headers["Cache-Control"] = "no-cache"
        response.headers.add_vary_header("Accept-Encoding")
        return response

    def file_response(
        self, full_path: Any, stat_result: os.stat_result, scope: Any, status_code: int = 200
    ) -> Response:
        """Return the file, or the compressed one beside it; its type is that of the file."""
        packed = Path(f"{full_path}{PACKED}")
        if not _ACCEPTS_GZIP.search(Headers(scope=scope).get("accept-encoding", "")) or not packed.is_file():
            return super().file_response(full_path, stat_result, scope, status_code)
        response = super().file_response(packed, packed.stat(), scope, status_code)
        if response.status_code == status_code:  # else the browser's own copy is valid
            response.headers["Content-Encoding"] = "gzip"
        return response


def create_app(service: Service, access: Access, page: Path | None = None) -> ASGIApp:
    """Return the application.

    Args:
        service: That predicts; it was started.
        access: Rules of access.
        page: Folder of the page at `/`; None: a plain page with an upload form.
    """
    app = FastAPI(
        title="emimic", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None,
        redirect_slashes=False,
        # FastAPI would send traces where the environment names a collector.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )  # fmt: skip
    app.state.service = service
    app.add_exception_handler(ApiError, _respond_to_error)
    app.add_exception_handler(RequestValidationError, _respond_to_error)
    app.add_exception_handler(HTTPException, _respond_to_error)
    app.add_exception_handler(Exception, _respond_to_error)  # the guard logs it
    app.include_router(router)
    if page is None:

        @app.get("/", include_in_schema=False)
        async def show_start() -> Response:
            return HTMLResponse(make_start_page(), headers={"Content-Security-Policy": PLAIN_POLICY})

    else:
        # After all routes, also those of another method, which a mount at / would hide: 404 instead of 405.
        app.router.default = _Page(directory=page, html=True)
    guarded: ASGIApp = Guard(app, access, service.metrics)
    if access.origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=access.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return guarded


async def _respond_to_error(request: Request, error: Exception) -> Response:
    """Return the response to an error of a request."""
    service: Service = request.app.state.service
    if isinstance(error, RequestValidationError):
        error = ApiError("invalid_parameter", describe_errors(list(error.errors())))
    elif isinstance(error, HTTPException):
        code = _CODES.get(error.status_code, "malformed_body")
        assert STATUSES[code] == error.status_code or code == "malformed_body"
        error = ApiError(code, f"{error.detail}.", dict(error.headers or {}))
    elif not isinstance(error, ApiError):
        error = ApiError("internal", "the server failed; its log has the place.")
    service.metrics.errors.labels(error.code).inc()
    return error.to_response()
