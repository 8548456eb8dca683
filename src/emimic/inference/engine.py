"""Engines that run a finished model: an exported graph on ONNX Runtime or OpenVINO, or a training run on torch."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from emimic import batching
from emimic.calibration import FILE, Calibration, finish_predictions
from emimic.cpus import count_available, count_cores
from emimic.files import fingerprint
from emimic.inference.description import DESCRIPTION as DESCRIPTION
from emimic.inference.description import SCHEMA as SCHEMA
from emimic.inference.description import check_files, read_spec
from emimic.inference.description import read_description as read_description
from emimic.inference.runtimes import RUNTIMES, Name, Runtime, is_installed, open_runtime
from emimic.inference.spec import CHECK_TEXT, make_check_clip
from emimic.inference.spec import Spec as Spec
from emimic.inference.words import WordSource
from emimic.install import install
from emimic.model.inputs import Inputs, get_audio, get_further
from emimic.prediction import Prediction
from emimic.task import SAMPLE_RATE, ModelError

DEFAULT: Final = Path(__file__).parent.parent / "default"
TOKENIZER: Final = "tokenizer.json"
"""File of an exported model that takes words."""

ENGINES: Final = "engines"
"""Folder inside a training run for the models exported from it."""


class Engine(Protocol):
    """A finished model. Clips are (sample,) float32 at 16 kHz each, prepared by `spec`, or `Inputs` with tokens."""

    spec: Spec

    def predict(
        self, clips: Sequence[NDArray[Any] | Inputs], *, batch_seconds: float = 30.0, hidden: bool = False
    ) -> list[Prediction]:
        """Return one Prediction per clip, in the same order; other clips of a batch don't change it.

        Args:
            clips: (sample,) each, or with further inputs; without words, where the model takes some, the voice alone
                is used.
            batch_seconds: Maximum seconds of audio per forward pass.
            hidden: Also return the encoder's last hidden states.

        Raises:
            ModelError: A clip is too short or too long, or a result is NaN or infinite (damaged weights).
        """
        ...


class TextEngine(Engine, Protocol):
    """A finished model that takes words, too."""

    words: WordSource | None
    """The transcriber that the training named; None without one."""

    def tokenize(self, text: str | None) -> NDArray[np.int64]:
        """Return the tokens of a clip's words, (token,), for `Inputs`."""
        ...


def find_default_model() -> Path:
    """Return the exported model inside the package.

    Raises:
        ModelError: This build has none.
    """
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
    """Open a finished model, exported or a training run.

    A training run is predicted with the fastest float32 model exported into it (`emimic export RUN`), else with torch.

    Args:
        folder: Written by `emimic export` or `emimic train`.
        device: For a training run, as torch names it (None takes a GPU if there is one); an exported model knows only
            "cpu".
        threads: None takes all cores.
        streams: Number of parallel batches that share the threads: faster for many clips, slower for one. torch
            ignores it.

    Raises:
        ModelError: The folder or a number can't be used.
    """
    _check_number("threads", threads)
    _check_number("streams", streams)
    path = Path(folder)
    check_model(path)
    if (path / DESCRIPTION).exists():
        if device not in (None, "cpu"):
            raise ModelError(
                f"{path} is an exported model, which runs on the cpu; found device {device!r}: leave it out"
            )
        return GraphEngine(path, threads=threads, streams=streams)
    exported = None if device else find_fastest(path)
    if exported is not None:
        return GraphEngine(exported, threads=threads, streams=streams, run=path)
    return TorchEngine(path, device=device, threads=threads)


def check_model(path: Path) -> None:
    """Check that a path is a model's folder; nothing is opened, so that no extra is needed.

    Raises:
        ModelError: It is not.
    """
    if not path.exists():
        raise ModelError(
            f"there is no folder {path}; expected one written by `emimic export` or `emimic train`"
        )
    if not path.is_dir():
        raise ModelError(f"{path} is a file; give the folder of an exported model or a training run")
    if not any((path / name).exists() for name in (DESCRIPTION, "config.json")):
        raise ModelError(
            f"{path} is no model: it has neither {DESCRIPTION} (exported, written by `emimic export`) nor "
            "config.json (a training run, written by `emimic train`). Give the folder of one of them"
        )


def _check_number(name: str, value: object) -> None:
    is_positive = isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0
    if not (is_positive or value is None):
        raise ModelError(
            f"{name} is {value!r}, expected a whole number of 1 or more. Give one, or leave it out"
        )


def find_fastest(run: Path) -> Path | None:
    """Return the fastest float32 model exported into a training run, None without any.

    Only models of the run's present weights whose runtime is installed count; speeds were measured at export.
    """
    exported = []
    for file in run.glob(f"{ENGINES}/[!.]*/{DESCRIPTION}"):  # hidden: of an interrupted export
        description = read_description(file.parent)
        is_current = description.get("weights") == fingerprint(run / "model.safetensors")
        is_float32 = description.get("precision") == "float32"
        if is_current and is_float32 and is_installed(description.get("runtime", "")):
            exported.append((description.get("speed") or 0.0, file.parent))
    return max(exported)[1] if exported else None


class TorchEngine:
    """A training run on torch; see `open_engine`."""

    def __init__(
        self, folder: str | os.PathLike[str], *, device: str | None = None, threads: int | None = None
    ) -> None:
        try:
            import torch

            from emimic.model.model import EmiModel
        except ModuleNotFoundError as error:
            raise ModelError(
                f"{folder} is a training run, which needs torch ({error.name} isn't installed): {install('train')}, "
                "or export it where that is installed (emimic export)"
            ) from error
        torch.set_num_threads(min(torch.get_num_threads(), count_available()) if threads is None else threads)
        self.model = EmiModel.open_run(folder, device=device)
        self.spec = get_spec(self.model)
        self.words = make_word_source(self.model.config.text) if self.spec.text else None
        self.calibration = Calibration.find_in_run(folder, self.spec.targets)
        if self.spec.vision:
            from emimic.features.frames import FrameReader

            self.frames = FrameReader(self.model.config.vision, self.spec.max_seconds)

    def tokenize(self, text: str | None) -> NDArray[np.int64]:
        """Return the tokens of a clip's words, see `TextEngine.tokenize`."""
        branch: Any = self.model.branches["text"]
        return branch.tokenize(text)  # type: ignore[no-any-return]

    def predict(
        self, clips: Sequence[NDArray[Any] | Inputs], *, batch_seconds: float = 30.0, hidden: bool = False
    ) -> list[Prediction]:
        """Predict clips, see `Engine.predict`."""
        results = self.model.predict(clips, batch_seconds=batch_seconds, hidden=hidden)
        for result in results:
            _check_finite(result, "the training run")
        return finish_predictions(results, self.calibration)


def make_word_source(values: Mapping[str, Any]) -> WordSource | None:
    """Return the source of words that a text branch's configuration names, None without one."""
    transcriber = values.get("transcriber")
    return (
        None if transcriber is None else WordSource(transcriber=transcriber, language=values.get("language"))
    )


def get_spec(model: Any) -> Spec:
    """Return the spec of an EmiModel."""
    config = model.config
    # Without audio there is no frame of it, and any hop will do.
    first, second = model.compute_frame_times(2) * SAMPLE_RATE if config.audio else (0.0, 1.0)
    return Spec(
        targets=tuple(config.targets),
        max_seconds=float(config.max_seconds),
        do_normalize=bool(config.do_normalize),
        min_samples=model.clip_format.min_samples,
        hop=round(second - first),
        first=float(first),
        vad=config.predicts_vad,
        exact_under_padding=model.exact_under_padding,
        text="text" in model.branches,
        vision="vision" in model.branches,
        audio=config.audio,
    )


class GraphEngine:
    """An exported model on its runtime; needs neither torch nor transformers.

    The graph's inputs are samples (batch, sample) float32 and lengths (batch,) int64; of a model with a text branch
    also tokens (batch, token) and token_lengths (batch,) int64, 0 for a clip without words. Its outputs are intensities
    (batch, target), frames (batch,) int64, hidden (batch, frame, feature), pooled (batch, 2 * feature) and, if V/A/D
    has been learned, vad (batch, frame, 3).
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        threads: int | None = None,
        streams: int = 1,
        run: Path | None = None,
    ) -> None:
        """Open an exported model.

        Args:
            folder: Written by `emimic export`.
            threads: See `open_engine`.
            streams: See `open_engine`.
            run: The training run that holds the folder, whose calibration is then used; by default the model's own.

        Raises:
            ModelError: The folder is damaged, or its runtime is missing.
        """
        self.folder = Path(folder)
        self.description = read_description(self.folder)
        self.spec = read_spec(self.description, self.folder / DESCRIPTION)
        runtime: Any = self.description.get("runtime")
        if runtime not in RUNTIMES:
            raise ModelError(
                f"{self.folder} is for the runtime {runtime!r}; expected one of {', '.join(RUNTIMES)}: "
                "export it again"
            )
        self.runtime: Name = runtime
        check_files(self.folder, self.description)
        graph = self.folder / RUNTIMES[self.runtime][1]
        self._graph = open_runtime(
            self.runtime,
            graph,
            threads=count_cores() if threads is None else threads,
            streams=streams,
            optimized=bool(self.description.get("optimized")),
        )
        if run is not None:
            self.calibration = Calibration.find_in_run(run, self.spec.targets)
        else:
            is_calibrated = FILE in self.description.get("files", {})
            self.calibration = Calibration.find(self.folder, self.spec.targets) if is_calibrated else None
        self.words = make_word_source(self.description.get("words", {}))
        self._tokenizer = self._open_tokenizer() if self.spec.text else None
        outputs = {"intensities", "frames", "hidden", "pooled", *(["vad"] if self.spec.vad else [])}
        if missing := outputs - self._graph.outputs:
            raise ModelError(f"{graph} has no output {', '.join(sorted(missing))}; export the folder again")

    def _open_tokenizer(self) -> Any:
        try:
            from emimic.model.tokens import make_tokenizer
        except ModuleNotFoundError as error:
            raise ModelError(
                f"{self.folder} takes words, which need {error.name}, and it isn't installed: {install('text')}"
            ) from error
        words = self.description["words"]
        return make_tokenizer((self.folder / TOKENIZER).read_text(encoding="utf-8"), words["max_tokens"])

    def tokenize(self, text: str | None) -> NDArray[np.int64]:
        """Return the tokens of a clip's words, see `TextEngine.tokenize`."""
        from emimic.model.tokens import tokenize

        return tokenize(self._tokenizer, text)

    def predict(
        self, clips: Sequence[NDArray[Any] | Inputs], *, batch_seconds: float = 30.0, hidden: bool = False
    ) -> list[Prediction]:
        """Predict clips, see `Engine.predict`."""
        raw = predict_clips(
            self._graph,
            self.spec,
            clips,
            batch_seconds=batch_seconds,
            hidden=hidden,
            pooled=self.calibration is not None and self.calibration.novelty is not None,
            name=str(self.folder),
        )
        return finish_predictions(raw, self.calibration)

    def make_check_clip(self, samples: int) -> NDArray[np.float32] | Inputs:
        """Return the check clip of `samples` samples, with words for a model that takes some."""
        clip = make_check_clip(self.spec, samples)
        return Inputs(clip, {"text": self.tokenize(CHECK_TEXT)}) if self.spec.text else clip

    def predict_raw(self, clips: Sequence[NDArray[Any] | Inputs]) -> list[Prediction]:
        """Predict clips without calibration."""
        return predict_clips(self._graph, self.spec, clips, name=str(self.folder))

    def check(self) -> float:
        """Read all files, predict the clips stored at export, and return the largest difference.

        Returns:
            The largest difference of an intensity from its value at export, before calibration.

        Raises:
            ModelError: A file was changed, or the difference is beyond the export's tolerance: the machine or the
                runtime computes otherwise.
        """
        check_files(self.folder, self.description, full=True)
        checks = self.description.get("checks", {})
        largest = 0.0
        for clip in checks.get("clips", []):
            (prediction,) = self.predict_raw([self.make_check_clip(clip["samples"])])
            largest = max(largest, float(np.abs(prediction.intensities - clip["intensities"]).max()))
        if not largest <= checks.get("tolerance", 0.0):
            raise ModelError(
                f"{self.folder} predicts its check clips with a difference of {largest:.2g} from export (at most "
                f"{checks.get('tolerance')}): upgrade {RUNTIMES[self.runtime][0]}, or export again on this machine"
            )
        return largest


def predict_clips(
    graph: Runtime,
    spec: Spec,
    clips: Sequence[NDArray[Any] | Inputs],
    *,
    batch_seconds: float = 30.0,
    hidden: bool = False,
    pooled: bool = False,
    name: str = "the graph",
) -> list[Prediction]:
    """Run clips through a graph in batches of similar length, without calibration.

    Args:
        graph: Runs as many batches at once as it has streams.
        spec: Of the model.
        clips: (sample,) each, prepared, or with tokens.
        batch_seconds: Maximum seconds of audio per batch.
        hidden: Also return hidden states.
        pooled: Also return pooled frames.
        name: Of the model, for messages.

    Raises:
        ModelError: See `Engine.predict`.
    """
    longest = round(spec.max_seconds * SAMPLE_RATE)
    lengths = [len(get_audio(clip)) for clip in clips]
    for length in lengths:
        if not spec.min_samples <= length <= longest:
            raise ModelError(
                f"a clip has {length} samples; {name} takes {spec.min_samples} to {longest}: cut or pad it"
            )
    outputs = ["intensities", "frames", *(["vad"] if spec.vad else []), *(["hidden"] if hidden else [])]
    outputs += ["pooled"] if pooled else []
    plan = batching.plan(
        lengths, budget=batching.compute_budget(batch_seconds), equal=not spec.exact_under_padding
    )
    predictions: dict[int, Prediction] = {}

    def predict_batch(rows: list[int]) -> None:
        samples, _ = batching.pad([np.asarray(get_audio(clips[i]), dtype=np.float32) for i in rows])
        feed = {"samples": samples, "lengths": np.array([lengths[i] for i in rows], dtype=np.int64)}
        if spec.text:
            feed |= _pad_tokens([get_further(clips[i], "text") for i in rows])
        arrays = dict(zip(outputs, graph.run(outputs, feed), strict=True))
        vad, states, means = arrays.get("vad"), arrays.get("hidden"), arrays.get("pooled")
        for position, row in enumerate(rows):
            count = int(arrays["frames"][position])
            prediction = Prediction(
                # Copies, so that a prediction doesn't hold its batch in memory.
                intensities=arrays["intensities"][position].copy(),
                vad=None if vad is None else vad[position, :count].copy(),
                times=(spec.first + spec.hop * np.arange(count)) / SAMPLE_RATE,
                hidden=None if states is None else states[position, :count].copy(),
                pooled=None if means is None else means[position].copy(),
            )
            _check_finite(prediction, name)
            predictions[row] = prediction

    if graph.streams > 1 and len(plan) > 1:
        with ThreadPoolExecutor(graph.streams) as pool:
            list(pool.map(predict_batch, plan))
    else:
        for rows in plan:
            predict_batch(rows)
    return [predictions[i] for i in range(len(clips))]


def _pad_tokens(sequences: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
    """Return the graph's inputs of tokens (token,), of which a clip without words has none."""
    lengths = np.array([len(tokens) for tokens in sequences], dtype=np.int64)
    padded = np.zeros((len(sequences), max(1, *lengths)), np.int64)
    for row, tokens in enumerate(sequences):
        padded[row, : len(tokens)] = tokens
    return {"tokens": padded, "token_lengths": lengths}


def _check_finite(prediction: Prediction, name: str) -> None:
    values = (prediction.intensities, prediction.vad)
    if not all(array is None or np.isfinite(array).all() for array in values):
        raise ModelError(
            f"{name} predicts NaN or infinity: its weights are damaged; train or export it again"
        )
