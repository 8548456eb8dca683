"""The parts of a grid: the rows of a table, and one training run for each row and seed."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from emimic.files import make_folder, read_json, write_atomically
from emimic.task import SettingsError
from emimic.training import checkpoint
from emimic.training.settings import TrainSettings

NOTES: Final = "grid.json"
SCHEMA: Final = "emimic/grid/1"


@dataclass(frozen=True)
class Row:
    """One row of a table: its settings over the common ones, and its published figure.

    Attributes:
        name: of its folder.
        groups: the tables that it is part of.
        published: mean Pearson on the validation split of Hume-Vidmimic2; None where no figure is published.
        published_test: the same on the test split.
        note: a sentence below the table.
        defaults: settings below the common ones.
        unavailable: the reason why the row can't run; empty where it can.
        unsure: a caveat of the published figure, such as "unreviewed".
    """

    name: str
    label: str
    groups: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    published: float | None = None
    published_test: float | None = None
    note: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    unavailable: str = ""
    unsure: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+_-]*", self.name):
            raise SettingsError(
                f"the row {self.name!r} names a folder; expected small letters, digits and . + _ - only"
            )


@dataclass(frozen=True)
class Job:
    """One training run of the grid.

    Attributes:
        settings: None, with a `reason`, where those of the row don't fit the common ones.
    """

    row: Row
    seed: int
    folder: Path
    settings: TrainSettings | None
    reason: str = ""

    @property
    def finished(self) -> bool:
        """Whether the training run is finished."""
        progress = checkpoint.read_progress(self.folder)
        return progress is not None and progress.finished

    def is_scored(self, split: str) -> bool:
        """Return whether the grid has scored the finished training run, and noted on which clips."""
        report = self.folder / "evaluation" / split / "report.json"
        if not (split in self.read_notes().get("scored", {}) and report.exists() and self.finished):
            return False
        return report.stat().st_mtime_ns >= (self.folder / checkpoint.LAST).stat().st_mtime_ns

    def is_settled(self, split: str, begun: int) -> bool:
        """Return whether the job is scored, or has failed since `begun` (ns) and isn't tried again."""
        notes = self.folder / NOTES
        if "reason" in self.read_notes() and notes.stat().st_mtime_ns >= begun:
            return True
        return self.is_scored(split)

    def read_notes(self) -> dict[str, Any]:
        """Return the notes: seconds of training, `corpus_check.digest_split` by scored split, reason of a failure."""
        try:
            return dict(read_json(self.folder / NOTES))
        except (FileNotFoundError, ValueError, TypeError):
            return {}

    def update_notes(self, **values: Any) -> None:
        """Write these values into the notes; None removes an entry."""
        make_folder(self.folder)
        notes = {"schema": SCHEMA} | self.read_notes() | values
        notes = {name: value for name, value in notes.items() if value is not None}
        write_atomically(self.folder / NOTES, json.dumps(notes, indent=1) + "\n")


@dataclass(frozen=True)
class Grid:
    """Training runs over the corpus in `folder`, stored in `out` and scored on `split`.

    Attributes:
        processes: of each training; more than one are started by torchrun.
    """

    folder: Path
    out: Path
    jobs: tuple[Job, ...]
    split: str = "valid"
    processes: int = 1
    show: bool = True
