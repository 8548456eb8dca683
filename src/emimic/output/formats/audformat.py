"""audformat: a database with the tables `files` (the clip), `segments` (one row per step) and `voice_segments`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from emimic.files import make_folder, make_one_line, make_writable, name_errors, write_atomically
from emimic.inference.results import Result
from emimic.inference.steps import make_vad_names
from emimic.output.extras import Extra
from emimic.output.formats.common import Format, find_media_name, import_library
from emimic.version import __version__


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write the folder `stem`.audformat with db.yaml and one CSV per table; a silent step has empty fields.

    Paths are relative to the database, as audformat requires: put the recording beside db.yaml (or use map_files).
    """
    audformat = import_library("audformat", "audformat")
    pandas = import_library("pandas", "audformat")
    grid = result.to_steps()
    file = find_media_name(result.path).replace("\\", "_")
    db = audformat.Database(
        stem,
        usage=audformat.define.Usage.OTHER,
        description=f"Predicted by emimic {__version__}: {make_writable(result.path)}. The table `files` is about: "
        f"{result.headline.basis}",
    )
    db.raters["model"] = audformat.Rater(
        audformat.define.RaterType.MACHINE, description=f"emimic {__version__}"
    )
    db.schemes["intensity"] = audformat.Scheme("float", description="about 0 to 1, not clipped")
    db.schemes["vad"] = audformat.Scheme(
        "float", description="about 0 to 1; of a segment: the mean of its frames"
    )
    schemes = ["intensity"] * grid.n_targets + ["vad"] * (len(grid.names) - grid.n_targets)

    def make_index(starts: Sequence[int], ends: Sequence[int]) -> Any:
        """Return an index of segments (starts and ends in ms)."""
        times = [pandas.to_timedelta(list(edges), unit="ms") for edges in (starts, ends)]
        return audformat.segmented_index([file] * len(starts), *times)

    def add_table(name: str, index: Any, names: Sequence[str], values: Any) -> None:
        """Add a table with one column per name; values are (row, column)."""
        db[name] = audformat.Table(index)
        for column, scheme in zip(names, schemes, strict=False):
            db[name][column] = audformat.Column(scheme_id=scheme, rater_id="model")
            db[name][column].set(values[:, list(names).index(column)])

    head = result.headline
    clip = [*head.intensities] if head.vad is None else [*head.intensities, *head.vad]
    names = result.targets if head.vad is None else result.targets + make_vad_names(result.targets)
    names = tuple(map(make_one_line, names))
    add_table("files", audformat.filewise_index([file]), names, np.array([clip]))
    wide = grid.starts < grid.ends
    add_table(
        "segments",
        make_index(grid.starts[wide].tolist(), grid.ends[wide].tolist()),
        grid.names,
        grid.values[wide],
    )
    db["voice_segments"] = audformat.Table(
        make_index(*zip(*grid.voice_segments, strict=True)) if grid.voice_segments else make_index([], [])
    )
    return _save(db, folder / f"{stem}.audformat")


def _save(db: Any, folder: Path) -> list[Path]:
    """Write each file atomically, and the header last, so that it never names a missing table."""
    make_folder(folder)
    with name_errors(folder), tempfile.TemporaryDirectory(prefix=".", dir=folder) as temporary:
        db.save(temporary, storage_format="csv")
        files = sorted(Path(temporary).iterdir(), key=lambda path: (path.suffix == ".yaml", path.name))
        for path in files:
            write_atomically(folder / path.name, path.read_bytes())
    return [folder / path.name for path in files]


FORMAT: Final = Format(
    "audformat",
    "audformat: a database with tables",
    write,
    aliases=("audb",),
    extra=Extra("formats", "audformat databases", ("audformat", "pandas")),
)
