"""A study of 40 sessions separates two groups; a killed run resumes to the same bytes; the tables are read by R."""

import csv
import hashlib
import io
import json
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from json_schema import keeps
from made_results import HOP, result, timeline, wandering
from study_cases import make_study
from typer.testing import CliRunner

from emimic.cli import app, predict_request, study_request
from emimic.inference.recording import Recording, split_recording
from emimic.inference.results import Failure
from emimic.mimicry import MimicryError, Settings, compare
from emimic.mimicry.crosstalk import find_crosstalk, split_windows
from emimic.mimicry.study import Session, Study, analyze, plots
from emimic.mimicry.study.folder import LIST, StudyFolder
from emimic.mimicry.study.page import make_page
from emimic.mimicry.study.session import read_rows
from emimic.mimicry.study.tables import (
    CONTRASTS,
    GROUPS,
    SESSIONS,
    make_contrasts_csv,
    make_groups_csv,
    make_sessions_csv,
)
from emimic.prediction import Prediction
from emimic.task import EMOTIONS

OPTIONS = Settings(alignment="windowed", draws=199)
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def study() -> Study:
    return analyze([case.session for case in make_study(40)], settings=OPTIONS)


def test_groups_are_separated_with_leader_and_lag(study: Study) -> None:
    (voices,) = study.voices
    assert voices.dyads is not None
    contrast = voices.contrasts["coupled", "control"]
    assert contrast["similarity"].p[-1] < 0.01
    assert voices.summaries["coupled"]["similarity"].p[-1] < 0.01
    assert voices.summaries["coupled"]["similarity"].d[-1] > 2
    assert voices.summaries["control"]["similarity"].p[-1] > 0.05
    right = 0
    for row, case in enumerate(make_study(40)[:20]):
        leader = "therapist" if case.lag > 0 else "client"
        is_right = voices.find_leader(row, 0.95, study.hop) == leader
        right += is_right and abs(voices.dyads.lags[row, -1] - case.lag) <= HOP + 1e-9
    assert right >= 19
    # Of 20 unrelated sessions at 5 %, more than four are found by 0.3 % of the studies.
    assert (voices.tests["similarity"].p[20:, -1] <= 0.05).sum() <= 4


def test_a_pair_of_the_study_has_the_values_of_compare(study: Study) -> None:
    cases = make_study(40)
    first, second = (timeline(voice.values) for voice in cases[3].session.voices)
    pair = compare(first, second, settings=OPTIONS)
    values = study.voices[0].values
    assert values["similarity"][3, -1] == pytest.approx(pair.overall.similarity)
    for found in pair.measures:
        assert values[found.name][3] == pytest.approx(found.values), found.name


def test_a_session_whose_roles_no_other_has_is_reported() -> None:
    """Such as one with a mistyped role."""
    first, second, third = (case.session for case in make_study(3))
    study = analyze([first, replace(second, roles=("therapist", "Client")), third], settings=OPTIONS)
    assert [session.id for session in study.sessions] == [first.id, third.id]
    (failed,) = study.failed
    assert failed.id == second.id
    assert failed.reason.startswith("no other session has two of its roles (therapist, Client)")
    page = make_page(study, {}, "")
    assert f"<p>1 session left out:</p><ul><li><strong>{second.id}</strong>: no other session has" in page


def test_warnings_of_many_sessions_are_gathered() -> None:
    """A line with the ids, not one per session; the details are in study.json."""
    sessions = [case.session for case in make_study(4)]
    quiet = np.ones(200, bool)
    quiet[:60] = quiet[150:165] = False  # voice for 12 s and for 3 s
    for row in (1, 2):
        first, second = sessions[row].voices
        voices = [timeline(first.values), timeline(second.values, gaps=quiet)]
        sessions[row] = Session.from_timelines(sessions[row].id, voices, roles=("therapist", "client"))
    study = analyze(sessions, settings=OPTIONS)
    summaries = [note for note in study.notes if "study.json" in note]
    assert [note[: note.index(" (")] for note in summaries] == [
        "2 of 4 sessions have a voice of less than 30 s, so little that it can hardly show anything",
        "therapist and client: in 2 of 4 sessions less than half of the windows have enough voice on both sides",
    ]
    assert all(note.endswith(": s01, s02") for note in summaries)
    page = make_page(study, {}, "")
    assert all(page.count(note) == 1 for note in summaries)
    assert "s of voice" not in page
    assert "<p>None but those at the top.</p>" in page
    sessions_found = study.to_dict()["sessions"]
    assert [len(one["gathered"]) for one in sessions_found] == [0, 2, 2, 0]
    assert sessions_found[1]["gathered"][0].startswith("s01 client has only 15 s of voice")
    assert sessions_found[1]["voice"] == [40.0, 15.0]


def test_effect_sizes_are_their_formulas(study: Study) -> None:
    (voices,) = study.voices
    assert voices.dyads is not None
    z = np.arctanh(voices.dyads.values["peak"][..., -1])
    pseudo = [z[5, j] for j in range(40) if j != 5] + [z[j, 5] for j in range(40) if j != 5]
    test = voices.tests["peak"]
    assert test.es[5, -1] == pytest.approx((z[5, 5] - np.mean(pseudo)) / np.std(pseudo, ddof=1))
    assert test.p[5, -1] == pytest.approx((1 + sum(value >= z[5, 5] for value in pseudo)) / 79)
    rows = range(20)
    real = [z[i, i] for i in rows]
    others = [v for i in rows for j in range(40) if i != j for v in (z[i, j], z[j, i])]
    pooled = math.sqrt((np.var(real, ddof=1) + np.var(others, ddof=1)) / 2)
    group = voices.summaries["coupled"]["peak"]
    assert group.d[-1] == pytest.approx((np.mean(real) - np.mean(others)) / pooled)
    assert group.low[-1] < np.mean(real) < group.high[-1]


def test_the_tables_and_the_json(study: Study) -> None:
    document = study.to_dict()
    keeps("mimicry/study/study_schema.json", json.loads(json.dumps(document, allow_nan=False)))
    rows = list(csv.DictReader(io.StringIO(make_sessions_csv(study))))
    assert tuple(rows[0]) == SESSIONS
    assert len(rows) == 40 * 13 * 10
    picked = [row for row in rows if (row["measure"], row["dimension"]) == ("similarity", "Overall")]
    assert len(picked) == 40
    assert float(picked[2]["value"]) == pytest.approx(study.voices[0].values["similarity"][2, -1], abs=1e-5)
    assert float(picked[2]["value_z"]) == pytest.approx(math.atanh(float(picked[2]["value"])), abs=1e-4)
    assert tuple(next(csv.reader(io.StringIO(make_groups_csv(study))))) == GROUPS
    assert tuple(next(csv.reader(io.StringIO(make_contrasts_csv(study))))) == CONTRASTS
    groups = list(csv.DictReader(io.StringIO(make_groups_csv(study))))
    assert {row["group"] for row in groups} == {"coupled", "control", "(all)"}


def test_means_of_pseudo_dyads_have_one_unit(study: Study) -> None:
    """The measure's own in every table, so that values can be compared; Fisher's z where the column's name says so."""
    (voices,) = study.voices
    rows = [
        row for row in csv.DictReader(io.StringIO(make_sessions_csv(study))) if row["dimension"] == "Overall"
    ]
    groups = list(csv.DictReader(io.StringIO(make_groups_csv(study))))
    contrasts = list(csv.DictReader(io.StringIO(make_contrasts_csv(study))))
    assert voices.dyads is not None
    for name, unit in (("peak", "r"), ("all_lags", "z"), ("coherence_slow", "fraction")):
        matrix = voices.dyads.values[name][..., -1]
        z = np.arctanh(matrix) if unit == "r" else matrix
        own = [row for row in rows if row["measure"] == name]
        gains = {"coupled": [], "control": []}  # type: ignore[var-annotated]
        for i, row in enumerate(own):
            pseudo = np.concatenate([np.delete(z[i], i), np.delete(z[:, i], i)])
            mean = np.tanh(pseudo.mean()) if unit == "r" else pseudo.mean()
            assert row["unit"] == unit
            assert float(row["pseudo_mean"]) == pytest.approx(mean, abs=1e-5)
            expected = ["", "", ""] if unit == "fraction" else [z[i, i], pseudo.mean(), pseudo.std(ddof=1)]
            found = [row[key] and float(row[key]) for key in ("value_z", "pseudo_mean_z", "pseudo_std_z")]
            assert found == pytest.approx(expected, abs=1e-5)
            gains[row["group"]].append((matrix[i, i] - mean, z[i, i] - pseudo.mean()))
        others = [z[i, j] for i in range(20) for j in range(40) if i != j]
        others += [z[j, i] for i in range(20) for j in range(40) if i != j]
        key = {"measure": name, "dimension": "Overall", "unit": unit}
        (group,) = [row for row in groups if row.items() >= (key | {"group": "coupled"}).items()]
        mean = np.tanh(np.mean(others)) if unit == "r" else np.mean(others)
        assert float(group["pseudo_mean"]) == pytest.approx(mean, abs=1e-5)
        (contrast,) = [row for row in contrasts if row.items() >= key.items()]
        difference = np.mean(gains["coupled"], axis=0) - np.mean(gains["control"], axis=0)
        assert float(contrast["difference"]) == pytest.approx(difference[0], abs=1e-5)
        if unit == "fraction":
            assert contrast["difference_z"] == ""
        else:
            assert float(contrast["difference_z"]) == pytest.approx(difference[1], abs=1e-5)


def test_page_and_terminal_name_the_units(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    study_request.show(study)
    printed = capsys.readouterr().out
    contrast = study.voices[0].contrasts["coupled", "control"]["similarity"]
    assert "therapist and client: similarity (r)" in printed
    assert f"({contrast.difference[-1]:+.3f} in z)" in printed
    page = make_page(study, {}, "")
    assert "Windows of 5 s, every 2.4 s, lags up to 2.4 s, 199 permutations" in page
    assert "<td class='text'>similarity</td><td class='text'>r</td>" in page
    for words in (
        "Difference in z",
        "Similarity (r)",
        "<td class='text'>lead_windows</td><td class='text'>fraction</td>",
    ):
        assert words in page


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R (Debian's r-base-core) is not installed")
def test_r_reads_the_table(study: Study, tmp_path: Path) -> None:
    (tmp_path / "study.csv").write_text(make_sessions_csv(study), encoding="utf-8")
    page = (DOCS / "mimicry.md").read_text(encoding="utf-8")
    script = page.partition("```r\n")[2].partition("```")[0]
    done = subprocess.run(
        ["Rscript", "-e", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert "p-value" in done.stdout
    assert len(script.strip().splitlines()) == 4


@pytest.fixture(scope="module")
def trios() -> Study:
    """Eight sessions of three coupled voices, without groups."""
    rng = np.random.default_rng(1)
    sessions = []
    for row in range(8):
        common = wandering(210, rng)
        voices = [timeline(common[k : k + 200] + 0.5 * wandering(200, rng)) for k in (0, 3, 6)]
        sessions.append(Session.from_timelines(f"s{row}", voices, roles=("a", "b", "c")))
    return analyze(sessions, settings=Settings(alignment="windowed", draws=39))


def read_columns() -> dict[str, dict[str, str]]:
    """Return when each column of a table is empty, as docs/mimicry.md says: by table and column."""
    found: dict[str, dict[str, str]] = {}
    lines = (DOCS / "mimicry.md").read_text(encoding="utf-8").splitlines()
    begin = lines.index("| column | in | meaning | unit, range | empty |") + 2
    for line in lines[begin : lines.index("", begin)]:
        columns, tables, meaning, unit, empty = (
            part.strip() for part in line.replace("\\|", "/").strip("|").split("|")
        )
        assert meaning, line
        assert unit, line
        for table in tables.split(", "):
            for column in columns.split(", "):
                assert found.setdefault(table, {}).setdefault(column.strip("`"), empty) == empty, line
    return found


def test_every_column_is_documented(study: Study, trios: Study) -> None:
    documented = read_columns()
    written = {"study": make_sessions_csv, "groups": make_groups_csv, "contrasts": make_contrasts_csv}
    assert set(documented) == set(written)
    for name, make in written.items():
        assert set(next(csv.reader(io.StringIO(make(study))))) == set(documented[name]), name
        rows = [row for one in (study, trios) for row in csv.DictReader(io.StringIO(make(one)))]
        for column, empty in documented[name].items():
            assert empty != "never" or all(row[column] for row in rows), (name, column)


def test_columns_are_empty_where_the_docs_say(study: Study, trios: Study) -> None:
    rows = [row for one in (study, trios) for row in csv.DictReader(io.StringIO(make_sessions_csv(one)))]
    for row in rows:
        name, is_pair = row["measure"], row["voices"] != "a and b and c"
        assert is_pair == (name != "rho") == bool(row["first"]) == bool(row["windows"])
        assert bool(row["lag"]) == (name == "similarity"), row
        assert bool(row["susy_es"]) == (name in ("all_lags", "absolute")), row
        assert bool(row["value_z"]) == (row["unit"] != "fraction") == bool(row["pseudo_std_z"])
        is_main = name == "similarity" and row["dimension"] == "Overall"
        leads = is_main and float(row["p"]) <= 0.05 and abs(float(row["lag"])) > 0.3
        expected = "" if not leads else row["first"] if float(row["lag"]) > 0 else row["second"]
        assert row["leader"] == expected, row
    assert {row["leader"] for row in rows} >= {"", "therapist", "client"}


def test_more_than_two_voices(trios: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trios
    assert [voices.roles for voices in found.voices] == [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    assert all(voices.summaries[""]["similarity"].p[-1] <= 0.05 for voices in found.voices[:3])
    assert found.voices[-1].summaries[""]["rho"].p[-1] <= 0.05
    assert plots.draw_heat_map(found, found.voices[0], 3).startswith(b"\x89PNG")
    monkeypatch.setattr(plots, "draw_heat_map", lambda *_: b"an image")  # 24 would take seconds
    study_request.write_study(found, StudyFolder(tmp_path))
    assert {"network.png", "a and b lags.png", "a and b distribution.png", "s3 a and b.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert page.count("<img") == 1 + 3 * 2 + 3 * 8
    assert "<script" not in page


def test_groups_of_single_sessions(capsys: pytest.CaptureFixture[str]) -> None:
    """A group of one, or without values, has no interval; all tables have the groups in the order of the sessions."""
    rng = np.random.default_rng(4)
    cases = [("x", 2, 1), ("y", 3, 1), ("x", 3, 1), ("y", 2, 1), ("z", 2, 0)]
    sessions = []
    for row, (group, voices, common) in enumerate(cases):
        values = [wandering(100, rng) for _ in range(voices)]
        if not common:  # each has a voice where the other has none
            values[0][:50], values[1][50:] = np.nan, np.nan
        names = ("a", "b", "c")[:voices]
        sessions.append(
            Session.from_timelines(f"s{row}", [timeline(one) for one in values], group=group, roles=names)
        )
    found = analyze(sessions, settings=Settings(alignment="windowed", draws=19))
    pairs = {
        (row["first_group"], row["second_group"])
        for row in csv.DictReader(io.StringIO(make_contrasts_csv(found)))
    }
    assert pairs == {("x", "y"), ("x", "z"), ("y", "z")}
    rows = list(csv.DictReader(io.StringIO(make_groups_csv(found))))
    assert {row["sessions"] for row in rows} >= {"0", "1", "2", "4"}
    for row in rows:
        assert bool(row["low"]) == bool(row["high"]) == (int(row["sessions"]) > 1), row
    study_request.show(found)
    images = {
        "network": plots.draw_network(plots.list_edges(found)),
        "distribution 0": plots.draw_distribution(found, found.voices[0]),
    }
    page = make_page(found, images, "")
    assert all(image.startswith(b"\x89PNG") for image in images.values())
    assert not any(re.search(r"\bnan\b", text) for text in (capsys.readouterr().out, page))


def test_mean_lag_lines_do_not_jump_where_lines_end() -> None:
    """Ten sessions at two levels; long lags are missing in the low ones, and one session has hardly any lag."""
    shape = np.cos(np.linspace(-1, 1, 9))
    levels = np.repeat([0.1, 0.6], 5)
    real = levels[:, None] * shape
    real[:5, [0, 1, 7, 8]] = np.nan
    empty = np.full((1, 9), np.nan)
    pseudo = np.concatenate([0.5 * real, -real, empty, [np.where(np.arange(9) == 4, 9.0, np.nan)]])
    found = plots.summarize_lines(np.concatenate([real, empty]), pseudo)
    expected = 0.35 * shape
    expected[[0, 1, 7, 8]] = np.nan
    np.testing.assert_allclose(found.mean, expected)
    np.testing.assert_allclose(found.pseudo_mean, -0.25 * expected)
    kept = np.concatenate([0.5 * levels, -levels])
    np.testing.assert_allclose(
        found.low / expected, np.where(np.isnan(expected), np.nan, np.percentile(kept, 2.5) / 0.35)
    )
    assert found.sessions == 10
    real[:4] = 0.1 * shape  # nine of ten have all lags
    found = plots.summarize_lines(real, pseudo)
    np.testing.assert_allclose(found.mean, levels[[0, 1, 2, 3, 5, 6, 7, 8, 9]].mean() * shape)
    assert found.sessions == 9
    nothing = plots.summarize_lines(empty, empty)
    assert np.isnan(nothing.mean).all()
    assert np.isnan(nothing.low).all()


# Warnings about the sound


def test_crosstalk_and_drift_are_estimated() -> None:
    rng = np.random.default_rng(2)
    size = 16_000 * 40
    beats = np.sin(np.arange(size) / np.array([[9000], [7000]]))
    first, second = 0.1 * rng.standard_normal((2, size)) * (0.2 + np.abs(beats))

    def examine(x: Any, y: Any) -> Any:
        blocks = ([wave[i : i + 32_000] for i in range(0, len(wave), 32_000)] for wave in (x, y))
        return find_crosstalk(split_windows(*blocks, 40.0), 40.0)

    assert examine(first, second).describe() == []
    mixed = examine(first, second + 0.3 * np.roll(first, 80))
    assert mixed.same_sound == 1.0
    assert mixed.delay == pytest.approx(0.005, abs=1e-4)
    assert "the same sound is in both recordings" in mixed.describe()[0]
    once = second.copy()
    once[64_000:96_000] += first[64_000:96_000]  # one sound in both, as by chance
    assert examine(first, once).same_sound == 0.0
    once[256_000:288_000] += first[256_000:288_000]
    assert examine(first, once).same_sound == pytest.approx(2 / 20)
    late = np.interp(np.arange(size) * (1 - 0.0002), np.arange(size), first)
    drift = examine(first, late)
    assert drift.drift == pytest.approx(0.0002, rel=0.15)
    hour = replace(drift, seconds=3600.0, drift=0.0002)
    assert "the recordings drift apart by 12 ms a minute, 0.72 s in all" in hour.describe()


# The table of sessions, and the verb


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,file\na,b\n", "found the columns name, file, expected id and file"),
        ("id,file\na,\n", "row 2 has no file"),
        ("id,file\na,x\na,y\n", "found the id a again in row 3"),
        ("id,file,channels\na,x,left\n", "row 2 has the channels 'left', expected such as 1,2 or all"),
        ("id,file\n", "found no session"),
        ("id,file\n,\n", "found no session"),
        ("id,file\na,x\n\n,y\n", "row 4 has no id"),
        ("id,file,channels\na,x,1,2\n", "row 2 has more fields than the header.*Quote channels"),
        ('id,file1,file2,file3,channels\na,x,y,z,"1,2"\n', "row 2 has 3 files and 2 channels"),
    ],
)
def test_an_invalid_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sessions.csv").write_text(text, encoding="utf-8")
    with pytest.raises(MimicryError, match=message):
        read_rows(tmp_path / "sessions.csv")


class Backend:
    """A stand-in for prediction: a channel's first sample is the seed of its timeline; stops after `left` files."""

    left = 10_000

    def __init__(self, *_: Any) -> None:
        pass

    def predict_clips(self, groups: Sequence[Sequence[tuple[int, Recording]]]) -> Any:
        for group in groups:
            for row, recording in group:
                path, number = split_recording(recording)
                yield [(row, self.predict(path, number))]

    def predict(self, path: Path, number: int | None) -> Any:
        try:
            soundfile.info(path)
        except soundfile.LibsndfileError:
            return Failure(path, f"{path}: is no audio")
        made = result(str(path), timeline=False)
        flat = Prediction(made.prediction.intensities, None, np.zeros(1))
        return type(made)(path, EMOTIONS, 40.0, False, False, flat, channel=number)

    def predict_timelines(self, results: Any, on_progress: Any) -> Any:
        for row, clip in results:
            if Backend.left == 0:
                raise KeyboardInterrupt
            Backend.left -= 1
            seed = round(float(soundfile.read(clip.path)[0][0, clip.channel - 1]) * 10_000)
            yield [(row, timeline(wandering(100, np.random.default_rng(seed)), clip.name))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty sessions, three of them broken."""
    monkeypatch.setattr(Backend, "left", 10_000)
    monkeypatch.setattr(predict_request, "LocalBackend", Backend)
    spec = SimpleNamespace(max_seconds=12.0)
    fake = SimpleNamespace(
        targets=EMOTIONS, engine=SimpleNamespace(spec=spec), reader=SimpleNamespace(uses_words=False)
    )
    monkeypatch.setattr(study_request, "Predictor", lambda *_, **__: fake)
    rows = ["id,file,group,role1,role2"]
    for row in range(40):
        name = f"s{row:02}"
        if row % 15 == 4:
            (tmp_path / f"{name}.wav").write_bytes(b"no sound")
        else:
            levels = [(2 * row + 1) / 10_000, (2 * row + 2) / 10_000]
            soundfile.write(tmp_path / f"{name}.wav", np.tile(levels, (1600, 1)), 16_000, subtype="DOUBLE")
        rows.append(f"{name},{name}.wav,{'a' if row % 2 else 'b'},therapist,client")
    (tmp_path / "sessions.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def run(folder: Path, out: str, *options: str) -> Any:
    words = [
        "mimicry",
        "--study",
        str(folder / "sessions.csv"),
        "--out",
        str(folder / out),
        "--draws",
        "39",
        "-q",
        *options,
    ]
    return CliRunner().invoke(app, words)


def test_a_stopped_study_resumes_to_the_same_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_request, "_draw", lambda *_: iter(()))  # plots have tests of their own
    whole = run(folder, "whole")
    assert whole.exit_code == 1, whole.exception
    assert all(f"session {name} is left out" in whole.output for name in ("s04", "s19", "s34"))
    Backend.left = 31
    stopped = run(folder, "resumed")
    assert stopped.exit_code != 0
    assert not (folder / "resumed" / "study.csv").exists()
    Backend.left = 74 - 31  # no timeline is predicted again
    assert run(folder, "resumed").exit_code == 1
    assert Backend.left == 0
    for name in ("study.csv", "groups.csv", "contrasts.csv", "study.json", "study.html"):
        assert (folder / "whole" / name).read_bytes() == (folder / "resumed" / name).read_bytes(), name
    document = json.loads((folder / "whole" / "study.json").read_text(encoding="utf-8"))
    assert len(document["sessions"]) == 37
    assert [failed["id"] for failed in document["failed"]] == ["s04", "s19", "s34"]


def list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_files_of_an_earlier_run_are_removed_unless_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(study: Study, _: bool) -> Any:
        return (((name, name), name.encode()) for name in ("lags", *study.voices[0].sessions))

    monkeypatch.setattr(study_request, "_draw", draw)
    table, out = folder / "sessions.csv", folder / "out"
    table.write_text("\n".join(table.read_text(encoding="utf-8").split("\n")[:9]), encoding="utf-8")
    assert run(folder, "out", "--rmea").exit_code == 1
    before = list_files(out)
    assert before >= {"s00.png", "s01.png", "s02.png", "rmea/s00_1_b.csv", "rmea/s02_1_b.csv"}
    listed = (out / LIST).read_text(encoding="utf-8").splitlines()
    assert {line[66:] for line in listed} == before - {LIST, "journal.jsonl"}
    for line in listed:
        assert line[:66] == hashlib.sha256((out / line[66:]).read_bytes()).hexdigest() + "  "
    (out / "mine.png").write_bytes(b"mine")
    (out / "s01.png").write_bytes(b"annotated by hand")
    outside = folder / "outside.txt"
    outside.write_bytes(b"outside")
    with (out / LIST).open("a", encoding="utf-8") as file:
        file.write(f"{hashlib.sha256(b'outside').hexdigest()}  ../outside.txt\nbroken\n")
    text = table.read_text(encoding="utf-8").replace("s00,", "first,").replace("\ns02,s02", "\nS02,s02")
    table.write_text(text.replace("\ns01,s01.wav,a,therapist,client", ""), encoding="utf-8")
    done = run(folder, "out", "--rmea")
    expected = {
        name
        for name in before
        if not name.startswith(("s00", "s01", "s02", "rmea/s00", "rmea/s01", "rmea/s02"))
    }
    expected |= {"first.png", "S02.png", "rmea/first_1_b.csv", "rmea/S02_1_b.csv", "s01.png", "mine.png"}
    assert list_files(out) == expected
    assert (out / "s01.png").read_bytes() == b"annotated by hand"
    assert outside.exists()
    assert "removed 5 files of an earlier run, not written again" in done.output
    run(folder, "out")
    assert list_files(out) == {name for name in expected if not name.startswith("rmea/")}
    assert not (out / "rmea").exists()


def test_a_stopped_run_forgets_no_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        StudyFolder(tmp_path).write(name, name)  # each run stops before it removes
    again = StudyFolder(tmp_path)
    again.write("c.png", "c")
    assert sorted(again.remove_others()) == ["a.png", "b.png"]
    assert list_files(tmp_path) == {"c.png", LIST}
    assert StudyFolder(tmp_path).remove_others() == ["c.png"]


def test_a_name_in_another_case_may_be_the_same_file(tmp_path: Path) -> None:
    """As on Windows and macOS; a hard link stands in for such a file system."""
    StudyFolder(tmp_path).write("a.png", "x")
    again = StudyFolder(tmp_path)
    (tmp_path / "a.png").unlink()
    again.write("A.png", "x")
    if not (tmp_path / "a.png").exists():
        (tmp_path / "a.png").hardlink_to(tmp_path / "A.png")
    assert again.remove_others() == []
    assert (tmp_path / "A.png").exists()


def test_options_that_do_not_fit_a_study(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["mimicry", "a.wav", "--study", "x.csv"])
    with pytest.raises(MimicryError, match="--study takes its recordings from the table"):
        raise done.exception  # type: ignore[misc]
    with pytest.raises(MimicryError, match="expected two or more"):
        analyze([make_study(2)[0].session])
    done = CliRunner().invoke(app, ["mimicry", "--fresh"])
    with pytest.raises(MimicryError, match="give a SEED"):
        raise done.exception  # type: ignore[misc]
