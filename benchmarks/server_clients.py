"""Clients of the server, for `benchmarks.server`: hostile, slow, broken, many at once, and steady ones."""

import asyncio
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks.fuzz_damage import damage
from benchmarks.fuzz_files import CONTAINERS, encode
from benchmarks.server_process import Running

HEAD = "POST /v1/emotions HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
TOLERANCE = 2e-4
"""Largest difference from the known result; results of different clips differ by more."""


def make_hostile_files(count: int, seed: int = 0) -> list[bytes]:
    """Return damaged recordings of every container, and files that claim or hold far more than they should."""
    rng = random.Random(seed)
    whole = [encode(name, codec) for name, codec in CONTAINERS.items()]
    files = [damage(whole[i % len(whole)], rng, text=False) for i in range(count - 8)]
    head = (
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\xff\xff\xff\xff"
    )
    return [
        *files, make_long_opus(), head + bytes(1000), head.replace(b"\1\0\1\0", b"\1\0\xff\xff") + bytes(99_999),
        b"#EXTM3U\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n", b"\x1aE\xdf\xa3" + bytes(5000),
        b"OggS" * 5000, rng.randbytes(100_000),
    ]  # fmt: skip


def make_long_opus(seconds: int = 20 * 3600) -> bytes:
    """Return 20 hours of silence as Ogg Opus in 1.8 MB; decoded they are 4.6 GB of samples.

    A packet holds six empty frames of 20 ms (RFC 6716), a page 255 packets (RFC 3533).
    """
    table = _make_crc_table()

    def page(kind: int, granule: int, number: int, packets: list[bytes]) -> bytes:
        head = struct.pack("<4sBBqIIIB", b"OggS", 0, kind, granule, 7, number, 0, len(packets))
        data = bytearray(head + bytes(map(len, packets)) + b"".join(packets))
        crc = 0
        for byte in data:
            crc = (crc << 8 & 0xFFFFFFFF) ^ table[crc >> 24 ^ byte]
        data[22:26] = struct.pack("<I", crc)
        return bytes(data)

    silence = bytes([0x7B, 6])
    pages = [
        page(2, 0, 0, [b"OpusHead\1\1\0\0\x80\xbb\0\0\0\0\0"]),
        page(0, 0, 1, [b"OpusTags\4\0\0\0test\0\0\0\0"]),
    ]
    per_page, number, granule = 255, 2, 0
    while granule < seconds * 48_000:
        granule += per_page * 5760
        pages.append(page(0, granule, number, [silence] * per_page))
        number += 1
    return b"".join(pages)


def _make_crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(crc)
    return table


def send_hostile(server: Running, files: Sequence[bytes]) -> dict[str, Any]:
    """Send each file; return the statuses, the longest time, and the codes."""
    statuses: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    slowest = 0.0
    with httpx.Client(base_url=server.url, timeout=120) as client:
        for content in files:
            start = time.perf_counter()
            response = client.post("/v1/emotions", files={"file": ("x", content)})
            slowest = max(slowest, time.perf_counter() - start)
            statuses[str(response.status_code)] += 1
            codes[response.json()["error"]["code"] if response.is_error else "predicted"] += 1
    return {
        "files": len(files),
        "statuses": dict(statuses),
        "codes": dict(codes),
        "slowest_seconds": round(slowest, 2),
    }


def send_broken(server: Running, voice: bytes, count: int) -> dict[str, Any]:
    """Open connections that break off in many ways, slow ones that stay, and a healthy client beside them."""
    address = urlsplit(server.url)
    beginnings = [
        b"", b"GET", b"\0" * 500, b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/emotions HTTP/1.1\r\n", HEAD.encode(),
        f"{HEAD}Content-Length: 100000\r\n\r\n".encode() + voice[:1000],
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\nfffffff\r\n".encode() + voice[:1000],
        f"{HEAD}Content-Length: -5\r\n\r\n".encode(), f"{HEAD}Content-Length: {len(voice)}\r\n\r\n".encode() + voice,
        b"GET /v1/emotions/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ]  # fmt: skip
    opened = []
    for i in range(count):
        connection = socket.create_connection((address.hostname or "", address.port or 0), 30)
        connection.sendall(beginnings[i % len(beginnings)])
        if i % 2:
            connection.close()
        else:
            opened.append(connection)  # and sends nothing more
    statuses: Counter[str] = Counter()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for _ in range(20):
            statuses[str(client.post("/v1/emotions", files={"file": ("x", voice)}).status_code)] += 1
    for connection in opened:
        connection.close()
    return {"connections": count, "healthy_client": dict(statuses)}


@contextmanager
def keep_busy(server: Running, voice: bytes, *, clients: int) -> Iterator[None]:
    """Let clients in threads send a recording again and again, over time, until the block ends."""
    end = threading.Event()

    def send() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not end.is_set():
                client.post("/v1/emotions?hop=0.1", files={"file": ("x", voice)})

    with ThreadPoolExecutor(max(1, clients)) as threads:
        sending = [threads.submit(send) for _ in range(clients)]
        try:
            yield
        finally:
            end.set()
    for one in sending:
        one.result()


async def send_at_once(
    server: Running, clips: Sequence[bytes], known: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """Send all clips at the same moment, and again after Retry-After until each has its result."""
    statuses: Counter[str] = Counter()
    first: Counter[str] = Counter()
    wrong, start = 0, time.perf_counter()
    limits = httpx.Limits(max_connections=len(clips))
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:

        async def send(number: int) -> None:
            nonlocal wrong
            for attempt in range(200):
                try:
                    response = await client.post(
                        "/v1/emotions", files={"file": (f"{number}.wav", clips[number])}
                    )
                except httpx.TransportError as error:
                    statuses[type(error).__name__] += 1
                    continue
                statuses[str(response.status_code)] += 1
                if attempt == 0:
                    first[str(response.status_code)] += 1
                if response.status_code == 200:
                    wrong += not is_known(response.json()["intensities"], known[number])
                    return
                await asyncio.sleep(float(response.headers.get("retry-after", 1)) * (0.5 + random.random()))
            raise RuntimeError(f"client {number} got no result")

        await asyncio.gather(*(send(number) for number in range(len(clips))))
    return {
        "clients": len(clips), "first_statuses": dict(first), "statuses": dict(statuses), "wrong": wrong,
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip


def is_known(figures: dict[str, float], known: dict[str, float]) -> bool:
    """Return True if intensities are the known ones."""
    return all(abs(figures[name] - value) <= TOLERANCE for name, value in known.items())


async def send_steadily(
    server: Running,
    clips: Sequence[bytes],
    *,
    seconds: float,
    clients: int,
    fields: Sequence[dict[str, str]] = ({},),
    pause: float = 0.0,
    on_second: Any = None,
) -> dict[str, Any]:
    """Send clips from some clients one after another; return statuses, requests a second and memory over time.

    Args:
        server: That gets them.
        clips: Recordings, in turn.
        seconds: To send for.
        clients: At once.
        fields: Options, in turn.
        pause: Seconds that a client waits after each response.
        on_second: Called every second.
    """
    statuses: Counter[str] = Counter()
    memory: list[tuple[float, dict[str, float]]] = []
    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:

        async def send(number: int) -> None:
            while time.perf_counter() - start < seconds:
                response = await client.post(
                    "/v1/emotions",
                    files={"file": ("x", clips[number % len(clips)])},
                    data=fields[number % len(fields)],
                )
                statuses[str(response.status_code)] += 1
                number += clients
                await asyncio.sleep(pause)

        async def watch() -> None:
            while time.perf_counter() - start < seconds:
                await asyncio.sleep(1.0)
                memory.append((round(time.perf_counter() - start, 1), server.measure_memory()))
                if on_second is not None:
                    on_second(server)

        await asyncio.gather(watch(), *(send(number) for number in range(clients)))
    passed = time.perf_counter() - start
    return {
        "seconds": round(passed, 1), "clients": clients, "statuses": dict(statuses),
        "requests_per_second": round(sum(statuses.values()) / passed, 2), "memory": memory,
    }  # fmt: skip
