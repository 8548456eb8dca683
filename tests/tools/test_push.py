"""A run goes to the hub and comes back; the hub is a small one of the tests' own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fake_hub
import numpy as np
import pytest
import tiny_models
from huggingface_hub import ModelCard

from emimic.export.export import export
from emimic.files import compute_sha256
from emimic.inference.engine import open_engine
from emimic.task import ModelError
from emimic.tools import push as pushing

CHILD = """
import sys, numpy as np
from pathlib import Path
from emimic.inference.predictor import Predictor
from emimic.inference.hub import find_model
from emimic.tools.push import push
from emimic.task import ModelError

run, name = Path(sys.argv[1]), sys.argv[2]
pushed = push(run, name, license_id="apache-2.0")
print(pushed.to_text())
first = find_model(f"hf:{name}@{pushed.commit}")
print(first)
predictor = Predictor(f"hf:{name}")
sound = np.sin(np.arange(16000) / 20).astype(np.float32)
print(repr(predictor), predictor(sound, sample_rate=16000).intensities)
for wrong in ("hf:nobody/nothing", f"hf:{name}@abc", "hf:nothing"):
    try:
        find_model(wrong)
    except ModelError as error:
        print("ERROR", error)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with an exported model and scores of a split."""
    folder = tmp_path_factory.mktemp("hub") / "run"
    tiny_models.model(
        "whisper", targets=["Joy", "Amusement"], do_normalize=False, max_seconds=2.0
    ).save_pretrained(folder)
    facts = {
        "settings": {"encoder": str(folder.parent / "whisper-tiny"), "lr": 1e-3},
        "corpus": {"folder": "voices"},
        "versions": {"emimic": "0.1.0"},
    }
    (folder / "train.json").write_text(json.dumps(facts), encoding="utf-8")
    report = {"split": "test", "metrics": {"pearson": {"mean": {"value": 0.375}}}}
    (folder / "evaluation" / "test").mkdir(parents=True)
    (folder / "evaluation" / "test" / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    export(folder)
    return folder


def test_a_run_comes_back_from_the_hub_with_the_same_bits(run: Path, tmp_path: Path) -> None:
    """In a process of its own: huggingface_hub reads its address and cache from the environment when imported."""
    with fake_hub.serve_hub() as hub:
        environment = {
            **os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_test",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip
        ran = subprocess.run(
            [sys.executable, "-c", CHILD, str(run), "someone/voice"], env=environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        commit, files = hub.repositories["someone/voice"][-1]
    lines = ran.stdout.splitlines()
    assert lines[0] == f"hf:someone/voice@{commit}"
    assert set(files) == {
        "README.md", "config.json", "model.safetensors",
        *(f"onnx/{file.name}" for file in (run / "engines" / "onnx").iterdir()),
    }  # fmt: skip
    assert files["model.safetensors"] == (run / "model.safetensors").read_bytes()
    downloaded = Path(next(line for line in lines if line.endswith("/onnx")))
    assert {file.name for file in downloaded.iterdir()} == {
        f.name for f in (run / "engines" / "onnx").iterdir()
    }
    for file in downloaded.iterdir():
        assert compute_sha256(file) == compute_sha256(run / "engines" / "onnx" / file.name)
    assert not any("safetensors" in request for request in hub.requests if request.startswith("GET"))
    sound = np.sin(np.arange(16000) / 20).astype(np.float32)
    engine = open_engine(run / "engines" / "onnx")
    (expected,) = engine.predict([engine.spec.clip_format.prepare(sound).samples])
    shown = next(line for line in lines if "Predictor(" in line)
    assert "model='hf:someone/voice'" in shown
    assert f"'Joy': {float(expected.intensities[0]):.6f}" in shown
    errors = [line for line in lines if line.startswith("ERROR")]
    assert errors[0].startswith("ERROR hf:nobody/nothing can't be downloaded")
    assert "Check the name and the revision" in errors[1]
    assert errors[2] == "ERROR hf:nothing: expected hf:USER/NAME or hf:USER/NAME@REVISION; write it so"


def test_the_card_has_license_scores_and_no_path(run: Path) -> None:
    text = pushing.make_card(run, "someone/voice", "apache-2.0", json.loads((run / "train.json").read_text()))
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "apache-2.0",
        "emimic",
        "audio-classification",
    )
    (result,) = data.eval_results
    assert (result.metric_value, result.dataset_split, result.dataset_name) == (0.375, "test", "voices")
    assert "Joy, Amusement, V/A/D." in text
    assert "order arousal, dominance, valence".lower() in text.lower()
    assert str(run.parent) not in text
    assert "whisper-tiny" in text


def test_a_non_commercial_encoder_keeps_its_license(run: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    encoder = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
    (tmp_path / "train.json").write_text(json.dumps({"settings": {"encoder": encoder}}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"found the license apache-2\.0, expected cc-by-nc-sa-4\.0"):
        pushing.push(tmp_path, "someone/voice", license_id="apache-2.0")


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"found no config.json or no model.safetensors, expected a finished"
    ):
        pushing.push(tmp_path, "someone/voice", license_id="apache-2.0")
