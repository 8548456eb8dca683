"""A command that runs a grid and tables it: `emimic ablate` and `emimic rivals`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from emimic.study import grid, workers
from emimic.study.grid import Cell
from emimic.study.outcome import Outcome, encoder_of, read
from emimic.study.settings import TrainSettings, parse_overrides
from emimic.task import SettingsError

UNSAID: Final = {
    "accelerator", "batch_seconds", "checkpoint_steps", "encoder", "encoder_config", "features", "modalities",
    "rival", "rival_options", "seed", "threads", "workers",
}  # fmt: skip
"""Settings that the table doesn't list: of the machine, or said otherwise."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    chosen: names of rows or groups, with commas; None: all. seeds: whole numbers, with commas. config, sets: settings
    of every row. split: that is scored; epochs are chosen on valid whatever it is. against: the row that others are
    compared with, where that isn't the command's own. processes: of each training (torchrun). storage: an Optuna study
    that workers share.
    """

    folder: Path
    out: Path
    chosen: str | None = None
    seeds: str = "0,1,2"
    config: Path | None = None
    sets: Sequence[str] = ()
    split: str = "valid"
    against: str | None = None
    processes: int = 1
    storage: str | None = None
    show: bool = True

    def settings(self) -> TrainSettings:
        """What the user set for every row. Raises SettingsError."""
        return TrainSettings.read(self.config, parse_overrides(list(self.sets)))


def compare(
    request: Request,
    cells: Sequence[Cell],
    reference: str,
    groups: Mapping[str, str],
    base: Mapping[str, Any],
    tell: Callable[[str], None],
) -> Outcome:
    """Run the chosen cells, then write and return the tables of those and of all others that have a score.

    base: settings beneath the user's. Raises EmimicError, and Stopped as `grid.run`.
    """
    given = request.settings()
    options: dict[str, Any] = {"split": request.split, "processes": request.processes, "show": request.show}
    whole = grid.plan(request.folder, request.out, cells, _numbers(request.seeds), given, base, **options)
    names = {cell.name for cell in choose(cells, request.chosen)}
    if request.against is not None:
        if request.against not in {cell.name for cell in cells}:
            raise SettingsError(f"--against takes a row; found {request.against!r}")
        reference = request.against
    jobs = tuple(job for job in whole.jobs if job.cell.name in names)
    asked = grid.Grid(request.folder, request.out, jobs, **options)
    if request.storage is None:
        grid.run(asked, tell)
    else:
        workers.run(asked, request.storage, tell)
    outcome = read(whole, reference, groups, names, _settings(given))
    outcome.write(request.out)
    return outcome


def _settings(given: TrainSettings) -> str:
    """A sentence on what all rows have in common."""
    asked = given.model_dump(exclude_unset=True, exclude=UNSAID)
    others = ", ".join(f"{name}={value}" for name, value in asked.items())
    return f"Encoder, where a row names no other: {encoder_of(given.model_dump())}. " + (
        f"Settings of all rows that aren't the paper's: {others}."
        if others
        else "All other settings: the paper's."
    )


def choose(every: Sequence[Cell], wanted: str | None) -> tuple[Cell, ...]:
    """The cells that a list of names and groups asks for, in the order of the tables; all without one.

    Raises SettingsError on an unknown name.
    """
    if wanted is None:
        return tuple(every)
    asked = set(wanted.replace(" ", "").split(","))
    groups = dict.fromkeys(group for cell in every for group in cell.groups)
    if unknown := asked - groups.keys() - {cell.name for cell in every}:
        raise SettingsError(
            f"{', '.join(sorted(unknown))} is no cell; expected some of the groups {', '.join(groups)} or of the rows "
            f"{', '.join(cell.name for cell in every)}"
        )
    return tuple(cell for cell in every if asked & {cell.name, *cell.groups})


def _numbers(seeds: str) -> tuple[int, ...]:
    try:
        return tuple(int(seed) for seed in seeds.split(","))
    except ValueError as error:
        raise SettingsError(
            f"found the seeds {seeds!r}; expected whole numbers with commas, such as 0,1,2"
        ) from error


def sources(pairs: Sequence[str], known: Collection[str]) -> dict[str, dict[str, Any]]:
    """`["w2v2-l=FOLDER", "xlsr=FILE.json"]` -> the rows' settings: a pre-trained encoder, or one from scratch."""
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, _, source = pair.partition("=")
        if name not in known or not source:
            raise SettingsError(
                f"--encoder takes ROW=SOURCE with a row of {', '.join(known)}; found {pair!r}"
            )
        if not Path(source).is_file():
            found[name] = {"encoder": source}
            continue
        try:
            found[name] = {"encoder_config": yaml.safe_load(Path(source).read_text(encoding="utf-8"))}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"{source} can't be read as an encoder's configuration: {error}") from error
    return found
