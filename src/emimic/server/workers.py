"""Work of requests: how many may be inside, how many are at work, and threads that can be asked to stop."""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from emimic.server.errors import ApiError
from emimic.server.limits import Limits
from emimic.server.metrics import Metrics

Given = TypeVar("Given")
Made = TypeVar("Made")


class StoppedError(Exception):
    """Raised in a thread whose result nobody waits for any more."""


class Workers:
    """Threads for `limits.at_work` requests, and the requests that wait for one.

    Must be made within the event loop.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._threads = ThreadPoolExecutor(limits.at_work, "emimic work")
        self._free = asyncio.Semaphore(limits.at_work)
        self._inside = 0
        self._mean = 0.1  # seconds of work of the last requests

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Let a request in, from its upload on.

        Raises:
            ApiError: As many as may wait are inside.
        """
        if self._inside >= self._limits.at_work + self._limits.waiting:
            seconds = math.ceil(self._mean * self._inside / self._limits.at_work)
            raise ApiError(
                "busy", "the server is at work on as many requests as it takes. Try again later.",
                {"Retry-After": str(min(max(1, seconds), 60))},
            )  # fmt: skip
        self._inside += 1
        self._metrics.inside.set(self._inside)
        try:
            yield
        finally:
            self._inside -= 1
            self._metrics.inside.set(self._inside)

    async def run(
        self, prepare: Callable[[], Awaitable[Given]], compute: Callable[[Given, threading.Event], Made]
    ) -> Made:
        """Wait for a free thread, prepare in the event loop, and return what the thread computes.

        A canceled request sets the event, and its thread counts as at work until it ends.

        Args:
            prepare: Called when a thread is free.
            compute: Called in the thread with what `prepare` returned; raises StoppedError if the event is set.

        Raises:
            ApiError: Waiting and work take too long.
        """
        try:
            async with asyncio.timeout(self._limits.work):
                return await self._run(prepare, compute)
        except TimeoutError:
            raise ApiError(
                "timeout", f"the request took longer than {self._limits.work:g} s. Send a shorter recording."
            ) from None

    async def _run(
        self, prepare: Callable[[], Awaitable[Given]], compute: Callable[[Given, threading.Event], Made]
    ) -> Made:
        await self._free.acquire()
        self._metrics.at_work.inc()
        start, stop, running = time.monotonic(), threading.Event(), None
        try:
            given = await prepare()
            running = asyncio.get_running_loop().run_in_executor(self._threads, compute, given, stop)
            del given
            return await asyncio.shield(running)
        finally:
            stop.set()
            self._mean += 0.1 * (time.monotonic() - start - self._mean)
            if running is None or running.done():
                self._release()
            else:
                running.add_done_callback(self._release)

    def _release(self, running: "asyncio.Future[Made] | None" = None) -> None:
        self._metrics.at_work.dec()
        self._free.release()
        if running is not None and not running.cancelled():
            running.exception()  # nobody else asks for it

    def close(self) -> None:
        """End the threads, each after its present work."""
        self._threads.shutdown(wait=False, cancel_futures=True)
