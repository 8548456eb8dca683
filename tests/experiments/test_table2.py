"""The grid of ablations: every row runs, survives a kill, and is compared as independent formulas say."""

import dataclasses
import json
import math
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from json_schema import keeps
from scipy import stats
from tone_corpus import ENCODER
from typer.testing import CliRunner
from warm_process import Command

from emimic import sample
from emimic.cli import app
from emimic.experiments import grid, results, results_table, significance, table2
from emimic.experiments.jobs import NOTES, Job, Row
from emimic.experiments.run import Request
from emimic.files import hold, read_json
from emimic.task import EMOTIONS, CorpusError, SettingsError
from emimic.training import checkpoint
from emimic.training.settings import TrainSettings

ROWS = {row.name for row in table2.list_rows()}
COMMON: dict[str, Any] = {
    "encoder_config": ENCODER,
    "epochs": 1,
    "batch_size": 8,  # three steps, so that a kill may fall between two
    "lr": 3e-3,
    "accelerator": "cpu",
    "threads": 1,
    "workers": 1,
    "checkpoint_steps": 1,
    "max_seconds": 1.1,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the settings of all rows and an encoder's configuration."""
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "common.yaml").write_text(yaml.safe_dump(COMMON))
    (folder / "encoder.json").write_text(json.dumps(ENCODER))
    return folder


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample corpus with a fifth of its training clips and half of its validation clips, for time."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "audio").symlink_to(sample.get_folder() / "audio")
    for name, rows in (("train", 24), ("valid", 14)):
        lines = (sample.get_folder() / f"{name}_split.csv").read_text().splitlines()
        (folder / f"{name}_split.csv").write_text("\n".join(lines[: 1 + rows]) + "\n")
    return folder


def words(base: Path, corpus: Path, out: Path, *more: str) -> list[str]:
    given = ["ablate", str(corpus), "--out", str(out), "--config", str(base / "common.yaml"), "--quiet"]
    return [*given, "--encoder", "xlsr=" + str(base / "encoder.json"), *more]


def underway(out: Path, finished: int) -> Path:
    """Waits until this many runs have finished and another has saved a step; that one's folder."""
    end = time.monotonic() + 100
    while time.monotonic() < end:
        states = {
            file.parent: checkpoint.read_progress(file.parent) for file in out.glob("*/*/last.safetensors")
        }
        done = [state.finished for state in states.values() if state]
        if sum(done) >= finished:
            for folder, state in states.items():
                if state and not state.finished:
                    return folder
        time.sleep(0.01)
    raise AssertionError("nothing was trained")


def timeless(out: Path) -> Any:
    collected = json.loads((out / "results.json").read_text())
    keeps("experiments/comparison_schema.json", collected)
    for row in collected["rows"]:
        for run in row["runs"]:
            assert run.pop("seconds") >= 0
    return collected


def test_all_rows_run_on_the_sample_and_a_kill_changes_no_byte(base: Path, speech: Path) -> None:
    whole, killed = base / "whole", base / "killed"
    kinds = ("full", "w2v2-l", "gv", "frozen", "zeros", "loss-mse-ccc")
    more = ("--seeds", "0", "--encoder", "w2v2-l=/no/such/folder")
    result = CliRunner().invoke(app, words(base, speech, whole, *more))
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads((whole / "results.json").read_text())["rows"]}
    assert rows.keys() == ROWS
    for name, row in rows.items():
        if name == "w2v2-l" or name.startswith("vision-"):  # named, with its reason, and not faked
            assert row["mean"] is None
            assert name != "w2v2-l" or "no such folder" in row["failed"]["0"]
            assert row["failed"]["0"]
            continue
        assert -1 <= row["mean"] <= 1, name
        (run,) = row["runs"]
        assert run["mean"] == row["mean"]
        assert set(run["targets"]) == set(EMOTIONS)
        assert run["settings"]["seed"] == 0
        assert run["versions"]["torch"]
    text = (whole / "table.md").read_text()
    assert text.strip() in result.output
    assert re.search(r"W2V2-L; global vector +\| failed +\| 0\.017", text)
    assert "/no/such/folder: no such folder" in text
    for published in ("0.342", "0.356", "0.375", "0.377", "0.386", "0.389", "0.262", "0.021"):
        assert published in text

    # Killed and run again: a row of each kind, all of which the first command has done.
    more += ("--rows", ",".join(kinds))
    chosen = base / "chosen"
    for name in (*kinds, "features"):
        shutil.copytree(whole / name, chosen / name)
    result = CliRunner().invoke(app, words(base, speech, chosen, *more))
    assert result.exit_code == 0, result.output
    process = Command(base / "streams", "--offline", *words(base, speech, killed, *more))
    struck = underway(killed, 3)
    process.send_signal(signal.SIGKILL)
    assert process.wait()[0] == -signal.SIGKILL
    assert not (killed / "table.md").exists()
    before = {file: file.stat().st_mtime_ns for file in killed.glob("*/*/model.safetensors")}
    result = CliRunner().invoke(app, words(base, speech, killed, *more))
    assert result.exit_code == 0, result.output
    assert (killed / "table.md").read_bytes() == (chosen / "table.md").read_bytes()
    assert timeless(killed) == timeless(chosen)
    for file, written in before.items():  # what was finished wasn't trained again
        if file.parent != struck:
            assert file.stat().st_mtime_ns == written


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves(base: Path, tones: Path, tmp_path: Path, number: int, code: int) -> None:
    command = words(base, tones, tmp_path, "--seeds", "0", "--rows", "full", "--set", "epochs=300")
    process = Command(tmp_path / "streams", "--offline", *command, "--set", "patience=null")
    folder = underway(tmp_path, 0)
    process.send_signal(number)
    actual, _, message = process.wait()
    assert actual == code, message
    assert "rerun the command to continue" in message
    state = checkpoint.read_progress(folder)
    assert state is not None
    assert not state.finished


def test_the_same_command_twice_shares_the_runs(base: Path, tones: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "out", "full,gv,gv-head,xlsr"
    command = words(base, tones, out, "--seeds", "0", "--rows", names, "--set", "epochs=5")
    other = Command(tmp_path / "streams", "--offline", *command)
    underway(out, 0)
    ours: list[str] = []
    sets = ("epochs=5",)
    request = Request(tones, out, names, "0", config=base / "common.yaml", sets=sets, show=False)
    actual = table2.ablate(request, [f"xlsr={base / 'encoder.json'}"], ours.append)
    code, _, theirs = other.wait()
    trained = [line for line in ours + theirs.splitlines() if re.fullmatch(r"\S+ seed \d", line)]
    assert sorted(trained) == sorted(f"{name} seed 0" for name in names.split(",")), "a run was done twice"
    assert "full seed 0: another process is at it" in ours
    assert code == 0 or "another command has some" in theirs
    assert all(row.scores or row.open for row in actual.rows)


def test_another_row_to_compare_with(base: Path, tones: Path, tmp_path: Path) -> None:
    request = Request(
        tones, tmp_path, "gv,gv-head", "0", config=base / "common.yaml", against="gv", show=False
    )
    gv, head = table2.ablate(request, log=lambda _: None).rows
    assert gv.difference is None
    assert head.difference is not None
    assert head.difference.value == pytest.approx(head.mean - gv.mean, abs=1e-5)
    assert 'less "global vector" [95 %]' in (tmp_path / "table.md").read_text()
    with pytest.raises(SettingsError, match="--against takes a row; found 'nobody'"):
        table2.ablate(dataclasses.replace(request, against="nobody"), log=lambda _: None)


def test_an_encoder_is_named_without_its_place(tmp_path: Path) -> None:
    assert (
        results_table.name_encoder({"encoder": str(tmp_path), "encoder_layers": 4})
        == f"{tmp_path.name}, its first 4 layers"
    )
    assert results_table.name_encoder({"encoder": "/gone/whisper"}) == "whisper"
    assert results_table.name_encoder({"encoder": "facebook/wav2vec2-base"}) == "facebook/wav2vec2-base"
    assert (
        results_table.name_encoder({"encoder": None, "encoder_config": ENCODER})
        == "a wav2vec2 encoder from scratch"
    )


def test_torchrun_trains_a_row_in_two_processes(base: Path, tones: Path, tmp_path: Path) -> None:
    request = Request(tones, tmp_path, "gv,w2v2-l", "0", config=base / "common.yaml", processes=2, show=False)
    gone, row = table2.ablate(request, ["w2v2-l=/no/such"], lambda _: None).rows
    assert math.isfinite(row.mean)
    assert json.loads((tmp_path / "gv/seed-0/train.json").read_text())["processes"] == 2
    assert "no such folder" in gone.failed[0]


def test_changed_settings_are_refused_and_a_moved_folder_is_not(
    base: Path, tones: Path, tmp_path: Path
) -> None:
    def once(out: Path, *sets: str) -> results_table.Outcome:
        request = Request(tones, out, "frozen", "0", config=base / "common.yaml", sets=sets, show=False)
        return table2.ablate(request, log=logged.append)

    logged: list[str] = []
    first = once(tmp_path / "a")
    assert (tmp_path / "a" / "features").is_dir()
    with pytest.raises(SettingsError, match=r"full/seed-0 was started with other settings \(lr differ\)"):
        once(tmp_path / "a", "lr=0.1")
    (tmp_path / "a").rename(tmp_path / "b")
    logged.clear()
    assert once(tmp_path / "b").to_markdown() == first.to_markdown()
    assert not logged


def test_frozen_rows_share_their_features(base: Path, tones: Path, tmp_path: Path) -> None:
    sets = ("freeze_encoder=true", "encoder=null")
    request = Request(
        tones, tmp_path, "gv,gv-head,full", "0", config=base / "common.yaml", sets=sets, show=False
    )
    table2.ablate(request, log=lambda _: None)
    assert str(tmp_path) not in (tmp_path / "results.json").read_text()
    (cache,) = (tmp_path / "features").iterdir()
    assert len(list(cache.iterdir())) == 15  # a file a clip, for training and scoring of all three


def test_a_run_that_another_process_holds_is_passed_over(base: Path, tones: Path, tmp_path: Path) -> None:
    logged: list[str] = []
    request = Request(tones, tmp_path, "gv", "0", config=base / "common.yaml", show=False)
    with hold(tmp_path / "gv" / "seed-0" / grid.LOCK) as ours:
        assert ours
        actual = table2.ablate(request, log=logged.append)
        result = CliRunner().invoke(app, words(base, tones, tmp_path, "--rows", "gv", "--seeds", "0"))
    assert actual.rows[0].open == (0,)
    assert actual.elsewhere == ("gv seed 0",)
    assert logged == ["gv seed 0: another process is at it"]
    assert result.exit_code == 1
    assert "not run yet" in result.output
    assert "not all runs are done: another command has some (gv seed 0)" in result.output
    assert f"written: {tmp_path / 'table.md'}, {tmp_path / 'results.json'}" in result.output


def test_what_failed_is_tried_once_more(
    base: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once() -> results_table.RowScores:
        request = Request(tones, tmp_path, "gv", "0", config=base / "common.yaml", show=False)
        (row,) = table2.ablate(request, log=lambda _: None).rows
        return row

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(grid, "evaluate", full)
        assert once().failed == {0: "no space left on device"}
    again = once()
    assert not again.failed
    assert again.difference is None  # the full model isn't there to compare with
    assert not re.search("less|p over", (tmp_path / "table.md").read_text())
    assert again.scores.keys() == {0}


def copy(corpus: Path, to: Path, **changed: tuple[str, str]) -> Path:
    """The corpus, with some text of a split's table replaced."""
    shutil.copytree(corpus, to)
    for split, (old, new) in changed.items():
        table = to / f"{split}_split.csv"
        assert old in table.read_text()
        table.write_text(table.read_text().replace(old, new, 1))
    return to


def test_runs_of_another_corpus_are_refused(base: Path, tones: Path, tmp_path: Path) -> None:
    def once(corpus: Path, split: str = "valid") -> results_table.Outcome:
        request = Request(
            corpus, tmp_path / "out", "gv", "0", config=base / "common.yaml", split=split, show=False
        )
        return table2.ablate(request, log=logged.append)

    logged: list[str] = []
    first = copy(tones, tmp_path / "first")
    (valid,) = first.glob("val*_split.csv")
    lines = valid.read_text().splitlines()
    (first / "test_split.csv").write_text("\n".join([lines[0], *lines[-2:]]) + "\n")
    valid.write_text("\n".join(lines[:-2]) + "\n")
    once(first)
    once(first, "test")
    logged.clear()
    first.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert once(moved).corpus == "moved"  # what lies elsewhere is no other corpus
    for split, table in (("train", "train"), ("valid", valid.stem.removesuffix("_split")), ("test", "test")):
        text = (moved / f"{table}_split.csv").read_text().splitlines()[1]
        fields = text.split(",")
        other = copy(
            moved, tmp_path / f"other-{split}", **{table: (text, ",".join([fields[0], "0.123", *fields[2:]]))}
        )
        with pytest.raises(CorpusError, match=f"other-{split}.* clips or labels"):
            once(other, "test")
    fewer = copy(moved, tmp_path / "fewer", test=(lines[-1] + "\n", ""))
    with pytest.raises(CorpusError, match=r"split 'test' than .*gv/seed-0 was scored on"):
        once(fewer, "test")
    assert not logged  # nothing was trained or scored again
    notes = tmp_path / "out/gv/seed-0/grid.json"
    notes.write_text("{}")  # a score of which nobody knows on what
    once(moved, "test")
    assert logged == ["gv seed 0"]
    assert json.loads(notes.read_text())["scored"].keys() == {"test"}


def test_what_is_wrong_for_every_row_is_said_once_and_before(base: Path, tones: Path, tmp_path: Path) -> None:
    def refused(corpus: Path, message: str, *more: str) -> None:
        command = words(base, corpus, tmp_path / "out", "--rows", "gv,gv-head", "--seeds", "0", *more)
        result = CliRunner().invoke(app, command)
        assert isinstance(result.exception, CorpusError)  # which main makes exit 2
        assert re.search(message, str(result.exception))
        assert not list((tmp_path / "out").glob("*"))

    corpus = copy(tones, tmp_path / "corpus")
    refused(corpus, "has no test_split.csv", "--split", "test")
    table = corpus / "test_split.csv"
    table.write_text("Filename\n" + "".join(f"{n}\n" for n in range(90001, 94001)))
    for name in range(90001, 90031):
        (corpus / "audio" / f"{name}.wav").symlink_to(next((corpus / "audio").glob("*.wav")))
    refused(corpus, r"'test' has no labels \(90001, .* and 20 more\)", "--split", "test")
    table.unlink()
    train = corpus / "train_split.csv"
    text = train.read_text()
    train.rename(tmp_path / "train")
    refused(corpus, "has no train_split.csv")
    head, *rows = text.splitlines()
    fields = [row.split(",") for row in rows]
    columns = [head.split(",").index(name) for name in EMOTIONS]
    for row in fields:
        for column in columns:
            row[column] = str(100 * float(row[column]) + 30)
    train.write_text("\n".join([head, *map(",".join, fields)]) + "\n")
    refused(corpus, "label_scale=100")
    refused(corpus, "even after division by label_scale 3", "--label-scale", "3")
    train.write_text(text)
    (corpus / "audio").rename(tmp_path / "audio")
    refused(corpus, "no clip of split 'train' can be used")


def test_a_loss_that_diverges_is_named_and_the_others_go_on(base: Path, tones: Path, tmp_path: Path) -> None:
    rows = (
        Row("bad", "diverges", ("all",), {"lr": 1e30, "epochs": 30, "clip_value": None}),
        Row("good", "x", ("all",)),
    )
    given = TrainSettings.read(base / "common.yaml")
    planned = grid.plan(tones, tmp_path, rows, [0], given, show=False)
    grid.run_jobs(planned, lambda _: None)
    bad, good = planned.jobs
    keeps("experiments/grid_schema.json", *(read_json(job.folder / NOTES) for job in planned.jobs))
    assert re.search("the loss is|predictions are NaN", bad.read_notes()["reason"])
    assert good.is_scored("valid")
    assert results.read_results(planned, "good", {"all": "All"}, {"bad", "good"}, "").rows[
        0
    ].failed.keys() == {0}


def test_rows_keep_what_they_are_about() -> None:
    rows = {row.name: row for row in table2.list_rows()}
    switches = ("global_vector", "regression_head", "lstm", "vad_head")
    table = {
        "w2v2-l": (1, 0, 0, 0, 0.017), "xlsr": (1, 0, 0, 0, 0.021), "gv": (1, 0, 0, 0, 0.342),
        "gv-head": (1, 1, 0, 0, 0.356), "head-lstm": (0, 1, 1, 0, 0.375), "gv-head-lstm": (1, 1, 1, 0, 0.377),
        "head-lstm-vad": (0, 1, 1, 1, 0.375), "full": (1, 1, 1, 1, 0.386),
    }  # fmt: skip
    assert {n: (*(int(rows[n].settings[s]) for s in switches), rows[n].published) for n in table} == table
    assert {n for n, row in rows.items() if "table2" in row.groups} == table.keys()


def jobs(tmp_path: Path, rows: tuple[Row, ...], **given: Any) -> dict[str, Job]:
    planned = grid.plan(tmp_path, tmp_path, rows, [3], TrainSettings.read(None, given), table2.DEFAULTS)
    return {job.row.name: job for job in planned.jobs}


def test_settings_of_a_row_go_over_the_users_and_these_over_the_base(tmp_path: Path) -> None:
    planned = jobs(tmp_path, table2.list_rows(), encoder="mine", encoder_layers=3, lr=0.5, augment=0.2)
    settings = {name: job.settings for name, job in planned.items() if job.settings is not None}
    assert settings["full"].lstm_dropout == 0.0
    assert settings["dropout"].lstm_dropout == 0.1
    assert (settings["gv"].encoder, settings["gv"].encoder_layers) == ("mine", 3)
    assert (settings["xlsr"].encoder, settings["xlsr"].encoder_layers) == (
        "facebook/wav2vec2-large-xlsr-53",
        None,
    )
    assert {s.seed for s in settings.values()} == {3}
    assert {s.lr for s in settings.values()} == {0.5}
    # A frozen encoder can't be augmented: that row is named.
    assert planned["frozen"].settings is None
    assert "augment" in planned["frozen"].reason
    asked = jobs(tmp_path, table2.list_rows(), lstm_dropout=0.3)
    assert asked["full"].settings is not None
    assert asked["full"].settings.lstm_dropout == 0.3
    scratch = jobs(tmp_path, table2.list_rows({"xlsr": {"encoder_config": ENCODER}}))["xlsr"].settings
    assert scratch is not None
    assert (scratch.encoder, scratch.encoder_config) == (None, ENCODER)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"chosen": "table3"}, "table3 is no row; expected some of the groups table2"),
        ({"seeds": "a"}, "found the seeds 'a'"),
        ({"seeds": "1,1"}, r"found the seeds \[1, 1\]"),
    ],
)
def test_what_is_not_understood_is_reported(tmp_path: Path, given: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        table2.ablate(Request(tmp_path, tmp_path, **given))


@pytest.mark.parametrize("pair", ["full=x", "xlsr", "xlsr="])
def test_only_two_rows_have_an_encoder_of_their_own(tmp_path: Path, pair: str) -> None:
    with pytest.raises(SettingsError, match="ROW=SOURCE"):
        table2.ablate(Request(tmp_path, tmp_path), [pair])


def test_a_row_names_a_folder() -> None:
    for name in ("", "../up", "A", ".hidden", "a b"):
        with pytest.raises(SettingsError, match="names a folder"):
            Row(name, "x", ())


# Comparing


def test_the_paired_t_is_scipys() -> None:
    rng = np.random.default_rng(5)
    for seeds in range(3, 14):
        ours, theirs = rng.normal(size=(2, seeds))
        expected = stats.ttest_rel(ours, theirs)
        actual = significance.compute_t_test(ours - theirs)
        assert actual.t == pytest.approx(expected.statistic, rel=1e-12)
        assert actual.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert actual.freedom == seeds - 1
    for freedom in range(1, 20):
        for t in (0.0, -0.4, 1.7, 12.0):
            assert significance.compute_p(t, freedom) == pytest.approx(
                2 * stats.t.sf(abs(t), freedom), abs=1e-12
            )
    assert math.isnan(significance.compute_t_test(np.full(4, 0.25)).p)


def test_the_difference_is_what_a_plain_loop_finds() -> None:
    rng = np.random.default_rng(1)
    speakers = [f"s{i}" for i in rng.integers(0, 9, 60)]
    labels = rng.random((60, 3)).astype(np.float32)
    ours, theirs = (labels + rng.normal(scale=s, size=(4, 60, 3)) for s in (0.4, 0.8))

    def rho(runs: Any, rows: Any) -> Any:
        return np.array(
            [np.mean([np.corrcoef(run[rows, t], labels[rows, t])[0, 1] for t in range(3)]) for run in runs]
        )

    names = list(dict.fromkeys(speakers))
    clips = {name: [row for row, who in enumerate(speakers) if who == name] for name in names}
    draw, drawn = np.random.default_rng(0), []
    for _ in range(200):
        rows = [row for who in draw.integers(len(names), size=len(names)) for row in clips[names[who]]]
        drawn.append(rho(ours, rows).mean() - rho(theirs, rows).mean())
    low, high = np.quantile(drawn, [0.025, 0.975])
    both = [
        [significance.resample_pearson(run, labels, speakers, n=200, seed=0) for run in runs]
        for runs in (ours, theirs)
    ]
    actual = significance.subtract(*both)
    everyone = rho(ours, slice(None)), rho(theirs, slice(None))
    assert actual.value == pytest.approx(everyone[0].mean() - everyone[1].mean(), abs=1e-9)
    assert (actual.low, actual.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert actual.test is not None
    assert actual.test.p == pytest.approx(stats.ttest_rel(*everyone).pvalue, rel=1e-6)
    assert significance.subtract(both[0][:2], both[1][:2]).test is None


def test_a_table_says_what_the_scored_split_chose() -> None:
    def row(name: str, **settings: Any) -> results_table.RowScores:
        settings = {"train_on": "train", "baseline": None, "baseline_options": {}, **settings}
        own = Row(name, f"the {name}", ("a",), published=0.417, unsure="unreviewed" if name == "b" else "")
        return results_table.RowScores(own, {0: 0.5}, {}, (), ({"seed": 0, "settings": settings},))

    def made(split: str, *rows: results_table.RowScores) -> results_table.Outcome:
        return results_table.Outcome(
            "c", split, 6, "6 clips", (0,), "a", {"a": "Table A"}, rows, "All equal."
        )

    plain, fused = row("a"), row("b", baseline="savchenko")
    assert "The split valid chose the epochs: its scores" in made("valid", plain).to_markdown()
    text = made("valid", plain, fused).to_markdown()
    assert "chose the epochs and the weights of fusion (the b): its scores are a little too good" in text
    assert "| 0.417 (unreviewed) |" in text
    mean = row("b", baseline="savchenko", baseline_options={"fusion": "mean"})
    assert "weights of fusion" not in made("valid", mean).to_markdown()
    actual = made("test", plain, fused).to_dict()
    assert actual["split_chose"] == ""
    assert [one["unsure"] for one in actual["rows"]] == ["", "unreviewed"]
    assert made("valid", row("a", train_on="train+valid")).describe_selection() == ""


def test_what_is_undefined_is_reported(tmp_path: Path) -> None:
    flat = significance.resample_pearson(np.full((6, 1), 0.5), np.arange(6.0)[:, None], None, n=10, seed=0)
    fine = significance.resample_pearson(
        np.arange(6.0)[:, None] ** 2, np.arange(6.0)[:, None], None, n=10, seed=0
    )
    apart = significance.subtract([flat, fine, fine], [fine, fine, fine])
    assert apart.to_dict() == {
        "value": None, "low": None, "high": None, "paired_t_over_seeds": {"t": None, "freedom": 2, "p": None},
    }  # fmt: skip
    gv = Row("gv", "global vector", ("a",), published=0.342, note="A note.")
    full = Row("full", "full model", ("a", "b"))
    rows = (
        results_table.RowScores(full, {0: 0.5, 1: 0.25, 2: 0.75}, {}, (), ()),
        results_table.RowScores(gv, {0: math.nan, 1: 0.1, 2: 0.2}, {}, (), (), apart),
    )
    made = results_table.Outcome(
        corpus="c", split="valid", clips=6, over="6 clips", seeds=(0, 1, 2), reference="full",
        groups={"a": "Table A", "b": "Table B"}, rows=rows, settings="All equal.",
    )  # fmt: skip
    text = made.to_markdown()
    assert "| full model    | 0.500 ± 0.250 | -" in text
    assert re.search(r"global vector \| undefined +\| 0\.342 +\| undefined +\| undefined", text)
    assert "global vector (seed 0): predictions for a target are constant" in text
    assert "A note." in text
    assert "Table B" not in text  # the full model alone is no comparison
    assert "6 clips, the same for both, too narrow where clips share a speaker" in text
    made.write(tmp_path)
    actual = json.loads((tmp_path / "results.json").read_text())
    keeps("experiments/comparison_schema.json", actual)
    assert actual["rows"][1]["mean"] is None
