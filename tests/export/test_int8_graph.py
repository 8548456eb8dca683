"""int8 graphs against their formulas, both forms; engines on both runtimes; a run and the engines exported into it."""

import json
import shutil

import numpy as np
import onnx
import pytest
import tiny_models
import torch
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from emimic import cli
from emimic.export import export, graph_files, int8_graph
from emimic.export.onnx_graph import _slide
from emimic.inference import runtimes
from emimic.inference.engine import GraphEngine, TorchEngine, open_engine
from emimic.inference.runtimes import open_runtime
from emimic.task import ModelError

SHORT = {"max_seconds": 0.5, "vad_learned": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewrite") / "run"
    tiny_models.model("wav2vec2-layer", **SHORT).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return tiny_models.write_clips(tmp_path_factory.mktemp("recordings"), range(4000, 7000, 100))


@pytest.fixture(scope="module")
def engines(run, recordings, tmp_path_factory):
    """An engine of each kind, by its name."""
    folder = tmp_path_factory.mktemp("engines")
    for to in ("onnx", "openvino"):
        export.export(run, folder / to, to=to)
        export.export(run, folder / f"{to}-int8", to=to, int8=True, calibrate=recordings, min_pearson=0.5)
    return folder


def graph_of(nodes, inputs, outputs, weights):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "one", values, results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def rounded(values, step, zero):
    return (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step


def in_rows(weight, axis, top=127):
    """A matrix as int8 with a scale for each output keeps it."""
    scale = np.abs(weight).max(axis=axis, keepdims=True) / top
    return np.rint(weight / scale) * scale


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("frames", "rows"), [(1, 1), (7, 3), (40, 2)])
def test_the_int8_lstm_equals_its_formula(frames, rows):
    rng = np.random.default_rng(frames)
    features, units = 12, 10
    w = rng.standard_normal((1, 4 * units, features)).astype(np.float32) * 0.4
    r = rng.standard_normal((1, 4 * units, units)).astype(np.float32) * 0.4
    b = rng.standard_normal((1, 8 * units)).astype(np.float32) * 0.2
    start = rng.standard_normal((1, rows, units)).astype(np.float32) * 0.3
    node = helper.make_node(
        "LSTM", ["x", "w", "r", "b", "", "h0", "c0"], ["y", "", ""], name="/lstm/LSTM", hidden_size=units
    )
    model = graph_of(
        [node],
        {"x": ["t", "n", features], "h0": [1, "n", units], "c0": [1, "n", units]},
        ["y"],
        {"w": w, "r": r, "b": b},
    )
    (layer,) = int8_graph.find_layers(model)
    assert layer.activations == ("x", "y")
    assert layer.size == w.size + r.size
    assert int8_graph.find_layers(model, "openvino") == []
    scales = {"x": (np.float32(0.03), np.uint8(120)), "y": (np.float32(0.008), np.uint8(128))}
    changed = int8_graph.quantize(model, [layer], scales)
    assert "LSTM" not in [one.op_type for one in changed.graph.node]
    x = rng.standard_normal((frames, rows, features)).astype(np.float32)
    feed = {"x": x, "h0": start, "c0": start}
    (actual,) = open_runtime("onnx", changed.SerializeToString()).run(["y"], feed)
    h, c = start[0], start[0]
    small_w, small_r = in_rows(w[0], 1), in_rows(r[0], 1, top=63)
    own = []
    for frame in x:
        gates = rounded(frame, 0.03, 120) @ small_w.T + rounded(h, 0.008, 128) @ small_r.T
        i, o, f, new = np.split(gates + b[0, : 4 * units] + b[0, 4 * units :], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
        h = sigmoid(o) * np.tanh(c)
        own.append(h)
    assert actual.shape == (frames, 1, rows, units)
    # A value at the edge of two steps may round either way: a step of h, at most, now and then.
    apart = np.abs(actual[:, 0] - np.array(own))
    assert np.quantile(apart, 0.9) < 1e-4
    assert apart.max() < 0.02
    (whole,) = open_runtime("onnx", model.SerializeToString()).run(["y"], feed)
    assert 1e-5 < np.abs(actual - whole).max() < 0.1


@pytest.mark.parametrize("change", [{"direction": "reverse"}, {"input_forget": 1}])
def test_an_unusual_lstm_stays_as_it_is(change):
    w = np.zeros((1, 8, 3), np.float32)
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="l", hidden_size=2, **change)
    model = graph_of([node], {"x": ["t", "n", 3]}, ["y"], {"w": w, "r": np.zeros((1, 8, 2), np.float32)})
    assert int8_graph.find_layers(model) == []


def test_an_lstm_whose_last_state_is_read_stays_as_it_is():
    w = np.zeros((1, 8, 3), np.float32)
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y", "h"], name="l", hidden_size=2)
    model = graph_of([node], {"x": ["t", "n", 3]}, ["y", "h"], {"w": w, "r": np.zeros((1, 8, 2), np.float32)})
    assert int8_graph.find_layers(model) == []


def test_what_only_moves_values_moves_bytes():
    """Pad, Slice, Concat and Reshape before a product come after the rounding, and padding is exactly 0."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 5)).astype(np.float32)
    shapes = {
        "pads": np.array([0, 1, 0, 0, 1, 0]), "from": np.array([0]), "to": np.array([-1]), "two": np.array([1]),
        "end": np.array([99]), "axis": np.array([1]), "flat": np.array([0, -1, 8]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Pad", ["a", "pads", ""], ["p"]),
        helper.make_node("Slice", ["p", "from", "to", "axis"], ["left"]),
        helper.make_node("Slice", ["p", "two", "end", "axis"], ["right"]),
        helper.make_node("Concat", ["left", "right"], ["both"], axis=2),
        helper.make_node("Reshape", ["both", "flat"], ["flattened"]),
        helper.make_node("MatMul", ["flattened", "w"], ["y"], name="/convs.1/MatMul"),
    ]
    model = graph_of(nodes, {"x": [1, "n", 4]}, ["y"], {"w": weight, **shapes})
    layers = int8_graph.find_layers(model)
    scales = {"flattened": (np.float32(0.02), np.uint8(3))}
    changed = int8_graph.quantize(model, layers, scales)
    kinds = [one.op_type for one in changed.graph.node]
    assert kinds.count("QuantizeLinear") == 1
    assert kinds.index("QuantizeLinear") == 1, "before anything is moved"
    assert len(kinds) == 8, "nothing is moved in float32 beside"
    x = rng.standard_normal((1, 6, 4)).astype(np.float32)
    (actual,) = open_runtime("onnx", changed.SerializeToString()).run(["y"], {"x": x})
    padded = np.pad(rounded(np.maximum(x, 0), 0.02, 3), ((0, 0), (1, 1), (0, 0)))
    own = np.concatenate([padded[:, :-1], padded[:, 1:]], axis=2) @ in_rows(weight, 0)
    np.testing.assert_allclose(actual, own, rtol=0, atol=1e-5)
    pair = int8_graph.quantize(model, layers, scales, "openvino")
    (actual,) = open_runtime("onnx", pair.SerializeToString()).run(["y"], {"x": x})
    np.testing.assert_allclose(actual, own, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (3, 2), (2, 2), (3, 1), (4, 3), (5, 2), (1, 1)])
@pytest.mark.parametrize("extra", [0, 1, 2, 7])
def test_windows_are_what_a_convolution_sees(kernel, stride, extra):
    frames = torch.arange(2.0 * (kernel + extra) * 3).reshape(2, kernel + extra, 3)
    own = frames.unfold(1, kernel, stride).permute(0, 1, 3, 2).flatten(2)
    assert torch.equal(_slide(frames, kernel, stride), own)


@pytest.mark.parametrize("kind", ["onnx", "openvino", "onnx-int8", "openvino-int8"])
def test_engines_predict_as_the_run_in_any_batch(engines, run, kind):
    torch_engine, engine = open_engine(run), open_engine(engines / kind, threads=2)
    assert isinstance(engine, GraphEngine)
    assert engine.runtime == kind.split("-")[0]
    clips = [tiny_models.clip(n, seed=n) for n in (400, 8000, 3333, 5000, 719, 8000)]
    together = engine.predict(clips, batch_seconds=60.0, hidden=True)
    several = open_engine(engines / kind, threads=2, streams=2).predict(clips, batch_seconds=0.6)
    for clip, one, other, own in zip(
        clips, together, several, torch_engine.predict(clips, hidden=True), strict=True
    ):
        (alone,) = engine.predict([clip], hidden=True)
        for actual in (one, other):
            np.testing.assert_allclose(actual.intensities, alone.intensities, rtol=0, atol=1e-4)
            np.testing.assert_allclose(actual.vad, alone.vad, rtol=0, atol=1e-4)
        np.testing.assert_allclose(one.hidden, alone.hidden, rtol=0, atol=1e-3)
        allowed = 0.25 if "int8" in kind else 1e-4
        np.testing.assert_allclose(one.intensities, own.intensities, rtol=0, atol=allowed)
        np.testing.assert_allclose(one.vad, own.vad, rtol=0, atol=allowed)
    assert engine.check() <= engine.description["checks"]["tolerance"]
    assert engine.description["speed"] > 0


def test_int8_of_wav2vec2_covers_convolutions_layers_and_lstm(engines):
    actual = json.loads((engines / "onnx-int8" / "engine.json").read_text())
    assert actual["quantization"]["left"] in ([], ())
    graphs = [onnx.load(engines / "onnx-int8" / f"{name}.onnx").graph for name in ("encoder", "head")]
    kinds = [node.op_type for graph in graphs for node in graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 6 + 1 + 2 * 6 + 2, "convolutions, projection, layers, LSTM"
    assert kinds.count("Scan") == 2
    assert {file.name for file in (engines / "openvino").iterdir()} == {
        "engine.json",
        "encoder.xml",
        "encoder.bin",
        "head.xml",
        "head.bin",
    }


def test_a_run_is_predicted_with_the_fastest_float32_model_in_it(run, recordings, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    assert isinstance(open_engine(folder), TorchEngine)
    export.export(folder, int8=True, calibrate=recordings, min_pearson=0.5)
    assert isinstance(open_engine(folder), TorchEngine), "int8 predicts otherwise: only by name"
    done = CliRunner().invoke(cli.app, ["export", str(folder), "--to", "openvino", "--quiet"])
    assert done.exit_code == 0, done.output
    export.export(folder)
    for fast, slow in (("onnx", "openvino"), ("openvino", "onnx")):
        for name, speed in ((fast, 2.0), (slow, 1.0)):
            file = folder / "engines" / name / "engine.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), "speed": speed}))
        actual = open_engine(folder)
        assert isinstance(actual, GraphEngine)
        assert actual.runtime == fast
    assert isinstance(open_engine(folder, device="cpu"), TorchEngine), "a device is torch's"
    tiny_models.model("wav2vec2-layer", seed=1, **SHORT).save_pretrained(folder)
    assert isinstance(open_engine(folder), TorchEngine), "trained further: the engines are of older weights"


def test_a_runtime_that_is_not_here(engines, run, tmp_path, monkeypatch):
    folder = shutil.copytree(run, tmp_path / "run")
    shutil.copytree(engines / "openvino", folder / "engines" / "openvino")
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == "openvino" else object())
    assert isinstance(open_engine(folder), TorchEngine)
    with pytest.raises(ModelError, match="needs openvino, which isn't installed: pip install openvino"):
        open_engine(engines / "openvino")
    with pytest.raises(ModelError, match="needs openvino, which isn't installed"):
        export.export(run, tmp_path / "engine", to="openvino")
    assert not (tmp_path / "engine").exists()
    other = shutil.copytree(engines / "onnx", tmp_path / "abacus")
    description = json.loads((other / "engine.json").read_text())
    (other / "engine.json").write_text(json.dumps({**description, "runtime": "abacus"}))
    with pytest.raises(ModelError, match="the runtime 'abacus'; expected one of onnx, openvino"):
        open_engine(other)


def test_large_weights_stand_beside_the_graph(run, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(graph_files, "LARGE", 1000)
    folder = tmp_path / "engine"
    export.export(run, folder, int8=True, calibrate=recordings, min_pearson=0.5)
    weights = folder / "encoder.weights"
    files = json.loads((folder / "engine.json").read_text())["files"]
    assert set(files["encoder.weights"]) == {"sha256", "fingerprint"}
    ours = GraphEngine(folder)
    clip = [tiny_models.clip(3000)]
    own = ours.predict(clip)[0].intensities
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"encoder.weights is not the file .* \(fingerprint"):
        GraphEngine(folder)
    weights.write_bytes(whole[:-1])
    with pytest.raises(ModelError, match=r"encoder.weights is not the file"):
        GraphEngine(folder)
    weights.write_bytes(whole)
    np.testing.assert_array_equal(GraphEngine(folder).predict(clip)[0].intensities, own)
    files["encoder.weights"]["sha256"] = "0" * 64  # what no sample saw
    description = json.loads((folder / "engine.json").read_text())
    (folder / "engine.json").write_text(json.dumps({**description, "files": files}))
    with pytest.raises(ModelError, match=r"encoder.weights is not the file .* \(sha256"):
        GraphEngine(folder).check()
    weights.unlink()
    with pytest.raises(ModelError, match=r"has no encoder.weights; the folder is incomplete"):
        GraphEngine(folder)
