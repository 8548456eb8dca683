"""Metrics of the server in the OpenMetrics format: numbers of requests, times and loads; no name and no result."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "emimic_requests",
            "Requests by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "emimic_request_seconds", "Seconds from a request's header to its response.", ["route"],
            buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.errors = Counter("emimic_errors", "Errors by code.", ["code"], registry=self.registry)
        self.sound = Counter("emimic_sound_seconds", "Seconds of sound predicted.", registry=self.registry)
        self.lost = Counter(
            "emimic_decoders_lost", "Decoders that crashed or were ended.", ["reason"], registry=self.registry
        )
        self.inside = Gauge(
            "emimic_requests_inside", "Requests that upload, wait or are at work.", registry=self.registry
        )
        self.at_work = Gauge("emimic_requests_at_work", "Requests at work.", registry=self.registry)
        self.streams = Gauge("emimic_streams", "Open streams.", registry=self.registry)

    def render(self) -> bytes:
        """Return the metrics as OpenMetrics text."""
        text: bytes = generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return text
