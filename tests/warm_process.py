"""Commands in processes of their own that begin as forks of one that has imported what training needs: for time."""

import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch  # noqa: F401 - sets up the threads that the forks must not have

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["emimic.experiments.table2", "emimic.training.loop"])


def _run(words: tuple[str, ...], output: Path, errors: Path) -> None:
    """Run `emimic` in the process that was forked, its streams in files."""
    for number, file in ((1, output), (2, errors)):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["emimic", *words]
    from emimic.cli import main

    main()


class Command:
    """A command of emimic that runs.

    Attributes:
        words: of the command, without `emimic`.
        folder: where its output goes, which no other command uses.
    """

    def __init__(self, folder: Path, *words: str) -> None:
        self.output, self.errors = folder / "stdout.txt", folder / "stderr.txt"
        folder.mkdir(parents=True, exist_ok=True)
        self.process: ForkServerProcess = FORKS.Process(target=_run, args=(words, self.output, self.errors))
        self.process.start()

    def is_running(self) -> bool:
        return self.process.is_alive()

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self, seconds: float = 100) -> tuple[int, str, str]:
        """Return the exit code (-N: ended by signal N), standard output and standard error."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still running after {seconds} s"
        return self.process.exitcode, self.output.read_text(), self.errors.read_text()
