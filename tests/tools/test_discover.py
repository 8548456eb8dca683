"""The module for DISCOVER: its .trainer, and its Processor in a stand-in of hcai-discover-utils.

`discover_check.py` runs the module in the package itself.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

import emimic
from emimic import EMOTIONS
from emimic.cli import app
from emimic.media import decode
from emimic.sample import get_folder
from emimic.task import ModelError
from emimic.tools import discover

NAMES = ["admiration", "amusement", "determination", "empathic_pain", "excitement", "joy"]
VAD = ["arousal", "dominance", "valence"]
LABEL = np.dtype([("score", np.float32), ("conf", np.float32)])


@pytest.fixture
def module(tmp_path: Path) -> Path:
    done = CliRunner().invoke(app, ["discover", "--out", str(tmp_path / "emimic")])
    assert done.exit_code == 0, done.exception
    return tmp_path / "emimic"


def test_the_trainer_names_its_inputs_outputs_and_script(module: Path) -> None:
    root = ElementTree.parse(module / "emimic.trainer").getroot()
    assert (root.tag, root.get("ssi-v"), root.find("info").get("trained")) == ("trainer", "5", "true")
    assert root.find("meta").get("is_iterable") == "False"
    found = [tuple(io.get(key) for key in ("type", "id", "data")) for io in root.findall("meta/io")]
    assert found == [
        ("input", "audio", "stream:Audio"),
        *(("output", name, "annotation:Continuous") for name in NAMES + VAD),
        ("output", "emimic", "stream:SSIStream:feature"),
    ]
    assert (module / root.find("model").get("script")).is_file()
    assert root.find("model").get("create") == "Emimic"
    assert f"emimic=={emimic.__version__}" in (module / "requirements.txt").read_text()


class Processor:
    """The parts of `discover_utils.interfaces.server_module.Processor` that modules use."""

    def __init__(self, model_io: Any, opts: dict[str, str], trainer: Any = None) -> None:
        self.options = opts

    def get_session_manager(self, manager: Any) -> Any:
        return manager.session


def load_script(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load a script as DISCOVER does, in a stand-in of its package."""
    parts = {
        "interfaces.server_module": {"Processor": Processor},
        "data.stream": {"SSIStream": SimpleNamespace},
        "data.annotation": {
            "ContinuousAnnotationScheme": lambda **words: SimpleNamespace(label_dtype=LABEL, **words)
        },
    }
    for name, content in parts.items():
        pieces = ["discover_utils", *name.split(".")]
        for end in range(1, len(pieces)):
            monkeypatch.setitem(sys.modules, ".".join(pieces[:end]), ModuleType(pieces[end - 1]))
        made = ModuleType(name)
        vars(made).update(content)
        monkeypatch.setitem(sys.modules, f"discover_utils.{name}", made)
    spec = importlib.util.spec_from_file_location("script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_processor_fills_its_outputs(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(discover.__file__).with_name("discover_processor.py")
    assert (module / "emimic_processor.py").read_bytes() == source.read_bytes()
    script = load_script(source, monkeypatch)
    wave = decode.load(sorted((get_folder() / "audio").glob("*.mp3"))[0])[:24_000]
    both = np.stack([np.zeros_like(wave), wave], axis=1)
    meta = SimpleNamespace(sample_rate=16_000, role="a", dataset="b", name="c", session="d")
    session = SimpleNamespace(
        input_data={"audio": SimpleNamespace(data=both, meta_data=meta)},
        output_data_templates={name: SimpleNamespace(meta_data=meta) for name in [*NAMES, *VAD, "emimic"]},
    )
    processor = script.Emimic(model_io=None, opts={"hop": "", "channel": "2"}, trainer=None)
    values = processor.process_data(SimpleNamespace(session=session))
    outputs = processor.to_output(values)
    timeline = emimic.load().predict_timeline(wave, sample_rate=16_000)
    rows = (timeline.times / 0.2).astype(int)
    stream = outputs["emimic"]
    assert stream.sample_rate == pytest.approx(5)
    assert [label["name"] for label in stream.dim_labels] == NAMES + VAD
    np.testing.assert_array_equal(stream.data[rows, :6], timeline.intensities)
    for column, name in enumerate(NAMES):
        scores = timeline.intensities[:, column].clip(0, 1)
        assert outputs[name].annotation_scheme.name == name
        np.testing.assert_array_equal(outputs[name].data["score"][rows], scores)
        np.testing.assert_array_equal(outputs[name].data["conf"][rows], np.isfinite(scores))
    assert len(EMOTIONS) == len(NAMES)


def test_a_model_is_copied_and_a_full_folder_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    with pytest.raises(ModelError, match="expected an exported model"):
        discover.write_module(tmp_path / "out", model)
    included = Path(emimic.__file__).parent / "default"
    for file in included.iterdir():
        (model / file.name).symlink_to(file)
    discover.write_module(tmp_path / "out", model)
    assert (tmp_path / "out" / "model" / "engine.json").read_bytes() == (
        included / "engine.json"
    ).read_bytes()
    with pytest.raises(ModelError, match="expected a new folder"):
        discover.write_module(tmp_path / "out")
