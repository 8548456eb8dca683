"""A command that runs a grid and tables it: `emimic ablate` and `emimic baselines`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from emimic.data.split_tables import some
from emimic.experiments import corpus_check, grid
from emimic.experiments.jobs import Cell, Grid
from emimic.experiments.results_table import RESULTS, Outcome, Row, encoder_of, read
from emimic.files import read_json
from emimic.task import SettingsError
from emimic.training.settings import TrainSettings, parse_overrides

UNSAID: Final = {
    "accelerator", "batch_seconds", "checkpoint_steps", "encoder", "encoder_config", "features", "modalities",
    "baseline", "baseline_options", "seed", "threads", "workers",
}  # fmt: skip
"""Settings that the table doesn't list: of the machine, or said otherwise."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    chosen: names of rows or groups, with commas; None: all. seeds: whole numbers, with commas. config, sets: settings
    of every row. split: that is scored; epochs are chosen on valid whatever it is. against: the row that others are
    compared with, where that isn't the command's own. processes: of each training (torchrun). label_scale: as in
    `load_corpus`, over the settings'.
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
    show: bool = True
    label_scale: float | None = None

    def __post_init__(self) -> None:
        if self.split == "val":
            object.__setattr__(self, "split", "valid")

    def settings(self) -> TrainSettings:
        """What the user set for every row. Raises SettingsError."""
        scale = {} if self.label_scale is None else {"label_scale": self.label_scale}
        return TrainSettings.read(self.config, parse_overrides(list(self.sets)) | scale)


def compare(
    request: Request,
    cells: Sequence[Cell],
    reference: str,
    groups: Mapping[str, str],
    base: Mapping[str, Any],
    tell: Callable[[str], None],
    whose: str = "paper",
) -> Outcome:
    """Run the chosen cells, then write and return the tables of those and of all others that have a score.

    base: settings beneath the user's. whose: the figures beside. Raises EmimicError, and Stopped as `grid.run`.
    """
    given = request.settings()
    _refuse_other_verbs(request.out, cells)
    options: dict[str, Any] = {"split": request.split, "processes": request.processes, "show": request.show}
    whole = grid.plan(request.folder, request.out, cells, _numbers(request.seeds), given, base, **options)
    names = {cell.name for cell in choose(cells, request.chosen)}
    if request.against is not None:
        if request.against not in {cell.name for cell in cells}:
            raise SettingsError(f"--against takes a row; found {request.against!r}")
        reference = request.against
    jobs = tuple(job for job in whole.jobs if job.cell.name in names)
    asked = Grid(request.folder, request.out, jobs, **options)
    corpus_check.check(asked, given)
    corpus_check.check_runs(whole)
    grid.run(asked, tell)
    outcome = read(whole, reference, groups, names, _settings(given))
    outcome = replace(
        outcome,
        groups=_tabled(groups, cells, request.chosen, outcome.rows, reference),
        whose=whose,
        elsewhere=tuple(
            f"{row.cell.name} seed {seed}"
            for row in outcome.rows
            for seed in row.open
            if row.cell.name in names
        ),
    )
    outcome.write(request.out)
    return outcome


def _tabled(
    groups: Mapping[str, str], cells: Sequence[Cell], chosen: str | None, rows: Sequence[Row], reference: str
) -> dict[str, str]:
    """The tables to print: those asked for, and others that are whole or have a row that isn't there for these."""
    if chosen is None:
        return dict(groups)
    asked = groups.keys() & _words(chosen)
    there = {row.cell.name: set(row.cell.groups) for row in rows}
    found = {}
    for group, title in groups.items():
        of_it = {name for name, own in there.items() if group in own and name != reference}
        whole = all(cell.name in there for cell in cells if group in cell.groups)
        if group in asked or whole or any(not asked & there[name] for name in of_it):
            found[group] = title
    return found


def _refuse_other_verbs(out: Path, cells: Sequence[Cell]) -> None:
    """Raise SettingsError where a folder holds tables of none of the cells."""
    try:
        rows = read_json(out / RESULTS)["rows"]
        there = {row["name"] for row in rows}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    if there and not there & {cell.name for cell in cells}:
        raise SettingsError(
            f"{out / RESULTS} holds rows of another verb ({some(sorted(there), 5)}), whose tables would be lost; "
            "name another folder: emimic ablate and emimic baselines take one each"
        )


def _words(wanted: str) -> set[str]:
    return set(wanted.replace(" ", "").split(","))


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
    asked = _words(wanted)
    groups = dict.fromkeys(group for cell in every for group in cell.groups)
    if unknown := asked - groups.keys() - {cell.name for cell in every}:
        raise SettingsError(
            f"{', '.join(sorted(unknown))} is no cell; expected some of the groups {', '.join(groups)} or of the rows "
            f"{', '.join(cell.name for cell in every)}"
        )
    return tuple(cell for cell in every if asked & {cell.name, *cell.groups})


def _numbers(seeds: str) -> tuple[int, ...]:
    found = [seed.strip() for seed in seeds.split(",")]
    if not all(seed.isascii() and seed.removeprefix("-").isdigit() for seed in found):
        raise SettingsError(f"found the seeds {seeds!r}; expected whole numbers with commas, such as 0,1,2")
    return tuple(int(seed) for seed in found)


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
