"""A float32 ONNX graph -> the same in int8: which products can be, and the graph in which chosen ones are.

Scales are fixed, so an answer never depends on its company in a batch (scales found again for every batch would do
that). Two forms: ONNX Runtime's own operators, in which the LSTM's products are int8, too; or standard QuantizeLinear
and DequantizeLinear pairs around float32 products, which OpenVINO makes int8 kernels of.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from emimic.inference.runtimes import Name

Scale = tuple[np.float32, np.uint8]
"""Step and zero point: value = step * (uint8 - zero point)."""


_SMALL: Final = 1024  # weights of fewer values stay float32: they are not worth two more nodes
# Whisper's conv1 and conv2; of the others' stacks all but the first, which is over 10 samples and no quicker in int8.
_ENCODER: Final = re.compile(r"/(layers\.\d+|conv\d|convs\.[1-9]\d*|feature_projection)/")
# Inputs of an operator that are weights, and the axis along which each row gets a scale of its own.
_STORED: Final = {"LSTM": {1: 1, 2: 1}, "Conv": {1: 0}, "Gemm": {1: 0}, "MatMul": {1: 1}}
_EXACT: Final = {"waves"}  # the spectrum spans 80 dB
_HALF: Final = {"positions"}
_MOVES: Final = {"Concat", "Slice", "Reshape", "Transpose", "Pad"}  # values stay what they are
_UINT8, _INT8 = onnx.TensorProto.UINT8, onnx.TensorProto.INT8


@dataclass(frozen=True, slots=True)
class Layer:
    """What can be computed in int8: a matrix product with constant weights, or an LSTM layer.

    name: the node's. activations: the tensors whose scales it needs (an LSTM's input and output). weight: its weights'
    name. size: how many weights, what a frame costs.
    """

    name: str
    activations: tuple[str, ...]
    weight: str
    size: int


def layers(graph: onnx.ModelProto, form: Name = "onnx") -> list[Layer]:
    """The encoder's matrix products with constant weights and, for ONNX Runtime, the LSTM's, in the graph's order."""
    weights = {one.name: one for one in graph.graph.initializer}
    found = []
    for node in graph.graph.node:
        if node.op_type == "MatMul" and _ENCODER.search(node.name) and node.input[1] in weights:
            dims = weights[node.input[1]].dims
            if len(dims) == 2:
                found.append(Layer(node.name, (node.input[0],), node.input[1], int(np.prod(dims))))
        elif node.op_type == "LSTM" and form == "onnx" and _plain_lstm(graph, node):
            size = sum(int(np.prod(weights[name].dims)) for name in node.input[1:3])
            found.append(Layer(node.name, (node.input[0], node.output[0]), node.input[1], size))
    return found


def _plain_lstm(graph: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """One direction, the usual activations, every frame handed on and nothing but the frames."""
    settings = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    usual = {"input_forget": 0, "layout": 0, "direction": b"forward", "hidden_size": settings["hidden_size"]}
    read = {name for other in graph.graph.node for name in other.input if name}
    read |= {one.name for one in graph.graph.output}
    return settings.items() <= usual.items() and not read.intersection(node.output[1:])


def quantize(
    graph: onnx.ModelProto, chosen: Sequence[Layer], scales: Mapping[str, Scale], form: Name = "onnx"
) -> onnx.ModelProto:
    """The graph with the chosen layers computed in int8. For ONNX Runtime all other large weights are stored in 8 or
    16 bits, too."""
    return _Rewrite(graph, chosen, scales, form).result()


class _Rewrite:
    """One pass over a graph's nodes; `made` knows what has been added for a tensor already."""

    def __init__(
        self, graph: onnx.ModelProto, chosen: Sequence[Layer], scales: Mapping[str, Scale], form: Name
    ) -> None:
        self.graph = onnx.ModelProto()
        self.graph.CopyFrom(graph)
        self.weights = {one.name: one for one in self.graph.graph.initializer}
        self.producers = {name: node for node in graph.graph.node for name in node.output}
        self.chosen = {layer.name: layer for layer in chosen}
        self.scales = scales
        self.form = form
        self.made: dict[str, str] = {}
        self.gone: set[str] = set()  # answered by another node now
        self.nodes: list[onnx.NodeProto] = []

    def result(self) -> onnx.ModelProto:
        inner = self.graph.graph
        for node in inner.node:
            if self.gone.intersection(node.output):
                continue
            if node.name in self.chosen:
                layer = self.chosen[node.name]
                if self.form == "openvino":
                    self._pair(node, layer)
                elif node.op_type == "LSTM":
                    self._lstm(node, layer)
                else:
                    self._product(node, layer)
                continue
            if self.form == "onnx":
                self._shrink(node)
            self.nodes.append(node)
        self._prune()
        if self.form == "onnx" and not any(one.domain == "com.microsoft" for one in self.graph.opset_import):
            self.graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return self.graph

    def _prune(self) -> None:
        """Leave out what nothing reads any more."""
        inner = self.graph.graph
        wanted, kept = {one.name for one in inner.output}, []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(node.input)
                for one in node.attribute:  # a loop's body reads from outside, too
                    wanted.update(name for part in one.g.node for name in part.input)
        left = [one for one in inner.initializer if one.name in wanted]
        del inner.node[:], inner.initializer[:]
        inner.node.extend(reversed(kept))
        inner.initializer.extend(left)

    def _constant(self, name: str, array: Any) -> str:
        if name not in self.made:
            self.graph.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
            self.made[name] = name
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **rest: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **rest))
        return output

    def _array(self, name: str) -> NDArray[np.float32]:
        return np.asarray(numpy_helper.to_array(self.weights[name]))

    # Weights that are stored in fewer bits, of what computes in float32

    def _shrink(self, node: onnx.NodeProto) -> None:
        for place, name in enumerate(node.input):
            large = name in self.weights and np.prod(self.weights[name].dims) >= _SMALL
            axis = _STORED.get(node.op_type, {}).get(place)
            if large and name in _HALF:
                node.input[place] = self._halve(name)
            elif large and axis is not None and name not in _EXACT:
                node.input[place] = self._store(name, axis)

    def _halve(self, name: str) -> str:
        if name not in self.made:
            half = self._constant(f"{name}_float16", self._array(name).astype(np.float16))
            self.made[name] = self._node("Cast", [half], f"{name}_whole", to=onnx.TensorProto.FLOAT)
        return self.made[name]

    def _store(self, name: str, axis: int) -> str:
        # Not DequantizeLinear, which ONNX Runtime would compute again at every run; this it does once, when it loads.
        if name not in self.made:
            values, scale = _rows(self._array(name), axis)
            small = self._constant(f"{name}_int8", values)
            whole = self._node("Cast", [small], f"{name}_whole", to=onnx.TensorProto.FLOAT)
            self.made[name] = self._node(
                "Mul", [whole, self._constant(f"{name}_scale", scale)], f"{name}_scaled"
            )
        return self.made[name]

    # What computes in int8

    def _scale(self, tensor: str) -> list[str]:
        """Names of a tensor's step and zero point."""
        step, zero = self.scales[tensor]
        return [self._constant(f"{tensor}_scale", step), self._constant(f"{tensor}_zero", zero)]

    def _uint8(self, tensor: str, scaled: str) -> str:
        """A tensor in the 8 bits of `scaled`. What only moves values is done after them: a quarter of the bytes."""
        name = tensor + "_uint8" if tensor == scaled else f"{tensor}_uint8_of_{scaled}"
        if name in self.made:
            return name
        self.made[name] = name
        producer = self.producers.get(tensor)
        scale = self._scale(scaled)
        if producer is None or producer.op_type not in _MOVES:
            return self._node("QuantizeLinear", [tensor, *scale], name)
        moved = len(producer.input) if producer.op_type == "Concat" else 1
        inputs = [self._uint8(one, scaled) for one in producer.input[:moved]]
        inputs += producer.input[moved:]
        if producer.op_type == "Pad":
            inputs[2:] = [scale[1], *inputs[3:]]  # padded with what stands for 0
        node = onnx.NodeProto()
        node.CopyFrom(producer)
        node.name = f"{producer.name}_uint8_{len(self.nodes)}"
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        node.output.append(name)
        self.nodes.append(node)
        return name

    def _integer_product(
        self,
        tensor: str,
        scaled: str,
        weight: str,
        matrix: NDArray[np.float32],
        bias: str,
        output: str,
        **rest: Any,
    ) -> None:
        """tensor (..., in) in the bits of `scaled`, times matrix (in, out), plus bias (out,) or none."""
        values, rows = _rows(matrix, 1)
        step, zero = self._scale(scaled)
        small = self._constant(f"{weight}_int8", values)
        scale = self._constant(f"{weight}_scale", rows.reshape(-1))
        inputs = [self._uint8(tensor, scaled), small, step, scale, zero, *(["", bias] if bias else [])]
        self._node("MatMulIntegerToFloat", inputs, output, domain="com.microsoft", **rest)

    def _product(self, node: onnx.NodeProto, layer: Layer) -> None:
        (a,), output, bias = layer.activations, node.output[0], ""
        if (added := self._added(output)) is not None:
            output, bias = added
            self.gone.add(output)
        self._integer_product(a, a, layer.weight, self._array(layer.weight), bias, output, name=node.name)

    def _added(self, product: str) -> tuple[str, str] | None:
        """The sum of a product that nothing else reads with its bias, and the bias."""
        readers = [node for node in self.graph.graph.node if product in node.input]
        if len(readers) != 1 or readers[0].op_type != "Add":
            return None
        bias = next((name for name in readers[0].input if name != product), "")
        whole = bias in self.weights and len(self.weights[bias].dims) == 1
        return (readers[0].output[0], bias) if whole else None

    def _lstm(self, node: onnx.NodeProto, layer: Layer) -> None:
        """An LSTM layer as one product over all frames and a loop over them for the recurrent one.

        ONNX Runtime's own int8 LSTM finds its scales again at every step from all rows, so that a clip's answer would
        depend on its batch.
        """
        x, y = layer.activations
        stem = node.name
        w, r = (self._array(name)[0].T for name in node.input[1:3])  # (in, 4 units) each, gates i, o, f, c
        both = self._array(node.input[3])[0].reshape(2, -1).sum(axis=0)
        units = len(r)
        bias = self._constant(f"{stem}_bias", both)
        self._integer_product(x, x, f"{stem}_input", w, bias, f"{stem}_gates", name=stem)
        axis = self._constant("axis_0", np.array([0], np.int64))
        states = [
            self._node("Squeeze", [name, axis], f"{stem}_start_{i}") for i, name in enumerate(node.input[5:7])
        ]
        # 7 bits: ONNX Runtime makes weights safe for CPUs without VNNI (see runtimes.py), but none inside a loop.
        values, rows = _rows(r, 1, top=63)
        body = _step(
            f"{stem}_step",
            units,
            self._constant(f"{stem}_recurrent_int8", values),
            self._constant(f"{stem}_recurrent_scale", rows.reshape(-1)),
            *self._scale(y),
        )
        outputs = [f"{stem}_h", f"{stem}_c", f"{stem}_frames"]
        inputs = [*states, f"{stem}_gates"]
        self.nodes.append(
            helper.make_node("Scan", inputs, outputs, name=f"{stem}_loop", body=body, num_scan_inputs=1)
        )
        one = self._constant("axis_1", np.array([1], np.int64))
        self._node("Unsqueeze", [outputs[2], one], y)

    def _pair(self, node: onnx.NodeProto, layer: Layer) -> None:
        """Both sides of a product through 8 bits and back."""
        (a,) = layer.activations
        back = f"{a}_back"
        if back not in self.made:
            self.made[back] = self._node("DequantizeLinear", [self._uint8(a, a), *self._scale(a)], back)
        values, rows = _rows(self._array(layer.weight), 1)
        w = layer.weight
        inputs = [self._constant(f"{w}_int8", values), self._constant(f"{w}_scale", rows.reshape(-1))]
        inputs.append(self._constant(f"{w}_zero", np.zeros(rows.size, np.int8)))
        weight = self._node("DequantizeLinear", inputs, f"{w}_whole", axis=1)
        self._node("MatMul", [back, weight], node.output[0], name=node.name)


def _step(stem: str, units: int, weight: str, weight_scale: str, step: str, zero: str) -> onnx.GraphProto:
    """One frame of an LSTM layer: states h, c (batch, unit), input gates (batch, 4 units) -> states, h."""

    def own(text: str) -> list[str]:  # a loop's names must not be those around it
        return [f"{stem}_{name}" for name in text.split()]

    def node(kind: str, inputs: str, outputs: str, **rest: Any) -> onnx.NodeProto:
        return helper.make_node(kind, own(inputs), own(outputs), **rest)

    (h, h8, r) = own("h h8 r")
    nodes = [
        helper.make_node("QuantizeLinear", [h, step, zero], [h8]),
        helper.make_node(
            "MatMulIntegerToFloat", [h8, weight, step, weight_scale, zero], [r], domain="com.microsoft"
        ),
        node("Add", "gates r", "sum"),
        node("Split", "sum parts", "iof new", axis=1),
        node("Sigmoid", "iof", "open"),
        node("Tanh", "new", "fresh"),
        node("Split", "open thirds", "i o f", axis=1),
        node("Mul", "f c", "kept"),
        node("Mul", "i fresh", "added"),
        node("Add", "kept added", "c_out"),
        node("Tanh", "c_out", "seen"),
        node("Mul", "o seen", "h_out"),
        node("Identity", "h_out", "frame"),
    ]
    sizes = zip(own("parts thirds"), ([3 * units, units], [units] * 3), strict=True)
    constants = [numpy_helper.from_array(np.array(size, np.int64), name) for name, size in sizes]

    def values(text: str, width: int) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", width])
            for name in own(text)
        ]

    inputs = [*values("h c", units), *values("gates", 4 * units)]
    return helper.make_graph(nodes, "step", inputs, values("h_out c_out frame", units), constants)


def _rows(
    weight: NDArray[np.float32], axis: int, top: int = 127
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8, -top to top, with a scale for every index of `axis`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True) / top, 1e-12).astype(np.float32)
    return np.clip(np.round(weight / scale), -top, top).astype(np.int8), scale
