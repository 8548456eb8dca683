"""Fixtures of the training tests: runs that are set up and have not begun."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from emimic.training import setup
from emimic.training.settings import TrainSettings

OpenRun = Callable[[Path | Sequence[Path], TrainSettings], setup.Run]


@pytest.fixture
def open_run(tmp_path: Path) -> Iterator[OpenRun]:
    """Open runs of a corpus or several, each in a new folder; their logs are closed at the end."""
    opened: list[setup.Run] = []

    def open_new(folder: Path | Sequence[Path], settings: TrainSettings) -> setup.Run:
        out = tmp_path / f"opened{len(opened)}"
        opened.append(setup.open_run(folder, out, settings, resume=False, show=False))
        return opened[-1]

    yield open_new
    for run in opened:
        if run.log is not None:
            run.log.close()
