"""Small synthetic ONNX networks over images: detectors of a bright square, and the mean color."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def _save(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]
) -> Path:
    graph = helper.make_graph(
        nodes,
        "small",
        inputs,
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def ultraface(path: Path, *, pixels: bool = False) -> Path:
    """Boxes and scores over a grid of 40 x 40 pixels in an image of 240 x 320: a square's score is its brightness, from
    the range that UltraFace wants, (x - 127) / 128. pixels: boxes in pixels, not in fractions of the image."""
    row, column = np.divmod(np.arange(48), 8)
    boxes = np.stack([column, row, column + 1, row + 1], axis=1) * 40.0
    boxes = boxes if pixels else boxes / [320, 240, 320, 240]
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["light"], axes=[1], keepdims=1),
        helper.make_node("AveragePool", ["light"], ["squares"], kernel_shape=[40, 40], strides=[40, 40]),
        helper.make_node("Relu", ["squares"], ["positive"]),
        helper.make_node("Reshape", ["positive", "column"], ["face"]),
        helper.make_node("Sub", ["one", "face"], ["none"]),
        helper.make_node("Concat", ["none", "face"], ["scores"], axis=2),
        helper.make_node("Identity", ["grid"], ["boxes"]),
    ]
    return _save(
        path,
        nodes,
        [helper.make_tensor_value_info("input", FLOAT, [1, 3, 240, 320])],
        [
            helper.make_tensor_value_info("scores", FLOAT, [1, 48, 2]),
            helper.make_tensor_value_info("boxes", FLOAT, [1, 48, 4]),
        ],
        {"column": np.array([1, 48, 1]), "one": np.float32(1), "grid": boxes[None].astype(np.float32)},
    )


def yunet(path: Path) -> Path:
    """YuNet's outputs for images of any size: a square's cls and obj are its blue, 0 to 1; on the stride of 32 the box
    is a quarter to the right of the square's middle and twice its size, on the others it is tiny."""
    nodes, outputs = [], []
    constants: dict[str, Any] = {
        "full": np.float32(255),
        "one": np.array([1, -1, 1]),
        "four": np.array([1, 1, 4]),
    }
    constants |= {"from": np.array([0]), "to": np.array([1]), "axis": np.array([1])}
    nodes.append(helper.make_node("Slice", ["input", "from", "to", "axis"], ["blue"]))
    for stride in (8, 16, 32):
        box = [0.75, 0.5, np.log(2), np.log(2)] if stride == 32 else [0.5, 0.5, -3, -3]
        constants[f"box_{stride}"] = np.array([[box]], np.float32)
        nodes += [
            helper.make_node(
                "AveragePool", ["blue"], [f"pool_{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            ),
            helper.make_node("Reshape", [f"pool_{stride}", "one"], [f"row_{stride}"]),
            helper.make_node("Div", [f"row_{stride}", "full"], [f"cls_{stride}"]),
            helper.make_node("Identity", [f"cls_{stride}"], [f"obj_{stride}"]),
            helper.make_node("Shape", [f"cls_{stride}"], [f"shape_{stride}"]),
            helper.make_node("Mul", [f"shape_{stride}", "four"], [f"wide_{stride}"]),
            helper.make_node("Expand", [f"box_{stride}", f"wide_{stride}"], [f"bbox_{stride}"]),
        ]
        outputs += [
            helper.make_tensor_value_info(f"{part}_{stride}", FLOAT, [1, None, size])
            for part, size in (("cls", 1), ("obj", 1), ("bbox", 4))
        ]
    inputs = [helper.make_tensor_value_info("input", FLOAT, [1, 3, None, None])]
    return _save(path, nodes, inputs, outputs, constants)


def blazeface(path: Path, anchor: int, values: list[float]) -> Path:
    """BlazeFace's outputs, whatever the image: one anchor has these 16 values and a score of sigmoid(4)."""
    regressors, scores = np.zeros((1, 896, 16), np.float32), np.full((1, 896, 1), -20, np.float32)
    regressors[0, anchor], scores[0, anchor] = values, 4
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "none"], ["zero"]),
        helper.make_node("Add", ["points", "zero"], ["regressors"]),
        helper.make_node("Add", ["logits", "zero"], ["classificators"]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, FLOAT, [1, 896, size])
        for name, size in (("regressors", 16), ("classificators", 1))
    ]
    inputs = [helper.make_tensor_value_info("input", FLOAT, [1, 128, 128, 3])]
    return _save(
        path, nodes, inputs, outputs, {"none": np.float32(0), "points": regressors, "logits": scores}
    )


def colors(
    path: Path,
    *,
    batch: int | None = None,
    last: bool = False,
    scale: float = 1.0,
    size: Any = None,
    channels: int = 3,
) -> Path:
    """Outputs `color`, the mean of each channel times `scale`, and `contrast`, (batch, 1): red less blue. batch: the
    only batch it takes. last: channels come last. size: of the images, any by default."""
    shape = [batch, size, size, channels] if last else [batch, channels, size, size]
    axes = [1, 2] if last else [2, 3]
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["color"]),
        helper.make_node("MatMul", ["color", "weights"], ["contrast"]),
    ]
    return _save(
        path,
        nodes,
        [helper.make_tensor_value_info("image", FLOAT, shape)],
        [
            helper.make_tensor_value_info("color", FLOAT, [batch, channels]),
            helper.make_tensor_value_info("contrast", FLOAT, [batch, 1]),
        ],
        {"scale": np.float32(scale), "weights": np.array([[1], [0], [-1], [0], [0]], np.float32)[:channels]},
    )
