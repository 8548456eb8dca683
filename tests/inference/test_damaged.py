"""Descriptions that a damaged disk or a hand has changed, as the fuzzer found them."""

import json
import shutil
from pathlib import Path

import pytest

from emimic.files import read_json
from emimic.inference.engine import find_default_model, open_engine
from emimic.task import ModelError
from emimic.training import checkpoint


def test_json_that_nests_too_deeply_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text('{"settings": ' + "[" * 100_000)
    with pytest.raises(ValueError, match=r"train\.json nests too deeply"):
        read_json(tmp_path / "train.json")
    with pytest.raises(ModelError, match=r"isn't a training run: train\.json can't be read"):
        checkpoint.read_settings(tmp_path)


@pytest.mark.parametrize(
    "files", [None, [], {"model.onnx": None}, {"model.onnx": {}}, {"model.onnx": {"sha256": 3}}]
)
def test_an_engine_that_does_not_know_its_files(files: object, tmp_path: Path) -> None:
    folder = shutil.copytree(find_default_model(), tmp_path / "engine")
    description = read_json(folder / "engine.json")
    (folder / "engine.json").write_text(json.dumps(description | {"files": files}))
    with pytest.raises(ModelError, match=r"engine\.json doesn't name its files; it is damaged"):
        open_engine(folder)
