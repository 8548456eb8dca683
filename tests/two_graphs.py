"""A model of two graphs made by hand, in milliseconds: an encoder of filters, and a head of means over windows."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TARGETS = ("Joy", "Calm")
FILTERS = 4
FRAME = 320


def write_model(folder: Path) -> Path:
    """Write an exported model of two graphs into a new folder, and return the folder."""
    folder.mkdir()
    graphs = {"encoder": make_encoder(), "head": make_head()}
    for name, graph in graphs.items():
        opsets = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / f"{name}.onnx")
    names = {name: f"{name}.onnx" for name in graphs}
    hashes = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in names.values()}
    spec = {
        "targets": TARGETS, "max_seconds": 4.0, "do_normalize": True, "min_samples": 400, "hop": FRAME,
        "first": FRAME / 2, "vad": True,
    }  # fmt: skip
    description = {
        "schema": "emimic/engine/1",
        "runtime": "onnx",
        "spec": spec,
        "graphs": names,
        "files": {file: {"sha256": value} for file, value in hashes.items()},
    }
    (folder / "engine.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def make_constants(**arrays: np.ndarray) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def declare(name: str, kind: int, shape: list[str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def make_encoder() -> onnx.GraphProto:
    """Return the filters' outputs for each frame; they are higher the farther a frame may attend."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Unsqueeze", ["samples", "one"], ["wide"]),
        helper.make_node("Conv", ["wide", "filters"], ["filtered"], strides=[FRAME]),
        helper.make_node("Transpose", ["filtered"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Cast", ["reach"], ["far"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["far", "small"], ["more"]),
        helper.make_node("Add", ["turned", "more"], ["hidden"]),
        helper.make_node("Div", ["lengths", "size"], ["frames"]),
    ]
    constants = make_constants(
        one=np.array([1]),
        filters=(0.3 * rng.standard_normal((FILTERS, 1, FRAME))).astype(np.float32),
        small=np.float32(0.001),
        size=np.array([FRAME]),
    )
    inputs = [
        declare("samples", TensorProto.FLOAT, ["batch", "sample"]),
        declare("lengths", TensorProto.INT64, ["batch"]),
        declare("reach", TensorProto.INT64, []),
    ]
    outputs = [
        declare("hidden", TensorProto.FLOAT, ["batch", "frame", "feature"]),
        declare("frames", TensorProto.INT64, ["batch"]),
    ]
    return helper.make_graph(nodes, "encoder", inputs, outputs, constants)


def make_head() -> onnx.GraphProto:
    """Return values of the mean over each window."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("CumSum", ["hidden", "axis"], ["sums"]),
        helper.make_node("Pad", ["sums", "pads"], ["padded"]),
        helper.make_node("Gather", ["frames", "rows"], ["counts"]),
        helper.make_node("Min", ["ends", "counts"], ["stops"]),
        *(helper.make_node("Unsqueeze", [name, "one"], [f"{name}_column"]) for name in ("rows", "starts", "stops")),
        helper.make_node("Concat", ["rows_column", "starts_column"], ["first"], axis=1),
        helper.make_node("Concat", ["rows_column", "stops_column"], ["last"], axis=1),
        helper.make_node("GatherND", ["padded", "first"], ["before"]),
        helper.make_node("GatherND", ["padded", "last"], ["after"]),
        helper.make_node("Sub", ["after", "before"], ["window"]),
        helper.make_node("Sub", ["stops_column", "starts_column"], ["length"]),
        helper.make_node("Cast", ["length"], ["size"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["window", "size"], ["mean"]),
        helper.make_node("Concat", ["mean", "mean"], ["pooled"], axis=1),
        *(
            node
            for source, weights, name in (
                ("mean", "target_weights", "intensities"),
                ("mean", "vad_weights", "vad_means"),
                ("hidden", "vad_weights", "vad"),
            )
            for node in (
                helper.make_node("MatMul", [source, weights], [f"{name}_raw"]),
                helper.make_node("Sigmoid", [f"{name}_raw"], [name]),
            )
        ),
    ]  # fmt: skip
    constants = make_constants(
        axis=np.array(1),
        one=np.array([1]),
        pads=np.array([0, 1, 0, 0, 0, 0]),
        target_weights=rng.standard_normal((FILTERS, len(TARGETS))).astype(np.float32),
        vad_weights=rng.standard_normal((FILTERS, 3)).astype(np.float32),
    )
    inputs = [
        declare("hidden", TensorProto.FLOAT, ["batch", "frame", "feature"]),
        *(declare(name, TensorProto.INT64, [size]) for name, size in (
            ("frames", "batch"), ("rows", "window"), ("starts", "window"), ("ends", "window"))),
    ]  # fmt: skip
    outputs = [
        declare("intensities", TensorProto.FLOAT, ["window", "target"]),
        declare("pooled", TensorProto.FLOAT, ["window", "pooled"]),
        declare("vad", TensorProto.FLOAT, ["batch", "frame", "vad"]),
        declare("vad_means", TensorProto.FLOAT, ["window", "vad"]),
    ]
    return helper.make_graph(nodes, "head", inputs, outputs, constants)
