"""A microphone, heard live: values appear half a window after they were spoken."""

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.live import Live
from rich.table import Table

from emimic.inference.stream import Step, Stream
from emimic.install import install
from emimic.media.waveform import resample
from emimic.progress import text_bar
from emimic.task import EmimicError

_PIECE: Final = 0.1  # seconds between looks at the clock
_STALLED: Final = 5.0  # seconds without a sample after which the device is given up

Hear = Callable[[float], Stream]
"""Sample rate in Hz -> the stream to push into."""


def listen(
    stream_at: Hear, *, seconds: float | None, show: Callable[[Step], object] = lambda step: None
) -> NDArray[np.float32]:
    """Record from the default microphone for `seconds` or, with None, until Ctrl-C -> (sample,) at 16 kHz.

    stream_at: makes the stream for the microphone's sample rate. show: gets each step as it becomes final. Nothing is
    stored. Raises EmimicError without sounddevice, PortAudio, a microphone, or when it gives no sound.
    """
    device = _sounddevice()
    chunks: queue.SimpleQueue[NDArray[np.float32]] = queue.SimpleQueue()

    def arrived(data: NDArray[np.float32], frames: int, clock: Any, status: Any) -> None:
        chunks.put(data.copy())  # PortAudio uses its memory again

    parts: list[NDArray[np.float32]] = []
    try:
        rate = float(device.query_devices(kind="input")["default_samplerate"])
        stream = stream_at(rate)
        wanted = None if seconds is None else round(seconds * rate)
        # Ctrl-C ends the recording, not the program.
        with (
            suppress(KeyboardInterrupt),
            device.InputStream(samplerate=rate, channels=1, dtype="float32", callback=arrived),
        ):
            heard, last = 0, time.monotonic()
            while wanted is None or heard < wanted:
                try:
                    chunk = chunks.get(timeout=_PIECE)
                except queue.Empty:
                    if time.monotonic() - last > _STALLED:
                        raise EmimicError(
                            f"the microphone gave no sound for {_STALLED:g} s; is it in use elsewhere, or muted?"
                        ) from None
                    continue
                last = time.monotonic()
                chunk = chunk[: None if wanted is None else wanted - heard]
                heard += len(chunk)
                parts.append(chunk)
                for step in stream.push(chunk):
                    show(step)
    except (device.PortAudioError, ValueError) as error:
        raise EmimicError(f"the microphone can't be used ({error}); is one connected and allowed?") from error
    for step in stream.flush():
        show(step)
    if not parts:
        raise EmimicError("nothing was recorded: stopped before the first sound arrived")
    return resample(np.concatenate(parts), rate)


class Meter:
    """Live bars on standard error, as a context manager; a call with a step moves them."""

    def __init__(self, targets: tuple[str, ...], *, on: bool = True) -> None:
        self._targets = targets
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True) if on else None

    def __enter__(self) -> "Meter":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, step: Step) -> None:
        if self._live is None:
            return
        title = f"{step.time:.1f} s" + ("" if step.voiced else ", silence") + "; Ctrl-C ends"
        table = Table(title=title, title_justify="left", show_header=False)
        for name, value in zip(self._targets, step.intensities, strict=True):
            table.add_row(name, f"{value:.2f}" if step.voiced else "", text_bar(float(value)))
        self._live.update(table, refresh=True)


def _sounddevice() -> Any:
    try:
        import sounddevice  # type: ignore[import-untyped, unused-ignore]
    except ModuleNotFoundError as error:
        raise EmimicError(f"a microphone needs sounddevice: {install('mic')}") from error
    except OSError as error:
        raise EmimicError(
            f"a microphone needs the PortAudio library ({error}); on Debian and Ubuntu: apt install libportaudio2"
        ) from error
    return sounddevice
