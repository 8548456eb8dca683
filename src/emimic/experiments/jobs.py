"""What a grid is made of: the rows of a table, and one training run for each row and seed."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from emimic.files import make_folder, read_json, write_atomic
from emimic.task import SettingsError
from emimic.training import checkpoint
from emimic.training.settings import TrainSettings

NOTES: Final = "grid.json"
SCHEMA: Final = "emimic/grid/1"


@dataclass(frozen=True)
class Cell:
    """A row of a table: settings over the common ones, and what was published for it.

    name: of its folder. groups: the tables it stands in. published: mean Pearson on Hume-Vidmimic2, validation and
    test, None where there is no figure. note: a sentence beneath the table. beneath: settings under the common ones.
    lacking: why the row can't be had, if it can't. unsure: what keeps its figure from being one, such as "unreviewed".
    """

    name: str
    label: str
    groups: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    published: float | None = None
    published_test: float | None = None
    note: str = ""
    beneath: Mapping[str, Any] = field(default_factory=dict)
    lacking: str = ""
    unsure: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+_-]*", self.name):
            raise SettingsError(
                f"the cell {self.name!r} names a folder; expected small letters, digits and . + _ - only"
            )


@dataclass(frozen=True)
class Job:
    """One run of the grid. settings: None, with a reason, where the cell's don't go with the common ones."""

    cell: Cell
    seed: int
    folder: Path
    settings: TrainSettings | None
    reason: str = ""

    @property
    def finished(self) -> bool:
        """Whether it is trained to its end."""
        progress = checkpoint.read_progress(self.folder)
        return progress is not None and progress.finished

    def scored(self, split: str) -> bool:
        """Whether it is finished, and scored since by the grid, which notes on what."""
        report = self.folder / "evaluation" / split / "report.json"
        if not (split in self.notes().get("scored", {}) and report.exists() and self.finished):
            return False
        return report.stat().st_mtime_ns >= (self.folder / checkpoint.LAST).stat().st_mtime_ns

    def settled(self, split: str, begun: int) -> bool:
        """Whether it is scored, or has failed since `begun` (ns): then it isn't tried once more."""
        notes = self.folder / NOTES
        if "reason" in self.notes() and notes.stat().st_mtime_ns >= begun:
            return True
        return self.scored(split)

    def notes(self) -> dict[str, Any]:
        """seconds: of training, summed over what wasn't killed; scored: by split, `contents.scored_on`; reason: why it
        failed, if it did."""
        try:
            return dict(read_json(self.folder / NOTES))
        except (FileNotFoundError, ValueError, TypeError):
            return {}

    def note(self, **values: Any) -> None:
        """Write these values into the notes; one that is None goes."""
        make_folder(self.folder)
        notes = {"schema": SCHEMA} | self.notes() | values
        kept = {name: value for name, value in notes.items() if value is not None}
        write_atomic(self.folder / NOTES, json.dumps(kept, indent=1) + "\n")


@dataclass(frozen=True)
class Grid:
    """What is run: `jobs` over the corpus in `folder`, kept in `out` and scored on `split`.

    processes: more than one starts each training by torchrun.
    """

    folder: Path
    out: Path
    jobs: tuple[Job, ...]
    split: str = "valid"
    processes: int = 1
    show: bool = True
