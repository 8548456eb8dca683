"""silero-vad's graph with matrix products in place of convolutions: src/emimic/silero/silero_vad_16k_products.onnx.

    python -m benchmarks.silero_graph silero_vad_16k_sequence.onnx src/emimic/silero/silero_vad_16k_products.onnx

The first file is from the package silero-vad (src/emimic/silero/README.md). ONNX Runtime computes each of its short
convolutions chunk by chunk. Here all chunks of a call are the rows of one product, and what no output depends on is
left out: a fifth of the spectrum, and taps that only see padding. Inputs, outputs and values are the same.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.command import make_parser

STEP, BINS, STATES, CHUNK, CONTEXT = 128, 129, 128, 512, 64


class Builder:
    """Nodes and constants of a graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Any] = {}

    def add(self, kind: str, *inputs: Any, output: str = "", **settings: Any) -> str:
        """Add a node; arrays become constants. Return its output."""
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        given = [value if isinstance(value, str) else self.store(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, given, [name], **settings))
        return name

    def store(self, value: Any) -> str:
        """Return the name of a constant, stored once."""
        array = np.asarray(value)
        for name, other in self.weights.items():
            if other.dtype == array.dtype and np.array_equal(other, array):
                return name
        name = f"constant_{len(self.weights)}"
        self.weights[name] = array
        return name

    def slice(self, values: str, start: int, end: int, axis: int, step: int = 1) -> str:
        """Return part of an axis."""
        return self.add("Slice", values, [start], [end], [axis], [step])

    def add_layer(self, values: str, matrix: Any, bias: Any) -> str:
        """Return max(values @ matrix + bias, 0)."""
        product = self.add("MatMul", values, np.ascontiguousarray(matrix))
        return self.add("Relu", self.add("Add", product, bias))


def convert(original: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with matrix products."""
    weights = {value.name: numpy_helper.to_array(value) for value in original.graph.initializer}
    (lstm,) = (node for node in original.graph.node if node.op_type == "LSTM")
    # (out, in, tap) -> (tap, in, out)
    taps = [weights[f"encoder.{i}.weight"].transpose(2, 1, 0) for i in range(4)]
    biases = [weights[f"encoder.{i}.bias"] for i in range(4)]
    graph = Builder()
    # Four spectra of 256 samples each, 128 apart; the last one reaches over the end, where the sound is mirrored.
    samples = graph.add("Pad", "input", [0, 0, 0, STEP * 5 - CHUNK - CONTEXT], mode="reflect")
    steps = graph.add("Reshape", samples, [-1, 5, STEP])
    windows = graph.add("Concat", graph.slice(steps, 0, 4, 1), graph.slice(steps, 1, 5, 1), axis=2)
    waves = graph.add("MatMul", windows, np.ascontiguousarray(weights["stft.forward_basis_buffer"][:, 0].T))
    squares = graph.add("Mul", waves, waves)
    power = graph.add("Add", graph.slice(squares, 0, BINS, 2), graph.slice(squares, BINS, 2 * BINS, 2))
    frames = graph.add("Pad", graph.add("Sqrt", power), [0, 1, 0, 0, 1, 0])
    near = [graph.slice(frames, tap, tap + 4, 1) for tap in range(3)]
    frames = graph.add_layer(graph.add("Concat", *near, axis=2), taps[0].reshape(3 * BINS, -1), biases[0])
    frames = graph.add("Pad", frames, [0, 1, 0, 0, 0, 0])
    near = [graph.slice(frames, tap, tap + 3, 1, 2) for tap in range(3)]
    frames = graph.add_layer(graph.add("Concat", *near, axis=2), taps[1].reshape(3 * 128, -1), biases[1])
    frames = graph.add_layer(graph.add("Reshape", frames, [-1, 128]), taps[2][1:].reshape(128, -1), biases[2])
    frames = graph.add_layer(frames, taps[3][1], biases[3])
    chunks = graph.add("Reshape", frames, [-1, 1, STATES])
    recurrent = [weights[name] for name in lstm.input[1:4]]
    inputs = [chunks, *map(graph.store, recurrent), "", "h", "c"]
    graph.nodes.append(helper.make_node("LSTM", inputs, ["states", "hn", "cn"], hidden_size=STATES))
    states = graph.add("Relu", graph.add("Reshape", "states", [-1, STATES]))
    logits = graph.add(
        "Add", graph.add("MatMul", states, weights["output.weight"][:, :, 0].T.copy()), weights["output.bias"]
    )
    graph.add("Reshape", graph.add("Sigmoid", logits), [-1], output="speech_probs")
    inner = helper.make_graph(
        graph.nodes,
        original.graph.name,
        list(original.graph.input),
        list(original.graph.output),
        [numpy_helper.from_array(value, name) for name, value in graph.weights.items()],
    )
    model = helper.make_model(inner, opset_imports=original.opset_import, ir_version=original.ir_version)
    onnx.checker.check_model(model)
    return model


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("original", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    onnx.save(convert(onnx.load(given.original)), given.out)


if __name__ == "__main__":
    main()
