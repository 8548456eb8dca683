"""Decoders that wait for recordings: child processes that are reused, and replaced when one is lost."""

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

import emimic
from emimic.media.waveform import Wave
from emimic.server.decoder_child import LENGTHS, READY
from emimic.server.errors import ApiError
from emimic.server.limits import Limits
from emimic.task import SAMPLE_RATE

_LOG: Final = logging.getLogger("emimic.server")
_MAX_REPLY: Final = 1 << 22  # bytes of a reply's JSON, and of samples read at a time
_REUSES: Final = 1000
"""Recordings after which a decoder is replaced, so that no leak of a media library grows."""

_PATIENCE: Final = 5.0  # elapsed over CPU time of a recording, on a busy machine
_REPEATS: Final = 2  # for a recording whose decoder another program killed
_START: Final = 30.0  # seconds that a decoder may take to start
_KEPT: Final = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "TMPDIR",
    "VIRTUAL_ENV",
)
_FAILED: Final = "decoding the recording failed: {}. Convert it to WAV, FLAC or MP3."


@dataclass(frozen=True, slots=True)
class Sound:
    """A decoded recording. samples: (sample,) at 16 kHz. notes: remarks about the file, without its name."""

    samples: Wave
    notes: tuple[str, ...]


class LostError(Exception):
    """A decoder ended before its reply. status: its exit status, negative for a signal."""

    def __init__(self, status: int) -> None:
        super().__init__(f"a decoder ended with {status}")
        self.status = status


class Decoder:
    """A child process that decodes one recording at a time."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.uses = 0
        self._is_killed = False

    @classmethod
    async def create(cls, limits: Limits) -> Self:
        """Create the process, which then starts."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "emimic.server.decoder_child", str(limits.memory), str(limits.decoding),
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=_MAX_REPLY, env=_make_environment(),
            start_new_session=True,
        )  # fmt: skip
        return cls(process)

    async def wait_until_ready(self) -> None:
        """Wait until it can take a recording.

        Raises:
            LostError: It ended.
            TimeoutError: It takes too long.
        """
        async with asyncio.timeout(_START):
            if await self._output.readline() != READY:
                raise LostError(await self.process.wait())

    @property
    def _output(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def is_alive(self) -> bool:
        """True if the process runs."""
        return self.process.returncode is None and not self._is_killed

    async def end(self) -> None:
        """End the process, and wait until it has ended."""
        self.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()

    async def decode(self, content: bytes, limits: Limits, channel: int | None) -> Sound:
        """Return the sound of a media file's content.

        Raises:
            ApiError: It can't be decoded, or is too long.
            LostError: The process ended.
        """
        self.uses += 1
        assert self.process.stdin is not None
        most = round(limits.sound * SAMPLE_RATE)
        try:
            self.process.stdin.write(LENGTHS.pack(len(content), most, -1 if channel is None else channel))
            self.process.stdin.write(content)
            await self.process.stdin.drain()
            reply = json.loads(await self._output.readuntil(b"\n"))
            data = await self._output.readexactly(4 * reply["samples"])
        except (ConnectionError, asyncio.IncompleteReadError):
            raise LostError(await self.process.wait()) from None
        if "code" in reply:
            raise ApiError(reply["code"], reply["message"])
        return Sound(np.frombuffer(data, "<f4"), tuple(reply["notes"]))

    def kill(self) -> None:
        """End the process now; the event loop's child watcher collects it."""
        self._is_killed = True
        with suppress(ProcessLookupError):
            self.process.kill()


class DecoderPool:
    """Decoders that wait, as many as requests are at work.

    Args:
        limits: Of the server.
        on_loss: Called with a reason for each decoder that was lost.
    """

    def __init__(self, limits: Limits, on_loss: Callable[[str], object]) -> None:
        self._limits, self._on_loss = limits, on_loss
        self._idle: list[Decoder] = []
        self._living: set[Decoder] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def pids(self) -> list[int]:
        """The process ids of the decoders that wait."""
        return [decoder.process.pid for decoder in self._idle]

    async def start(self) -> None:
        """Start one decoder, and the others in the background."""
        await self._add()
        for _ in range(1, self._limits.at_work):
            self._add_later()

    async def close(self) -> None:
        """End all decoders."""
        self._is_closed = True
        for decoder in self._living:
            decoder.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(decoder.end() for decoder in self._living))
        await asyncio.sleep(0.01)  # the event loop closes their pipes

    async def decode(self, content: bytes, channel: int | None = None) -> Sound:
        """Return the sound of a media file's content.

        A decoder that another program killed is replaced, and the recording is decoded again, twice at most.

        Raises:
            ApiError: The recording can't be decoded, is too long, or takes too much time or memory.
        """
        repeats = _REPEATS
        while True:
            try:
                return await self._decode(content, channel)
            except LostError as error:
                self._on_loss("crashed")
                if not repeats or -error.status != getattr(signal, "SIGKILL", None):
                    raise ApiError("decoder_failed", _FAILED.format(_describe_end(error.status))) from None
                repeats -= 1

    async def _decode(self, content: bytes, channel: int | None) -> Sound:
        decoder = await self._take()
        try:
            async with asyncio.timeout(_PATIENCE * self._limits.decoding):
                return await decoder.decode(content, self._limits, channel)
        except TimeoutError:
            decoder.kill()
            self._on_loss("too slow")
            raise ApiError("decoder_failed", _FAILED.format("it takes too long")) from None
        except (ApiError, LostError):
            raise
        except BaseException:  # canceled: its reply would be taken for that of the next recording
            decoder.kill()
            raise
        finally:
            self._put(decoder)

    async def _take(self) -> Decoder:
        """Return a decoder that waits, or a new one."""
        while self._idle:
            decoder = self._idle.pop()
            if decoder.is_alive:
                return decoder
            self._on_loss("found dead")
        return await self._start()

    def _put(self, decoder: Decoder) -> None:
        """Let a decoder wait for the next recording; replace one that ended or was used for long."""
        if self._is_closed:
            decoder.kill()
        elif decoder.is_alive and decoder.uses < _REUSES:
            self._keep(decoder)
        else:
            decoder.kill()
            self._add_later()

    def _keep(self, decoder: Decoder) -> None:
        """Let a decoder wait, unless as many wait already."""
        if self._is_closed or len(self._idle) >= self._limits.at_work:
            decoder.kill()
        else:
            self._idle.append(decoder)

    async def _start(self) -> Decoder:
        """Return a new decoder.

        Raises:
            LostError: It ended.
            TimeoutError: It takes too long.
        """
        decoder = await Decoder.create(self._limits)
        self._living = {one for one in self._living if one.process.returncode is None} | {decoder}
        if self._is_closed:
            decoder.kill()
        try:
            await decoder.wait_until_ready()
        except BaseException:
            decoder.kill()
            raise
        return decoder

    async def _add(self) -> None:
        self._keep(await self._start())

    def _add_later(self) -> None:
        task = asyncio.create_task(self._add())
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not (task.cancelled() or self._is_closed) and (error := task.exception()) is not None:
            _LOG.warning("a decoder could not start: %s", type(error).__name__)


def _make_environment() -> dict[str, str]:
    """Return the environment of a decoder: no secret of the server's own is in it."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    paths = [str(Path(emimic.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    # OpenBLAS reserves address space per thread, of which a decoder has little.
    return {
        **environment,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _describe_end(status: int) -> str:
    """Return words for a decoder's exit status."""
    if -status == getattr(signal, "SIGXCPU", None):
        return "it takes too much time"
    return "the decoder ended"
