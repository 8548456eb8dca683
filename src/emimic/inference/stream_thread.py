"""A stream in a thread of its own, for audio callbacks: what `put` does is copy and queue, never compute nor wait."""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from numpy.typing import NDArray

from emimic.media.source import copied
from emimic.task import EmimicError

_LOG: Final = logging.getLogger("emimic.stream")


Step_co = TypeVar("Step_co", covariant=True)


class Pushed(Protocol[Step_co]):
    """What a thread feeds, such as a `Stream`."""

    def push(self, chunk: NDArray[Any]) -> Iterable[Step_co]:
        """Return the steps that a chunk completes."""

    def flush(self) -> Iterable[Step_co]:
        """Return the last steps."""


class StreamThread(Generic[Step_co]):
    """A `Stream` that a thread feeds; made by `Stream.in_thread`, a context manager.

    Give chunks to `put` from any one thread, and take steps by `on_step` (called in the stream's thread) or by
    iterating, which ends after `close`. An error of the stream or of `on_step` ends the thread; `put`, `close` and
    iterating raise it.

    Examples:
        with predictor.stream(sample_rate=48_000).in_thread(on_step=print) as live:
            live.put(chunk)
    """

    def __init__(self, stream: Pushed[Step_co], on_step: Callable[[Step_co], object] | None = None) -> None:
        self._stream = stream
        self._on_step = on_step
        self._chunks: queue.SimpleQueue[NDArray[Any] | None] = queue.SimpleQueue()
        self._steps: queue.SimpleQueue[Step_co | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="emimic stream", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Chunks that were put and not yet predicted: if it grows, the machine is slower than the sound."""
        return self._chunks.qsize()

    def put(self, chunk: NDArray[Any]) -> None:
        """Queue a chunk as of `Stream.push`, copied, and return at once.

        Raises:
            EmimicError: after `close`, for bytes or what is no array (AudioError), or what the thread failed with.
        """
        self._raise()
        if self._closed:
            raise EmimicError("this stream was closed: its recording has ended; make another one")
        self._chunks.put(copied(chunk, "the chunk"))

    def close(self) -> None:
        """End the recording, and wait until its last step is out.

        Raises:
            EmimicError: what the thread failed with (or another error of `on_step`).
        """
        if not self._closed:
            self._closed = True
            self._chunks.put(None)
        self._thread.join()
        self._raise()

    def __iter__(self) -> Iterator[Step_co]:
        """Yield the steps as they come, until the recording ends; none where `on_step` takes them."""
        while (step := self._steps.get()) is not None:
            yield step
        self._steps.put(None)  # for a second iteration, which ends at once
        self._raise()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:  # else the block's own error is the one to see
                raise

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        take = self._steps.put if self._on_step is None else self._on_step
        try:
            while (chunk := self._chunks.get()) is not None:
                for step in self._stream.push(chunk):
                    take(step)
            for step in self._stream.flush():
                take(step)
        except Exception as error:  # noqa: BLE001 - handed to the caller's thread
            _LOG.warning("the stream ended: %s", error)
            self._error = error
        finally:
            self._steps.put(None)
