"""Live prediction from a microphone: values appear half a window after they were spoken."""

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
from emimic.progress import draw_bar
from emimic.task import EmimicError

_PIECE: Final = 0.1  # seconds between checks for a stalled device
_STALLED: Final = 5.0  # seconds without a sample after which recording fails

MakeStream = Callable[[float], Stream]
"""Makes a stream for a sample rate in Hz."""


def listen(
    make_stream: MakeStream, *, seconds: float | None, show: Callable[[Step], object] = lambda step: None
) -> NDArray[np.float32]:
    """Record from the default microphone, and predict while recording. Nothing is stored.

    Args:
        make_stream: Makes the stream for the microphone's sample rate.
        seconds: Length of the recording; None records until Ctrl-C.
        show: Called with each final step.

    Returns:
        The recording, (sample,) at 16 kHz.

    Raises:
        EmimicError: sounddevice, PortAudio or a microphone is missing, or the microphone gives no sound.
    """
    device = _import_sounddevice()
    chunks: queue.SimpleQueue[NDArray[np.float32]] = queue.SimpleQueue()

    def put(data: NDArray[np.float32], frames: int, time_info: Any, status: Any) -> None:
        chunks.put(data.copy())  # PortAudio reuses its memory

    parts: list[NDArray[np.float32]] = []
    try:
        rate = float(device.query_devices(kind="input")["default_samplerate"])
        stream = make_stream(rate)
        total = None if seconds is None else round(seconds * rate)
        # Ctrl-C ends the recording, not the program.
        with (
            suppress(KeyboardInterrupt),
            device.InputStream(samplerate=rate, channels=1, dtype="float32", callback=put),
        ):
            count, last = 0, time.monotonic()
            while total is None or count < total:
                try:
                    chunk = chunks.get(timeout=_PIECE)
                except queue.Empty:
                    if time.monotonic() - last > _STALLED:
                        raise EmimicError(
                            f"the microphone gave no sound for {_STALLED:g} s; is it in use elsewhere, or muted?"
                        ) from None
                    continue
                last = time.monotonic()
                chunk = chunk[: None if total is None else total - count]
                count += len(chunk)
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
    """Live bars on standard error, as a context manager; a call with a step updates them."""

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
            table.add_row(name, f"{value:.2f}" if step.voiced else "", draw_bar(float(value)))
        self._live.update(table, refresh=True)


def _import_sounddevice() -> Any:
    try:
        import sounddevice  # type: ignore[import-untyped, unused-ignore]
    except ModuleNotFoundError as error:
        raise EmimicError(f"a microphone needs sounddevice: {install('mic')}") from error
    except OSError as error:
        raise EmimicError(
            f"a microphone needs the PortAudio library ({error}); on Debian and Ubuntu: apt install libportaudio2"
        ) from error
    return sounddevice
