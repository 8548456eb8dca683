"""A stream in a separate thread, for audio callbacks: `put` only copies and queues; it never computes or waits."""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from numpy.typing import NDArray

from emimic.media.source import copy_samples
from emimic.task import EmimicError

_LOG: Final = logging.getLogger("emimic.stream")


Step_co = TypeVar("Step_co", covariant=True)


class Pushable(Protocol[Step_co]):
    """A consumer of chunks, such as a `Stream`."""

    def push(self, chunk: NDArray[Any]) -> Iterable[Step_co]:
        """Add a chunk and return the steps that are final now."""

    def flush(self) -> Iterable[Step_co]:
        """End the recording and return the last steps."""


class StreamThread(Generic[Step_co]):
    """A `Stream` fed by a thread; a context manager, made by `Stream.start_thread`.

    Give chunks to `put` from any one thread, and take steps by `on_step` (called in the stream's thread) or by
    iterating, which ends after `close`. An error of the stream or of `on_step` ends the thread; `put`, `close` and
    iteration raise it.

    Examples:
        with predictor.stream(sample_rate=48_000).start_thread(on_step=print) as live:
            live.put(chunk)
    """

    def __init__(self, stream: Pushable[Step_co], on_step: Callable[[Step_co], object] | None = None) -> None:
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
        """Number of queued chunks; if it grows, the machine is slower than real time."""
        return self._chunks.qsize()

    def put(self, chunk: NDArray[Any]) -> None:
        """Queue a copy of a chunk, see `Stream.push`, and return at once.

        Raises:
            EmimicError: The stream was closed, the chunk is not an array (AudioError), or the thread's own error.
        """
        self._raise()
        if self._closed:
            raise EmimicError("this stream was closed: its recording has ended; make another one")
        self._chunks.put(copy_samples(chunk, "the chunk"))

    def close(self) -> None:
        """End the recording, and wait for its last step.

        Raises:
            EmimicError: The thread's own error (or another error of `on_step`).
        """
        if not self._closed:
            self._closed = True
            self._chunks.put(None)
        self._thread.join()
        self._raise()

    def __iter__(self) -> Iterator[Step_co]:
        """Yield steps until the recording ends; none if `on_step` takes them."""
        while (step := self._steps.get()) is not None:
            yield step
        self._steps.put(None)  # ends a second iteration at once
        self._raise()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:  # otherwise the block's own error is raised
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
