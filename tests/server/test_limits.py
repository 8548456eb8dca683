"""Limits of the server: sizes, times and numbers; other requests go on meanwhile."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from local_server import make_voice, serve, to_wav
from made_results import timeline, wandering

from emimic.server import work
from emimic.server.limits import Limits

VOICE = to_wav(make_voice(0.5))
LIMITS = Limits(
    body=200_000, sound=4.0, at_work=1, waiting=1, upload=1.5, pause=0.8, work=60.0, streams=1, connections=6
)
HEAD = "POST /v1/emotions HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    with serve(limits=LIMITS) as client:
        yield client


def post(server: httpx.Client, content: Any = VOICE) -> httpx.Response:
    return httpx.post(
        server.base_url.join("/v1/emotions"),
        content=content,
        headers={"Content-Type": "audio/wav"},
        timeout=60,
    )


def connect(server: httpx.Client, text: str) -> socket.socket:
    """Open a connection and send text."""
    opened = socket.create_connection((server.base_url.host, server.base_url.port or 0), 10)
    opened.sendall(text.encode())
    return opened


def get_code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_a_body_is_limited_by_its_header_and_while_it_is_read(server: httpx.Client) -> None:
    assert get_code(post(server, b"0" * 200_001)) == (413, "body_too_large")
    sent = []

    def stream() -> Iterator[bytes]:
        for number in range(100):
            sent.append(number)
            yield b"0" * 10_000

    try:
        assert get_code(post(server, stream())) == (413, "body_too_large")
    except httpx.TransportError:  # closed while it was sent
        assert len(sent) < 100
    with connect(server, f"{HEAD}Content-Length: 99999999999\r\n\r\n") as opened:
        assert b" 413 " in opened.recv(100)


def test_a_recording_is_limited_while_it_is_decoded(server: httpx.Client) -> None:
    assert post(server, to_wav(make_voice(3.9))).status_code == 200
    assert get_code(post(server, to_wav(make_voice(4.1)))) == (413, "sound_too_long")


@pytest.mark.parametrize(
    "text", ["nonsense\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n"]
)
def test_what_is_no_http_is_an_error_too(text: str, server: httpx.Client) -> None:
    with connect(server, text) as opened:
        head, _, body = b"".join(iter(lambda: opened.recv(1000), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/json" in head
    assert json.loads(body)["error"]["code"] == "malformed_http"


def test_slow_clients_are_let_go(server: httpx.Client) -> None:
    with (
        connect(server, f"{HEAD}Content-Length: 1000\r\n\r\nRIFF") as body,
        connect(server, HEAD[:20]) as header,
    ):
        assert b" 408 " in body.recv(1000)
        header.settimeout(10)
        assert header.recv(1000) == b""
    with connect(server, f"{HEAD}Content-Length: 1000\r\n\r\n") as drops:
        start = time.monotonic()
        with pytest.raises(OSError, match=r"."):  # noqa: PT012 - until the upload's limit
            for _ in range(1000):
                drops.sendall(b"x")
                time.sleep(0.02)
                drops.settimeout(0.001)
                try:
                    if b" 408 " in drops.recv(1000):
                        raise OSError("refused")
                except TimeoutError:
                    pass
        assert time.monotonic() - start >= 1.4


def test_more_connections_are_dropped(server: httpx.Client) -> None:
    opened = [connect(server, "G") for _ in range(8)]
    try:
        time.sleep(0.1)
        opened[-1].settimeout(10)
        with pytest.raises(OSError, match=r"."):  # noqa: PT012 - dropped with or without the last bytes
            if opened[-1].recv(10) == b"":
                raise ConnectionResetError("closed")
    finally:
        for one in opened:
            one.close()
    time.sleep(0.1)
    assert httpx.get(server.base_url.join("/health"), timeout=30).status_code == 200


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[threading.Event]]:
    """Make work take seconds; the list gets the event of each request that was asked to stop."""

    def delay(seconds: float) -> list[threading.Event]:
        stopped: list[threading.Event] = []
        predict = work.predict_recording

        def wait(predictor: Any, recording: Any, options: Any, stop: threading.Event) -> Any:
            if stop.wait(seconds):
                stopped.append(stop)
            return predict(predictor, recording, options, stop)

        monkeypatch.setattr(work, "predict_recording", wait)
        return stopped

    return delay


def run_together(count: int, function: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """Call a function in threads, and return what it returned."""
    found: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: found.append(function())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_refused_client_gets_a_time_to_return(server: httpx.Client, slow: Any) -> None:
    slow(0.3)
    responses = run_together(4, lambda: post(server))
    statuses = sorted(response.status_code for response in responses)
    assert statuses == [200, 200, 503, 503]
    for response in responses:
        if response.status_code == 503:
            assert get_code(response) == (503, "busy")
            assert 1 <= int(response.headers["retry-after"]) <= 60


def test_long_work_is_stopped(server: httpx.Client, slow: Any) -> None:
    stopped = slow(30.0)
    start = time.monotonic()
    object.__setattr__(LIMITS, "work", 0.5)
    try:
        assert get_code(post(server)) == (504, "timeout")
    finally:
        object.__setattr__(LIMITS, "work", 60.0)
    assert time.monotonic() - start < 20.0
    end = time.monotonic() + 20.0
    while not stopped and time.monotonic() < end:
        time.sleep(0.01)
    assert len(stopped) == 1


def test_work_stops_when_its_client_goes(server: httpx.Client, slow: Any) -> None:
    stopped = slow(30.0)
    with connect(server, f"{HEAD}Content-Length: {len(VOICE)}\r\n\r\n") as opened:
        opened.sendall(VOICE)
        time.sleep(0.3)
    end = time.monotonic() + 20.0
    while not stopped and time.monotonic() < end:
        time.sleep(0.01)
    assert len(stopped) == 1


@pytest.fixture
def comparing(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, list[type]]:
    """Let comparisons be of timelines that take minutes to warp; an event when one begins, and how each ended."""
    began, ends = threading.Event(), []
    rng = np.random.default_rng(0)
    lines = [timeline(wandering(1400, rng), name) for name in ("seed", "mimic")]
    compare = work.compare_all

    def observe(*given: Any, **options: Any) -> Any:
        began.set()
        try:
            return compare(*given, **options)
        except BaseException as error:
            ends.append(type(error))
            raise

    monkeypatch.setattr(work, "compare_all", observe)
    monkeypatch.setattr(
        work, "predict_timeline", lambda _, recording, *more: lines[recording.name == "b.wav"]
    )
    return began, ends


PAIR: dict[str, Any] = {
    "files": [("seed", ("a.wav", VOICE)), ("mimic", ("b.wav", VOICE))],
    "data": {"draws": "1999"},  # as many as the server allows
}


def wait_for(ends: list[Any]) -> None:
    end = time.monotonic() + 20.0
    while not ends and time.monotonic() < end:
        time.sleep(0.01)


def test_a_comparison_stops_when_its_client_goes(server: httpx.Client, comparing: Any) -> None:
    began, ends = comparing
    request = server.build_request("POST", "/v1/mimicry", **PAIR)
    body = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with connect(server, f"POST /v1/mimicry HTTP/1.1\r\n{head}\r\n") as opened:
        opened.sendall(body)
        assert began.wait(20)
    wait_for(ends)
    assert ends == [work.StoppedError]
    assert post(server).status_code == 200, "its thread is free"


def test_a_comparison_stops_at_its_time_limit_and_the_server_ends(comparing: Any) -> None:
    began, ends = comparing
    responses: list[httpx.Response] = []

    def compare(url: httpx.URL) -> None:
        responses.append(httpx.post(url, timeout=60, **PAIR))

    with serve(limits=Limits(at_work=1, work=1.0)) as client:
        thread = threading.Thread(target=compare, args=(client.base_url.join("/v1/mimicry"),))
        thread.start()
        assert began.wait(20)
    thread.join()  # the server began to end while it compared, as at SIGTERM
    assert get_code(responses[0]) == (504, "timeout")
    wait_for(ends)
    assert ends == [work.StoppedError]


def test_a_long_recording_stops_between_blocks(server: httpx.Client) -> None:
    stop = threading.Event()
    blocks = work._cut(np.zeros(400_000, np.float32), stop)
    assert len(next(blocks)) == 160_000
    stop.set()
    with pytest.raises(work.StoppedError):
        next(blocks)
