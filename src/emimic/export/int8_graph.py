"""Quantization of a float32 ONNX graph: the products that can run in int8, and the graph with chosen ones in int8.

Scales are fixed, so a prediction never depends on the other clips of its batch, as it would with scales computed per
batch. There are two forms: ONNX Runtime's own operators, in which the LSTM's products are int8, too; or standard
QuantizeLinear and DequantizeLinear pairs around float32 products, for which OpenVINO has int8 kernels.
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


_SMALL: Final = 1024  # weights of fewer values stay float32: two more nodes would not pay off
# Whisper's conv1 and conv2; of the others' stacks all but the first, which is over 10 samples and no faster in int8.
_ENCODER: Final = re.compile(r"/(layers\.\d+|conv\d|convs\.[1-9]\d*|feature_projection)/")
# Inputs of an operator that are weights, and the axis along which each row has its own scale.
_STORED: Final = {"LSTM": {1: 1, 2: 1}, "Conv": {1: 0}, "Gemm": {1: 0}, "MatMul": {1: 1}}
_EXACT: Final = {"waves"}  # the spectrum spans 80 dB
_HALF: Final = {"positions"}
_MOVES: Final = {"Concat", "Slice", "Reshape", "Transpose", "Pad"}  # values stay unchanged
_UINT8, _INT8 = onnx.TensorProto.UINT8, onnx.TensorProto.INT8


@dataclass(frozen=True, slots=True)
class Layer:
    """A matrix product with constant weights, or an LSTM layer, that can be computed in int8.

    Attributes:
        name: Of the node.
        activations: Tensors whose scales it needs (an LSTM's input and output).
        weight: Name of its weights.
        size: Number of weights, the arithmetic per frame.
    """

    name: str
    activations: tuple[str, ...]
    weight: str
    size: int


def find_layers(graph: onnx.ModelProto, form: Name = "onnx") -> list[Layer]:
    """Return the encoder's matrix products with constant weights and, for ONNX Runtime, the LSTM's, in graph order."""
    weights = {weight.name: weight for weight in graph.graph.initializer}
    layers = []
    for node in graph.graph.node:
        if node.op_type == "MatMul" and _ENCODER.search(node.name) and node.input[1] in weights:
            dims = weights[node.input[1]].dims
            if len(dims) == 2:
                layers.append(Layer(node.name, (node.input[0],), node.input[1], int(np.prod(dims))))
        elif node.op_type == "LSTM" and form == "onnx" and _is_plain_lstm(graph, node):
            size = sum(int(np.prod(weights[name].dims)) for name in node.input[1:3])
            layers.append(Layer(node.name, (node.input[0], node.output[0]), node.input[1], size))
    return layers


def _is_plain_lstm(graph: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Return True for one direction and the usual activations, if only the frames of the output are used."""
    settings = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    usual = {"input_forget": 0, "layout": 0, "direction": b"forward", "hidden_size": settings["hidden_size"]}
    inputs = {name for other in graph.graph.node for name in other.input if name}
    inputs |= {output.name for output in graph.graph.output}
    return settings.items() <= usual.items() and not inputs.intersection(node.output[1:])


def quantize(
    graph: onnx.ModelProto, chosen: Sequence[Layer], scales: Mapping[str, Scale], form: Name = "onnx"
) -> onnx.ModelProto:
    """Return the graph with the chosen layers in int8; for ONNX Runtime all other large weights have 8 or 16 bits.

    Args:
        graph: In float32.
        chosen: Layers to compute in int8.
        scales: By tensor.
        form: The runtime.
    """
    return _Rewrite(graph, chosen, scales, form).rewrite()


class _Rewrite:
    """One pass over a graph's nodes; `added` maps a tensor to its replacement."""

    def __init__(
        self, graph: onnx.ModelProto, chosen: Sequence[Layer], scales: Mapping[str, Scale], form: Name
    ) -> None:
        self.graph = onnx.ModelProto()
        self.graph.CopyFrom(graph)
        self.weights = {weight.name: weight for weight in self.graph.graph.initializer}
        self.producers = {name: node for node in graph.graph.node for name in node.output}
        self.chosen = {layer.name: layer for layer in chosen}
        self.scales = scales
        self.form = form
        self.added: dict[str, str] = {}
        self.replaced: set[str] = set()  # outputs that another node computes now
        self.nodes: list[onnx.NodeProto] = []

    def rewrite(self) -> onnx.ModelProto:
        """Return the rewritten graph."""
        inner = self.graph.graph
        for node in inner.node:
            if self.replaced.intersection(node.output):
                continue
            if node.name in self.chosen:
                layer = self.chosen[node.name]
                if self.form == "openvino":
                    self._add_pair(node, layer)
                elif node.op_type == "LSTM":
                    self._add_lstm(node, layer)
                else:
                    self._add_product(node, layer)
                continue
            if self.form == "onnx":
                self._shrink(node)
            self.nodes.append(node)
        self._prune()
        if self.form == "onnx" and not any(
            opset.domain == "com.microsoft" for opset in self.graph.opset_import
        ):
            self.graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return self.graph

    def _prune(self) -> None:
        """Remove nodes and weights that nothing reads any more."""
        inner = self.graph.graph
        needed, nodes = {output.name for output in inner.output}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                nodes.append(node)
                needed.update(node.input)
                for attribute in node.attribute:  # a loop's body reads from outside, too
                    needed.update(name for part in attribute.g.node for name in part.input)
        weights = [weight for weight in inner.initializer if weight.name in needed]
        del inner.node[:], inner.initializer[:]
        inner.node.extend(reversed(nodes))
        inner.initializer.extend(weights)

    def _add_constant(self, name: str, array: Any) -> str:
        if name not in self.added:
            self.graph.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
            self.added[name] = name
        return name

    def _add_node(self, kind: str, inputs: list[str], output: str, **rest: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **rest))
        return output

    def _get_array(self, name: str) -> NDArray[np.float32]:
        return np.asarray(numpy_helper.to_array(self.weights[name]))

    # Weights with fewer bits, of float32 products

    def _shrink(self, node: onnx.NodeProto) -> None:
        for position, name in enumerate(node.input):
            large = name in self.weights and np.prod(self.weights[name].dims) >= _SMALL
            axis = _STORED.get(node.op_type, {}).get(position)
            if large and name in _HALF:
                node.input[position] = self._halve(name)
            elif large and axis is not None and name not in _EXACT:
                node.input[position] = self._store(name, axis)

    def _halve(self, name: str) -> str:
        if name not in self.added:
            half = self._add_constant(f"{name}_float16", self._get_array(name).astype(np.float16))
            self.added[name] = self._add_node("Cast", [half], f"{name}_whole", to=onnx.TensorProto.FLOAT)
        return self.added[name]

    def _store(self, name: str, axis: int) -> str:
        # Not DequantizeLinear, which ONNX Runtime computes at every run; this it computes once, when it loads.
        if name not in self.added:
            values, scale = _quantize_rows(self._get_array(name), axis)
            small = self._add_constant(f"{name}_int8", values)
            restored = self._add_node("Cast", [small], f"{name}_whole", to=onnx.TensorProto.FLOAT)
            self.added[name] = self._add_node(
                "Mul", [restored, self._add_constant(f"{name}_scale", scale)], f"{name}_scaled"
            )
        return self.added[name]

    # Products in int8

    def _get_scale(self, tensor: str) -> list[str]:
        """Return the names of a tensor's step and zero point."""
        step, zero = self.scales[tensor]
        return [self._add_constant(f"{tensor}_scale", step), self._add_constant(f"{tensor}_zero", zero)]

    def _quantize(self, tensor: str, scaled: str) -> str:
        """Quantize a tensor by the scale of `scaled`, before operators that only move values (fewer bytes)."""
        name = tensor + "_uint8" if tensor == scaled else f"{tensor}_uint8_of_{scaled}"
        if name in self.added:
            return name
        self.added[name] = name
        producer = self.producers.get(tensor)
        scale = self._get_scale(scaled)
        if producer is None or producer.op_type not in _MOVES:
            return self._add_node("QuantizeLinear", [tensor, *scale], name)
        moved = len(producer.input) if producer.op_type == "Concat" else 1
        inputs = [self._quantize(source, scaled) for source in producer.input[:moved]]
        inputs += producer.input[moved:]
        if producer.op_type == "Pad":
            inputs[2:] = [scale[1], *inputs[3:]]  # padded with the value of 0
        node = onnx.NodeProto()
        node.CopyFrom(producer)
        node.name = f"{producer.name}_uint8_{len(self.nodes)}"
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        node.output.append(name)
        self.nodes.append(node)
        return name

    def _add_integer_product(
        self,
        tensor: str,
        scaled: str,
        weight: str,
        matrix: NDArray[np.float32],
        bias: str,
        output: str,
        **rest: Any,
    ) -> None:
        """Add tensor (..., in), quantized as `scaled`, times matrix (in, out), plus bias (out,) unless empty."""
        values, rows = _quantize_rows(matrix, 1)
        step, zero = self._get_scale(scaled)
        small = self._add_constant(f"{weight}_int8", values)
        scale = self._add_constant(f"{weight}_scale", rows.reshape(-1))
        inputs = [self._quantize(tensor, scaled), small, step, scale, zero, *(["", bias] if bias else [])]
        self._add_node("MatMulIntegerToFloat", inputs, output, domain="com.microsoft", **rest)

    def _add_product(self, node: onnx.NodeProto, layer: Layer) -> None:
        (a,), output, bias = layer.activations, node.output[0], ""
        if (sum_and_bias := self._find_bias(output)) is not None:
            output, bias = sum_and_bias
            self.replaced.add(output)
        self._add_integer_product(
            a, a, layer.weight, self._get_array(layer.weight), bias, output, name=node.name
        )

    def _find_bias(self, product: str) -> tuple[str, str] | None:
        """Return the sum of a product and its bias, and the bias; None if something else reads the product."""
        readers = [node for node in self.graph.graph.node if product in node.input]
        if len(readers) != 1 or readers[0].op_type != "Add":
            return None
        bias = next((name for name in readers[0].input if name != product), "")
        is_bias = bias in self.weights and len(self.weights[bias].dims) == 1
        return (readers[0].output[0], bias) if is_bias else None

    def _add_lstm(self, node: onnx.NodeProto, layer: Layer) -> None:
        """Add an LSTM layer as one product over all frames and a loop over them for the recurrent one.

        ONNX Runtime's own int8 LSTM computes scales at every step from all rows, so that a clip's prediction would
        depend on its batch.
        """
        x, y = layer.activations
        stem = node.name
        w, r = (
            self._get_array(name)[0].T for name in node.input[1:3]
        )  # (in, 4 units) each, gates i, o, f, c
        both = self._get_array(node.input[3])[0].reshape(2, -1).sum(axis=0)
        units = len(r)
        bias = self._add_constant(f"{stem}_bias", both)
        self._add_integer_product(x, x, f"{stem}_input", w, bias, f"{stem}_gates", name=stem)
        axis = self._add_constant("axis_0", np.array([0], np.int64))
        states = [
            self._add_node("Squeeze", [name, axis], f"{stem}_start_{i}")
            for i, name in enumerate(node.input[5:7])
        ]
        # 7 bits: ONNX Runtime makes weights safe for CPUs without VNNI (see runtimes.py), but not inside a loop.
        values, rows = _quantize_rows(r, 1, top=63)
        body = _make_step(
            f"{stem}_step",
            units,
            self._add_constant(f"{stem}_recurrent_int8", values),
            self._add_constant(f"{stem}_recurrent_scale", rows.reshape(-1)),
            *self._get_scale(y),
        )
        outputs = [f"{stem}_h", f"{stem}_c", f"{stem}_frames"]
        inputs = [*states, f"{stem}_gates"]
        self.nodes.append(
            helper.make_node("Scan", inputs, outputs, name=f"{stem}_loop", body=body, num_scan_inputs=1)
        )
        axis = self._add_constant("axis_1", np.array([1], np.int64))
        self._add_node("Unsqueeze", [outputs[2], axis], y)

    def _add_pair(self, node: onnx.NodeProto, layer: Layer) -> None:
        """Add a product whose two sides are quantized and dequantized."""
        (a,) = layer.activations
        back = f"{a}_back"
        if back not in self.added:
            self.added[back] = self._add_node(
                "DequantizeLinear", [self._quantize(a, a), *self._get_scale(a)], back
            )
        values, rows = _quantize_rows(self._get_array(layer.weight), 1)
        w = layer.weight
        inputs = [self._add_constant(f"{w}_int8", values), self._add_constant(f"{w}_scale", rows.reshape(-1))]
        inputs.append(self._add_constant(f"{w}_zero", np.zeros(rows.size, np.int8)))
        weight = self._add_node("DequantizeLinear", inputs, f"{w}_whole", axis=1)
        self._add_node("MatMul", [back, weight], node.output[0], name=node.name)


def _make_step(
    stem: str, units: int, weight: str, weight_scale: str, step: str, zero: str
) -> onnx.GraphProto:
    """Return one frame of an LSTM layer: states h, c (batch, unit), input gates (batch, 4 units) -> states, h."""

    def prefix(text: str) -> list[str]:  # a loop's names must differ from those outside
        return [f"{stem}_{name}" for name in text.split()]

    def make_node(kind: str, inputs: str, outputs: str, **rest: Any) -> onnx.NodeProto:
        return helper.make_node(kind, prefix(inputs), prefix(outputs), **rest)

    (h, h8, r) = prefix("h h8 r")
    nodes = [
        helper.make_node("QuantizeLinear", [h, step, zero], [h8]),
        helper.make_node(
            "MatMulIntegerToFloat", [h8, weight, step, weight_scale, zero], [r], domain="com.microsoft"
        ),
        make_node("Add", "gates r", "sum"),
        make_node("Split", "sum parts", "iof new", axis=1),
        make_node("Sigmoid", "iof", "open"),
        make_node("Tanh", "new", "fresh"),
        make_node("Split", "open thirds", "i o f", axis=1),
        make_node("Mul", "f c", "kept"),
        make_node("Mul", "i fresh", "added"),
        make_node("Add", "kept added", "c_out"),
        make_node("Tanh", "c_out", "seen"),
        make_node("Mul", "o seen", "h_out"),
        make_node("Identity", "h_out", "frame"),
    ]
    sizes = zip(prefix("parts thirds"), ([3 * units, units], [units] * 3), strict=True)
    constants = [numpy_helper.from_array(np.array(size, np.int64), name) for name, size in sizes]

    def make_values(text: str, width: int) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", width])
            for name in prefix(text)
        ]

    inputs = [*make_values("h c", units), *make_values("gates", 4 * units)]
    return helper.make_graph(nodes, "step", inputs, make_values("h_out c_out frame", units), constants)


def _quantize_rows(
    weight: NDArray[np.float32], axis: int, top: int = 127
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize to symmetric int8, -top to top, with a scale for every index of `axis`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True) / top, 1e-12).astype(np.float32)
    return np.clip(np.round(weight / scale), -top, top).astype(np.int8), scale
