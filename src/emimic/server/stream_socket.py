"""A WebSocket of a stream: samples in, steps of its timeline out as JSON; a malformed message ends nothing."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.websockets import WebSocket, WebSocketDisconnect

from emimic.inference.stream import Step, Stream
from emimic.inference.timeline import round_values
from emimic.server.errors import ApiError
from emimic.server.options import StreamOptions, validate
from emimic.server.service import Service
from emimic.task import VAD, AudioError, EmimicError
from emimic.version import __version__

ENCODINGS: Final[dict[str, np.dtype[Any]]] = {"s16le": np.dtype("<i2"), "float32": np.dtype("<f4")}
_POLICY, _TRY_LATER = 1008, 1013  # status codes of RFC 6455 and its registry

Made = TypeVar("Made")


async def serve_stream(socket: WebSocket, service: Service) -> None:
    """Serve a stream until its client goes.

    The client sends samples (binary, mono) and {"type": "flush"} or {"type": "reset"} (text). The server sends `ready`,
    a `step` for each step, `flushed`, `reset`, and `error` with a code and a message.
    """
    await socket.accept()
    with suppress(WebSocketDisconnect, RuntimeError):  # RuntimeError: it went while a step was sent
        try:
            options = validate(StreamOptions, dict(socket.query_params))
            predictor = service.predictor
            stream = _open_stream(service, options)
        except ApiError as error:
            await _send_error(socket, error.code, str(error))
            await socket.close(_TRY_LATER if error.status == 503 else _POLICY)
            return
        service.open_streams += 1
        service.metrics.streams.set(service.open_streams)
        try:
            await _send(
                socket, "ready", emimic=__version__, model=service.name, targets=list(predictor.targets),
                rate=options.rate, encoding=options.encoding, window=stream.grid.window, hop=stream.grid.hop,
                latency=round(stream.latency, 3),
            )  # fmt: skip
            await _Session(socket, service, options, stream).run()
        finally:
            service.open_streams -= 1
            service.metrics.streams.set(service.open_streams)


def _open_stream(service: Service, options: StreamOptions) -> Stream:
    """Return a stream.

    Raises:
        ApiError: As many as allowed are open, or the options don't fit the model.
    """
    if service.open_streams >= service.limits.streams:
        raise ApiError("busy", "as many streams as allowed are open. Try again later.")
    try:
        return Stream(service.predictor.engine, options.grid, sample_rate=options.rate)
    except EmimicError as error:
        raise ApiError("invalid_parameter", f"{error}.") from None


class _Session:
    """An open stream and its client."""

    def __init__(self, socket: WebSocket, service: Service, options: StreamOptions, stream: Stream) -> None:
        self._socket, self._service, self._options, self._stream = socket, service, options, stream
        self._targets = service.predictor.targets

    async def run(self) -> None:
        """Take messages until the client goes, pauses for too long, or has sent as much sound as allowed."""
        limits = self._service.limits
        while True:
            try:
                async with asyncio.timeout(limits.pause):
                    message = await self._socket.receive()
            except TimeoutError:
                await self._end("upload_too_slow", f"nothing came for {limits.pause:g} s.")
                return
            if message["type"] == "websocket.disconnect":
                return
            try:
                if message.get("bytes") is not None:
                    await self._push(message["bytes"])
                else:
                    await self._obey(message.get("text") or "")
            except ApiError as error:
                await _send_error(self._socket, error.code, str(error))
            except AudioError as error:
                await _send_error(self._socket, "invalid_samples", str(error))
            except EmimicError:
                reason = 'this stream was flushed: send {"type": "reset"} to start another recording.'
                await _send_error(self._socket, "flushed", reason)
            if self._stream.seconds > limits.stream:
                await self._end(
                    "sound_too_long", f"the stream is longer than {limits.stream:g} s. Start another."
                )
                return

    async def _end(self, code: str, message: str) -> None:
        await _send_error(self._socket, code, message)
        await self._socket.close(_POLICY)

    async def _push(self, data: bytes) -> None:
        """Predict samples, a second at a time, so that streams take turns."""
        samples = decode_samples(data, self._options.encoding)
        size = max(1, round(self._options.rate))
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            await self._send_steps(await self._compute(partial(self._stream.push, part)))

    async def _obey(self, text: str) -> None:
        """Follow a command."""
        try:
            command = json.loads(text)
            kind = command.get("type") if isinstance(command, dict) else None
        except (ValueError, RecursionError):
            kind = None
        if kind == "flush":
            await self._send_steps(await self._compute(self._stream.flush))
            segments = [[segment.start, segment.end] for segment in self._stream.voice_segments]
            await _send(
                self._socket, "flushed", seconds=round(self._stream.seconds, 3), voice_segments=segments
            )
        elif kind == "reset":
            self._stream.reset()
            await _send(self._socket, "reset")
        else:
            raise ApiError(
                "malformed_body",
                'found an unknown message, expected samples, {"type": "flush"} or {"type": "reset"}.',
            )

    async def _compute(self, function: Callable[[], Made]) -> Made:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._service.stream_threads, function)

    async def _send_steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            await _send(self._socket, "step", **describe_step(step, self._targets))


def decode_samples(data: bytes, encoding: str) -> NDArray[Any]:
    """Return a message's samples (sample,).

    Raises:
        ApiError: Its bytes are no whole number of samples.
    """
    kind = ENCODINGS[encoding]
    if not data or len(data) % kind.itemsize:
        raise ApiError(
            "malformed_body",
            f"found {len(data)} bytes, expected samples of {kind.itemsize} bytes each ({encoding}).",
        )
    return np.frombuffer(data, kind)


def describe_step(step: Step, targets: tuple[str, ...]) -> dict[str, Any]:
    """Return a step's JSON-ready values; in silence they are None."""
    values: dict[str, Any] = {
        "time": round(step.time, 3), "start": round(step.start, 3), "end": round(step.end, 3), "voiced": step.voiced,
        "intensities": dict(zip(targets, round_values(step.intensities), strict=True)),
    }  # fmt: skip
    if step.vad is not None:
        values["vad"] = dict(zip(VAD, round_values(step.vad.mean(axis=0)), strict=True))
    return values


async def _send(socket: WebSocket, kind: str, **fields: Any) -> None:
    await socket.send_text(json.dumps({"type": kind, **fields}, allow_nan=False))


async def _send_error(socket: WebSocket, code: str, message: str) -> None:
    await _send(socket, "error", code=code, message=message)
