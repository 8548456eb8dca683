"""A run becomes an engine folder: one ONNX graph from prepared samples to answers, verified before it is written."""

import contextlib
import json
import os
import secrets
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from emimic.calibration import FILE, Calibration
from emimic.files import fingerprint, make_folder, naming, read_json, sha256, walk, write_atomic
from emimic.inference.engine import (
    DESCRIPTION,
    ENGINES,
    SCHEMA,
    GraphEngine,
    Spec,
    check_clip,
    predict_clips,
    spec_of,
)
from emimic.inference.runtimes import RUNTIMES, Name, Runtime, installed, open_runtime
from emimic.install import install
from emimic.media import decode
from emimic.progress import shown
from emimic.task import SAMPLE_RATE, AudioError, ModelError
from emimic.version import __version__
from emimic.wording import plural

if TYPE_CHECKING:
    from emimic.export.calibrate import Quantisation

LEAST: Final = 0.999
"""Least mean Pearson of int8 answers with float32's (at .9984, .785 on the labels became .780 with Whisper base)."""

TOLERANCE: Final = {"float32": 1e-4, "int8": 0.03}
"""Most that float32 may differ from torch, and the check clips' answers on another machine from those at export (in
8 bits a last bit can tip a rounding)."""

LARGE: Final = 64 * 2**20
"""Bytes from which on an int8 graph is optimised beforehand, with its weights beside it, mapped and not parsed when it
is opened; and from which on a file is known again by samples of it. (A smaller one stays smaller as it is: ONNX Runtime
would bring its 8-bit weights of float32 products to float32.)"""


@dataclass(frozen=True, slots=True)
class Report:
    """An exported engine: its folder, its bytes, the largest difference of the float32 graph from torch, and the
    seconds of audio that a core hears in a second."""

    folder: Path
    size: int
    difference: float
    speed: float
    quantisation: "Quantisation | None"

    def table(self) -> str:
        """The report in a few lines of text."""
        lines = [
            f"{self.folder}: {self.size / 1e6:.1f} MB, float32 graph within {self.difference:.1e} of torch, "
            f"{self.speed:.1f} s of audio a second and core"
        ]
        if (q := self.quantisation) is not None:
            lines.append(
                f"int8 against float32 on {plural(q.measured, 'clip')} ({q.calibrated} others set the scales): "
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
    least: float = LEAST,
    calibration: str | os.PathLike[str] | None = None,
    card: str | os.PathLike[str] | None = None,
    licence: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Report:
    """Write the engine folder `out` (new or empty) from a run folder.

    out: None puts it into the run itself, which is then heard with it if it is float32. to: the runtime that shall run
    it. int8: quantize with scales from the media files in the folder `calibrate`; products that cost most stay
    float32 until the mean Pearson with float32 answers reaches `least`, both before calibration: the choice then holds
    for any. calibration: a folder of `emimic calibrate`; by default the run's own, if it has one, which an engine
    inside a run always uses. card, licence: text files that become
    README.md and LICENSE. Raises ModelError when the run can't be exported, the graph doesn't answer as torch does,
    or too few clips could be read.
    """
    if int8 != (calibrate is not None):
        raise ModelError("int8 needs --calibrate FOLDER, a folder of recordings, and only int8 needs it")
    if out is None and calibration is not None:
        raise ModelError(
            "an engine inside a run uses the run's calibration: give --out with --calibration, or run emimic calibrate"
        )
    target = Path(run) / ENGINES / (f"{to}-int8" if int8 else to) if out is None else Path(out)
    _check_new(target)
    try:
        from emimic.export import calibrate as quantize
        from emimic.export.onnx_graph import to_onnx
        from emimic.model.model import EmiModel
    except ModuleNotFoundError as error:
        raise ModelError(f"export needs {error.name}, which isn't installed: {install('train')}") from error
    if not installed(to):
        raise ModelError(
            f"an engine for {to} needs {RUNTIMES[to][0]}, which isn't installed: pip install {to}"
        )
    model = EmiModel.open_run(run, device="cpu")
    if not model.config.targets:
        raise ModelError(f"{run} answers VAD only; an engine needs targets: train with some")
    texts = {
        name: Path(file).read_text(encoding="utf-8")
        for name, file in (("README.md", card), ("LICENSE", licence))
        if file is not None
    }
    spec = spec_of(model)
    calibrated = _calibration(run, calibration, spec)
    with _beside(target) as folder:
        graph = folder / "plain.onnx"
        data = to_onnx(model)
        with naming(target):
            graph.write_bytes(data)
            _optimise(graph, folder / "model.onnx", level="basic")
        graph.unlink()
        graph = (folder / "model.onnx").rename(graph)
        difference = _verify(model, open_runtime(to, graph), spec)
        quantisation = None
        if calibrate is not None:
            clips = _read_clips(Path(calibrate), spec, progress=progress)
            small, quantisation = quantize.search(
                graph.read_bytes(), clips, spec, least=least, form=to, progress=progress
            )
            with naming(target):
                graph.write_bytes(small)
        optimised = int8 and to == "onnx" and graph.stat().st_size >= LARGE
        with naming(target):
            _finish(graph, folder, to, optimised=optimised)
        if calibrated is not None:
            calibrated.save(folder)
        description = {
            "schema": SCHEMA,
            "emimic": __version__,
            "runtime": to,
            "precision": "int8" if int8 else "float32",
            "optimised": optimised,
            "spec": asdict(spec),
            "files": {file.name: _identity(file) for file in sorted(folder.iterdir())},
            "weights": fingerprint(Path(run) / "model.safetensors"),
            "largest_difference_from_torch": difference,
            "quantisation": None if quantisation is None else asdict(quantisation),
            "training": _training(Path(run)),
        }
        for name, text in texts.items():
            write_atomic(folder / name, text)
        speed = _describe(folder, description)
        GraphEngine(folder).check()
    size = sum(file.stat().st_size for file in target.iterdir())
    return Report(target, size, difference, speed, quantisation)


def _check_new(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{target} exists already; give a new folder, or remove it first")


def _calibration(
    run: str | os.PathLike[str], given: str | os.PathLike[str] | None, spec: Spec
) -> Calibration | None:
    """The one in a folder, by default the run's own, if it has one."""
    if given is None:
        return Calibration.of_run(run, spec.targets)
    found = Calibration.find(given, spec.targets)
    if found is None:
        raise ModelError(
            f"{given} has no {FILE}; expected a folder that emimic calibrate wrote: give another"
        )
    return found


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new folder that becomes `target` when the block ends well, else it goes."""
    make_folder(target.parent)
    folder = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    folder.mkdir()
    try:
        yield folder
        if target.exists():
            target.rmdir()  # empty, as was seen before
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _optimise(graph: Path, out: Path, *, level: Literal["basic", "extended"]) -> None:
    """A graph's file as ONNX Runtime would run it. basic: constants are folded beforehand, and only standard operators
    stay; extended: with its own fused operators, and large weights beside the graph."""
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
            "session.optimized_model_external_initializers_file_name", "model.weights"
        )
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", "1024"
        )
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _finish(graph: Path, folder: Path, to: str, *, optimised: bool) -> None:
    """The graph's file (gone then) as the files that the runtime opens."""
    if to == "openvino":
        import openvino

        openvino.save_model(openvino.Core().read_model(graph), folder / "model.xml", compress_to_fp16=False)
        graph.unlink()
    elif optimised:
        _optimise(graph, folder / "model.onnx", level="extended")
        graph.unlink()
    else:
        import onnx

        model = onnx.load(graph)
        used = {node.domain for node in model.graph.node}
        kept = [one for one in model.opset_import if one.domain in used]
        del model.opset_import[:]
        model.opset_import.extend(kept)
        onnx.save(model, folder / "model.onnx")
        graph.unlink()


def _identity(file: Path) -> dict[str, str]:
    found = {"sha256": sha256(file)}
    return found | {"fingerprint": fingerprint(file)} if file.stat().st_size >= LARGE else found


def _describe(folder: Path, description: dict[str, Any]) -> float:
    """Write the description with what the engine answers before calibration and how fast it is, which it returns."""
    precision = str(description["precision"])
    file = folder / DESCRIPTION
    write_atomic(file, json.dumps(description | {"checks": {}}))
    engine = GraphEngine(folder, threads=1)
    clips = [check_clip(engine.spec, samples) for samples in _lengths(engine.spec)]
    answers = [engine.raw([clip])[0] for clip in clips]
    checks = [
        {"samples": len(clip), "intensities": [round(float(v), 7) for v in one.intensities]}
        for clip, one in zip(clips, answers, strict=True)
    ]
    taken = []
    for _ in range(3):
        start = time.process_time()
        engine.predict(clips[-1:])
        taken.append(time.process_time() - start)
    speed = len(clips[-1]) / SAMPLE_RATE / max(statistics.median(taken), 1e-9)
    whole = description | {
        "speed": round(speed, 2),
        "checks": {"tolerance": TOLERANCE[precision], "clips": checks},
    }
    write_atomic(file, json.dumps(whole, indent=1) + "\n")
    return speed


def _lengths(spec: Spec) -> list[int]:
    """The shortest clip, an odd one, and the longest, in samples."""
    most = round(spec.max_seconds * SAMPLE_RATE)
    return [spec.min_samples, min(max(spec.min_samples, 20_011), most), most]


def _verify(model: Any, runs: Runtime, spec: Spec) -> float:
    """The largest difference from torch at three lengths, each alone and together in a batch."""
    clips = [check_clip(spec, samples) for samples in _lengths(spec)]
    own = [model.predict([clip])[0] for clip in clips]
    # Where padding is not allowed, `predict_clips` makes pairs of equal length instead.
    together = predict_clips(runs, spec, [*clips, *clips], batch_seconds=1e9)
    alone = [predict_clips(runs, spec, [clip])[0] for clip in clips]
    largest = 0.0
    for ours, found in zip(own * 3, together + alone, strict=True):
        largest = max(largest, _apart(ours.intensities, found.intensities))
        if spec.vad:
            largest = max(largest, _apart(ours.vad, found.vad))
    if not largest <= TOLERANCE["float32"]:
        raise ModelError(
            f"the exported {model.config.encoder_config.model_type} graph differs from torch by {largest:.2g}, at most "
            f"{TOLERANCE['float32']:g} is allowed: nothing was written. Use the run itself, and report this"
        )
    return largest


def _apart(ours: Any, theirs: Any) -> float:
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")


def _read_clips(folder: Path, spec: Spec, *, progress: bool) -> list[NDArray[np.float32]]:
    """Every media file in a folder, in depth, prepared; what can't be read is left out, hidden files too."""
    files = sorted(path for path in walk(folder, []) if path.suffix.lower() in decode.MEDIA_SUFFIXES)
    clips = []
    for file in shown(files, "reading", total=len(files), show=progress):
        try:
            samples = decode.load(file, max_seconds=spec.max_seconds, notes=[])
            clip = decode.prepare(
                samples,
                max_seconds=spec.max_seconds,
                normalize=spec.do_normalize,
                min_samples=spec.min_samples,
            )
        except AudioError:
            continue
        clips.append(clip.samples)
    return clips


def _training(run: Path) -> Any:
    """What the run says of its own making; of folders the last name only, as the rest is nobody's concern."""
    try:
        found = read_json(run / "train.json")
    except (OSError, ValueError):
        return None
    return _names_only(found)


def _names_only(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _names_only(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_names_only(inner) for inner in value]
    if isinstance(value, str) and (value.startswith(("~", ".")) or Path(value).is_absolute()):
        return Path(value).name
    return value
