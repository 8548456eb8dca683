"""Export of a training run: an encoder and a head as graphs, verified before they are written."""

import contextlib
import json
import os
import secrets
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from emimic.calibration import FILE, Calibration
from emimic.files import (
    compute_sha256,
    fingerprint,
    make_folder,
    name_errors,
    read_json,
    walk,
    write_atomically,
)
from emimic.inference.description import PARTS
from emimic.inference.engine import (
    DESCRIPTION,
    ENGINES,
    SCHEMA,
    TOKENIZER,
    GraphEngine,
    Spec,
    get_spec,
    predict_clips,
)
from emimic.inference.runtimes import RUNTIMES, Name, Runtime, is_installed, open_runtime
from emimic.inference.spec import CHECK_TEXT, make_check_clip
from emimic.install import install
from emimic.media.decode import MEDIA_SUFFIXES
from emimic.model.inputs import Inputs, get_audio
from emimic.progress import show_progress
from emimic.task import SAMPLE_RATE, AudioError, ModelError
from emimic.version import __version__
from emimic.wording import pluralize

if TYPE_CHECKING:
    from emimic.export.calibrate import Quantization

LEAST: Final = 0.999
"""Minimum mean Pearson of int8 with float32 (at .9984, .785 on the labels became .780 with Whisper base)."""

TOLERANCE: Final = {"float32": 1e-4, "int8": 0.03}
"""Maximum difference of float32 from torch, and of the check clips' predictions on another machine from those at export
(in 8 bits a last bit can change a rounding)."""

LARGE: Final = 64 * 2**20
"""Minimum bytes of an int8 graph that is optimized at export, with weights in a separate file, mapped and not parsed;
and of a file that is identified by samples of it. (Smaller graphs stay smaller without optimization, by which ONNX
Runtime stores the 8-bit weights of float32 products in float32.)"""


@dataclass(frozen=True, slots=True)
class Report:
    """A report on an exported model.

    Attributes:
        folder: Where it was written.
        size: Bytes.
        difference: Largest difference of the float32 graph from torch.
        speed: Seconds of audio per second of one core.
        quantization: The effects of int8; None for float32.
    """

    folder: Path
    size: int
    difference: float
    speed: float
    quantization: "Quantization | None"

    def to_text(self) -> str:
        """Return the report as a few lines of text."""
        lines = [
            f"{self.folder}: {self.size / 1e6:.1f} MB, float32 graph within {self.difference:.1e} of torch, "
            f"{self.speed:.1f} s of audio a second and core"
        ]
        if (q := self.quantization) is not None:
            lines.append(
                f"int8 against float32 on {pluralize(q.measured, 'clip')} ({q.calibrated} others set the scales): "
                f"largest change {q.largest:.3f}, speed {q.speed / q.float_speed:.2f} x"
            )
            lines += [f"  {name:<16} r = {value:.5f}" for name, value in q.pearson.items()]
            lines.append(f"left in float32: {', '.join(q.left) or 'nothing'}")
        return "\n".join(lines)


def export(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    to: Name = "onnx",
    int8: bool = False,
    calibrate: str | os.PathLike[str] | None = None,
    min_pearson: float = LEAST,
    calibration: str | os.PathLike[str] | None = None,
    card: str | os.PathLike[str] | None = None,
    license_file: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Report:
    """Export a training run.

    Args:
        run: Folder of the training run.
        out: New or empty folder; None writes into the run, which is then predicted with it if it is float32.
        to: The runtime.
        int8: Quantize with scales from calibration clips; the most damaging products stay float32.
        calibrate: Folder of media files for `int8`.
        min_pearson: Minimum mean Pearson of int8 with float32, both before calibration, so that it holds for any.
        calibration: Folder of `emimic calibrate`; by default the run's own, which a model inside a run always uses.
        card: Text file that becomes README.md.
        license_file: Text file that becomes LICENSE.
        progress: Show bars.

    Raises:
        ModelError: The run can't be exported, the graph differs from torch, or too few clips could be read.
    """
    if int8 != (calibrate is not None):
        raise ModelError("int8 needs --calibrate FOLDER, a folder of recordings, and only int8 needs it")
    target = _choose_folder(run, out, f"{to}-int8" if int8 else to, calibration)
    model = _open_model(run, to)
    texts = {
        name: Path(file).read_text(encoding="utf-8")
        for name, file in (("README.md", card), ("LICENSE", license_file))
        if file is not None
    }
    spec = get_spec(model)
    if int8 and spec.text:
        raise ModelError(
            f"{run} takes words, and int8 is calibrated on recordings alone: export it without int8"
        )
    calibrated = _find_calibration(run, calibration, spec)
    with _make_beside(target) as folder:
        graph, difference = _write_float_graph(model, spec, to, folder, target)
        small, quantization = None, None
        if calibrate is not None:
            from emimic.export.calibrate import search

            clips = _read_clips(Path(calibrate), spec, progress=progress)
            small, quantization = search(
                graph.read_bytes(), clips, spec, min_pearson=min_pearson, form=to, progress=progress
            )
        with name_errors(target):
            optimized = _write_graphs(graph, small, folder, to, cuts=not model.branches)
        if calibrated is not None:
            calibrated.save(folder)
        words = _write_tokenizer(model, folder)
        description = {
            "schema": SCHEMA,
            "emimic": __version__,
            "runtime": to,
            "precision": "int8" if int8 else "float32",
            "optimized": optimized,
            **({} if model.branches else {"graphs": {part: part + RUNTIMES[to].suffix for part in PARTS}}),
            "spec": asdict(spec),
            **({} if words is None else {"words": words}),
            "files": {file.name: _hash_file(file) for file in sorted(folder.iterdir())},
            "weights": fingerprint(Path(run) / "model.safetensors"),
            "largest_difference_from_torch": difference,
            "quantization": None if quantization is None else asdict(quantization),
            "training": _read_training(Path(run)),
        }
        for name, text in texts.items():
            write_atomically(folder / name, text)
        speed = _describe(folder, description)
        GraphEngine(folder).check()
    size = sum(file.stat().st_size for file in target.iterdir())
    return Report(target, size, difference, speed, quantization)


def _write_tokenizer(model: Any, folder: Path) -> dict[str, Any] | None:
    """Write the tokenizer of a model with a text branch; return what the description says of words."""
    text = model.config.text
    if not text:
        return None
    write_atomically(folder / TOKENIZER, text["tokenizer"])
    return {name: text[name] for name in ("max_tokens", "transcriber", "language")}


def _open_model(run: str | os.PathLike[str], to: Name) -> Any:
    """Return the run's model, if everything that its export needs is installed."""
    try:
        import_module("emimic.export.calibrate")
        import_module("emimic.export.onnx_graph")
        from emimic.model.model import EmiModel
    except ModuleNotFoundError as error:
        raise ModelError(f"export needs {error.name}, which isn't installed: {install('train')}") from error
    if not is_installed(to):
        raise ModelError(
            f"a model for {to} needs {RUNTIMES[to].module}, which isn't installed: pip install {to}"
        )
    model = EmiModel.open_run(run, device="cpu")
    if not model.config.targets:
        raise ModelError(f"{run} predicts V/A/D only; an exported model needs targets: train with some")
    if "vision" in model.branches or not model.config.audio:
        raise ModelError(
            f"{run} takes images, or no voice, and an exported model takes a voice, with or without words: predict "
            "with the training run itself"
        )
    return model


def _write_float_graph(model: Any, spec: Spec, to: Name, folder: Path, target: Path) -> tuple[Path, float]:
    """Write a model's graph with folded constants; return its file, and its largest difference from torch."""
    from emimic.export.onnx_graph import to_onnx

    data, graph = to_onnx(model), folder / "plain.onnx"
    with name_errors(target):
        graph.write_bytes(data)
        _optimize(graph, folder / "model.onnx", level="basic")
        graph.unlink()
        (folder / "model.onnx").rename(graph)
    return graph, _verify(model, open_runtime(to, graph), spec)


def _choose_folder(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    name: str,
    calibration: str | os.PathLike[str] | None,
) -> Path:
    """Return the new folder to write, by default inside the run."""
    if out is None and calibration is not None:
        raise ModelError(
            "a model inside a run uses the run's calibration: give --out with --calibration, or run emimic calibrate"
        )
    target = Path(run) / ENGINES / name if out is None else Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{target} exists already; give a new folder, or remove it first")
    return target


def _find_calibration(
    run: str | os.PathLike[str], folder: str | os.PathLike[str] | None, spec: Spec
) -> Calibration | None:
    """Return the calibration in a folder, by default the run's own, if it has one."""
    if folder is None:
        return Calibration.find_in_run(run, spec.targets)
    calibration = Calibration.find(folder, spec.targets)
    if calibration is None:
        raise ModelError(
            f"{folder} has no {FILE}; expected a folder that emimic calibrate wrote: give another"
        )
    return calibration


@contextlib.contextmanager
def _make_beside(target: Path) -> Iterator[Path]:
    """Yield a new folder that becomes `target` if the block succeeds, else it is removed."""
    make_folder(target.parent)
    folder = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    folder.mkdir()
    try:
        yield folder
        if target.exists():
            target.rmdir()  # empty, as `_choose_folder` ensured
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _optimize(graph: Path, out: Path, *, level: Literal["basic", "extended"]) -> None:
    """Write a graph as ONNX Runtime optimizes it.

    Args:
        graph: The graph's file.
        out: File to write.
        level: basic folds constants and keeps standard operators; extended fuses operators of ONNX Runtime's own and
            stores large weights in a separate file.
    """
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (
        levels.ORT_ENABLE_BASIC if level == "basic" else levels.ORT_ENABLE_EXTENDED
    )
    options.optimized_model_filepath = str(out)
    options.log_severity_level = 4
    if level == "extended":
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{out.stem}.weights"
        )
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", "1024"
        )
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _write_graphs(graph: Path, small: bytes | None, folder: Path, to: Name, *, cuts: bool) -> bool:
    """Replace the graph's file by the files that the runtime opens; return whether they are optimized.

    Args:
        graph: The float32 graph's file.
        small: The int8 graph, to write in its place.
        folder: Where to write.
        to: The runtime.
        cuts: Write an encoder and a head; else one graph.
    """
    import onnx

    from emimic.export.two_graphs import cut, drop_unused_opsets

    optimized = to == "onnx" and len(small or b"") >= LARGE
    whole = onnx.load(graph) if small is None else onnx.load_from_string(small)
    graph.unlink()
    parts = dict(zip(PARTS, cut(whole), strict=True)) if cuts else {"model": drop_unused_opsets(whole)}
    for name, part in parts.items():
        file = folder / f"{name}.onnx"
        if to == "onnx" and not optimized:
            onnx.save(part, file)
            continue
        plain = folder / f"{name}.plain.onnx"
        onnx.save(part, plain)
        if to == "openvino":
            import openvino

            model = openvino.Core().read_model(plain)
            openvino.save_model(model, file.with_suffix(".xml"), compress_to_fp16=False)
        else:
            _optimize(plain, file, level="extended")
        plain.unlink()
    return optimized


def _hash_file(file: Path) -> dict[str, str]:
    hashes = {"sha256": compute_sha256(file)}
    return hashes | {"fingerprint": fingerprint(file)} if file.stat().st_size >= LARGE else hashes


def _describe(folder: Path, description: dict[str, Any]) -> float:
    """Write the description with check clips and their uncalibrated predictions; return the speed."""
    precision = str(description["precision"])
    file = folder / DESCRIPTION
    write_atomically(file, json.dumps(description | {"checks": {}}))
    engine = GraphEngine(folder, threads=1)
    clips = [engine.make_check_clip(samples) for samples in _list_lengths(engine.spec)]
    predictions = [engine.predict_raw([clip])[0] for clip in clips]
    checks = [
        {
            "samples": len(get_audio(clip)),
            "intensities": [round(float(value), 7) for value in prediction.intensities],
        }
        for clip, prediction in zip(clips, predictions, strict=True)
    ]
    durations = []
    for _ in range(3):
        start = time.process_time()
        engine.predict(clips[-1:])
        durations.append(time.process_time() - start)
    speed = len(get_audio(clips[-1])) / SAMPLE_RATE / max(statistics.median(durations), 1e-9)
    complete = description | {
        "speed": round(speed, 2),
        "checks": {"tolerance": TOLERANCE[precision], "clips": checks},
    }
    write_atomically(file, json.dumps(complete, indent=1) + "\n")
    return speed


def _list_lengths(spec: Spec) -> list[int]:
    """Return the samples of the shortest clip, an odd one, and the longest."""
    longest = round(spec.max_seconds * SAMPLE_RATE)
    return [spec.min_samples, min(max(spec.min_samples, 20_011), longest), longest]


def _verify(model: Any, runtime: Runtime, spec: Spec) -> float:
    """Return the largest difference from torch at three lengths, each alone and in a batch."""
    clips: list[Any] = [make_check_clip(spec, samples) for samples in _list_lengths(spec)]
    if spec.text:
        # Without words, with few, and with more tokens than the graph was traced with.
        texts = (None, CHECK_TEXT, " ".join([CHECK_TEXT] * 4))
        tokenize = model.branches["text"].tokenize
        clips = [Inputs(clip, {"text": tokenize(text)}) for clip, text in zip(clips, texts, strict=True)]
    references = [model.predict([clip])[0] for clip in clips]
    # If padding is not allowed, `predict_clips` makes pairs of equal length instead.
    together = predict_clips(runtime, spec, [*clips, *clips], batch_seconds=1e9)
    alone = [predict_clips(runtime, spec, [clip])[0] for clip in clips]
    largest = 0.0
    for reference, exported in zip(references * 3, together + alone, strict=True):
        largest = max(largest, _subtract(reference.intensities, exported.intensities))
        if spec.vad:
            largest = max(largest, _subtract(reference.vad, exported.vad))
    if not largest <= TOLERANCE["float32"]:
        raise ModelError(
            f"the exported {model.config.encoder_config.model_type} graph differs from torch by {largest:.2g}, at most "
            f"{TOLERANCE['float32']:g} is allowed: nothing was written. Use the run itself, and report this"
        )
    return largest


def _subtract(first: Any, second: Any) -> float:
    """Return the largest absolute difference of two arrays; infinity if their shapes differ."""
    return float(np.abs(first - second).max()) if first.shape == second.shape else float("inf")


def _read_clips(folder: Path, spec: Spec, *, progress: bool) -> list[NDArray[np.float32]]:
    """Return every media file in a folder, recursively, prepared; unreadable and hidden files are skipped."""
    files = sorted(path for path in walk(folder, []) if path.suffix.lower() in MEDIA_SUFFIXES)
    clips = []
    for file in show_progress(files, "reading", total=len(files), show=progress):
        with contextlib.suppress(AudioError):
            clips.append(spec.load(file, notes=[]))
    return clips


def _read_training(run: Path) -> Any:
    """Return the run's train.json, with the last part of paths only, as the rest is private; None without it."""
    try:
        return _strip_paths(read_json(run / "train.json"))
    except (OSError, ValueError):
        return None


def _strip_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strip_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_strip_paths(inner) for inner in value]
    if isinstance(value, str) and (value.startswith(("~", ".")) or Path(value).is_absolute()):
        return Path(value).name
    return value
