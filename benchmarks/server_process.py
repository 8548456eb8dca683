"""The server as a process of its own, for `benchmarks.server` and the tests."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START = 60.0  # seconds that a start may take on a busy machine


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Attributes:
        process: Of it.
        url: Without a slash at the end.
        seconds: From the start of the process to /ready.
    """

    process: subprocess.Popen[str]
    url: str
    seconds: float

    def list_decoders(self) -> list[int]:
        """Return the process ids of the decoders."""
        children: list[int] = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
                children += map(int, (task / "children").read_text().split())
        return sorted(children)

    def measure_memory(self) -> dict[str, float]:
        """Return the resident memory of the server, and of its decoders together, in MB."""
        decoders = sum(map(_read_memory, self.list_decoders()))
        return {"server": round(_read_memory(self.process.pid), 2), "decoders": round(decoders, 2)}

    def measure_peak(self) -> float:
        """Return the largest resident memory so far of the server and its present decoders together, in MB."""
        return sum(map(_read_peak, (self.process.pid, *self.list_decoders())))


def _read_peak(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def _read_memory(pid: int) -> float:
    """Return a process's resident memory in MB; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


@contextmanager
def run_server(*options: str, stderr: int = subprocess.DEVNULL) -> Iterator[Running]:
    """Start `emimic serve` on any free port, wait until it is ready, and end it after the block."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "emimic", "serve", "--port", "0", *options],
        stderr=subprocess.PIPE, stdout=stderr, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = line.partition("http://")[2].partition("/ ")[0]
        if not address:
            raise RuntimeError(f"the server did not start: {line}{process.stderr.read()}")
        url = f"http://{address}"
        wait_for(f"{url}/ready")
        yield Running(process, url, time.perf_counter() - start)
    finally:
        process.terminate()
        try:
            process.wait(START)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()


def wait_for(url: str, seconds: float = START) -> None:
    """Wait until a URL gives 200."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=seconds):
                return
        except urllib.error.URLError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
