"""An ONNX graph from float32 to int8: the encoder's matrix products with fixed activation scales, other weights small.

Scales are fixed by calibration clips, so that an answer never depends on its company in a batch (scales found anew for
every batch would do that). LSTM, other convolutions and heads compute in float32; their weights are kept in 8 bits.
"""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from emimic.prediction import Prediction
from emimic.progress import shown
from emimic.service.engine import Spec, answer, session
from emimic.task import SAMPLE_RATE, VAD, ModelError

HELD_OUT: Final = 3
"""Every third calibration clip measures the damage instead of setting scales."""

_ALONE: Final = 32  # clips that tell which layer does most damage
_BINS: Final = 4096
_SMALL: Final = 1024  # weights of fewer values stay float32: they are not worth two more nodes
_LAYERS: Final = re.compile(r"/(layers\.\d+|conv\d)/")
# Inputs of an operator that are weights, and the axis along which each row gets a scale of its own.
_STORED: Final = {"LSTM": {1: 1, 2: 1}, "Conv": {1: 0}, "Gemm": {1: 0}, "MatMul": {1: 1}}
_EXACT: Final = {"waves"}  # the spectrum spans 80 dB
_HALF: Final = {"positions"}

Clips = Sequence[NDArray[np.float32]]
Scale = tuple[np.float32, np.uint8]


@dataclass(frozen=True, slots=True)
class Layer:
    """A matrix product with constant weights: the node's name, its input's and its weights' names."""

    name: str
    activation: str
    weight: str


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What int8 changed on clips that set no scales, against float32.

    pearson: by target, and by VAD dimension over all frames. largest: the largest change of an intensity.
    calibrated, measured: clips. left: matrix products left in float32. speed, float_speed: seconds of audio heard in
    a second of one core, clip by clip.
    """

    pearson: dict[str, float]
    largest: float
    calibrated: int
    measured: int
    left: tuple[str, ...]
    speed: float
    float_speed: float


def search(
    graph: bytes, clips: Clips, spec: Spec, *, least: float, progress: bool = False
) -> tuple[bytes, Quantisation]:
    """The int8 graph with the fewest matrix products left in float32 whose answers keep a mean Pearson of `least`.

    clips: (sample,) each, prepared. All layers are quantised; while that costs too much, the one that does most damage
    alone is left out. Raises ModelError when there are too few clips or nothing reaches `least`.
    """
    held, seen = clips[::HELD_OUT], [clip for i, clip in enumerate(clips) if i % HELD_OUT]
    if len(held) < 8:
        raise ModelError(
            f"{len(clips)} calibration clips could be read, expected {8 * HELD_OUT} or more: give a larger folder"
        )
    whole = onnx.load_from_string(graph)
    found = layers(whole)
    scales = calibrate(whole, found, seen, progress=progress)
    true, float_speed = _heard(graph, held, spec)

    def measure(
        chosen: Sequence[Layer], most: int | None = None
    ) -> tuple[bytes, dict[str, float], float, float]:
        small = quantise(whole, chosen, scales).SerializeToString()
        answers, speed = _heard(small, held[:most], spec)
        largest = max(
            float(np.abs(a.intensities - b.intensities).max()) for a, b in zip(answers, true, strict=False)
        )
        return small, _pearson(answers, true[: len(answers)], spec), largest, speed

    chosen = list(found)
    order: list[tuple[float, str]] = []
    while True:
        small, pearson, largest, speed = measure(chosen)
        if np.mean(list(pearson.values())) >= least:
            break
        if not chosen:
            raise ModelError(
                f"int8 weights alone bring the mean Pearson with float32 to {np.mean(list(pearson.values())):.4f}, "
                f"under {least}: export in float32, or lower the limit"
            )
        if not order:
            alone = shown(found, "measuring layers", total=len(found), show=progress)
            order = [
                (float(np.mean(list(measure([layer], _ALONE)[1].values()))), layer.name) for layer in alone
            ]
            order.sort()
        worst = order.pop(0)[1]
        chosen = [layer for layer in chosen if layer.name != worst]
    left = tuple(layer.name for layer in found if layer not in chosen)
    return small, Quantisation(pearson, largest, len(seen), len(held), left, speed, float_speed)


def _heard(graph: bytes, clips: Clips, spec: Spec) -> tuple[list[Prediction], float]:
    """Answers clip by clip, and seconds of audio heard in a second of one core."""
    runs = session(graph, threads=1)
    answer(runs, spec, clips[:1])
    start = time.process_time()
    answers = [answer(runs, spec, [clip])[0] for clip in clips]
    return answers, sum(map(len, clips)) / SAMPLE_RATE / (time.process_time() - start)


def _pearson(ours: Sequence[Prediction], theirs: Sequence[Prediction], spec: Spec) -> dict[str, float]:
    columns = [np.stack([one.intensities for one in side]) for side in (ours, theirs)]
    found = {name: _correlation(*(side[:, i] for side in columns)) for i, name in enumerate(spec.targets)}
    if spec.vad:
        frames = [np.concatenate([one.vad for one in side if one.vad is not None]) for side in (ours, theirs)]
        found |= {name: _correlation(*(side[:, i] for side in frames)) for i, name in enumerate(VAD)}
    return found


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    a, b = (side - side.mean(dtype=np.float64) for side in (a, b))
    length = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / length if length else 0.0


def layers(graph: onnx.ModelProto) -> list[Layer]:
    """The encoder's matrix products with constant weights, in the graph's order."""
    weights = {one.name: one for one in graph.graph.initializer}
    return [
        Layer(node.name, node.input[0], node.input[1])
        for node in graph.graph.node
        if node.op_type == "MatMul"
        and _LAYERS.search(node.name)
        and node.input[1] in weights
        and len(weights[node.input[1]].dims) == 2
    ]


def calibrate(
    graph: onnx.ModelProto, found: Sequence[Layer], clips: Clips, *, progress: bool = False
) -> dict[str, Scale]:
    """Scale and zero point (value = scale * (uint8 - zero)) of every layer's input: of the ranges tried, the one that
    rounds and clips what was seen with the least squared error."""
    names = sorted({layer.activation for layer in found})
    if not names:
        return {}
    open_graph = onnx.ModelProto()
    open_graph.CopyFrom(graph)
    open_graph.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    runs = session(open_graph.SerializeToString())

    def activations(label: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
        for clip in shown(clips, label, total=len(clips), show=progress):
            feed = {"samples": clip[None], "lengths": np.array([len(clip)], dtype=np.int64)}
            yield from zip(names, runs.run(names, feed), strict=True)

    edges = dict.fromkeys(names, (0.0, 0.0))  # zero is always within, as padding needs it exact
    for name, values in activations("ranges"):
        low, high = edges[name]
        edges[name] = (min(low, float(values.min())), max(high, float(values.max())))
    counts: dict[str, NDArray[Any]] = {name: np.zeros(_BINS) for name in names}
    for name, values in activations("histograms"):
        counts[name] += np.histogram(values, bins=_BINS, range=edges[name])[0]
    return {name: _best_scale(*edges[name], counts[name]) for name in names}


def _best_scale(low: float, high: float, counts: NDArray[Any]) -> Scale:
    centres = low + (np.arange(_BINS) + 0.5) * (high - low) / _BINS
    tried = []
    for share in np.linspace(0.2, 1.0, 81):
        step = max((high - low) * share / 255, 1e-12)
        zero = np.clip(np.round(-low * share / step), 0, 255)
        back = (np.clip(np.round(centres / step) + zero, 0, 255) - zero) * step
        tried.append((float(np.dot(counts, np.square(back - centres))), step, zero))
    _, step, zero = min(tried)
    return np.float32(step), np.uint8(zero)


def quantise(graph: onnx.ModelProto, chosen: Sequence[Layer], scales: dict[str, Scale]) -> onnx.ModelProto:
    """The graph with the chosen layers computed in int8 and all other large weights stored in 8 or 16 bits."""
    return _Rewrite(graph, chosen, scales).result()


class _Rewrite:
    """One pass over a graph's nodes; `made` knows what has been added for a tensor already."""

    def __init__(self, graph: onnx.ModelProto, chosen: Sequence[Layer], scales: dict[str, Scale]) -> None:
        self.graph = onnx.ModelProto()
        self.graph.CopyFrom(graph)
        self.weights = {one.name: one for one in self.graph.graph.initializer}
        self.chosen = {layer.name: layer for layer in chosen}
        self.scales = scales
        self.made: dict[str, str] = {}
        self.gone: set[str] = set()  # answered by another node now
        self.nodes: list[onnx.NodeProto] = []

    def result(self) -> onnx.ModelProto:
        inner = self.graph.graph
        for node in inner.node:
            if self.gone.intersection(node.output):
                continue
            if node.name in self.chosen:
                self._compute(node, self.chosen[node.name])
                continue
            for place, name in enumerate(node.input):
                large = name in self.weights and np.prod(self.weights[name].dims) >= _SMALL
                axis = _STORED.get(node.op_type, {}).get(place)
                if large and name in _HALF:
                    node.input[place] = self._halve(name)
                elif large and axis is not None and name not in _EXACT:
                    node.input[place] = self._store(name, axis)
            self.nodes.append(node)
        used = {name for node in self.nodes for name in node.input}
        kept = [one for one in inner.initializer if one.name in used]
        del inner.node[:], inner.initializer[:]
        inner.node.extend(self.nodes)
        inner.initializer.extend(kept)
        if not any(one.domain == "com.microsoft" for one in self.graph.opset_import):
            self.graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return self.graph

    def _constant(self, name: str, array: Any) -> str:
        self.graph.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **rest: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **rest))
        return output

    def _halve(self, name: str) -> str:
        if name not in self.made:
            half = self._constant(
                f"{name}_float16", numpy_helper.to_array(self.weights[name]).astype(np.float16)
            )
            self.made[name] = self._node("Cast", [half], f"{name}_whole", to=onnx.TensorProto.FLOAT)
        return self.made[name]

    def _store(self, name: str, axis: int) -> str:
        # Not DequantizeLinear, which ONNX Runtime would compute anew at every run; this it does once, when it loads.
        if name not in self.made:
            values, scale = _rows(numpy_helper.to_array(self.weights[name]), axis)
            small = self._constant(f"{name}_int8", values)
            whole = self._node("Cast", [small], f"{name}_whole", to=onnx.TensorProto.FLOAT)
            self.made[name] = self._node(
                "Mul", [whole, self._constant(f"{name}_scale", scale)], f"{name}_scaled"
            )
        return self.made[name]

    def _compute(self, node: onnx.NodeProto, layer: Layer) -> None:
        a, w = layer.activation, layer.weight
        if a not in self.made:
            scale, zero = self.scales[a]
            inputs = [a, self._constant(f"{a}_scale", scale), self._constant(f"{a}_zero", zero)]
            self.made[a] = self._node("QuantizeLinear", inputs, f"{a}_uint8")
        values, rows = _rows(numpy_helper.to_array(self.weights[w]), 1)
        weight, row_scales = (
            self._constant(f"{w}_int8", values),
            self._constant(f"{w}_scale", rows.reshape(-1)),
        )
        inputs = [self.made[a], weight, f"{a}_scale", row_scales, f"{a}_zero"]
        output = node.output[0]
        if (added := self._added(output)) is not None:
            output, bias = added
            inputs += ["", bias]
            self.gone.add(output)
        self._node("MatMulIntegerToFloat", inputs, output, name=node.name, domain="com.microsoft")

    def _added(self, product: str) -> tuple[str, str] | None:
        """The sum of a product that nothing else reads with its bias, and the bias."""
        readers = [node for node in self.graph.graph.node if product in node.input]
        if len(readers) != 1 or readers[0].op_type != "Add":
            return None
        bias = next((name for name in readers[0].input if name != product), "")
        whole = bias in self.weights and len(self.weights[bias].dims) == 1
        return (readers[0].output[0], bias) if whole else None


def _rows(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with a scale for every index of `axis`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True) / 127, 1e-12).astype(np.float32)
    return np.clip(np.round(weight / scale), -127, 127).astype(np.int8), scale
