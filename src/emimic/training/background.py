"""Writing of `last.safetensors` while the training continues."""

import threading
from collections.abc import Callable

from emimic.training.checkpoint import State, write_state


class Writer:
    """One thread that writes a run's last state, one after the other, each as a whole or not at all."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def write(self, state: State) -> None:
        """Start writing a state, of which nothing changes any more. Raises what the state before it failed with."""
        self.wait()
        self._thread = threading.Thread(
            target=self._run, args=(lambda: write_state(state),), name="checkpoint"
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written. Raises OutputError where the writing failed."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised in the training's thread
            self._error = error
