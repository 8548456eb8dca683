"""A fake engine and synthetic voices for tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import soundfile
from onnx import TensorProto, helper

from emimic import files
from emimic.inference import engine
from emimic.inference.engine import Spec
from emimic.prediction import Prediction
from emimic.task import EMOTIONS

Array = np.ndarray[Any, Any]


class Fake:
    """An engine that predicts loudness, length and brightness of a clip, and stores the clips."""

    def __init__(self, *, vad: bool = True, do_normalize: bool = False, max_seconds: float = 12.0) -> None:
        self.spec = Spec(
            targets=EMOTIONS,
            max_seconds=max_seconds,
            do_normalize=do_normalize,
            min_samples=400,
            hop=320,
            first=200.0,
            vad=vad,
        )
        self.clips: list[Array] = []

    def predict(self, clips: Sequence[Array], *, batch_seconds: float = 60.0) -> list[Prediction]:
        self.clips += [np.array(clip) for clip in clips]
        return [self.result(clip) for clip in clips]

    def result(self, clip: Array) -> Prediction:
        assert clip.dtype == np.float32
        assert self.spec.min_samples <= len(clip) <= self.spec.max_seconds * 16_000
        wave = clip.astype(np.float64)
        level, bright = np.sqrt(np.mean(wave**2)), np.abs(np.diff(wave)).mean()
        values = [
            level,
            bright,
            wave.mean(),
            wave[: len(wave) // 2].std(),
            np.abs(wave).max(),
            len(wave) / 2e5,
        ]
        frames = (len(clip) - 400) // 320 + 1
        times = (200 + 320 * np.arange(frames)) / 16_000
        vad = np.stack(
            [[np.abs(wave[320 * f : 320 * f + 400]).mean() * k for k in (1, 2, -1)] for f in range(frames)]
        )
        return Prediction(
            np.array(values, np.float32), vad.astype(np.float32) if self.spec.vad else None, times
        )


def burst(seconds: float = 1.0, *, seed: int = 0, level: float = 0.3) -> Array:
    """Return a sound like a laugh: a harmonic tone of 220 Hz in five bursts a second, (sample,) float32."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    tone = sum(np.sin(2 * np.pi * 220 * h * time + h + seed) / h for h in range(1, 9))
    wave = level * tone * np.clip(np.sin(2 * np.pi * 5 * time), 0, None)
    return np.asarray(wave, np.float32)


def write_bursts(folder: Path, seconds: Sequence[float]) -> Path:
    """Write `0.wav` and so on, a burst of each length in seconds, into a new folder, and return it."""
    folder.mkdir()
    for number, length in enumerate(seconds):
        soundfile.write(folder / f"{number}.wav", burst(length, seed=number), 16_000)
    return folder


def hush(seconds: float, *, level: float = 0.001, seed: int = 0) -> Array:
    """Return the hiss of a quiet room (-60 dB)."""
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * 16_000))).astype(np.float32)


def recording(*parts: tuple[str, float], level: float = 0.001) -> Array:
    """Return parts ("burst" or "hush", seconds) joined, with a room's hiss."""
    wave = np.concatenate(
        [burst(s) if kind == "burst" else np.zeros(round(s * 16_000), np.float32) for kind, s in parts]
    )
    return wave + hush(len(wave) / 16_000, level=level)


def constant_engine(folder: Path) -> Path:
    """Write an exported model whose graph predicts 0.5 six times, and one frame, for any clip."""
    inputs = [
        helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", "sample"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
    ]
    outputs = [
        helper.make_tensor_value_info("intensities", TensorProto.FLOAT, ["batch", 6]),
        helper.make_tensor_value_info("frames", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", 1, 1]),
        helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", 1]),
    ]
    nodes = [
        helper.make_node("Sign", ["lengths"], ["frames"]),
        helper.make_node("Cast", ["frames"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["ones", "last"], ["column"]),
        helper.make_node("MatMul", ["column", "halves"], ["intensities"]),
        helper.make_node("Identity", ["column"], ["pooled"]),
        helper.make_node("Unsqueeze", ["column", "last"], ["hidden"]),
    ]
    constants = [
        helper.make_tensor("halves", TensorProto.FLOAT, [1, 6], [0.5] * 6),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
    ]
    graph = helper.make_graph(nodes, "constant", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    spec = {"targets": EMOTIONS, "max_seconds": 12.0, "do_normalize": True, "min_samples": 400}
    spec |= {"hop": 320, "first": 200.0, "vad": False}
    checks = {"tolerance": 1e-4, "clips": [{"samples": 400, "intensities": [0.5] * 6}]}
    description = {"schema": engine.SCHEMA, "spec": spec, "runtime": "onnx", "precision": "float32"}
    description |= {
        "checks": checks,
        "files": {"model.onnx": {"sha256": files.compute_sha256(folder / "model.onnx")}},
    }
    (folder / "engine.json").write_text(json.dumps(description), encoding="utf-8")
    return folder
