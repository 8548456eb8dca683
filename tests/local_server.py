"""A server in a thread of the tests' process, and what its clients send."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import soundfile
from fake_engine import recording

from emimic.server.limits import Limits
from emimic.server.program import Program, Settings


@contextmanager
def serve(**options: Any) -> Iterator[httpx.Client]:
    """Run a server on any free port, and give a client of it; settings of the server as options, or limits."""
    limits = options.pop("limits", Limits(at_work=1))
    program = Program(Settings(port=0, limits=limits, **options), lambda line: None)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            program.run()
        except BaseException as error:  # noqa: BLE001 - raised in the test
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while program.address is None and thread.is_alive():
            time.sleep(0.01)
        with httpx.Client(base_url=program.address or "", timeout=60) as client:
            if (access := options.get("access")) and access.token:
                client.headers["Authorization"] = f"Bearer {access.token.decode()}"
            while thread.is_alive() and client.get("/ready").status_code == 503:
                time.sleep(0.01)
            yield client
    finally:
        program.stop()
        thread.join(60)
    if errors:
        raise errors[0]


def make_voice(seconds: float = 1.0) -> np.ndarray[Any, Any]:
    """Return bursts and silence, (sample,) float32 at 16 kHz."""
    return recording(("burst", seconds * 0.6), ("hush", seconds * 0.4))


def to_wav(samples: np.ndarray[Any, Any], rate: int = 16_000) -> bytes:
    """Return samples (sample,) or (sample, channel) as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
