"""The run of a grid and its tables, as `emimic ablate` and `emimic baselines` request it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from emimic.data.split_tables import list_some
from emimic.experiments import corpus_check, grid
from emimic.experiments.jobs import Row
from emimic.experiments.results import read_results
from emimic.experiments.results_table import RESULTS, Outcome, RowScores, name_encoder
from emimic.files import read_json
from emimic.task import SettingsError
from emimic.training.settings import TrainSettings, parse_overrides

UNLISTED: Final = {
    "accelerator", "batch_seconds", "checkpoint_steps", "encoder", "encoder_config", "features", "modalities",
    "baseline", "baseline_options", "seed", "threads", "workers",
}  # fmt: skip
"""Settings that the table doesn't list: those of the machine, and those that it gives elsewhere."""


@dataclass(frozen=True)
class Request:
    """The options of the command.

    Attributes:
        folder: the corpus.
        out: the folder of all runs and of the tables.
        chosen: names of rows or tables, separated by commas; None: all.
        seeds: integers, separated by commas.
        config: a YAML file with settings of every row.
        sets: settings of every row, as NAME=VALUE.
        split: the split to score; epochs are always chosen on valid.
        against: the row that others are compared with, in place of the command's default.
        processes: of each training (torchrun).
        label_scale: as in `load_corpus`; takes precedence over the settings'.
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

    def read_settings(self) -> TrainSettings:
        """Return the settings that the user set for every row.

        Raises:
            SettingsError: if they are invalid.
        """
        scale = {} if self.label_scale is None else {"label_scale": self.label_scale}
        return TrainSettings.read(self.config, parse_overrides(list(self.sets)) | scale)


def compare(
    request: Request,
    rows: Sequence[Row],
    reference: str,
    groups: Mapping[str, str],
    defaults: Mapping[str, Any],
    log: Callable[[str], None],
    source: str = "paper",
) -> Outcome:
    """Run the chosen rows, then write and return the tables of those and of all others that have a score.

    Args:
        request: the options of the command.
        rows: all rows.
        reference: the row that others are compared with by default.
        groups: the titles of the tables, by name.
        defaults: settings that the user may override.
        log: is called with each message on the progress.
        source: of the published figures, as in `Outcome`.

    Raises:
        EmimicError: if the request, the corpus or a run on disk can't be used.
        Stopped: on SIGTERM or Ctrl-C.
    """
    common = request.read_settings()
    _check_folder(request.out, rows)
    options: dict[str, Any] = {"split": request.split, "processes": request.processes, "show": request.show}
    full_grid = grid.plan(
        request.folder, request.out, rows, _parse_seeds(request.seeds), common, defaults, **options
    )
    names = {row.name for row in choose(rows, request.chosen)}
    if request.against is not None:
        if request.against not in {row.name for row in rows}:
            raise SettingsError(f"--against takes a row; found {request.against!r}")
        reference = request.against
    jobs = tuple(job for job in full_grid.jobs if job.row.name in names)
    chosen_grid = replace(full_grid, jobs=jobs)
    corpus_check.check_corpus(chosen_grid, common)
    corpus_check.check_runs(full_grid)
    grid.run_jobs(chosen_grid, log)
    outcome = read_results(full_grid, reference, groups, names, _describe_settings(common))
    outcome = replace(
        outcome,
        groups=_choose_tables(groups, rows, request.chosen, outcome.rows, reference),
        source=source,
        elsewhere=tuple(
            f"{scores.row.name} seed {seed}"
            for scores in outcome.rows
            for seed in scores.open
            if scores.row.name in names
        ),
    )
    outcome.write(request.out)
    return outcome


def _choose_tables(
    groups: Mapping[str, str],
    rows: Sequence[Row],
    chosen: str | None,
    scores: Sequence[RowScores],
    reference: str,
) -> dict[str, str]:
    """Return the tables to print: the chosen ones, complete ones, and ones with a row that is in no chosen table."""
    if chosen is None:
        return dict(groups)
    requested = groups.keys() & _split_names(chosen)
    present = {result.row.name: set(result.row.groups) for result in scores}
    tables = {}
    for group, title in groups.items():
        others = {name for name, tables_of in present.items() if group in tables_of and name != reference}
        complete = all(row.name in present for row in rows if group in row.groups)
        if group in requested or complete or any(not requested & present[name] for name in others):
            tables[group] = title
    return tables


def _check_folder(out: Path, rows: Sequence[Row]) -> None:
    """Raise SettingsError where a folder holds tables of another command, without any of these rows."""
    try:
        stored = {row["name"] for row in read_json(out / RESULTS)["rows"]}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    if stored and not stored & {row.name for row in rows}:
        raise SettingsError(
            f"{out / RESULTS} holds rows of another verb ({list_some(sorted(stored), 5)}), whose tables would be lost; "
            "name another folder: emimic ablate and emimic baselines take one each"
        )


def _split_names(text: str) -> set[str]:
    return set(text.replace(" ", "").split(","))


def _describe_settings(common: TrainSettings) -> str:
    """Return a sentence on the settings of all rows."""
    user = common.model_dump(exclude_unset=True, exclude=UNLISTED)
    others = ", ".join(f"{name}={value}" for name, value in user.items())
    return f"Encoder, where a row names no other: {name_encoder(common.model_dump())}. " + (
        f"Settings of all rows that aren't the paper's: {others}."
        if others
        else "All other settings: the paper's, or those of a row's own system."
    )


def choose(rows: Sequence[Row], chosen: str | None) -> tuple[Row, ...]:
    """Return the rows that a list of names and tables selects, in the order of the tables; None selects all.

    Raises:
        SettingsError: if a name is unknown.
    """
    if chosen is None:
        return tuple(rows)
    requested = _split_names(chosen)
    groups = dict.fromkeys(group for row in rows for group in row.groups)
    if unknown := requested - groups.keys() - {row.name for row in rows}:
        raise SettingsError(
            f"{', '.join(sorted(unknown))} is no row; expected some of the groups {', '.join(groups)} or of the rows "
            f"{', '.join(row.name for row in rows)}"
        )
    return tuple(row for row in rows if requested & {row.name, *row.groups})


def _parse_seeds(text: str) -> tuple[int, ...]:
    seeds = [seed.strip() for seed in text.split(",")]
    if not all(seed.isascii() and seed.removeprefix("-").isdigit() for seed in seeds):
        raise SettingsError(f"found the seeds {text!r}; expected whole numbers with commas, such as 0,1,2")
    return tuple(map(int, seeds))


def parse_encoders(pairs: Sequence[str], rows: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the settings of a row's encoder, pre-trained or from scratch, from ROW=FOLDER or ROW=FILE.json.

    Raises:
        SettingsError: if a pair names no row of `rows`, or its file can't be read.
    """
    encoders: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, _, source = pair.partition("=")
        if name not in rows or not source:
            raise SettingsError(f"--encoder takes ROW=SOURCE with a row of {', '.join(rows)}; found {pair!r}")
        if not Path(source).is_file():
            encoders[name] = {"encoder": source}
            continue
        try:
            encoders[name] = {"encoder_config": yaml.safe_load(Path(source).read_text(encoding="utf-8"))}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"{source} can't be read as an encoder's configuration: {error}") from error
    return encoders
