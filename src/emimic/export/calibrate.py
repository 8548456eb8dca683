"""Which products of a graph run in int8: scales from calibration clips, damage measured on others (see rewrite.py)."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from emimic.export.int8_graph import Layer, Scale, layers, quantize
from emimic.inference.engine import Spec, predict_clips
from emimic.inference.runtimes import Feed, Name, Runtime, open_runtime
from emimic.prediction import Prediction
from emimic.progress import shown
from emimic.task import SAMPLE_RATE, VAD, ModelError

HELD_OUT: Final = 3
"""Every third calibration clip measures the damage instead of setting scales."""

_ALONE: Final = 32  # clips that tell which layer does most damage, and
_ALONE_SECONDS: Final = 60.0  # their length at most, eight clips or more
_BINS: Final = 4096
_SEEN: Final = 1 << 18  # values of a tensor that one clip adds to its histogram

Clips = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What int8 changed on clips that set no scales, against float32.

    pearson: by target, and by VAD dimension over all frames. largest: the largest change of an intensity.
    calibrated, measured: clips. left: products left in float32. speed, float_speed: seconds of audio heard in a second
    of one core, clip by clip.
    """

    pearson: dict[str, float]
    largest: float
    calibrated: int
    measured: int
    left: tuple[str, ...]
    speed: float
    float_speed: float


def search(
    graph: bytes, clips: Clips, spec: Spec, *, least: float, form: Name = "onnx", progress: bool = False
) -> tuple[bytes, Quantisation]:
    """The int8 graph with the fewest products left in float32 whose answers keep a mean Pearson of `least`.

    clips: (sample,) each, prepared. All layers are quantized; if that costs too much, those that do most damage alone
    for the arithmetic they save are left out, as many as it takes. Raises ModelError when there are too few clips or
    nothing reaches `least`.
    """
    held, seen = clips[::HELD_OUT], [clip for i, clip in enumerate(clips) if i % HELD_OUT]
    if len(held) < 8:
        raise ModelError(
            f"{len(clips)} calibration clips could be read, expected {8 * HELD_OUT} or more: give a larger folder"
        )
    whole = onnx.load_from_string(graph)
    found = layers(whole, form)
    scales, rows = calibrate(whole, found, seen, progress=progress)
    true, float_speed = _heard(open_runtime(form, graph), held, spec)

    def measure(chosen: Sequence[Layer], most: int | None = None) -> tuple[bytes, Quantisation]:
        small = quantize(whole, chosen, scales, form).SerializeToString()
        answers, speed = _heard(open_runtime(form, small), held[:most], spec)
        kept = true[: len(answers)]
        largest = max(
            float(np.abs(a.intensities - b.intensities).max()) for a, b in zip(answers, kept, strict=True)
        )
        left = tuple(layer.name for layer in found if layer not in chosen)
        pearson = _pearson(answers, kept, spec)
        return small, Quantisation(pearson, largest, len(seen), len(held), left, speed, float_speed)

    best = measure(found)
    if _mean(best[1]) >= least:
        return best
    alone = shown(found, "measuring layers", total=len(found), show=progress)
    few = _few(held)
    damage = {layer: (1.0 - _mean(measure([layer], few)[1])) / (layer.size * rows[layer]) for layer in alone}
    order = sorted(found, key=lambda layer: -damage[layer])
    low, high = 1, len(order)  # how many to leave out: `low - 1` are too few
    best = measure([])
    while low < high:
        count = (low + high) // 2
        tried = measure([layer for layer in found if layer not in order[:count]])
        if _mean(tried[1]) >= least:
            best, high = tried, count
        else:
            low = count + 1
    if _mean(best[1]) < least:
        raise ModelError(
            f"int8 weights alone bring the mean Pearson with float32 to {_mean(best[1]):.4f}, "
            f"under {least}: export in float32, or lower the limit"
        )
    return best


def _mean(report: Quantisation) -> float:
    return float(np.mean(list(report.pearson.values())))


def _few(clips: Clips) -> int:
    """How many clips tell the damage of a layer."""
    lengths = np.cumsum([len(clip) for clip in clips[:_ALONE]]) / SAMPLE_RATE
    return max(8, int((lengths <= _ALONE_SECONDS).sum()))


def _heard(runs: Runtime, clips: Clips, spec: Spec) -> tuple[list[Prediction], float]:
    """Results clip by clip, and seconds of audio heard in a second of one core."""
    predict_clips(runs, spec, clips[:1])
    start = time.process_time()
    answers = [predict_clips(runs, spec, [clip])[0] for clip in clips]
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


def calibrate(
    graph: onnx.ModelProto, found: Sequence[Layer], clips: Clips, *, progress: bool = False
) -> tuple[dict[str, Scale], dict[Layer, int]]:
    """Scale and zero point (value = scale * (uint8 - zero)) of every tensor that the layers need: of the ranges tried,
    the one that rounds and clips what was seen with the least squared error. And how many rows each layer saw."""
    names = sorted({name for layer in found for name in layer.activations})
    if not names:
        return {}, {}
    open_graph = onnx.ModelProto()
    open_graph.CopyFrom(graph)
    open_graph.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    runs = open_runtime("onnx", open_graph.SerializeToString())

    def activations(label: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
        for clip in shown(clips, label, total=len(clips), show=progress):
            feed: Feed = {"samples": clip[None], "lengths": np.array([len(clip)], dtype=np.int64)}
            yield from zip(names, runs.run(names, feed), strict=True)

    edges = dict.fromkeys(names, (0.0, 0.0))  # zero is always within, as padding needs it exact
    rows = dict.fromkeys(names, 0)
    for name, values in activations("ranges"):
        low, high = edges[name]
        edges[name] = (min(low, float(values.min())), max(high, float(values.max())))
        rows[name] += values.size // values.shape[-1]
    counts: dict[str, NDArray[Any]] = {name: np.zeros(_BINS) for name in names}
    for name, values in activations("histograms"):
        some = values.ravel()[:: values.size // _SEEN + 1]
        counts[name] += np.histogram(some, bins=_BINS, range=edges[name])[0]
    scales = {name: _best_scale(*edges[name], counts[name]) for name in names}
    return scales, {layer: rows[layer.activations[0]] for layer in found}


def _best_scale(low: float, high: float, counts: NDArray[Any]) -> Scale:
    centers = low + (np.arange(_BINS) + 0.5) * (high - low) / _BINS
    tried = []
    for share in np.linspace(0.2, 1.0, 81):
        step = max((high - low) * share / 255, 1e-12)
        zero = np.clip(np.round(-low * share / step), 0, 255)
        back = (np.clip(np.round(centers / step) + zero, 0, 255) - zero) * step
        tried.append((float(np.dot(counts, np.square(back - centers))), step, zero))
    _, step, zero = min(tried)
    return np.float32(step), np.uint8(zero)
