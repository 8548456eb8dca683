"""The service behind the API: one model, decoders, threads and metrics, opened once and shared by all requests."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from starlette.requests import ClientDisconnect, Request

from emimic.inference.engine import find_default_model, open_engine
from emimic.inference.grid import TimelineOptions
from emimic.inference.predictor import Predictor
from emimic.mimicry import Settings
from emimic.server import work
from emimic.server.decoder_pool import DecoderPool, LostError
from emimic.server.documents import Document, make_document
from emimic.server.errors import ApiError
from emimic.server.limits import Limits
from emimic.server.metrics import Metrics
from emimic.server.upload import Upload
from emimic.server.work import Recording
from emimic.server.workers import Workers
from emimic.task import SAMPLE_RATE, EmimicError, ModelError

_LOG: Final = logging.getLogger("emimic.server")

Made = TypeVar("Made")


class Service:
    """The parts that all requests use. It starts in the background, so that /health is there at once.

    Args:
        model: An exported model or a training run; None: the one in the package.
        limits: Of the server.
        device: Of a training run, as torch names it.

    Attributes:
        is_ready: The model is open, and a decoder waits.
        open_streams: Number of open streams.
        failure: The error that prevented the start.
        on_failure: Called then, in the event loop.
    """

    def __init__(self, model: Path | None, limits: Limits, *, device: str | None = None) -> None:
        self.limits, self.metrics = limits, Metrics()
        self.open_streams, self.is_ready = 0, False
        self.failure: Exception | None = None
        self.on_failure: Callable[[], object] = lambda: None
        self._model, self._device = model, device
        self._predictor: Predictor | None = None
        self._opened = threading.Event()
        self._opening = threading.Thread(target=self._open, name="emimic model", daemon=True)
        self._starting: asyncio.Task[None] | None = None
        self._decoders = DecoderPool(limits, lambda reason: self.metrics.lost.labels(reason).inc())
        self._opening.start()

    @property
    def predictor(self) -> Predictor:
        """The model.

        Raises:
            ApiError: It is not open yet.
        """
        if self._predictor is None or not self.is_ready:
            raise ApiError("not_ready", "the server is starting. Try again.", {"Retry-After": "1"})
        return self._predictor

    @property
    def name(self) -> str:
        """The model's name: `default`, or its folder's."""
        return "default" if self._model is None else self._model.absolute().name

    @property
    def decoder_pids(self) -> list[int]:
        """The process ids of the decoders that wait."""
        return self._decoders.pids

    async def start(self) -> None:
        """Start threads and decoders, in the background."""
        self.workers = Workers(self.limits, self.metrics)
        self.stream_threads = ThreadPoolExecutor(self.limits.at_work, "emimic stream")
        self._starting = asyncio.create_task(self._start())
        await asyncio.sleep(0.01)  # the first decoder's process begins

    async def _start(self) -> None:
        try:
            await self._decoders.start()
        except (LostError, TimeoutError, OSError) as error:
            self.failure = EmimicError(
                f"no decoder can start ({error}), expected a child process. See emimic doctor"
            )
        while not self._opened.is_set():
            await asyncio.sleep(0.01)
        if self.failure is not None:
            self.on_failure()
            return
        self.is_ready = True
        # A first stream loads the voice detector, which the first timeline would wait for.
        await asyncio.get_running_loop().run_in_executor(self.stream_threads, self._warm_up)

    def _warm_up(self) -> None:
        assert self._predictor is not None
        self._predictor.predict_timeline(
            np.zeros(SAMPLE_RATE, np.float32), sample_rate=SAMPLE_RATE, name="warm-up"
        )

    async def close(self) -> None:
        """End decoders and threads."""
        if self._starting is not None:
            self._starting.cancel()
        await self._decoders.close()
        self.workers.close()
        self.stream_threads.shutdown(wait=False, cancel_futures=True)

    def _open(self) -> None:
        """Open the model; what it takes beside the voice is left out."""
        try:
            threads = self.limits.at_work
            engine = open_engine(
                self._model or find_default_model(), device=self._device, threads=threads, streams=threads
            )
            spec = engine.spec
            if not spec.audio:
                raise ModelError("this model takes no voice, expected one that does. Give another (--model)")
            further = [name for name, has in (("text", spec.text), ("vision", spec.vision)) if has]
            if further:
                _LOG.warning(
                    "the model takes %s, too; the server predicts from the voice alone", " and ".join(further)
                )
            self._predictor = Predictor(engine, without=further)
        except Exception as error:  # noqa: BLE001 - raised in the main thread
            self.failure = error
        finally:
            self._opened.set()

    async def predict(
        self, upload: Upload, options: TimelineOptions | None, response_format: str
    ) -> Document:
        """Return an upload's result as a document.

        Raises:
            ApiError: See STATUSES.
        """
        predictor = self.predictor

        async def decode() -> Recording:
            return await self._decode(upload)

        def compute(recording: Recording, stop: threading.Event) -> Document:
            result = work.predict_recording(predictor, recording, options, stop)
            return make_document(result, response_format, upload, recording.sound.samples)

        return await self.workers.run(decode, compute)

    async def compare(
        self, uploads: Sequence[Upload], options: TimelineOptions, settings: Settings
    ) -> dict[str, Any]:
        """Return the comparison of the first upload with each of the others; of a single one, of its two channels.

        Raises:
            ApiError: See STATUSES.
        """
        predictor = self.predictor

        async def decode() -> list[Recording]:
            if len(uploads) > 1:
                return [await self._decode(upload) for upload in uploads]
            stem = Path(uploads[0].name).stem
            names = [f"{stem} channel {number}.wav" for number in (1, 2)]
            first, second = [
                await self._decode(Upload(name, uploads[0].content), channel)
                for channel, name in enumerate(names)
            ]
            work.check_channels(first.sound.samples, second.sound.samples)
            return [first, second]

        def compute(recordings: list[Recording], stop: threading.Event) -> dict[str, Any]:
            return work.compare_recordings(predictor, recordings, options, settings, stop)

        return await self.workers.run(decode, compute)

    async def _decode(self, upload: Upload, channel: int | None = None) -> Recording:
        sound = await self._decoders.decode(upload.content, channel)
        self.metrics.sound.inc(len(sound.samples) / SAMPLE_RATE)
        return Recording(upload.name, sound)

    async def run_unless_gone(self, request: Request, work_: Awaitable[Made]) -> Made:
        """Return a request's result, or stop its work when the client goes.

        Args:
            request: Whose body was read.
            work_: Of the request.

        Raises:
            ClientDisconnect: The client has gone.
        """
        working = asyncio.ensure_future(work_)
        leaving = asyncio.ensure_future(_wait_for_end(request))
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientDisconnect
            return working.result()
        finally:
            for task in (working, leaving):
                task.cancel()


async def _wait_for_end(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
