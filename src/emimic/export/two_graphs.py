"""The cut of an exported graph in two, at the hidden states: an encoder, and a head on windows of its frames."""

from collections.abc import Collection

import onnx

from emimic.task import ModelError

BOUNDARY = ("hidden", "frames")
"""Outputs of the encoder that are inputs of the head."""


def cut(graph: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return encoder and head of a graph of `onnx_graph.to_onnx`, optimized or quantized.

    Raises:
        ModelError: The head depends on the sound by more than the hidden states.
    """
    values = {value.name: value for value in graph.graph.output}
    boundary = [values[name] for name in BOUNDARY]
    rest = [value for value in graph.graph.output if value.name not in BOUNDARY]
    inputs = list(graph.graph.input)
    encoder = _extract(graph, inputs, boundary)
    return encoder, _extract(graph, [*boundary, *inputs], rest, forbidden=("samples", "lengths"))


def _extract(
    graph: onnx.ModelProto,
    inputs: Collection[onnx.ValueInfoProto],
    outputs: Collection[onnx.ValueInfoProto],
    *,
    forbidden: Collection[str] = (),
) -> onnx.ModelProto:
    """Return the part of a graph between some of its tensors, with the inputs that it reads."""
    stops = {value.name for value in inputs}
    needed, nodes = {value.name for value in outputs}, []
    for node in reversed(graph.graph.node):
        if needed.intersection(node.output) and not stops.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
            for attribute in node.attribute:  # a loop's body reads from outside, too
                needed.update(name for part in attribute.g.node for name in part.input)
    if crossing := needed.intersection(forbidden):
        raise ModelError(
            f"the head of this model reads {', '.join(sorted(crossing))}, so it can't be exported apart from the "
            "encoder: report this"
        )
    part = onnx.ModelProto()
    part.CopyFrom(graph)
    inner = part.graph
    for field in (inner.node, inner.initializer, inner.input, inner.output, inner.value_info):
        del field[:]
    inner.node.extend(reversed(nodes))
    inner.initializer.extend(weight for weight in graph.graph.initializer if weight.name in needed)
    inner.input.extend(value for value in inputs if value.name in needed)
    inner.output.extend(outputs)
    return drop_unused_opsets(part)


def drop_unused_opsets(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without the sets of operators that none of its nodes uses."""
    used = {node.domain for node in graph.graph.node}
    opsets = [opset for opset in graph.opset_import if opset.domain in used]
    del graph.opset_import[:]
    graph.opset_import.extend(opsets)
    return graph
