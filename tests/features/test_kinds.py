"""A wrong model of features is reported before anything is imported, listed or opened."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from emimic.cli import app
from emimic.features.extract import extract
from emimic.features.kinds import check_source
from emimic.task import ModelError


@pytest.mark.parametrize("kind", ["speech", "transcripts", "text"])
def test_a_folder_is_needed(kind: str, tmp_path: Path) -> None:
    for given in (None, "gpt2", "microsoft/wavlm-large", "org/v1.5_x-y"):
        check_source(given, kind)
    for wrong in ("./nowhere", "/no/where", "~/model", "a/b/c", "a\\b", "..", "", "nul\0", "x" * 5000):
        with pytest.raises(ModelError, match=r"expected a folder|can't be looked up"):
            check_source(wrong, kind)
    (tmp_path / "model.onnx").touch()
    for path, message in ((tmp_path, "no config.json in it"), (tmp_path / "model.onnx", "found a file")):
        with pytest.raises(ModelError, match=message):
            check_source(str(path), kind)
    (tmp_path / "config.json").touch()
    check_source(str(tmp_path), kind)


@pytest.mark.parametrize("kind", ["faces", "face-descriptors"])
def test_a_file_is_needed(kind: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    for given in (None, str(tmp_path / "model.onnx"), "owner/repository/face/detector.onnx"):
        check_source(given, kind)
    for wrong in ("./a/detector.onnx", "detector.onnx", str(tmp_path), "owner/repository/detector.bin"):
        with pytest.raises(ModelError, match="expected an ONNX file"):
            check_source(wrong, kind)


def test_it_comes_before_the_corpus(tmp_path: Path) -> None:
    words = ["features", str(tmp_path / "no corpus"), "--kind", "text", "--model", "./nowhere"]
    assert "no such folder" in str(CliRunner().invoke(app, words).exception)
    with pytest.raises(ModelError, match="no such folder"):
        extract(tmp_path / "no corpus", "text", model="./nowhere")
