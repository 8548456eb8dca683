"""Limits of the server: sizes, times and numbers, each with a safe default."""

from dataclasses import dataclass, field

from emimic.cpus import count_cores

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the server.

    Attributes:
        body: Bytes of a request's body.
        sound: Seconds of a recording, counted while it is decoded.
        at_work: Requests that are decoded and predicted at once; default: one per core that affinity and the
            container's CPU quota allow.
        waiting: Further requests that upload or wait; beyond, a request gets 503 at once.
        work: Seconds that a request may wait and be worked on after its upload.
        upload: Seconds that an upload may take.
        pause: Seconds without a byte after which an upload or a stream ends, or a client that sends no whole header.
        streams: WebSocket streams at once.
        stream: Seconds of sound of a stream.
        message: Bytes of a WebSocket message.
        decoding: Seconds of CPU time, and five times as many elapsed, that decoding a recording may take.
        memory: Bytes by which a decoder may grow.
        connections: Open connections.
    """

    body: int = 25 * MEGABYTE
    sound: float = 600.0
    at_work: int = field(default_factory=count_cores)
    waiting: int = 16
    work: float = 120.0
    upload: float = 60.0
    pause: float = 15.0
    streams: int = 8
    stream: float = 4 * 3600.0
    message: int = MEGABYTE
    decoding: float = 20.0
    memory: int = 1000 * MEGABYTE
    connections: int = 500
