"""A run becomes an engine folder: one ONNX graph from prepared samples to answers, verified before it is written."""

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic import __version__, audio
from emimic.files import write_atomic
from emimic.progress import shown
from emimic.service.engine import (
    DESCRIPTION,
    GRAPH,
    SCHEMA,
    OnnxEngine,
    Spec,
    answer,
    check_clip,
    session,
    spec_of,
)
from emimic.task import SAMPLE_RATE, AudioError, ModelError

if TYPE_CHECKING:
    from emimic.service.quantise import Quantisation

LEAST: Final = 0.999
"""Least mean Pearson of int8 answers with float32's (at .9984, .785 on the labels became .780 with Whisper base)."""

TOLERANCE: Final = {"float32": 1e-4, "int8": 0.03}
"""Most that float32 may differ from torch, and the check clips' answers on another machine from those at export (in
8 bits a last bit can tip a rounding)."""


@dataclass(frozen=True, slots=True)
class Report:
    """An exported engine: its folder, its bytes, the largest difference of the float32 graph from torch."""

    folder: Path
    size: int
    difference: float
    quantisation: "Quantisation | None"

    def table(self) -> str:
        """The report in a few lines of text."""
        lines = [
            f"{self.folder}: {self.size / 1e6:.1f} MB, float32 graph within {self.difference:.1e} of torch"
        ]
        if (q := self.quantisation) is not None:
            lines.append(
                f"int8 against float32 on {q.measured} clips ({q.calibrated} others set the scales): "
                f"largest change {q.largest:.3f}, speed {q.speed / q.float_speed:.2f} x"
            )
            lines += [f"  {name:<16} r = {value:.5f}" for name, value in q.pearson.items()]
            lines.append(f"left in float32: {', '.join(q.left) or 'nothing'}")
        return "\n".join(lines)


def export(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    int8: bool = False,
    calibrate: str | os.PathLike[str] | None = None,
    least: float = LEAST,
    card: str | os.PathLike[str] | None = None,
    licence: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Report:
    """Write the engine folder `out` (new or empty) from a run folder.

    int8: quantise with scales from the media files in the folder `calibrate`; matrix products that cost most stay
    float32 until the mean Pearson with float32 answers reaches `least`. card, licence: text files that become
    README.md and LICENSE. Raises ModelError when the run can't be exported, the graph doesn't answer as torch does,
    or too few clips could be read.
    """
    if int8 != (calibrate is not None):
        raise ModelError("int8 needs --calibrate FOLDER, a folder of recordings, and only int8 needs it")
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{target} exists already; give a new folder, or remove it first")
    try:
        from emimic.graph import to_onnx
        from emimic.model import EmiModel
        from emimic.service import quantise
    except ModuleNotFoundError as error:
        raise ModelError(
            f"export needs {error.name}, which isn't installed: pip install 'emimic[study]'"
        ) from error
    model = EmiModel.open_run(run, device="cpu")
    if not model.config.targets:
        raise ModelError(f"{run} answers VAD only; an engine needs targets: train with some")
    spec = spec_of(model)
    graph = _optimised(to_onnx(model))
    difference = _verify(model, graph, spec)
    quantisation = None
    if calibrate is not None:
        clips = _read_clips(Path(calibrate), spec, progress=progress)
        graph, quantisation = quantise.search(graph, clips, spec, least=least, progress=progress)
    precision = "int8" if int8 else "float32"
    description = {
        "schema": SCHEMA,
        "emimic": __version__,
        "precision": precision,
        "spec": asdict(spec),
        "sha256": hashlib.sha256(graph).hexdigest(),
        "checks": _checks(graph, spec, TOLERANCE[precision]),
        "largest_difference_from_torch": difference,
        "quantisation": None if quantisation is None else asdict(quantisation),
        "training": _training(Path(run)),
    }
    texts = {
        name: Path(file).read_text(encoding="utf-8")
        for name, file in (("README.md", card), ("LICENSE", licence))
        if file is not None
    }
    size = _write(target, graph, description, texts)
    return Report(target, size, difference, quantisation)


def _optimised(graph: bytes) -> bytes:
    """Constants folded beforehand, by ONNX Runtime; only standard operators stay."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / GRAPH
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(file)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        model = onnx.load(file)
    used = {node.domain for node in model.graph.node}
    kept = [one for one in model.opset_import if one.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    small: bytes = model.SerializeToString()
    return small


def _lengths(spec: Spec) -> list[int]:
    """The shortest clip, an odd one, and the longest, in samples."""
    most = round(spec.max_seconds * SAMPLE_RATE)
    return [spec.min_samples, min(max(spec.min_samples, 20_011), most), most]


def _verify(model: Any, graph: bytes, spec: Spec) -> float:
    """The largest difference from torch at three lengths, each alone and together in a batch."""
    clips = [check_clip(spec, samples) for samples in _lengths(spec)]
    own = [model.predict([clip])[0] for clip in clips]
    runs = session(graph)
    # Where padding is not allowed, `answer` makes pairs of equal length instead.
    together = answer(runs, spec, [*clips, *clips], batch_seconds=1e9)
    alone = [answer(runs, spec, [clip])[0] for clip in clips]
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


def _checks(graph: bytes, spec: Spec, tolerance: float) -> dict[str, Any]:
    """What `OnnxEngine.check` compares with later."""
    runs = session(graph)
    clips = []
    for samples in _lengths(spec):
        (one,) = answer(runs, spec, [check_clip(spec, samples)])
        clips.append({"samples": samples, "intensities": [round(float(v), 7) for v in one.intensities]})
    return {"tolerance": tolerance, "clips": clips}


def _read_clips(folder: Path, spec: Spec, *, progress: bool) -> list[NDArray[np.float32]]:
    """Every media file in a folder, in depth, prepared; what can't be read is left out."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in audio.MEDIA_SUFFIXES)
    clips = []
    for file in shown(files, "reading", total=len(files), show=progress):
        try:
            samples = audio.load(file, max_seconds=spec.max_seconds)
            clip = audio.prepare(
                samples,
                max_seconds=spec.max_seconds,
                normalise=spec.do_normalize,
                min_samples=spec.min_samples,
            )
        except AudioError:
            continue
        clips.append(clip.samples)
    return clips


def _training(run: Path) -> Any:
    """What the run says of its own making; of folders the last name only, as the rest is nobody's concern."""
    try:
        found = json.loads((run / "train.json").read_text(encoding="utf-8"))
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


def _write(target: Path, graph: bytes, description: dict[str, Any], texts: dict[str, str]) -> int:
    """The folder, whole or not at all; opened and checked before it gets its name. Returns its bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    folder.mkdir()
    try:
        write_atomic(folder / GRAPH, graph)
        write_atomic(folder / DESCRIPTION, json.dumps(description, indent=1) + "\n")
        for name, text in texts.items():
            write_atomic(folder / name, text)
        OnnxEngine(folder).check()
        if target.exists():
            target.rmdir()  # empty, as was seen before
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return sum(file.stat().st_size for file in target.iterdir())
