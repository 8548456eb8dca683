"""Table 1 and later challenge results as one grid: every baseline runs on features; missing features are named."""

import json
import re
import shlex
from pathlib import Path

import feature_corpora
import numpy as np
import pytest
import yaml
from doc_examples import parse
from tone_corpus import ENCODER
from typer.testing import CliRunner

from emimic.baselines.system import NAMES, get_system
from emimic.cli import app
from emimic.data.corpus import load_corpus
from emimic.experiments import run as comparison
from emimic.experiments import table1
from emimic.experiments.results_table import RowScores
from emimic.experiments.run import Request
from emimic.features import store
from emimic.model.model import EmiModel
from emimic.task import ModelError, SettingsError

ROLES = ("face", "units", "vision", "audio", "text")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return feature_corpora.corpus(tmp_path_factory.mktemp("features"), ROLES)


def words(corpus: Path, out: Path, tmp_path: Path, *more: str) -> list[str]:
    common = {"epochs": 1, "accelerator": "cpu", "threads": 1, "workers": 1, "encoder_config": ENCODER}
    (tmp_path / "common.yaml").write_text(yaml.safe_dump(common))
    given = [
        "baselines",
        str(corpus),
        "--out",
        str(out),
        "--config",
        str(tmp_path / "common.yaml"),
        "--quiet",
    ]
    return [
        *given,
        "--seeds",
        "0",
        *(word for role in ROLES for word in ("--modality", f"{role}={role}")),
        *more,
    ]


def test_every_system_stands_in_one_table_with_its_published_figures(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = [name for name in NAMES if name != "wavlm_tcn"]
    wanted = [*rows, "baseline-vision", "vision_lstm-vision", "zhang-audio", "ours"]
    result = CliRunner().invoke(app, words(corpus, out, tmp_path, "--rows", ",".join(wanted)))
    assert result.exit_code == 0, result.output
    actual = {row["name"]: row for row in json.loads((out / "results.json").read_text())["rows"]}
    assert set(actual) == set(wanted)
    for name in rows:
        assert actual[name]["paper"] == {
            "validation": get_system(name).published["valid"],
            "test": get_system(name).published["test"],
        }
        (run,) = actual[name]["runs"]
        assert run["mean"] is not None
        assert run["settings"]["modalities"] == {role: role for role in get_system(name).modalities}
        assert run["settings"]["epochs"] == 1  # what the user set goes over the system's own
    assert actual["zhang"]["runs"][0]["settings"]["betas"] == [0.0, 0.99]  # and its own over the paper's
    assert actual["baseline-vision"]["paper"]["test"] == 0.09
    assert actual["zhang-audio"]["paper"] == {"validation": None, "test": None}
    # There is no sound in this corpus: the paper's own row is named.
    assert actual["ours"]["mean"] is None
    assert actual["ours"]["failed"]["0"]
    assert actual["vision_lstm-vision"]["paper"] == {"validation": None, "test": None}
    assert "| 0.463 " in result.output
    assert "| published, validation |" in result.output
    assert "paper, validation" not in result.output
    with pytest.raises(ModelError, match="use emimic evaluate or emimic submit"):
        EmiModel.open_run(out / "yu" / "seed-0")


def test_a_row_says_what_it_read_and_what_its_figure_is(tmp_path: Path) -> None:
    request = Request(tmp_path, tmp_path)
    rows = {
        row.name: row for row in table1.list_rows(request, request.read_settings(), {"audio": "wavlm"}, {})
    }
    assert "audio is features/wavlm, not features/wav2vec2" in rows["savchenko"].note
    assert "face is" not in rows["savchenko"].note
    assert "features/wavlm, as it is, not the clips" in rows["wavlm_tcn"].note
    assert "unreviewed" in rows["wavlm_tcn"].note
    assert ".522 is inferred" in rows["semantic_matters"].note
    assert (rows["semantic_matters"].published, rows["semantic_matters"].published_test) == (0.522, 0.706)
    assert (rows["text_anchored"].published, rows["text_anchored"].published_test) == (None, 0.708)
    assert "not the paper's row" in rows["vision_lstm"].note
    for name in ("vision_lstm", "vision_lstm-vision"):  # others' figures are not theirs
        assert (rows[name].published, rows[name].published_test) == (None, None)
    assert "on which split isn't said" in rows["savchenko-audio"].note
    assert rows["savchenko-audio"].published is None
    own = {row.name: row for row in table1.list_rows(request, request.read_settings(), {}, {})}
    assert {name for name, row in own.items() if row.note} == table1.NOTES.keys() | {
        "ours-vision-expression",
        "ours-vision-audio",
    }
    ours = {row.label for name, row in own.items() if name.startswith("ours")}
    assert all(label.startswith("the paper's, ") for label in ours)
    assert len(ours) == 7


def test_a_table_is_printed_when_it_was_asked_for(tmp_path: Path) -> None:
    request = Request(tmp_path, tmp_path, "table1")
    rows = table1.list_rows(request, request.read_settings(), {}, {})

    def tables(chosen: str | None, *names: str) -> list[str]:
        scores = [
            RowScores(row, {0: 0.5}, {}, (), ())
            for row in rows
            if row.name in names or row in comparison.choose(rows, chosen)
        ]
        return list(comparison._choose_tables(table1.GROUPS, rows, chosen, scores, table1.OURS))

    assert tables(None) == ["table1", "record", "audio"]
    assert tables("table1") == ["table1"]
    assert tables("table1,audio") == ["table1", "audio"]
    assert tables("table1", "yu-audio") == ["table1", "audio"]  # which was run before
    assert tables("ours-frozen") == ["table1", "audio"]


def test_the_tables_of_another_verb_and_another_scale_are_refused(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    result = CliRunner().invoke(app, words(corpus, out, tmp_path, "--rows", "yu", "--label-scale", "50"))
    assert "yet label_scale is 50" in str(result.exception)
    for rows, refused in (([{"name": "gv"}, {"name": "full"}], True), ([{"name": "yu"}], False)):
        (out / "results.json").write_text(json.dumps({"rows": rows}))
        result = CliRunner().invoke(app, words(corpus, out, tmp_path, "--rows", "wrong"))
        assert ("rows of another verb (full, gv)" in str(result.exception)) is refused
        assert isinstance(result.exception, SettingsError)


def test_missing_features_are_named_with_the_command_that_makes_them(tones: Path, tmp_path: Path) -> None:
    logged: list[str] = []
    request = Request(tones, tmp_path, "savchenko,yu", "0")
    savchenko, yu = table1.run_baselines(request, ["units=mine"], log=logged.append).rows
    assert "emimic features tones0 --kind challenge" in savchenko.failed[0]
    assert "--kind face-descriptors" in savchenko.failed[0]
    assert "--name mine" in yu.failed[0]
    assert not list(tmp_path.glob("*/*/model.safetensors"))


def test_systems_and_the_paper_are_compared_on_the_clips_that_all_predicted(
    tones: Path, tmp_path: Path
) -> None:
    items = [item for part in load_corpus(tones).splits.values() for item in part.items]
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("audio", "train_split.csv", "valid_split.csv"):
        (folder / name).symlink_to(tones / name)
    (folder / "features" / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for item in items[:-1]:  # the last clip, of valid, has none
        frames = store.Sequence.from_frames(rng.random((5, 4), dtype=np.float32), np.arange(5.0))
        store.write(folder / "features" / "audio" / f"{item.id}.safetensors", item.id, frames)
    out = tmp_path / "out"
    chosen = "baseline-audio,ours,ours-frozen,wavlm_tcn,ours-train+valid"
    result = CliRunner().invoke(app, words(folder, out, tmp_path, "--rows", chosen))
    assert result.exit_code == 0, result.output
    actual = json.loads((out / "results.json").read_text())
    assert actual["clips"] == 3
    rows = {row["name"]: row for row in actual["rows"]}
    for name in ("baseline-audio", "ours-frozen", "wavlm_tcn"):
        assert rows[name]["difference"]["value"] is not None, name
    assert rows["ours"]["difference"] is None
    assert "score another split" in rows["ours-train+valid"]["failed"]["0"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"modalities": ["ear=x"]}, "MODALITY=NAME"),
        ({"encoders": ["yu=x"]}, "ROW=SOURCE with a row of vision_lstm, wavlm_tcn"),
        ({"encoders": ["wavlm_tcn=x"], "modalities": ["audio=y"]}, r"wavlm_tcn reads features \(y\)"),
        ({"encoders": ["vision_lstm=x"]}, r"vision_lstm reads features \(vit, wav2vec2\)"),
    ],
)
def test_what_is_not_understood_is_reported(
    tmp_path: Path, given: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        table1.run_baselines(Request(tmp_path, tmp_path), **given)


def test_the_commands_named_are_commands(tmp_path: Path) -> None:
    request = Request(tmp_path, tmp_path)
    rows = table1.list_rows(request, request.read_settings(), {"audio": "wavlm"}, {})
    named = {command for row in rows for command in re.findall(r"emimic (features [^;]+)", row.unavailable)}
    assert any("--kind speech --model ENCODER --name wavlm" in command for command in named)
    assert any("--kind transcripts --model" in command for command in named)
    for command in named:
        parse(shlex.split(command))


def test_longer_training_is_longer_than_what_was_asked_for(tmp_path: Path) -> None:
    request = Request(tmp_path, tmp_path, split="test", sets=("epochs=7",))
    rows = {row.name: row for row in table1.list_rows(request, request.read_settings(), {}, {})}
    assert rows["ours-longer"].settings == {"train_on": "train+valid", "epochs": 14}
    assert not rows["ours-longer"].unavailable
    assert set(NAMES) <= rows.keys()
