"""Tables for rMEA, read as its `readMEA` does, by pandas and by R."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_results import timeline, wandering

from emimic.cli.study_request import write_dyads
from emimic.mimicry.study import Session
from emimic.mimicry.study.folder import StudyFolder

COMMANDS = """
for (file in list.files(".", pattern = "\\\\.(txt|csv)$")) {
  table <- read.table(file, skip = 1, sep = ",")
  stopifnot(is.numeric(table[, 1]), is.numeric(table[, 2]), !anyNA(table))
  parts <- unlist(strsplit(tools::file_path_sans_ext(file), "_"))
  stopifnot(length(parts) == 3, as.numeric(parts[2]) == 1)
  cat(parts[1], parts[3], nrow(table), ncol(table), format(mean(table[, 2]), digits = 6), "\\n")
}
"""


def make_sessions(roles: tuple[str, ...] = ("therapist", "client")) -> list[Session]:
    rng = np.random.default_rng(0)
    sessions = []
    for row in range(3):
        gaps = np.zeros(60, bool)
        gaps[20:30] = gaps[:2] = True
        voices = [timeline(wandering(60 + k, rng), gaps=gaps if k == 0 else None) for k in range(len(roles))]
        sessions.append(Session.from_timelines(f"s_{row}", voices, group="a b" if row else "", roles=roles))
    return sessions


def test_a_table_has_both_voices_without_gaps(tmp_path: Path) -> None:
    sessions = make_sessions()
    write_dyads(sessions, StudyFolder(tmp_path))
    assert sorted(path.name for path in (tmp_path / "rmea").iterdir()) == [
        "s-0_1_all.csv", "s-1_1_a b.csv", "s-2_1_a b.csv",
    ]  # fmt: skip
    table = pd.read_csv(tmp_path / "rmea" / "s-1_1_a b.csv")
    first, second = sessions[1].voices
    assert list(table.columns[:3]) == ["therapist Admiration", "client Admiration", "therapist Amusement"]
    assert table.shape == (60, 2 * len(first.dimensions))
    np.testing.assert_allclose(table.iloc[:, 1::2], second.values[:60], atol=1e-5)
    on = first.voiced
    found = table.iloc[:, ::2].to_numpy()
    np.testing.assert_allclose(found[on], first.values[on], atol=1e-5)
    np.testing.assert_allclose(found[:2], np.tile(first.values[2], (2, 1)), atol=1e-5)
    np.testing.assert_allclose(found[25], (5 * first.values[19] + 6 * first.values[30]) / 11, atol=1e-5)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R (Debian's r-base-core) is not installed")
def test_r_reads_the_tables(tmp_path: Path) -> None:
    sessions = make_sessions()
    write_dyads(sessions, StudyFolder(tmp_path))
    done = subprocess.run(
        ["Rscript", "-e", COMMANDS],
        cwd=tmp_path / "rmea",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["s-0", "s-1", "s-2"]
    assert rows[0][1:4] == ["all", "60", "18"]
    assert float(rows[0][4]) == pytest.approx(sessions[0].voices[1].values[:60, 0].mean(), rel=1e-4)


def test_pairs_of_roles_have_a_folder_each(tmp_path: Path) -> None:
    write_dyads(make_sessions(("a", "b", "c")), StudyFolder(tmp_path))
    assert sorted(path.name for path in (tmp_path / "rmea").iterdir()) == ["a and b", "a and c", "b and c"]
    assert len(list(tmp_path.rglob("*.csv"))) == 9


def test_equal_ids_keep_their_group(tmp_path: Path) -> None:
    """rMEA reads the group behind the last `_`, so a number that separates two dyads is part of the dyad."""
    first, second, _ = make_sessions()
    write_dyads(
        [replace(first, id="a_b", group="x"), replace(second, id="a-b", group="x")], StudyFolder(tmp_path)
    )
    assert sorted(path.name for path in (tmp_path / "rmea").iterdir()) == ["a-b-2_1_x.csv", "a-b_1_x.csv"]


def test_odd_and_long_names_keep_three_parts(tmp_path: Path) -> None:
    """Each session has a file of its own, and rMEA finds its group, whatever a file system refuses."""
    names = [
        ("a/b", "x/y"),
        ("a-b", "x/y"),
        (90 * "\u65e5" + "1", 90 * "\u672c"),
        (90 * "\u65e5" + "2", ""),
        ("_", "_"),
    ]
    first = make_sessions()[0]
    write_dyads([replace(first, id=name, group=group) for name, group in names], StudyFolder(tmp_path))
    files = [path.stem.split("_") for path in (tmp_path / "rmea").iterdir()]
    long = 26 * "\u65e5"
    assert sorted(files) == sorted(
        [
            ["a-b", "1", "x-y"],
            ["a-b-2", "1", "x-y"],
            [long, "1", 20 * "\u672c"],
            [f"{long}-2", "1", "all"],
            ["-", "1", "-"],
        ]
    )
