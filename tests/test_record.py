"""Table 1 and the record since as one grid: every system runs on features, what can't be had is named."""

import json
import re
import shlex
from pathlib import Path

import features
import numpy as np
import pytest
import yaml
from conftest import ENCODER
from test_readme import parse
from typer.testing import CliRunner

from emimic.cli import app
from emimic.study import record, store
from emimic.study.comparison import Request
from emimic.study.corpus import load_corpus
from emimic.study.rivals.system import NAMES, system
from emimic.task import SettingsError

ROLES = ("face", "units", "vision", "audio", "text")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return features.corpus(tmp_path_factory.mktemp("features"), ROLES)


def words(corpus: Path, out: Path, tmp_path: Path, *more: str) -> list[str]:
    common = {"epochs": 1, "accelerator": "cpu", "threads": 1, "workers": 1, "encoder_config": ENCODER}
    (tmp_path / "common.yaml").write_text(yaml.safe_dump(common))
    given = ["rivals", str(corpus), "--out", str(out), "--config", str(tmp_path / "common.yaml"), "--quiet"]
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
    wanted = [*rows, "baseline-vision", "ours_vision-vision", "zhang-audio", "ours"]
    answer = CliRunner().invoke(app, words(corpus, out, tmp_path, "--cells", ",".join(wanted)))
    assert answer.exit_code == 0, answer.output
    found = {row["name"]: row for row in json.loads((out / "results.json").read_text())["rows"]}
    assert set(found) == set(wanted)
    for name in rows:
        assert found[name]["paper"] == {
            "validation": system(name).published["valid"],
            "test": system(name).published["test"],
        }
        (run,) = found[name]["runs"]
        assert run["mean"] is not None
        assert run["settings"]["modalities"] == {role: role for role in system(name).modalities}
        assert run["settings"]["epochs"] == 1  # what the user set goes over the system's own
    assert found["zhang"]["runs"][0]["settings"]["betas"] == [0.0, 0.99]  # and its own over the paper's
    assert found["baseline-vision"]["paper"]["test"] == 0.09
    assert found["zhang-audio"]["paper"] == {"validation": None, "test": None}
    # There is no sound in this corpus: the paper's own row is named.
    assert found["ours"]["mean"] is None
    assert found["ours"]["failed"]["0"]
    assert found["ours_vision-vision"]["paper"] == {"validation": 0.013, "test": None}
    assert "| 0.463 " in answer.output


def test_missing_features_are_named_with_the_command_that_makes_them(tones: Path, tmp_path: Path) -> None:
    told: list[str] = []
    request = Request(tones, tmp_path, "savchenko,yu", "0")
    savchenko, yu = record.rivals(request, ["units=mine"], tell=told.append).rows
    assert "emimic features tones0 --kind challenge" in savchenko.failed[0]
    assert "--kind face-descriptors --model NETWORK.onnx" in savchenko.failed[0]
    assert "--name mine" in yu.failed[0]
    assert not list(tmp_path.glob("*/*/model.safetensors"))


def test_systems_and_the_paper_are_compared_on_the_clips_that_all_answered(
    tones: Path, tmp_path: Path
) -> None:
    items = [item for part in load_corpus(tones).splits.values() for item in part.items]
    place = tmp_path / "corpus"
    place.mkdir()
    for name in ("audio", "train_split.csv", "valid_split.csv"):
        (place / name).symlink_to(tones / name)
    (place / "features" / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for item in items[:-1]:  # the last clip, of valid, has none
        frames = store.Sequence.whole(rng.random((5, 4), dtype=np.float32), np.arange(5.0))
        store.write(place / "features" / "audio" / f"{item.id}.safetensors", item.id, frames)
    out = tmp_path / "out"
    encoder = tmp_path / "encoder.json"
    encoder.write_text(json.dumps(ENCODER))
    cells = "baseline-audio,ours,ours-frozen,wavlm_tcn,ours-train+valid"
    command = words(place, out, tmp_path, "--cells", cells, "--encoder", f"wavlm_tcn={encoder}")
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    found = json.loads((out / "results.json").read_text())
    assert found["clips"] == 3
    rows = {row["name"]: row for row in found["rows"]}
    for name in ("baseline-audio", "ours-frozen", "wavlm_tcn"):
        assert rows[name]["difference"]["value"] is not None, name
    assert rows["ours"]["difference"] is None
    assert "score another split" in rows["ours-train+valid"]["failed"]["0"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"modalities": ["ear=x"]}, "ROLE=NAME"),
        ({"encoders": ["yu=x"]}, "ROW=SOURCE with a row of ours_vision, wavlm_tcn"),
    ],
)
def test_what_is_not_understood_is_said(tmp_path: Path, given: dict[str, list[str]], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        record.rivals(Request(tmp_path, tmp_path), **given)


def test_the_commands_named_are_commands(tmp_path: Path) -> None:
    request = Request(tmp_path, tmp_path)
    rows = record.cells(request, request.settings(), {"audio": "wavlm"}, {})
    named = {command for row in rows for command in re.findall(r"emimic (features [^;]+)", row.lacking)}
    assert any("--kind speech --model ENCODER --name wavlm" in command for command in named)
    for command in named:
        parse(shlex.split(command))


def test_longer_training_is_longer_than_what_was_asked_for(tmp_path: Path) -> None:
    request = Request(tmp_path, tmp_path, split="test", sets=("epochs=7",))
    cells = {cell.name: cell for cell in record.cells(request, request.settings(), {}, {})}
    assert cells["ours-longer"].settings == {"train_on": "train+valid", "epochs": 14}
    assert not cells["ours-longer"].lacking
    assert set(NAMES) <= cells.keys()
