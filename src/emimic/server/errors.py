"""Errors of the API: each has a status, a stable code, and a message that says what to do."""

from typing import Final

from starlette.responses import JSONResponse, Response

from emimic.task import EmimicError

STATUSES: Final = {
    "malformed_http": 400,
    "unauthorized": 401,
    "foreign_origin": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "upload_too_slow": 408,
    "body_too_large": 413,
    "sound_too_long": 413,
    "unsupported_media_type": 415,
    "unknown_host": 421,
    "invalid_parameter": 422,
    "malformed_body": 422,
    "missing_file": 422,
    "undecodable": 422,
    "decoder_failed": 422,
    "not_comparable": 422,
    "invalid_samples": 422,
    "flushed": 422,
    "internal": 500,
    "busy": 503,
    "not_ready": 503,
    "timeout": 504,
}
"""The HTTP status of each code. Codes stay; messages may change."""


class ApiError(EmimicError):
    """An error of a request.

    Attributes:
        code: One of STATUSES.
        headers: Further headers of the response.
    """

    def __init__(self, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers or {}

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUSES[self.code]

    def to_dict(self) -> dict[str, dict[str, str]]:
        """Return the response's JSON."""
        return {"error": {"code": self.code, "message": str(self)}}

    def to_response(self) -> Response:
        """Return the response."""
        return JSONResponse(self.to_dict(), self.status, self.headers)
