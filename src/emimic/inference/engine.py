"""What runs a finished model: one protocol; a graph on ONNX Runtime or OpenVINO, or torch for a run not exported."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from emimic import batching
from emimic.calibration import FILE, Calibration, finished
from emimic.cpus import available, cores
from emimic.files import fingerprint, read_json, sha256
from emimic.inference.runtimes import RUNTIMES, Name, Runtime, installed, open_runtime
from emimic.install import install
from emimic.media.waveform import prepare
from emimic.prediction import Prediction
from emimic.task import SAMPLE_RATE, ModelError

SCHEMA: Final = "emimic/engine/1"
DESCRIPTION: Final = "engine.json"
DEFAULT: Final = Path(__file__).parent.parent / "default"
ENGINES: Final = "engines"
"""Folder inside a run for the engines exported from it."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What an engine needs of a clip and what it results.

    targets: names of the intensities. max_seconds: clips are cut to this length. do_normalize: then brought to zero
    mean and unit variance. min_samples: shorter clips are padded on the right to it. hop, first: samples from a frame
    to the next, and to the center of the first. vad: whether it results VAD. exact_under_padding: False when only
    clips of equal length may share a batch.
    """

    targets: tuple[str, ...]
    max_seconds: float
    do_normalize: bool
    min_samples: int
    hop: int
    first: float
    vad: bool
    exact_under_padding: bool = True


class Engine(Protocol):
    """A finished model. Clips are prepared as `spec` says: (sample,) float32 at 16 kHz each."""

    spec: Spec

    def predict(
        self, clips: Sequence[NDArray[Any]], *, batch_seconds: float = 30.0, hidden: bool = False
    ) -> list[Prediction]:
        """One Prediction a clip, in the same order; padding and company in a batch change nothing.

        hidden: also the encoder's last hidden states. Raises ModelError when a clip is too short or too long, a result
        is NaN or infinite (damaged weights).
        """
        ...


def default_model() -> Path:
    """The engine folder inside the package. Raises ModelError when this build has none."""
    if not (DEFAULT / DESCRIPTION).is_file():
        raise ModelError(f"this build of emimic carries no model ({DEFAULT}): give one with --model FOLDER")
    return DEFAULT


def open_engine(
    folder: str | os.PathLike[str],
    *,
    device: str | None = None,
    threads: int | None = None,
    streams: int = 1,
) -> Engine:
    """A finished model's folder, ready to result: one written by `emimic export`, or a run of `emimic train`.

    A run is heard with the quickest float32 engine exported into it (`emimic export RUN`), else with torch. device: for
    a run, as torch names it (None takes a GPU where there is one); an engine folder knows only "cpu". threads: None
    takes as many as there are cores. streams: into how many parallel runs they are divided, which is quicker for many
    clips and slower for one; torch takes no notice. Raises ModelError when the folder or a number can't
    be used.
    """
    _check_number("threads", threads)
    _check_number("streams", streams)
    place = Path(folder)
    check_model(place)
    if (place / DESCRIPTION).exists():
        if device not in (None, "cpu"):
            raise ModelError(
                f"{place} is an engine folder, which runs on the cpu; found device {device!r}: leave it out"
            )
        return GraphEngine(place, threads=threads, streams=streams)
    inside = None if device else quickest(place)
    if inside is not None:
        return GraphEngine(inside, threads=threads, streams=streams, run=place)
    return TorchEngine(place, device=device, threads=threads)


def check_model(place: Path) -> None:
    """Raise ModelError where a path is no model's folder; nothing is opened, so that no extra is needed."""
    if not place.exists():
        raise ModelError(
            f"there is no folder {place}; expected one written by `emimic export` or `emimic train`"
        )
    if not place.is_dir():
        raise ModelError(f"{place} is a file; give the folder of an engine or a run")
    if not any((place / name).exists() for name in (DESCRIPTION, "config.json")):
        raise ModelError(
            f"{place} is no model: it has neither {DESCRIPTION} (an engine, written by `emimic export`) nor "
            "config.json (a run, written by `emimic train`). Give the folder of one of them"
        )


def _check_number(name: str, value: object) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0
    if not (whole or value is None):
        raise ModelError(
            f"{name} is {value!r}, expected a whole number of 1 or more. Give one, or leave it out"
        )


def quickest(run: Path) -> Path | None:
    """The float32 engine exported into a run that was quickest at export, of those that can be opened here and are of
    the run's present weights; None without any."""
    found = []
    for file in run.glob(f"{ENGINES}/[!.]*/{DESCRIPTION}"):  # hidden: of an export that was killed
        description = read_description(file.parent)
        same = description.get("weights") == fingerprint(run / "model.safetensors")
        if same and description.get("precision") == "float32" and installed(description.get("runtime")):
            found.append((description.get("speed") or 0.0, file.parent))
    return max(found)[1] if found else None


class TorchEngine:
    """A run folder on torch; see `open_engine`."""

    def __init__(
        self, folder: str | os.PathLike[str], *, device: str | None = None, threads: int | None = None
    ) -> None:
        try:
            import torch

            from emimic.model.model import EmiModel
        except ModuleNotFoundError as error:
            raise ModelError(
                f"{folder} is a run, which needs torch ({error.name} isn't installed): {install('train')}, "
                "or export it where that is installed (emimic export)"
            ) from error
        torch.set_num_threads(min(torch.get_num_threads(), available()) if threads is None else threads)
        self.model = EmiModel.open_run(folder, device=device)
        self.spec = spec_of(self.model)
        self.calibration = Calibration.of_run(folder, self.spec.targets)

    def predict(
        self, clips: Sequence[NDArray[Any]], *, batch_seconds: float = 30.0, hidden: bool = False
    ) -> list[Prediction]:
        """See `Engine.predict`."""
        results = self.model.predict(clips, batch_seconds=batch_seconds, hidden=hidden)
        for result in results:
            _check_finite(result, "the run")
        return finished(results, self.calibration)


def spec_of(model: Any) -> Spec:
    """What an EmiModel needs and results."""
    config = model.config
    first, second = model.frame_times(2) * SAMPLE_RATE
    return Spec(
        targets=tuple(config.targets),
        max_seconds=float(config.max_seconds),
        do_normalize=bool(config.do_normalize),
        min_samples=model.min_samples,
        hop=round(second - first),
        first=float(first),
        vad=config.predicts_vad,
        exact_under_padding=model.exact_under_padding,
    )


class GraphEngine:
    """An engine folder, on the runtime it was exported for; needs neither torch nor transformers. See `open_engine`.

    The graph takes samples (batch, sample) float32 and lengths (batch,) int64, and gives intensities (batch, target),
    frames (batch,) int64, hidden (batch, frame, feature), pooled (batch, 2 * feature) and, when VAD has
    been learned, vad (batch, frame, 3).

    run: the run that the engine lies in, whose calibration is then used; by default the engine's own, if it has one.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        threads: int | None = None,
        streams: int = 1,
        run: Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.description = read_description(self.folder)
        self.spec = _read_spec(self.description, self.folder / DESCRIPTION)
        self.runtime: Name = self.description.get("runtime")
        if self.runtime not in RUNTIMES:
            raise ModelError(
                f"{self.folder} is for the runtime {self.runtime!r}; expected one of {', '.join(RUNTIMES)}: "
                "export it again"
            )
        _check_files(self.folder, self.description)
        graph = self.folder / RUNTIMES[self.runtime][1]
        self._graph = open_runtime(
            self.runtime,
            graph,
            threads=cores() if threads is None else threads,
            streams=streams,
            optimised=bool(self.description.get("optimised")),
        )
        if run is not None:
            self.calibration = Calibration.of_run(run, self.spec.targets)
        else:
            known = FILE in self.description.get("files", {})
            self.calibration = Calibration.find(self.folder, self.spec.targets) if known else None
        wanted = {"intensities", "frames", "hidden", "pooled", *(["vad"] if self.spec.vad else [])}
        if missing := wanted - self._graph.outputs:
            raise ModelError(f"{graph} has no output {', '.join(sorted(missing))}; export the folder again")

    def predict(
        self, clips: Sequence[NDArray[Any]], *, batch_seconds: float = 30.0, hidden: bool = False
    ) -> list[Prediction]:
        """See `Engine.predict`."""
        raw = predict_clips(
            self._graph,
            self.spec,
            clips,
            batch_seconds=batch_seconds,
            hidden=hidden,
            pooled=self.calibration is not None and self.calibration.novelty is not None,
            name=str(self.folder),
        )
        return finished(raw, self.calibration)

    def raw(self, clips: Sequence[NDArray[Any]]) -> list[Prediction]:
        """As `predict`, before calibration."""
        return predict_clips(self._graph, self.spec, clips, name=str(self.folder))

    def check(self) -> float:
        """Read all files and result the clips whose results were written down at export; the largest difference of an
        intensity before calibration.

        Raises ModelError when a file is another, or the difference is beyond what the export allows: the machine or the
        runtime computes otherwise.
        """
        _check_files(self.folder, self.description, whole=True)
        checks = self.description.get("checks", {})
        largest = 0.0
        for one in checks.get("clips", []):
            (found,) = self.raw([check_clip(self.spec, one["samples"])])
            largest = max(largest, float(np.abs(found.intensities - one["intensities"]).max()))
        if not largest <= checks.get("tolerance", 0.0):
            raise ModelError(
                f"{self.folder} results its check clips {largest:.2g} apart from what was written at export (at most "
                f"{checks.get('tolerance')}): upgrade {RUNTIMES[self.runtime][0]}, or export again on this machine"
            )
        return largest


def _check_files(folder: Path, description: dict[str, Any], *, whole: bool = False) -> None:
    """Raise ModelError unless every file of an engine folder is the one described; large ones are read in samples
    unless `whole`, as to read them all would take longer than to result."""
    files = description.get("files")
    known = isinstance(files, dict) and all(
        isinstance(one, dict) and isinstance(one.get("sha256"), str) for one in files.values()
    )
    if not known:
        raise ModelError(
            f"{folder / DESCRIPTION} doesn't say what its files are; it is damaged: copy or export the folder again"
        )
    for name, wanted in files.items():
        file = folder / name
        if not file.is_file():
            raise ModelError(f"{folder} has no {name}; the folder is not whole: copy or export it again")
        kind = "fingerprint" if "fingerprint" in wanted and not whole else "sha256"
        found = fingerprint(file) if kind == "fingerprint" else sha256(file)
        if wanted[kind] != found:
            raise ModelError(
                f"{file} is not the file its {DESCRIPTION} describes ({kind} {found[:12]}..., expected "
                f"{str(wanted[kind])[:12]}...): copy or export the folder again"
            )


def predict_clips(
    graph: Runtime,
    spec: Spec,
    clips: Sequence[NDArray[Any]],
    *,
    batch_seconds: float = 30.0,
    hidden: bool = False,
    pooled: bool = False,
    name: str = "the graph",
) -> list[Prediction]:
    """Clips through a graph in batches of similar length, as many at once as it has streams; see `Engine.predict`.
    Not calibrated. pooled: also pooled frames."""
    most = round(spec.max_seconds * SAMPLE_RATE)
    lengths = [len(clip) for clip in clips]
    for length in lengths:
        if not spec.min_samples <= length <= most:
            raise ModelError(
                f"a clip has {length} samples; {name} takes {spec.min_samples} to {most}: cut or pad it"
            )
    outputs = ["intensities", "frames", *(["vad"] if spec.vad else []), *(["hidden"] if hidden else [])]
    outputs += ["pooled"] if pooled else []
    plan = batching.plan(lengths, budget=batching.budget(batch_seconds), equal=not spec.exact_under_padding)
    results: dict[int, Prediction] = {}

    def hear(rows: list[int]) -> None:
        samples, _ = batching.pad([np.asarray(clips[i], dtype=np.float32) for i in rows])
        feed = {"samples": samples, "lengths": np.array([lengths[i] for i in rows], dtype=np.int64)}
        found = dict(zip(outputs, graph.run(outputs, feed), strict=True))
        vad, states, means = found.get("vad"), found.get("hidden"), found.get("pooled")
        for place, row in enumerate(rows):
            count = int(found["frames"][place])
            one = Prediction(
                # Copies, so that a kept result doesn't keep its whole batch.
                intensities=found["intensities"][place].copy(),
                vad=None if vad is None else vad[place, :count].copy(),
                times=(spec.first + spec.hop * np.arange(count)) / SAMPLE_RATE,
                hidden=None if states is None else states[place, :count].copy(),
                pooled=None if means is None else means[place].copy(),
            )
            _check_finite(one, name)
            results[row] = one

    if graph.streams > 1 and len(plan) > 1:
        with ThreadPoolExecutor(graph.streams) as pool:
            list(pool.map(hear, plan))
    else:
        for rows in plan:
            hear(rows)
    return [results[i] for i in range(len(clips))]


def check_clip(spec: Spec, samples: int) -> NDArray[np.float32]:
    """A rising, trembling tone of so many samples, prepared as `spec` says; the same on every machine."""
    time = np.arange(samples) / SAMPLE_RATE
    tone = 0.3 * np.sin(2 * np.pi * (150 + 90 * time) * time) * (1 + 0.5 * np.sin(30 * time))
    return prepare(
        tone + 0.05 * np.sin(11_000 * time + 3 * np.sin(40 * time)),
        max_seconds=spec.max_seconds,
        normalize=spec.do_normalize,
        min_samples=spec.min_samples,
    ).samples


def read_description(folder: Path) -> dict[str, Any]:
    """An engine folder's engine.json. Raises ModelError when it is damaged or of another version."""
    file = folder / DESCRIPTION
    try:
        found = read_json(file)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file} can't be read as JSON ({error}): copy or export the folder again"
        ) from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise ModelError(
            f"{file} has the schema {schema!r}, this emimic reads {SCHEMA!r}: export the run again, or use the emimic "
            "that wrote it"
        )
    return found  # type: ignore[no-any-return]


def _read_spec(description: dict[str, Any], file: Path) -> Spec:
    found = description.get("spec")
    try:
        spec = Spec(**{**found, "targets": tuple(found["targets"])})  # type: ignore[dict-item,index]
        whole = all(isinstance(name, str) for name in spec.targets) and (
            spec.max_seconds > 0 and spec.min_samples > 0 and spec.hop > 0 and spec.first >= 0
        )
    except (TypeError, KeyError) as error:
        raise ModelError(f"{file} doesn't say what the model takes ({error!r}): export it again") from error
    if not whole:
        raise ModelError(f"{file} says of the model what can't be ({spec}): export it again")
    return spec


def _check_finite(result: Prediction, name: str) -> None:
    if not (np.isfinite(result.intensities).all() and (result.vad is None or np.isfinite(result.vad).all())):
        raise ModelError(f"{name} results NaN or infinity: its weights are damaged; train or export it again")
