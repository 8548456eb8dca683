"""Streams over WebSocket: steps equal those of the predictor, and a malformed message ends nothing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from local_server import make_voice, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import emimic
from emimic.server.limits import Limits
from emimic.server.stream_socket import decode_samples, describe_step

VOICE = make_voice(4.0)
INTEGERS = np.round(VOICE * 32767).astype("<i2")


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    with serve(limits=Limits(at_work=1, streams=2, pause=2.0, stream=20.0)) as client:
        yield client


@contextmanager
def open_stream(server: httpx.Client, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://{server.base_url.netloc.decode()}/v1/emotions/stream{query}", **options) as socket:
        yield socket


def receive(socket: ClientConnection) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(socket.recv(timeout=30))
    return event


def flush(socket: ClientConnection) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """End the recording, and return its steps and the last event."""
    socket.send('{"type": "flush"}')
    steps = []
    while (event := receive(socket))["type"] == "step":
        steps.append(event)
    return steps, event


@pytest.mark.parametrize(("encoding", "rate"), [("s16le", 16_000), ("float32", 48_000)])
def test_steps_equal_those_of_the_predictor(encoding: str, rate: int, server: httpx.Client) -> None:
    samples = INTEGERS if encoding == "s16le" else np.repeat(VOICE, 3).astype("<f4")
    stream = emimic.load(threads=1).stream(sample_rate=rate, hop=0.5)
    expected = [describe_step(step, emimic.EMOTIONS) for step in (*stream.push(samples), *stream.flush())]
    with open_stream(server, f"?encoding={encoding}&rate={rate}&hop=0.5") as socket:
        ready = receive(socket)
        assert (ready["type"], ready["rate"], ready["hop"]) == ("ready", rate, 0.5)
        for part in np.array_split(samples, 7):
            socket.send(part.tobytes())
        steps, flushed = flush(socket)
        assert flushed == {"type": "flushed", "seconds": 4.0, "voice_segments": flushed["voice_segments"]}
        assert len(steps) == len(expected) == 8
        for step, other in zip(steps, expected, strict=True):
            assert {key: step[key] for key in ("time", "start", "end", "voiced")} == {
                key: other[key] for key in ("time", "start", "end", "voiced")
            }
            for group in ("intensities", "vad"):
                found = [-1.0 if value is None else value for value in step[group].values()]
                assert found == pytest.approx(
                    [-1.0 if value is None else value for value in other[group].values()], abs=1e-4
                )
        assert any(step["voiced"] for step in steps)


MALFORMED = {
    "odd bytes": (b"\0\0\0", "malformed_body"), "no bytes": (b"", "malformed_body"), "no JSON": ("{", "malformed_body"),
    "a list": ("[1]", "malformed_body"), "deep": ("[" * 100_000, "malformed_body"),
    "an unknown type": ('{"type": "stop"}', "malformed_body"), "no type": ("{}", "malformed_body"),
}  # fmt: skip


def test_malformed_messages_get_errors_and_the_stream_lives(server: httpx.Client) -> None:
    with open_stream(server, "?hop=1") as socket:
        receive(socket)
        for message, code in MALFORMED.values():
            socket.send(message)
            event = receive(socket)
            assert (event["type"], event["code"]) == ("error", code), message[:50]
        socket.send(INTEGERS.tobytes())
        steps, flushed = flush(socket)
        assert (len(steps), flushed["seconds"]) == (4, 4.0)
        socket.send(INTEGERS.tobytes())
        assert receive(socket)["code"] == "flushed"
        socket.send('{"type": "reset"}')
        assert receive(socket) == {"type": "reset"}
        socket.send(INTEGERS[:16_000].tobytes())
        assert flush(socket)[1]["seconds"] == 1.0


def test_samples_of_another_scale_get_an_error(server: httpx.Client) -> None:
    with open_stream(server, "?encoding=float32&hop=1") as socket:
        receive(socket)
        socket.send((VOICE * 30_000).astype("<f4").tobytes())
        assert receive(socket)["code"] == "invalid_samples"
        socket.send(VOICE.astype("<f4").tobytes())
        assert flush(socket)[1]["seconds"] == 4.0


@pytest.mark.parametrize("query", ["?rate=10", "?rate=nan", "?encoding=mp3", "?hop=3", "?speed=2"])
def test_invalid_options_end_the_stream(query: str, server: httpx.Client) -> None:
    with open_stream(server, query) as socket:
        assert receive(socket)["code"] == "invalid_parameter"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_streams_are_limited(server: httpx.Client) -> None:
    with open_stream(server) as first, open_stream(server) as second:
        assert [receive(socket)["type"] for socket in (first, second)] == ["ready"] * 2
        with open_stream(server) as third:
            assert receive(third)["code"] == "busy"
        assert "emimic_streams 2.0" in server.get("/metrics").text
        # One that sends nothing is ended, as is one that sends too much.
        second.send(np.zeros(16_000 * 21, "<i2").tobytes())
        while (event := receive(second))["type"] == "step":
            pass
        assert event["code"] == "sound_too_long"
        assert receive(first)["code"] == "upload_too_slow"


def test_other_pages_are_refused(server: httpx.Client) -> None:
    own = str(server.base_url).rstrip("/")
    with open_stream(server, origin=own) as socket:
        assert receive(socket)["type"] == "ready"
    for origin in ("http://example.org", "null", own.replace("http:", "ftp:")):
        with pytest.raises(InvalidStatus) as refused, open_stream(server, origin=origin):
            pass
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body)["error"]["code"] == "foreign_origin"


def test_another_path_is_not_found(server: httpx.Client) -> None:
    url = str(server.base_url).replace("http:", "ws:")
    with pytest.raises(InvalidStatus) as refused, connect(f"{url}/v1/nothing"):
        pass
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body)["error"]["code"] == "not_found"


def test_a_message_over_the_limit_closes_the_stream(server: httpx.Client) -> None:
    with open_stream(server) as socket:
        receive(socket)
        socket.send(b"\0" * 1_000_001)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    assert server.get("/health").status_code == 200


def test_samples_are_little_endian() -> None:
    assert decode_samples(b"\1\0\0\x80", "s16le").tolist() == [1, -32768]
    assert decode_samples(np.array([0.5], "<f4").tobytes(), "float32").tolist() == [0.5]
