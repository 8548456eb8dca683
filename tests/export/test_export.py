"""Export: the graph predicts as torch at any length and batch size; int8 by its formula; nothing half written."""

import json

import numpy as np
import onnx
import pytest
import tiny_models
import torch
from json_schema import keeps
from onnx import helper, numpy_helper

from emimic.export import calibrate, export, int8_graph
from emimic.export.onnx_graph import to_onnx
from emimic.export.two_graphs import cut
from emimic.inference.engine import GraphEngine, get_spec, predict_clips
from emimic.inference.runtimes import open_runtime
from emimic.task import ModelError

SHORT = {"max_seconds": 0.5, "vad_learned": True}
HEADS = tiny_models.HEADS | {"lstm": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny Whisper run, with facts of its training that name folders."""
    folder = tmp_path_factory.mktemp("run")
    tiny_models.model("whisper", do_normalize=False, **SHORT).save_pretrained(folder)
    facts = {"settings": {"encoder": "/home/someone/whisper", "lr": 1e-3}, "corpus": {"folder": "../bursts"}}
    (folder / "train.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """30 recordings and a file that is none."""
    folder = tiny_models.write_clips(tmp_path_factory.mktemp("recordings"), range(2000, 8000, 200))
    (folder / "broken.wav").write_bytes(b"RIFF")
    (folder / "notes.txt").write_text("no recording")
    return folder


@pytest.fixture(scope="module")
def every(run, recordings, tmp_path_factory):
    """An int8 export with every layer quantized: its report and its engine."""
    folder = tmp_path_factory.mktemp("int8") / "engine"
    return export.export(run, folder, int8=True, calibrate=recordings, min_pearson=0.5), GraphEngine(folder)


def list_nodes(folder):
    """Return the nodes of both graphs."""
    graphs = [onnx.load(folder / f"{name}.onnx").graph for name in ("encoder", "head")]
    return [node for graph in graphs for node in graph.node]


# The graph


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_random_lengths_and_batches_equal_torch(family):
    model = tiny_models.model(family, **SHORT)
    runs, spec = open_runtime("onnx", to_onnx(model)), get_spec(model)
    rng = np.random.default_rng(0)
    lengths = [400, 8000, 719, 720, 721, *rng.integers(400, 8001, size=11)]
    clips = [tiny_models.clip(int(n), seed=i) for i, n in enumerate(lengths)]
    own = [model.predict([clip])[0] for clip in clips]
    for _ in range(20):
        rows = rng.integers(len(clips), size=rng.integers(1, 9))
        actual = predict_clips(
            runs, spec, [clips[i] for i in rows], batch_seconds=float(rng.choice([0.5, 60]))
        )
        for row, one in zip(rows, actual, strict=True):
            np.testing.assert_allclose(one.intensities, own[row].intensities, rtol=0, atol=1e-5)
            np.testing.assert_allclose(one.vad, own[row].vad, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(one.times, own[row].times)


@pytest.mark.parametrize(
    "config",
    [
        {"lstm": False, "attention_seconds": 0.1},
        {"global_vector": False},
        {"global_std": True, "lstm_units": 5, "lstm_layers": 1},
        {"regression_head": False, "vad_head": False, "vad_learned": False},
        {"target_mean": [0.5] * 6, "target_std": [2.0] * 6, "categories": ["a", "b"]},
        HEADS,
    ],
)
def test_every_switch_of_the_model(config):
    model = tiny_models.model("whisper", **{**SHORT, **config})
    tiny_models.standardize(model)
    runs = open_runtime("onnx", to_onnx(model))
    clips = [tiny_models.clip(n, seed=n) for n in (500, 8000, 3000)]
    actual = predict_clips(runs, get_spec(model), clips, pooled=True)
    for one, own in zip(actual, model.predict(clips), strict=True):
        np.testing.assert_allclose(one.intensities, own.intensities, rtol=0, atol=1e-5)
        np.testing.assert_allclose(one.pooled, own.pooled, rtol=0, atol=1e-4)
    names = {"intensities", "frames", "hidden", "pooled"}
    names |= {"vad", "vad_means"} if model.config.predicts_vad else set()
    assert runs.outputs == names, "the auxiliary task stays behind"


@pytest.mark.parametrize("seconds", [0.0, 0.1])
@pytest.mark.parametrize("config", [{}, {"global_std": True, "lstm": False}, HEADS])
def test_windows_are_predicted_as_clips_of_their_frames(config, seconds):
    """In any order, of any lengths and rows; only pooled V/A/D are smoothed beyond a window."""
    model = tiny_models.model("whisper", **{**SHORT, **config, "vad_seconds": seconds})
    tiny_models.standardize(model)
    _, head = cut(onnx.load_from_string(to_onnx(model)))
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((2, 40, model.config.hidden_features)).astype(np.float32)
    counts, rows = np.array([40, 25]), np.array([1, 0, 0, 1, 0, 1])
    starts, ends = np.array([3, 0, 39, 24, 5, 0]), np.array([9, 40, 40, 99, 6, 99])
    feed = {"hidden": hidden, "frames": counts, "rows": rows, "starts": starts, "ends": ends}
    names = ["intensities", "pooled", "vad_means"]
    actual = open_runtime("onnx", head.SerializeToString()).run(names, feed)
    for window, (row, start, end) in enumerate(zip(rows, starts, ends, strict=True)):
        part = torch.from_numpy(hidden[None, row, start : min(end, counts[row])])
        with torch.inference_mode():
            own = model.regress(part, torch.ones(part.shape[:2], dtype=torch.bool))
        for name, value in zip(names, (own.intensities, own.pooled, own.vad.mean(dim=1)), strict=True):
            if seconds == 0 or name != "intensities":
                np.testing.assert_allclose(
                    actual[names.index(name)][window], value[0].numpy(), rtol=0, atol=3e-5
                )


def test_a_head_that_reads_the_sound_is_refused():
    graph = onnx.load_from_string(to_onnx(tiny_models.model("whisper", **SHORT)))
    (output,) = [node for node in graph.graph.node if "intensities" in node.output]
    output.output[0] = "before"
    graph.graph.node.append(helper.make_node("ReduceMean", ["samples"], ["level"], keepdims=0))
    graph.graph.node.append(helper.make_node("Add", ["before", "level"], ["intensities"]))
    with pytest.raises(ModelError, match="head of this model reads samples"):
        cut(graph)


# transformers' WavLM gives torch a float and a boolean mask at once.
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
@pytest.mark.parametrize("family", ["wav2vec2-layer", "wavlm"])
def test_layers_and_domains_of_other_families(family):
    model = tiny_models.model(family, **SHORT, **HEADS)
    tiny_models.standardize(model)
    clips = [tiny_models.clip(n, seed=n) for n in (400, 8000, 3000)]
    actual = predict_clips(open_runtime("onnx", to_onnx(model)), get_spec(model), clips)
    for one, own in zip(actual, model.predict(clips), strict=True):
        np.testing.assert_allclose(one.intensities, own.intensities, rtol=0, atol=1e-5)
        np.testing.assert_allclose(one.vad, own.vad, rtol=0, atol=1e-5)


def test_the_graph_equals_the_formula():
    model = tiny_models.model("whisper", **SHORT)
    w = tiny_models.weights(model)
    clip = tiny_models.clip(3210)
    hidden = tiny_models.whisper(tiny_models.under(w, "encoder."), tiny_models.encoder("whisper"), clip)
    intensities, vad = tiny_models.heads(w, hidden)
    (actual,) = predict_clips(open_runtime("onnx", to_onnx(model)), get_spec(model), [clip])
    np.testing.assert_allclose(actual.intensities, intensities, rtol=0, atol=1e-5)
    np.testing.assert_allclose(actual.vad, vad, rtol=0, atol=1e-5)


def test_silence():
    model = tiny_models.model("whisper", **SHORT)
    (actual,) = predict_clips(
        open_runtime("onnx", to_onnx(model)), get_spec(model), [np.zeros(4000, np.float32)]
    )
    (own,) = model.predict([np.zeros(4000, np.float32)])
    np.testing.assert_allclose(actual.intensities, own.intensities, rtol=0, atol=1e-5)


# The folder


def test_what_is_written(run, tmp_path):
    (tmp_path / "card.md").write_text("A card – with a dash")
    report = export.export(
        run, tmp_path / "engine", card=tmp_path / "card.md", license_file=tmp_path / "card.md"
    )
    names = {"encoder.onnx", "head.onnx", "engine.json", "README.md", "LICENSE"}
    assert {file.name for file in (tmp_path / "engine").iterdir()} == names
    assert {file.name for file in tmp_path.iterdir()} == {"card.md", "engine"}
    assert report.size == sum(file.stat().st_size for file in (tmp_path / "engine").iterdir())
    assert report.difference < 1e-5
    assert "of torch" in report.to_text()
    actual = json.loads((tmp_path / "engine" / "engine.json").read_text())
    assert actual["precision"] == "float32"
    assert actual["training"] == {
        "settings": {"encoder": "whisper", "lr": 1e-3},
        "corpus": {"folder": "bursts"},
    }
    assert actual["graphs"] == {"encoder": "encoder.onnx", "head": "head.onnx"}
    keeps("inference/engine_schema.json", actual)
    domains = {node.domain for node in list_nodes(tmp_path / "engine")}
    assert domains == {""}, "float32 has standard operators only"


def test_folders_that_are_not_overwritten(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(ModelError, match="exists already; give a new folder"):
            export.export(run, folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_graph_that_predicts_otherwise_is_not_written(run, tmp_path, monkeypatch):
    def wrong(graph, out, *, level):
        optimize(graph, out, level=level)
        model = onnx.load(out)
        (bias,) = [one for one in model.graph.initializer if one.name.endswith("head.out_proj.bias")]
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(2e-4), bias.name))
        onnx.save(model, out)

    optimize = export.optimize
    monkeypatch.setattr(export, "optimize", wrong)
    with pytest.raises(ModelError, match=r"whisper graph differs from torch by 0.0002, at most 0.0001"):
        export.export(run, tmp_path / "engine")
    assert not list(tmp_path.iterdir())


def test_a_model_of_nan_is_not_written(tmp_path):
    model = tiny_models.model("whisper", do_normalize=False, **SHORT)
    with torch.no_grad():
        model.head.out_proj.bias.fill_(torch.nan)
    model.save_pretrained(tmp_path / "run")
    with pytest.raises(ModelError, match="predicts NaN"):
        export.export(tmp_path / "run", tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize("given", [{"int8": True}, {"calibrate": "."}])
def test_int8_and_its_clips_belong_together(run, tmp_path, given):
    with pytest.raises(ModelError, match="int8 needs --calibrate"):
        export.export(run, tmp_path / "engine", **given)


# int8


def test_int8_in_any_company(every):
    report, engine = every
    q = report.quantization
    assert (q.calibrated, q.measured, q.left) == (20, 10, ())
    assert set(q.pearson) >= {"Joy", "Valence"}
    assert min(q.pearson.values()) > 0.9
    assert 0 < q.largest < 0.2
    assert "r = " in report.to_text()
    keeps("inference/engine_schema.json", engine.description)
    assert engine.description["precision"] == "int8"
    kinds = [node.op_type for node in list_nodes(engine.folder)]
    assert kinds.count("MatMulIntegerToFloat") == 2 + 2 * 6 + 2, "convolutions, layers, the LSTM's inputs"
    assert kinds.count("Scan") == 2
    clips = [tiny_models.clip(n, seed=n) for n in (400, 8000, 3333, 5000)]
    for one, clip in zip(engine.predict(clips), clips, strict=True):
        (own,) = engine.predict([clip])
        np.testing.assert_allclose(one.intensities, own.intensities, rtol=0, atol=1e-5)


def test_int8_with_layers_and_domains(recordings, tmp_path):
    model = tiny_models.model("whisper", do_normalize=False, **SHORT, **HEADS)
    tiny_models.standardize(model)
    model.save_pretrained(tmp_path / "run")
    folder = tmp_path / "engine"
    actual = export.export(
        tmp_path / "run", folder, int8=True, calibrate=recordings, min_pearson=0.5
    ).quantization
    assert actual.left == ()
    assert min(actual.pearson.values()) > 0.9
    kinds = [node.op_type for node in list_nodes(folder)]
    assert kinds.count("MatMulIntegerToFloat") == 2 + 2 * 6, "convolutions and layers"
    clips = [tiny_models.clip(n, seed=n) for n in (400, 8000, 3333)]
    engine = GraphEngine(folder)
    for one, clip in zip(engine.predict(clips), clips, strict=True):
        (own,) = engine.predict([clip])
        np.testing.assert_allclose(one.intensities, own.intensities, rtol=0, atol=1e-5)


def test_layers_that_cost_too_much_stay_float32(every, run, recordings, tmp_path):
    mean = float(np.mean(list(every[0].quantization.pearson.values())))
    least = mean + 0.2 * (1 - mean)
    some = export.export(
        run, tmp_path / "some", int8=True, calibrate=recordings, min_pearson=least
    ).quantization
    assert len(some.left) >= 1
    assert np.mean(list(some.pearson.values())) >= least
    kinds = [node.op_type for node in list_nodes(tmp_path / "some")]
    assert kinds.count("MatMulIntegerToFloat") == 16 - len(some.left)


def test_a_limit_that_nothing_reaches(run, recordings, tmp_path):
    with pytest.raises(ModelError, match=r"int8 weights alone bring the mean Pearson .* under 1.1"):
        export.export(run, tmp_path / "engine", int8=True, calibrate=recordings, min_pearson=1.1)
    assert not (tmp_path / "engine").exists()


def test_too_few_recordings(run, tmp_path):
    with pytest.raises(ModelError, match="0 calibration clips could be read, expected 24 or more"):
        export.export(run, tmp_path / "engine", int8=True, calibrate=tmp_path)


@pytest.mark.parametrize("order", [("xw", "b"), ("b", "xw"), ("xw", "x2"), ("xw", "xw")])
def test_the_int8_product_equals_its_formula(order):
    """With a bias on either side; a sum with anything else stays a sum."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((48, 32)).astype(np.float32)
    bias = rng.standard_normal(32).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"], name="/layers.0/fc1/MatMul"),
            helper.make_node("Add", order, ["y"]),
        ],
        "one",
        [
            helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 48]),
            helper.make_tensor_value_info("x2", onnx.TensorProto.FLOAT, ["n", 32]),
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    layers = int8_graph.find_layers(model)
    assert [layer.activations for layer in layers] == [("x",)]
    scale, zero = np.float32(0.03), np.uint8(100)
    changed = int8_graph.quantize(model, layers, {"x": (scale, zero)})
    x = rng.standard_normal((5, 48)).astype(np.float32) * 2
    x2 = rng.standard_normal((5, 32)).astype(np.float32)
    assert ("Add" in [node.op_type for node in changed.graph.node]) == ("b" not in order)
    (actual,) = open_runtime("onnx", changed.SerializeToString()).run(["y"], {"x": x, "x2": x2})
    rows = np.abs(weight).max(axis=0) / 127
    rounded = np.rint(weight / rows) * rows
    rounded_input = (np.clip(np.rint(x / scale) + 100, 0, 255) - 100) * scale
    parts = {"xw": rounded_input @ rounded, "b": bias, "x2": x2}
    np.testing.assert_allclose(actual, parts[order[0]] + parts[order[1]], rtol=0, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 7, 200])
def test_no_8_bit_sum_overflows(rows):
    """Pairs of 255 * 127 are beyond 16 bits: the session has to sum them in 32 on whatever CPU this is."""
    weight = np.where(np.arange(64) % 3, 127, -127).astype(np.int8) * np.ones((512, 1), np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, ["n", 512])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT32, ["n", 64])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    x = np.full((rows, 512), 255, np.uint8)
    (actual,) = open_runtime("onnx", model.SerializeToString()).run(["y"], {"x": x})
    np.testing.assert_array_equal(actual, x.astype(np.int32) @ weight.astype(np.int32))


def test_the_range_that_rounds_and_clips_least():
    """A rare outlier is clipped, so that the many values between are rounded finely."""
    counts = np.zeros(4096)
    counts[:205] = 1e5  # 0 to 5 of 100
    counts[-1] = 1.0
    scale, zero = calibrate._find_scale(0.0, 100.0, counts)
    assert zero == 0
    assert scale * 255 < 40
    counts[-1] = 1e8
    assert calibrate._find_scale(0.0, 100.0, counts)[0] * 255 == pytest.approx(100, rel=0.02)
