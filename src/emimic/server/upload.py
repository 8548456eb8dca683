"""Uploads: a request's body is read within limits, in memory, and its recordings and fields are found in it."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Final

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from emimic.files import make_one_line, make_writable
from emimic.server.errors import ApiError
from emimic.server.limits import Limits

RAW_TYPES: Final = (
    "application/octet-stream",
    "application/ogg",
    "application/mp4",
    "application/x-matroska",
)
"""Types of a raw body beside audio/* and video/*."""

_MAX_FIELDS: Final = 20
_LONGEST_FIELD: Final = 1000  # bytes
_LONGEST_NAME: Final = 200  # characters
_NAMELESS: Final = "recording"


@dataclass(frozen=True, slots=True)
class Upload:
    """A recording that was uploaded. name: of its file, without folders. content: its bytes."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """The parts of a body. files: (field, recording) in order. fields: texts by name."""

    files: tuple[tuple[str, Upload], ...]
    fields: dict[str, str]

    def find(self, field: str) -> list[Upload]:
        """Return the recordings of a field."""
        return [upload for name, upload in self.files if name == field]


async def read_form(request: Request, limits: Limits, *, max_files: int, takes_raw: bool = False) -> Form:
    """Return the recordings and fields of a request's body.

    Args:
        request: Whose body was not read.
        limits: Of the server.
        max_files: Of a multipart body.
        takes_raw: A body of another type is one recording in the field `file`.

    Raises:
        ApiError: The body is too large, too slow, malformed, or of a type that can't be a recording.
        ClientDisconnect: The client has gone.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_multipart(request, limits, max_files)
    is_media = kind.startswith(("audio/", "video/")) or kind in RAW_TYPES
    if not takes_raw or not (is_media or not kind):
        raw = ", or the recording itself as audio/*, video/* or application/octet-stream" if takes_raw else ""
        raise ApiError(
            "unsupported_media_type",
            f"found the content type {kind[:100]!r}, expected multipart/form-data{raw}.",
        )
    body = bytearray()
    async for chunk in read_chunks(request, limits):
        body += chunk
    return Form((("file", Upload(_NAMELESS, bytes(body))),) if body else (), {})


async def read_chunks(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Yield a request's body as it arrives.

    Raises:
        ApiError: It is larger than the limit, takes too long, or pauses too long.
        ClientDisconnect: The client has gone.
    """
    too_large = ApiError(
        "body_too_large",
        f"the body is larger than {limits.body / 1e6:g} MB. Send a shorter or compressed recording.",
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.body:
        raise too_large
    end, total, has_more = time.monotonic() + limits.upload, 0, True
    while has_more:
        try:
            async with asyncio.timeout(min(limits.pause, max(0.0, end - time.monotonic()))):
                message = await request.receive()
        except TimeoutError:
            raise ApiError(
                "upload_too_slow",
                f"the upload takes over {limits.upload:g} s, or {limits.pause:g} s without a byte.",
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        has_more = message.get("more_body", False)
        total += len(chunk)
        if total > limits.body:
            raise too_large
        if chunk:
            yield chunk


async def _read_multipart(request: Request, limits: Limits, max_files: int) -> Form:
    parser = MultiPartParser(
        request.headers,
        read_chunks(request, limits),
        max_files=max_files,
        max_fields=_MAX_FIELDS,
        max_part_size=_LONGEST_FIELD,
    )
    parser.spool_max_size = limits.body + 1  # never to the disk
    try:
        return await _collect(await parser.parse())
    except MultiPartException as error:
        raise ApiError("malformed_body", f"the multipart body is malformed: {error.message}") from None
    except (UnicodeError, ValueError, LookupError):
        raise ApiError("malformed_body", "the multipart body is malformed.") from None
    finally:
        for file in parser._files_to_close_on_error:  # that of a part which is cut off is nowhere else
            file.close()


async def _collect(data: FormData) -> Form:
    """Return the recordings and fields of a form.

    Raises:
        ApiError: A field is there twice.
    """
    files: list[tuple[str, Upload]] = []
    fields: dict[str, str] = {}
    for name, value in data.multi_items():
        if isinstance(value, UploadFile):
            files.append((name, Upload(clean_name(value.filename or ""), await value.read())))
        elif name in fields:
            raise ApiError("invalid_parameter", f"the field {make_one_line(name)[:100]!r} is there twice.")
        else:
            fields[name] = value
    return Form(tuple(files), fields)


def clean_name(name: str) -> str:
    """Return a file's name without folders, as text of one line that any file can hold."""
    bare = PureWindowsPath(PurePosixPath(name).name).name
    return make_writable(make_one_line(bare))[:_LONGEST_NAME].strip() or _NAMELESS
