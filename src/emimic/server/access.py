"""Access to the server: a token, the hosts that it may be called by, and the origins of web pages that may use it."""

import base64
import binascii
import hmac
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from emimic.server.errors import ApiError
from emimic.task import EmimicError

OPEN_PATHS: Final = ("/health", "/ready")
"""Paths that need no token: an orchestrator's probes."""

SHORTEST: Final = 16
"""Minimum characters of a token."""

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer, Basic realm="emimic", charset="UTF-8"'}


@dataclass(frozen=True, slots=True)
class Access:
    """Rules of access.

    Attributes:
        token: That each request needs; None: none.
        hosts: Names that the server may be called by, beside localhost and IP addresses; None: any. A foreign page can
            make its own name, but no address, lead here (DNS rebinding).
        origins: Web pages elsewhere that may use the server, such as https://example.org.
    """

    token: bytes | None = None
    hosts: tuple[str, ...] | None = ()
    origins: tuple[str, ...] = ()

    def check(self, path: str, headers: Headers) -> None:
        """Check a request or a WebSocket's handshake.

        Raises:
            ApiError: The host, the origin or the token is not valid.
        """
        host = headers.get("host", "")
        if self.hosts is not None and not _is_address(name := _get_name(host)) and name not in self.hosts:
            raise ApiError(
                "unknown_host",
                "found another host name, expected localhost or an IP address; --allowed-host allows one.",
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins and not _is_own(origin, host):
            raise ApiError(
                "foreign_origin", "a page of this origin may not use the server; --origin allows one."
            )
        if self.token is not None and path not in OPEN_PATHS and not self._holds_token(headers):
            raise ApiError(
                "unauthorized",
                "found no valid token, expected the header Authorization: Bearer TOKEN (or the token as a password).",
                _CHALLENGE,
            )

    def _holds_token(self, headers: Headers) -> bool:
        """Return True if the token is that of the headers; the comparison takes the same time for any wrong one."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        value = given.strip().encode()
        if scheme.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).partition(b":")[2]
            except binascii.Error:
                value = b""
        elif scheme.lower() != "bearer":
            value = b""
        return hmac.compare_digest(value, self.token or b"")


def make_access(
    host: str,
    *,
    token_file: Path | None,
    insecure: bool,
    origins: Sequence[str] = (),
    hosts: Sequence[str] = (),
) -> Access:
    """Return the rules for a host that the server binds to.

    With a token any host name is valid unless some are given: a foreign page does not have the token.

    Raises:
        EmimicError: Other machines could use the server without a token, or the token, an origin or a host is invalid.
    """
    if host not in _LOOPBACK and token_file is None and not insecure:
        raise EmimicError(
            f"--host {host} lets other machines in, expected a token. Give --token-file FILE, or --insecure for none"
        )
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or f"{parts.scheme}://{parts.netloc}" != origin:
            raise EmimicError(
                f"--origin is {origin!r}, expected one such as https://example.org, without a path"
            )
    for name in hosts:
        if not _NAME.fullmatch(name):
            raise EmimicError(
                f"--allowed-host is {name!r}, expected a name such as voices.example.org, without a port"
            )
    token = None if token_file is None else read_token(token_file)
    valid = None if token and not hosts else tuple(name.lower() for name in hosts)
    return Access(token, valid, tuple(origins))


def read_token(file: Path) -> bytes:
    """Return the token of a file, without space around it.

    Raises:
        EmimicError: The file can't be read, or its token is too short or has other than visible ASCII characters.
    """
    try:
        token = file.read_bytes().strip()
    except OSError as error:
        fix = "Name a file with a token"
        if isinstance(error, PermissionError) and sys.platform != "win32":
            fix = f"Let the server's user read it: chown {os.getuid()} FILE (of a container: on its host)"
        raise EmimicError(f"{file}: the token can't be read ({error.strerror}). {fix}") from None
    if len(token) < SHORTEST or not all(0x21 <= byte <= 0x7E for byte in token):
        raise EmimicError(
            f"{file}: found no valid token, expected {SHORTEST} or more letters and digits on one line. "
            "Make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


def _get_name(host: str) -> str | None:
    """Return the host's name or address without its port; None if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str | None) -> bool:
    """Return True for localhost and for IP addresses."""
    try:
        return name == "localhost" or bool(ip_address(name or ""))
    except ValueError:
        return False


def _is_own(origin: str, host: str) -> bool:
    """Return True if an origin is the server itself, as the client calls it."""
    return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
