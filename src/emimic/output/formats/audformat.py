"""An audformat database: the tables `files` (the clip), `segments` (a row a step), `voice_segments`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emimic.files import make_folder, naming, one_line, writable, write_atomic
from emimic.inference.results import Result
from emimic.inference.steps import vad_names
from emimic.output.formats.common import library, media_name
from emimic.version import __version__


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """The folder `stem`.audformat with db.yaml and a CSV a table; a gap is an empty cell.

    Files are named relative to the database, as audformat wants: put the recording beside db.yaml (or map_files).
    """
    audformat = library("audformat", "audformat")
    pandas = library("pandas", "audformat")
    grid = result.steps()
    file = media_name(result.path).replace("\\", "_")
    db = audformat.Database(
        stem,
        usage=audformat.define.Usage.OTHER,
        description=f"Predicted by emimic {__version__}: {writable(result.path)}. The table `files` is about: "
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

    def segments(starts: Sequence[int], ends: Sequence[int]) -> Any:
        """An index of stretches, given in ms."""
        stretch = [pandas.to_timedelta(list(times), unit="ms") for times in (starts, ends)]
        return audformat.segmented_index([file] * len(starts), *stretch)

    def fill(name: str, index: Any, names: Sequence[str], values: Any) -> None:
        db[name] = audformat.Table(index)
        for column, scheme in zip(names, schemes, strict=False):
            db[name][column] = audformat.Column(scheme_id=scheme, rater_id="model")
            db[name][column].set(values[:, list(names).index(column)])

    one = result.headline
    clip = [*one.intensities] if one.vad is None else [*one.intensities, *one.vad]
    names = result.targets if one.vad is None else result.targets + vad_names(result.targets)
    names = tuple(map(one_line, names))
    fill("files", audformat.filewise_index([file]), names, np.array([clip]))
    wide = grid.starts < grid.ends
    fill(
        "segments",
        segments(grid.starts[wide].tolist(), grid.ends[wide].tolist()),
        grid.names,
        grid.values[wide],
    )
    db["voice_segments"] = audformat.Table(
        segments(*zip(*grid.voice_segments, strict=True)) if grid.voice_segments else segments([], [])
    )
    return _saved(db, folder / f"{stem}.audformat")


def _saved(db: Any, folder: Path) -> list[Path]:
    """Each file whole or not there, and the header last, so that it never names a table that is missing."""
    make_folder(folder)
    with naming(folder), tempfile.TemporaryDirectory(prefix=".", dir=folder) as temporary:
        db.save(temporary, storage_format="csv")
        made = sorted(Path(temporary).iterdir(), key=lambda path: (path.suffix == ".yaml", path.name))
        for path in made:
            write_atomic(folder / path.name, path.read_bytes())
    return [folder / path.name for path in made]
