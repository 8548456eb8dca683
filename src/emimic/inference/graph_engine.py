"""The engine of an exported model: its graphs on ONNX Runtime or OpenVINO."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from emimic import batching
from emimic.calibration import FILE, Calibration, finish_predictions
from emimic.cpus import count_cores
from emimic.inference.description import DESCRIPTION, check_files, list_graphs, read_description, read_spec
from emimic.inference.runtimes import RUNTIMES, Feed, Name, Runtime, TwoGraphs, open_runtime
from emimic.inference.spec import CHECK_TEXT, Spec, make_check_clip
from emimic.inference.words import WordSource
from emimic.install import install
from emimic.model.inputs import Inputs, get_audio, get_further
from emimic.prediction import Prediction
from emimic.task import SAMPLE_RATE, ModelError

TOKENIZER: Final = "tokenizer.json"
"""File of an exported model that takes words."""

WindowFrames = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Frames, (frame, feature), and windows of them, (window, 2): first frame and the frame after the last one."""

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class WindowPredictions:
    """Predictions of windows of a recording's frames.

    Attributes:
        intensities: (window, target), as of a `Prediction`.
        vad: (window, 3), mean over the window's frames; None if not learned.
        frame_vad: (frame, 3), of all frames; None if not learned.
    """

    intensities: NDArray[np.float32]
    vad: NDArray[np.float32] | None
    frame_vad: NDArray[np.float32] | None


def make_word_source(values: Mapping[str, Any]) -> WordSource | None:
    """Return the source of words that a text branch's configuration names, None without one."""
    transcriber = values.get("transcriber")
    return (
        None if transcriber is None else WordSource(transcriber=transcriber, language=values.get("language"))
    )


class GraphEngine:
    """An exported model on its runtime; needs neither torch nor transformers.

    Its encoder's inputs are samples (batch, sample) float32 and lengths (batch,) int64, its outputs hidden (batch,
    frame, feature) and frames (batch,) int64. Its head reads these and windows: rows, starts and ends (window,) int64,
    in frames. The outputs are intensities (window, target), pooled (window, 2 * feature) and, if V/A/D has been
    learned, vad (batch, frame, 3) and vad_means (window, 3). An older export has one graph, in which a clip is the
    window, and so has a model with a text branch, with tokens (batch, token) and token_lengths (batch,) int64.
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
        library = RUNTIMES[self.runtime]
        files = [self.folder / name for name in list_graphs(self.description, library.suffix)]
        graphs = [
            open_runtime(
                self.runtime,
                file,
                threads=count_cores() if threads is None else threads,
                streams=streams,
                optimized=bool(self.description.get("optimized")),
                in_turn=len(files) > 1,
            )
            for file in files
        ]
        self._graph: Runtime = TwoGraphs(*graphs) if len(graphs) > 1 else graphs[0]
        if run is not None:
            self.calibration = Calibration.find_in_run(run, self.spec.targets)
        else:
            is_calibrated = FILE in self.description.get("files", {})
            self.calibration = Calibration.find(self.folder, self.spec.targets) if is_calibrated else None
        self.words = make_word_source(self.description.get("words", {}))
        self._tokenizer = self._open_tokenizer() if self.spec.text else None
        outputs = {"intensities", "frames", "hidden", "pooled", *(["vad"] if self.spec.vad else [])}
        if missing := outputs - self._graph.outputs:
            names = " and ".join(map(str, files))
            raise ModelError(f"{names} has no output {', '.join(sorted(missing))}; export the folder again")

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

    @property
    def one_pass(self) -> bool:
        """True unless the model was exported as one graph, by an earlier emimic."""
        return isinstance(self._graph, TwoGraphs)

    def encode(self, clips: Sequence[NDArray[Any]], *, reach: int) -> list[NDArray[np.float32]]:
        """Return hidden states, see `OnePassEngine.encode`."""
        graph = self._graph
        assert isinstance(graph, TwoGraphs)

        def encode_clip(clip: NDArray[Any]) -> NDArray[np.float32]:
            feed = {"samples": clip[None].astype(np.float32), "lengths": np.array([len(clip)])}
            if "reach" in graph.encoder.inputs:
                feed["reach"] = np.array(reach)
            (hidden,) = graph.encoder.run(["hidden"], feed)
            return hidden[0]  # type: ignore[no-any-return]

        return map_in_parallel(graph, encode_clip, clips)

    def predict_windows(self, parts: Sequence[WindowFrames]) -> list[WindowPredictions]:
        """Predict windows, see `OnePassEngine.predict_windows`."""
        graph = self._graph
        assert isinstance(graph, TwoGraphs)
        names = ["intensities", *(["vad_means", "vad"] if self.spec.vad else [])]

        def predict_part(part: WindowFrames) -> WindowPredictions:
            hidden, windows = part
            starts, ends = windows.T
            feed = {"hidden": hidden[None], "frames": np.array([len(hidden)])}
            feed |= {"rows": np.zeros_like(starts), "starts": starts, "ends": ends}
            intensities, *vad = graph.head.run(names, feed)
            arrays = [intensities, *((vad[0], vad[1][0]) if vad else (None, None))]
            return finish_windows(str(self.folder), arrays, self.calibration)

        return map_in_parallel(graph, predict_part, parts)

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
                f"{checks.get('tolerance')}): upgrade {RUNTIMES[self.runtime].module}, or export again on this machine"
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
    lengths = [len(get_audio(clip)) for clip in clips]
    _check_lengths(lengths, spec, name)
    outputs = ["intensities", "frames", *(["vad"] if spec.vad else []), *(["hidden"] if hidden else [])]
    outputs += ["pooled"] if pooled else []
    plan = batching.plan(
        lengths, budget=batching.compute_budget(batch_seconds), equal=not spec.exact_under_padding
    )
    predictions: dict[int, Prediction] = {}

    def predict_batch(rows: list[int]) -> None:
        samples, _ = batching.pad([np.asarray(get_audio(clips[i]), dtype=np.float32) for i in rows])
        feed = make_feed(graph, samples, [lengths[i] for i in rows])
        if spec.text:
            feed |= _pad_tokens([get_further(clips[i], "text") for i in rows])
        arrays = dict(zip(outputs, graph.run(outputs, feed), strict=True))
        for position, row in enumerate(rows):
            prediction = _read_prediction(arrays, position, spec)
            check_finite(name, prediction.intensities, prediction.vad)
            predictions[row] = prediction

    map_in_parallel(graph, predict_batch, plan)
    return [predictions[i] for i in range(len(clips))]


def map_in_parallel(graph: Runtime, call: Callable[[Given], Made], values: Sequence[Given]) -> list[Made]:
    """Return the results of a call that runs the graph, for each value: as many at once as the graph has streams."""
    if graph.streams > 1 and len(values) > 1:
        with ThreadPoolExecutor(graph.streams) as pool:
            return list(pool.map(call, values))
    return [call(value) for value in values]


def _check_lengths(lengths: Sequence[int], spec: Spec, name: str) -> None:
    """Raise ModelError for a number of samples that the model `name` doesn't take."""
    longest = round(spec.max_seconds * SAMPLE_RATE)
    for length in lengths:
        if not spec.min_samples <= length <= longest:
            raise ModelError(
                f"a clip has {length} samples; {name} takes {spec.min_samples} to {longest}: cut or pad it"
            )


def _read_prediction(arrays: Mapping[str, NDArray[Any]], position: int, spec: Spec) -> Prediction:
    """Return the prediction of one clip of a batch: copies, so that it doesn't hold the batch in memory."""
    vad, states, means = arrays.get("vad"), arrays.get("hidden"), arrays.get("pooled")
    count = int(arrays["frames"][position])
    return Prediction(
        intensities=arrays["intensities"][position].copy(),
        vad=None if vad is None else vad[position, :count].copy(),
        times=(spec.first + spec.hop * np.arange(count)) / SAMPLE_RATE,
        hidden=None if states is None else states[position, :count].copy(),
        pooled=None if means is None else means[position].copy(),
    )


def _pad_tokens(sequences: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
    """Return the graph's inputs of tokens (token,), of which a clip without words has none."""
    lengths = np.array([len(tokens) for tokens in sequences], dtype=np.int64)
    padded = np.zeros((len(sequences), max(1, *lengths)), np.int64)
    for row, tokens in enumerate(sequences):
        padded[row, : len(tokens)] = tokens
    return {"tokens": padded, "token_lengths": lengths}


def make_feed(graph: Runtime, samples: NDArray[np.float32], lengths: Sequence[int]) -> Feed:
    """Return the inputs of a graph for clips (clip, sample) of these lengths, each of which is one window."""
    feed: Feed = {"samples": samples, "lengths": np.array(lengths, dtype=np.int64)}
    if "rows" in graph.inputs:
        feed["rows"] = np.arange(len(lengths))
        feed["starts"] = np.zeros(len(lengths), np.int64)
        feed["ends"] = feed["lengths"]  # no clip has more frames than samples
    if "reach" in graph.inputs:
        feed["reach"] = np.array(samples.shape[1])
    return feed


def check_finite(name: str, *values: NDArray[Any] | None) -> None:
    """Raise ModelError if a prediction of the model `name` is NaN or infinite."""
    if not all(array is None or np.isfinite(array).all() for array in values):
        raise ModelError(
            f"{name} predicts NaN or infinity: its weights are damaged; train or export it again"
        )


def finish_windows(
    name: str, arrays: Sequence[NDArray[np.float32] | None], calibration: Calibration | None
) -> WindowPredictions:
    """Return calibrated predictions of raw intensities, V/A/D of windows, and of frames."""
    check_finite(name, *arrays)
    intensities, *vad = arrays
    assert intensities is not None
    if calibration is not None:
        intensities = calibration.calibrate_intensities(intensities)
        vad = [None if part is None else part.clip(0.0, 1.0) for part in vad]
    return WindowPredictions(intensities, *vad)
