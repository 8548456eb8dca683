"""emimic doctor: what is installed, what is missing, what to do; torch is never imported, nor the hub contacted."""

import http.server
import importlib
import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from fake_engine import constant_engine
from json_schema import keeps
from typer.testing import CliRunner

from emimic import cli, cpus, files
from emimic.inference import engine
from emimic.task import EMOTIONS
from emimic.tools import doctor


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the model in the package by a fake one."""
    folder = constant_engine(tmp_path / "default")
    monkeypatch.setattr(engine, "DEFAULT", folder)
    return folder


def test_a_whole_installation_is_ready(model: Path) -> None:
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A card\n", encoding="utf-8")
    actual = doctor.examine()
    assert actual.troubles == ()
    state = actual.model
    assert state is not None
    assert (state.folder, state.targets, state.vad) == ("default", EMOTIONS, False)
    assert state.size == sum(file.stat().st_size for file in model.iterdir())
    assert state.sha256 == files.compute_sha256(model / "model.onnx")
    assert state.difference == 0.0
    assert state.license == "apache-2.0"
    assert actual.packages["torch"] == metadata.version("torch")
    assert actual.extras["train"] == ()
    assert actual.threads == cpus.count_cores()
    assert actual.hub is None
    assert len(actual.engines) == 2
    text = actual.to_text()
    for part in (state.sha256[:12], "apache-2.0", "Art. 5(1)(f)", "Empathic Pain", "Ready to predict."):
        assert part in text


def test_the_report_survives_json(model: Path) -> None:
    actual = doctor.examine().to_dict()
    assert actual["schema"] == "emimic/doctor/1"
    again = json.loads(json.dumps(actual, allow_nan=False))
    assert again["model"]["targets"] == list(EMOTIONS)
    keeps("tools/doctor_schema.json", again)
    assert "Art. 50(3)" in again["law"]


@pytest.mark.parametrize(
    ("card", "text_of_license", "expected"),
    [
        ("# Card\n\nLicence: MIT\n", None, "MIT"),
        ("# Card\n\n**Licences.** The weights\nare `MIT`.\n\nMore.\n", None, "The weights are `MIT`."),
        ("# Card\n", "\n   Apache License\n   Version 2.0\n", "Apache License"),
        (None, None, "not stated"),
    ],
)
def test_the_license_is_found(
    model: Path, card: str | None, text_of_license: str | None, expected: str
) -> None:
    for name, text in (("README.md", card), ("LICENSE", text_of_license)):
        if text is not None:
            (model / name).write_text(text, encoding="utf-8")
    state = doctor.examine().model
    assert state is not None
    assert state.license == expected or (expected == "not stated" and state.license.startswith(expected))


def test_a_missing_model_is_a_trouble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "DEFAULT", tmp_path / "nothing")
    actual = doctor.examine()
    assert actual.model is None
    (trouble,) = actual.troubles
    assert "--model" in trouble
    assert actual.to_text().endswith("Not ready to predict.")


def test_a_damaged_model_is_a_trouble(model: Path) -> None:
    content = (model / "model.onnx").read_bytes()
    (model / "model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (trouble,) = doctor.examine().troubles
    assert "sha256" in trouble


def test_a_model_with_other_predictions_is_a_trouble(model: Path) -> None:
    description = json.loads((model / "engine.json").read_text(encoding="utf-8"))
    description["checks"]["clips"][0]["intensities"][2] = 0.51
    (model / "engine.json").write_text(json.dumps(description), encoding="utf-8")
    (trouble,) = doctor.examine().troubles
    assert "0.01" in trouble


def test_a_missing_package_is_a_trouble_with_its_cure(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == "soxr":
            raise ModuleNotFoundError("No module named 'soxr'", name="soxr")
        if name == "soundfile":
            raise OSError("libsndfile.so.1: cannot open shared object file")
        return real(name, *rest)

    monkeypatch.setattr(doctor, "import_module", without)
    actual = doctor.examine()
    assert actual.model is None
    assert actual.engines == ()
    assert actual.threads is None
    assert any("pip install soxr" in one for one in actual.troubles)
    assert any("libsndfile" in one and "--force-reinstall soundfile" in one for one in actual.troubles)


@pytest.mark.parametrize(
    ("system", "machine", "error", "cure"),
    [
        ("Windows", "AMD64", ImportError("DLL load failed while importing x"), "14.38.*vc_redist.x64.exe$"),
        ("Windows", "ARM64", ImportError("DLL load failed while importing x"), "vc_redist.arm64.exe$"),
        ("Windows", "AMD64", ImportError("cannot import name 'y'"), "--force-reinstall onnxruntime$"),
        ("Linux", "x86_64", ImportError("libx.so: cannot open"), "--force-reinstall onnxruntime$"),
        ("Darwin", "x86_64", ModuleNotFoundError("", name="onnxruntime"), "Intel.*onnxruntime==1.23.2$"),
        ("Darwin", "arm64", ModuleNotFoundError("", name="onnxruntime"), ": pip install onnxruntime$"),
    ],
)
def test_a_runtime_that_fails_is_a_trouble_with_the_platforms_cure(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, error: Exception, cure: str
) -> None:
    real = importlib.import_module

    def fail(name: str, *rest: Any) -> Any:
        if name == "onnxruntime":
            raise error
        return real(name, *rest)

    monkeypatch.setattr(doctor, "import_module", fail)
    monkeypatch.setattr(doctor.platform, "system", lambda: system)
    monkeypatch.setattr(doctor.platform, "machine", lambda: machine)
    (trouble,) = doctor.examine().troubles
    assert trouble.startswith("onnxruntime ")
    assert re.search(cure, trouble)


def test_extras_name_what_they_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=2.0", 'torch<3,>=2.11; extra == "train"', 'pandas; extra == "train"']
    lines += ["no-such_package>=1; extra == 'formats'", 'emimic[train]; extra == "all"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: lines)
    assert doctor._find_extras() == {"train": (), "formats": ("no-such_package",)}


def test_a_run_is_tried_on_torch(tmp_path: Path, model: Path) -> None:
    from emimic.model.config import EmiConfig
    from emimic.model.model import EmiModel

    tiny = {"model_type": "wavlm", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tiny |= {"conv_dim": [8] * 7, "feat_extract_norm": "layer", "num_conv_pos_embedding_groups": 2}
    EmiModel(EmiConfig(encoder_config=tiny)).save_pretrained(tmp_path / "run")
    state = doctor.examine(tmp_path / "run").model
    assert state is not None
    assert (state.folder, state.sha256, state.difference) == ("run", None, None)


def test_neither_torch_nor_the_network_is_touched(model: Path) -> None:
    code = """
import socket, sys
def forbidden(*args, **options): raise AssertionError("the network was touched")
socket.socket.connect = socket.getaddrinfo = forbidden
from emimic.tools.doctor import examine
report = examine(sys.argv[1])
assert report.troubles == () and report.packages["torch"], report
assert not {"torch", "transformers", "pandas", "matplotlib"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(model)], check=True, timeout=60)


class Responding(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    def log_message(self, *rest: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(urllib.request, "getproxies", dict)  # straight to this machine
    monkeypatch.setattr(urllib.request, "_opener", None)
    with http.server.HTTPServer(("127.0.0.1", 0), Responding) as here:
        thread = threading.Thread(target=here.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{here.server_port}"
        here.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "message"), [(200, "is reachable"), (503, "is reachable (status 503)")])
def test_the_hub_is_checked_on_request(
    server: str, monkeypatch: pytest.MonkeyPatch, model: Path, status: int, message: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{server}/{status}")
    assert doctor.examine(hub=True).hub == f"{server}/{status} {message}"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "nonsense"])
def test_a_hub_out_of_reach_is_no_trouble(monkeypatch: pytest.MonkeyPatch, model: Path, address: str) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(urllib.request, "_opener", None)
    monkeypatch.setenv("HF_ENDPOINT", address)
    actual = doctor.examine(hub=True)
    assert "can't be reached" in (actual.hub or "")
    assert actual.troubles == ()


def test_offline_is_obeyed(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(doctor.urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked"))
    assert "not checked" in (doctor.examine(hub=True).hub or "")


def test_on_the_command_line(model: Path) -> None:
    fine = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert fine.exit_code == 0
    assert json.loads(fine.stdout)["troubles"] == []
    (model / "model.onnx").unlink()
    broken = CliRunner().invoke(cli.app, ["doctor"])
    assert broken.exit_code == 1
    assert "copy or export it again" in broken.stdout
