"""The API's routes, with what their OpenAPI document says."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse

from emimic.server import metrics
from emimic.server.documents import MEDIA_TYPES, Document
from emimic.server.errors import ApiError
from emimic.server.options import EmotionOptions, MimicryOptions, validate
from emimic.server.pages import PLAIN_POLICY, get_report_policy, make_docs_page
from emimic.server.service import Service
from emimic.server.stream_socket import serve_stream
from emimic.server.upload import RAW_TYPES, read_form
from emimic.server.work import check_options
from emimic.version import __version__

MAX_MIMICS: Final = 8
"""Mimics of one comparison."""

_TEXT: Final = {"type": "string"}
_BINARY: Final = {"type": "string", "format": "binary"}
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
_MEANINGS: Final = {
    401: "No valid token: `unauthorized`.",
    403: "A page of another origin: `foreign_origin`.",
    408: "The upload is too slow: `upload_too_slow`.",
    413: "Too large or too long: `body_too_large`, `sound_too_long`.",
    415: "No media type of a recording: `unsupported_media_type`.",
    421: "A host name that is not allowed: `unknown_host`.",
    422: "A parameter or a recording can't be used: `invalid_parameter`, `malformed_body`, `missing_file`, "
    "`undecodable`, `decoder_failed`, `not_comparable`.",
    503: "At work on as many requests as it takes (see Retry-After), or starting: `busy`, `not_ready`.",
    504: "It took too long: `timeout`.",
}


def _describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's responses of these statuses."""
    content = {"application/json": {"schema": _ERROR}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


_ALWAYS: Final = (401, 403, 421)
_WORK: Final = (*_ALWAYS, 408, 413, 415, 422, 503, 504)
_MEDIA_TYPES: Final = ("audio/*", "video/*", *RAW_TYPES)
_FILE: Final = {**_BINARY, "description": "An audio or video file."}


def _describe_fields(model: type[EmotionOptions] | type[MimicryOptions]) -> dict[str, Any]:
    """Return the schemas of options, as fields of a form."""
    properties: dict[str, Any] = model.model_json_schema()["properties"]
    return properties


_EMOTIONS_BODY: Final = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": _FILE, **_describe_fields(EmotionOptions)},
                "additionalProperties": False,
            }
        },
        **{kind: {"schema": _BINARY} for kind in _MEDIA_TYPES},
    },
}
_MIMICRY_BODY: Final = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["seed"],
                "properties": {
                    "seed": {**_BINARY, "description": "The recording imitated, or one with two channels."},
                    "mimic": {
                        "type": "array", "items": _BINARY, "maxItems": MAX_MIMICS,
                        "description": "Imitations of it; without any, the seed's two channels are compared.",
                    },
                    **_describe_fields(MimicryOptions),
                },
                "additionalProperties": False,
            }
        }
    },
}  # fmt: skip
_EMOTIONS_RESPONSE: Final = {
    "description": "The prediction, in the format that was requested.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["schema", "targets", "file", "seconds", "intensities", "headline"],
                "description": "As in Python result.to_dict(): schema emimic/results/1.",
            }
        },
        **{kind.partition(";")[0]: {"schema": _TEXT} for name, kind in MEDIA_TYPES.items() if name != "json"},
    },
}

router = APIRouter()


def _get_service(request: Request | WebSocket) -> Service:
    service: Service = request.app.state.service
    return service


@router.post(
    "/v1/emotions",
    responses={200: _EMOTIONS_RESPONSE, **_describe_errors(*_WORK)},
    openapi_extra={"requestBody": _EMOTIONS_BODY},
    response_class=Response,
    summary="Predict a recording",
)
async def predict_emotions(request: Request, options: Annotated[EmotionOptions, Query()]) -> Response:
    """Predict a recording: six intensities and, if learned, arousal, dominance and valence; on request over time.

    The recording is the field `file` of a form, or the body itself. Options are in the query or in the form.
    """
    service = _get_service(request)
    predictor = service.predictor
    async with service.workers.admit():
        form = await read_form(request, service.limits, max_files=1, takes_raw=True)
        if form.fields:
            options = validate(EmotionOptions, {**options.model_dump(exclude_unset=True), **form.fields})
        upload = _find_one(form.find("file"), "file")
        if options.timeline_options is not None:
            check_options(predictor, options.timeline_options)
        work = service.predict(upload, options.timeline_options, options.response_format)
        return _respond(await service.run_unless_gone(request, work))


def _find_one(uploads: list[Any], field: str) -> Any:
    """Return the recording of a field.

    Raises:
        ApiError: There is none, or it is empty.
    """
    if len(uploads) != 1 or not uploads[0].content:
        found = "an empty file" if len(uploads) == 1 else f"{len(uploads)} files"
        raise ApiError("missing_file", f"found {found} in the field {field}, expected a recording.")
    return uploads[0]


def _respond(document: Document) -> Response:
    headers = {}
    if document.media_type.startswith("text/html"):
        headers["Content-Security-Policy"] = get_report_policy(document.content.decode())
    return Response(document.content, media_type=document.media_type, headers=headers)


@router.post(
    "/v1/mimicry",
    responses={
        200: {
            "description": "The comparison.",
            "content": {
                "application/json": {"schema": {"type": "object", "required": ["schema", "comparisons"]}}
            },
        },
        **_describe_errors(*_WORK),
    },
    openapi_extra={"requestBody": _MIMICRY_BODY},
    response_class=JSONResponse,
    summary="Compare a seed with its imitations",
)
async def compare_mimicry(request: Request, options: Annotated[MimicryOptions, Query()]) -> Response:
    """Compare a seed with its imitations, or the two channels of a conversation, and both with chance.

    The result is that of `emimic mimicry`. Options are in the query or in the form.
    """
    service = _get_service(request)
    predictor = service.predictor
    async with service.workers.admit():
        form = await read_form(request, service.limits, max_files=1 + MAX_MIMICS)
        if form.fields:
            options = validate(MimicryOptions, {**options.model_dump(exclude_unset=True), **form.fields})
        if unknown := {field for field, _ in form.files} - {"seed", "mimic"}:
            # Without its imitations, a seed's two channels would be compared instead.
            raise ApiError(
                "invalid_parameter", f"found a file in {sorted(unknown)[0][:100]!r}, expected seed and mimic."
            )
        uploads = [_find_one(form.find("seed"), "seed")]
        uploads += [_find_one([upload], "mimic") for upload in form.find("mimic")]
        settings = options.make_settings("dtw" if len(uploads) > 1 else "windowed")
        check_options(predictor, options.grid)
        work = service.compare(uploads, options.grid, settings)
        return JSONResponse(await service.run_unless_gone(request, work))


@router.get("/v1/models", responses=_describe_errors(*_ALWAYS, 503), summary="Describe the model")
async def list_models(request: Request) -> dict[str, Any]:
    """Describe the model that predicts: its targets, whether it has learned V/A/D, and the length of its clips."""
    service = _get_service(request)
    predictor = service.predictor
    spec, description = predictor.engine.spec, getattr(predictor.engine, "description", {})
    model = {
        "id": service.name, "targets": list(spec.targets), "vad": spec.vad, "max_seconds": spec.max_seconds,
        "runtime": description.get("runtime", "torch"), "precision": description.get("precision"),
        "intervals": predictor.intervals is not None,
    }  # fmt: skip
    return {"emimic": __version__, "models": [model]}


@router.get("/health", responses=_describe_errors(403, 421), summary="Is the server alive?")
async def get_health() -> dict[str, str]:
    """Return 200 while the server lives."""
    return {"status": "alive"}


@router.get("/ready", responses=_describe_errors(403, 421, 503), summary="Can the server predict?")
async def get_readiness(request: Request) -> dict[str, str]:
    """Return 200 when the model is open and a decoder waits, 503 before."""
    _ = _get_service(request).predictor
    return {"status": "ready"}


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "OpenMetrics.", "content": {"application/openmetrics-text": {"schema": _TEXT}}},
        **_describe_errors(*_ALWAYS),
    },
    summary="Metrics",
)
async def get_metrics(request: Request) -> Response:
    """Return numbers of requests, times and loads, for Prometheus."""
    content = _get_service(request).metrics.render()
    return Response(content, headers={"Content-Type": metrics.CONTENT_TYPE})


@router.get("/docs", include_in_schema=False)
async def show_docs(request: Request) -> Response:
    """Return the documentation as a page."""
    return HTMLResponse(
        make_docs_page(request.app.openapi()), headers={"Content-Security-Policy": PLAIN_POLICY}
    )


@router.websocket("/v1/emotions/stream")
async def stream_emotions(socket: WebSocket) -> None:
    """Serve a stream, see `stream_socket`."""
    await serve_stream(socket, _get_service(socket))
