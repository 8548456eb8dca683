"""The page in the browser is built from the package's files, a model, and ONNX Runtime's WebAssembly."""

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from emimic.calibration import Calibration
from emimic.inference.engine import DEFAULT
from emimic.output.html_page import NOTICE
from emimic.server import build_page as module
from emimic.server.build_page import build_page
from emimic.server.pages import POLICY
from emimic.task import ModelError
from emimic.version import __version__


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of npm with files of the names of onnxruntime-web's."""
    folder = tmp_path_factory.mktemp("npm")
    (folder / "dist").mkdir()
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (folder / "dist" / name).write_bytes(name.encode())
    return folder


@pytest.fixture(scope="module")
def built(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "built"
    out.mkdir()
    (out / "old.js").write_text("of an earlier page", encoding="utf-8")
    build_page(out, runtime=runtime)
    return out


def test_the_folder_holds_all_that_the_page_loads(built: Path) -> None:
    assert not (built / "old.js").exists()
    page = (built / "index.html").read_text("utf-8")
    assert "{{" not in page
    assert f"emimic {__version__}" in page
    assert page.count(NOTICE) == 2  # below, and before the first recording
    for name in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert name == "data:," or (built / name).is_file()
    for script in built.glob("*.js"):
        text = script.read_text("utf-8")
        assert not re.search(r"https?:|//[a-z]+\.", text), script.name
        for name in re.findall(r'from "(.+)"|new URL\("(\w.+?)"', text):
            assert (built / (name[0] or name[1])).is_file(), (script.name, name)
    for name in ("encoder.onnx", "head.onnx"):
        assert (built / "model" / name).read_bytes() == (DEFAULT / name).read_bytes()
    for name in ("LICENSE", "model/LICENSE"):
        assert (built / name).is_file()


def test_each_file_has_a_compressed_one_beside_it(built: Path) -> None:
    for path in (path for path in built.rglob("*") if path.is_file() and path.suffix != ".gz"):
        assert gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()) == path.read_bytes()
    assert not any(
        name.endswith(".gz") for name in json.loads((built / "contents.json").read_text())["bytes"]
    )


def test_the_contents_name_each_loaded_file_and_the_novelty_score(built: Path) -> None:
    contents = json.loads((built / "contents.json").read_text("utf-8"))
    for name, size in contents["bytes"].items():
        assert (built / name).stat().st_size == size
    loaded = set(contents["bytes"])
    assert {"model/engine.json", "model/calibration.json", "model/novelty.bin", "silero.onnx"} <= loaded
    values, start = np.fromfile(built / "model" / "novelty.bin", "<f4"), 0
    novelty = Calibration.load(DEFAULT).novelty
    for name, shape in contents["novelty"].items():
        size = int(np.prod(shape))
        np.testing.assert_array_equal(values[start : start + size].reshape(shape), getattr(novelty, name))
        start += size
    assert start == len(values)


def test_the_page_may_connect_to_its_own_server_only(built: Path) -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["connect-src"] == rules["style-src"] == "'self'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    page = (built / "index.html").read_text("utf-8")
    assert POLICY.replace("'", "&#x27;") in page
    assert not re.search(r"<style|<script>| style=| on[a-z]+=", page)


def test_a_model_without_calibration_needs_none(runtime: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(DEFAULT, model)
    description = json.loads((model / "engine.json").read_text("utf-8"))
    del description["files"]["calibration.json"], description["files"]["novelty.npz"]
    (model / "engine.json").write_text(json.dumps(description), encoding="utf-8")
    sizes = build_page(tmp_path / "built", runtime=runtime, model=model)
    assert "model/calibration.json" not in sizes
    assert json.loads((tmp_path / "built" / "contents.json").read_text("utf-8"))["novelty"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [({"runtime": "openvino"}, "is for the runtime 'openvino'"), ({"text": True}, "takes words or images")],
)
def test_models_that_no_browser_runs_are_refused(
    change: dict[str, object], message: str, runtime: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(DEFAULT, model)
    description = json.loads((model / "engine.json").read_text("utf-8"))
    (description if "runtime" in change else description["spec"]).update(change)
    (model / "engine.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        build_page(tmp_path / "built", runtime=runtime, model=model)
    assert not (tmp_path / "built").exists()


def test_another_package_is_no_runtime(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="make page"):
        build_page(tmp_path / "built", runtime=tmp_path)


def test_the_command_builds(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build_page", "--runtime", str(runtime), "--out", str(tmp_path / "built")]
    monkeypatch.setattr("sys.argv", words)
    module.main()
    assert (tmp_path / "built" / "index.html").is_file()
    assert re.search(r"built: \d+ files, \d+\.\d MB", capsys.readouterr().out)
