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
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.calibration import FILE, Calibration
from emimic.export.graph_files import hash_file, optimize, write_graphs
from emimic.export.verify import TOLERANCE, list_lengths, verify
from emimic.files import (
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
)
from emimic.inference.runtimes import RUNTIMES, Name, is_installed, open_runtime
from emimic.install import install
from emimic.media.decode import MEDIA_SUFFIXES
from emimic.model.inputs import get_audio
from emimic.progress import show_progress
from emimic.task import SAMPLE_RATE, AudioError, ModelError
from emimic.version import __version__
from emimic.wording import pluralize

if TYPE_CHECKING:
    from emimic.export.calibrate import Quantization

LEAST: Final = 0.999
"""Minimum mean Pearson of int8 with float32 (at .9984, .785 on the labels became .780 with Whisper base)."""


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
            optimized = write_graphs(graph, small, folder, to, cuts=not model.branches)
        if calibrated is not None:
            calibrated.save(folder)
        words = _write_tokenizer(model, folder)
        parts = {} if model.branches else {"graphs": {part: part + RUNTIMES[to].suffix for part in PARTS}}
        description = {
            "runtime": to,
            "precision": "int8" if int8 else "float32",
            "optimized": optimized,
            **parts,
            "spec": asdict(spec),
            **({} if words is None else {"words": words}),
            "largest_difference_from_torch": difference,
            "quantization": None if quantization is None else asdict(quantization),
            **_describe_origin(Path(run), folder),
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


def _describe_origin(run: Path, folder: Path) -> dict[str, Any]:
    """Return what the description says of the run, and of the files in the folder so far."""
    return {
        "schema": SCHEMA,
        "emimic": __version__,
        "files": {file.name: hash_file(file) for file in sorted(folder.iterdir())},
        "weights": fingerprint(run / "model.safetensors"),
        "training": _read_training(run),
    }


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
        optimize(graph, folder / "model.onnx", level="basic")
        graph.unlink()
        (folder / "model.onnx").rename(graph)
    return graph, verify(model, open_runtime(to, graph), spec)


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


def _describe(folder: Path, description: dict[str, Any]) -> float:
    """Write the description with check clips and their uncalibrated predictions; return the speed."""
    precision = str(description["precision"])
    file = folder / DESCRIPTION
    write_atomically(file, json.dumps(description | {"checks": {}}))
    engine = GraphEngine(folder, threads=1)
    clips = [engine.make_check_clip(samples) for samples in list_lengths(engine.spec)]
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
