"""The choice of products that run in int8: scales from calibration clips, damage measured on others."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from emimic.export.int8_graph import Layer, Scale, find_layers, quantize
from emimic.inference.graph_engine import make_feed, predict_clips
from emimic.inference.runtimes import Name, Runtime, open_runtime
from emimic.inference.spec import Spec
from emimic.prediction import Prediction
from emimic.progress import show_progress
from emimic.task import SAMPLE_RATE, VAD, ModelError

HELD_OUT: Final = 3
"""Every third calibration clip measures the damage and sets no scales."""

_FEW: Final = 32  # maximum number of clips that measure the damage of single layers
_FEW_SECONDS: Final = 60.0  # their maximum total length, for eight clips or more
_BINS: Final = 4096
_SAMPLED: Final = 1 << 18  # maximum values of a tensor that one clip adds to its histogram

Clips = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Quantization:
    """Differences of int8 from float32, on clips that set no scales.

    Attributes:
        pearson: By target, and by V/A/D dimension over all frames.
        largest: Largest difference of an intensity.
        calibrated: Number of clips that set the scales.
        measured: Number of clips compared.
        left: Products that stay float32.
        speed: Seconds of audio per second of one core, clip by clip.
        float_speed: The same of float32.
    """

    pearson: dict[str, float]
    largest: float
    calibrated: int
    measured: int
    left: tuple[str, ...]
    speed: float
    float_speed: float


def search(
    graph: bytes, clips: Clips, spec: Spec, *, min_pearson: float, form: Name = "onnx", progress: bool = False
) -> tuple[bytes, Quantization]:
    """Find the int8 graph with the fewest float32 products that keeps a mean Pearson of `min_pearson`.

    All layers are quantized first. If the Pearson is too low, the layers with the most damage per saved arithmetic stay
    float32, as many as needed.

    Args:
        graph: ONNX bytes in float32.
        clips: (sample,) each, prepared.
        spec: Of the model.
        min_pearson: Minimum mean Pearson with float32.
        form: The runtime.
        progress: Show bars.

    Raises:
        ModelError: There are too few clips, or no graph reaches `min_pearson`.
    """
    measured, calibrating = clips[::HELD_OUT], [clip for i, clip in enumerate(clips) if i % HELD_OUT]
    if len(measured) < 8:
        raise ModelError(
            f"{len(clips)} calibration clips could be read, expected {8 * HELD_OUT} or more: give a larger folder"
        )
    float_graph = onnx.load_from_string(graph)
    layers = find_layers(float_graph, form)
    scales, rows = calibrate(float_graph, layers, calibrating, progress=progress)
    references, float_speed = _predict_timed(open_runtime(form, graph), measured, spec)

    def measure(quantized: Sequence[Layer], count: int | None = None) -> tuple[bytes, Quantization]:
        small = quantize(float_graph, quantized, scales, form).SerializeToString()
        predictions, speed = _predict_timed(open_runtime(form, small), measured[:count], spec)
        expected = references[: len(predictions)]
        largest = max(
            float(np.abs(a.intensities - b.intensities).max())
            for a, b in zip(predictions, expected, strict=True)
        )
        float_layers = tuple(layer.name for layer in layers if layer not in quantized)
        pearson = _compute_pearson(predictions, expected, spec)
        counts = len(calibrating), len(measured)
        return small, Quantization(pearson, largest, *counts, float_layers, speed, float_speed)

    best = measure(layers)
    if _average(best[1]) >= min_pearson:
        return best
    single = show_progress(layers, "measuring layers", total=len(layers), show=progress)
    few = _count_few(measured)
    damage = {
        layer: (1.0 - _average(measure([layer], few)[1])) / (layer.size * rows[layer]) for layer in single
    }
    best = _leave_fewest(layers, damage, measure, min_pearson)
    if _average(best[1]) < min_pearson:
        raise ModelError(
            f"int8 weights alone bring the mean Pearson with float32 to {_average(best[1]):.4f}, "
            f"under {min_pearson}: export in float32, or lower the limit"
        )
    return best


def _leave_fewest(
    layers: Sequence[Layer],
    damage: Mapping[Layer, float],
    measure: Callable[[Sequence[Layer]], tuple[bytes, Quantization]],
    min_pearson: float,
) -> tuple[bytes, Quantization]:
    """Return what `measure` gives with as few layers in float32 as `min_pearson` allows, the most damaging first.

    If even the graph without int8 layers is below `min_pearson`, it is returned.
    """
    order = sorted(layers, key=lambda layer: -damage[layer])
    low, high = 1, len(order)  # bounds of the number of float32 layers: `low - 1` are too few
    best = measure([])
    while low < high:
        count = (low + high) // 2
        candidate = measure([layer for layer in layers if layer not in order[:count]])
        if _average(candidate[1]) >= min_pearson:
            best, high = candidate, count
        else:
            low = count + 1
    return best


def _average(report: Quantization) -> float:
    return float(np.mean(list(report.pearson.values())))


def _count_few(clips: Clips) -> int:
    """Return the number of clips that measure the damage of single layers."""
    lengths = np.cumsum([len(clip) for clip in clips[:_FEW]]) / SAMPLE_RATE
    return max(8, int((lengths <= _FEW_SECONDS).sum()))


def _predict_timed(runtime: Runtime, clips: Clips, spec: Spec) -> tuple[list[Prediction], float]:
    """Return predictions clip by clip, and seconds of audio per second of one core."""
    predict_clips(runtime, spec, clips[:1])
    start = time.process_time()
    predictions = [predict_clips(runtime, spec, [clip])[0] for clip in clips]
    return predictions, sum(map(len, clips)) / SAMPLE_RATE / (time.process_time() - start)


def _compute_pearson(
    first: Sequence[Prediction], second: Sequence[Prediction], spec: Spec
) -> dict[str, float]:
    columns = [np.stack([prediction.intensities for prediction in side]) for side in (first, second)]
    pearson = {name: _correlate(*(side[:, i] for side in columns)) for i, name in enumerate(spec.targets)}
    if spec.vad:
        frames = [
            np.concatenate([prediction.vad for prediction in side if prediction.vad is not None])
            for side in (first, second)
        ]
        pearson |= {name: _correlate(*(side[:, i] for side in frames)) for i, name in enumerate(VAD)}
    return pearson


def _correlate(a: NDArray[Any], b: NDArray[Any]) -> float:
    a, b = (side - side.mean(dtype=np.float64) for side in (a, b))
    length = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / length if length else 0.0


def calibrate(
    graph: onnx.ModelProto, layers: Sequence[Layer], clips: Clips, *, progress: bool = False
) -> tuple[dict[str, Scale], dict[Layer, int]]:
    """Compute the scales of every tensor that the layers need.

    Of several ranges, the one with the smallest squared error of rounding and clipping is taken.

    Args:
        graph: The float32 graph.
        layers: Those to quantize.
        clips: (sample,) each, prepared.
        progress: Show bars.

    Returns:
        Scale and zero point (value = scale * (uint8 - zero)) by tensor, and each layer's number of input rows.
    """
    names = sorted({name for layer in layers for name in layer.activations})
    if not names:
        return {}, {}
    open_graph = onnx.ModelProto()
    open_graph.CopyFrom(graph)
    open_graph.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    runtime = open_runtime("onnx", open_graph.SerializeToString())

    def iterate_activations(label: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
        for clip in show_progress(clips, label, total=len(clips), show=progress):
            yield from zip(
                names, runtime.run(names, make_feed(runtime, clip[None], [len(clip)])), strict=True
            )

    edges = dict.fromkeys(names, (0.0, 0.0))  # always contains zero, which padding needs exactly
    rows = dict.fromkeys(names, 0)
    for name, values in iterate_activations("ranges"):
        low, high = edges[name]
        edges[name] = (min(low, float(values.min())), max(high, float(values.max())))
        rows[name] += values.size // values.shape[-1]
    counts: dict[str, NDArray[Any]] = {name: np.zeros(_BINS) for name in names}
    for name, values in iterate_activations("histograms"):
        sampled = values.ravel()[:: values.size // _SAMPLED + 1]
        counts[name] += np.histogram(sampled, bins=_BINS, range=edges[name])[0]
    scales = {name: _find_scale(*edges[name], counts[name]) for name in names}
    return scales, {layer: rows[layer.activations[0]] for layer in layers}


def _find_scale(low: float, high: float, counts: NDArray[Any]) -> Scale:
    centers = low + (np.arange(_BINS) + 0.5) * (high - low) / _BINS
    candidates = []
    for fraction in np.linspace(0.2, 1.0, 81):
        step = max((high - low) * fraction / 255, 1e-12)
        zero = np.clip(np.round(-low * fraction / step), 0, 255)
        back = (np.clip(np.round(centers / step) + zero, 0, 255) - zero) * step
        candidates.append((float(np.dot(counts, np.square(back - centers))), step, zero))
    _, step, zero = min(candidates)
    return np.float32(step), np.uint8(zero)
