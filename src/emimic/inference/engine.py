"""Engines that run a finished model: an exported graph on ONNX Runtime or OpenVINO, or a training run on torch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from emimic.calibration import Calibration, finish_predictions
from emimic.cpus import count_available
from emimic.files import fingerprint
from emimic.inference.description import DESCRIPTION as DESCRIPTION
from emimic.inference.description import SCHEMA as SCHEMA
from emimic.inference.description import read_description as read_description
from emimic.inference.graph_engine import TOKENIZER as TOKENIZER
from emimic.inference.graph_engine import GraphEngine as GraphEngine
from emimic.inference.graph_engine import (
    WindowFrames,
    WindowPredictions,
    check_finite,
    finish_windows,
    make_word_source,
)
from emimic.inference.graph_engine import predict_clips as predict_clips
from emimic.inference.hub import find_model, is_on_hub
from emimic.inference.runtimes import is_installed
from emimic.inference.spec import Spec as Spec
from emimic.inference.words import WordSource
from emimic.install import install
from emimic.model.inputs import Inputs
from emimic.prediction import Prediction
from emimic.task import SAMPLE_RATE, ModelError

DEFAULT: Final = Path(__file__).parent.parent / "default"
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


class OnePassEngine(Engine, Protocol):
    """A finished model whose encoder and head run apart, if `one_pass` is true."""

    @property
    def one_pass(self) -> bool:
        """True if the two methods can be used."""
        ...

    def encode(self, clips: Sequence[NDArray[Any]], *, reach: int) -> list[NDArray[np.float32]]:
        """Return hidden states (frame, feature) of prepared clips, which are encoded one by one, in parallel.

        Args:
            clips: (sample,) each.
            reach: Frames on either side that a frame attends to, in each layer; encoders other than Whisper's attend to
                all.
        """
        ...

    def predict_windows(self, parts: Sequence[WindowFrames]) -> list[WindowPredictions]:
        """Return the predictions of windows of each part, in parallel.

        Args:
            parts: Frames (frame, feature), of `encode`, and windows of them, (window, 2): first frame and the frame
                after the last one.

        Raises:
            ModelError: A result is NaN or infinite (damaged weights).
        """
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
        folder: Written by `emimic export` or `emimic train`; or hf:USER/NAME[@REVISION] on the hub.
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
    path = find_model(folder)
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
    if is_on_hub(path):
        return  # downloaded when it is opened
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
        self.one_pass = (
            bool(self.spec.targets) and self.spec.audio and not (self.spec.text or self.spec.vision)
        )
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
            check_finite("the training run", result.intensities, result.vad)
        return finish_predictions(results, self.calibration)

    def encode(self, clips: Sequence[NDArray[Any]], *, reach: int) -> list[NDArray[np.float32]]:
        """Return hidden states, see `OnePassEngine.encode`."""
        import torch

        with torch.inference_mode():
            encoded = [self.model.encode(*self.model.collate([clip]), reach)[0][0] for clip in clips]
        return [hidden.float().cpu().numpy() for hidden in encoded]

    def predict_windows(self, parts: Sequence[WindowFrames]) -> list[WindowPredictions]:
        """Predict windows, see `OnePassEngine.predict_windows`."""
        return [self._predict_windows(*part) for part in parts]

    def _predict_windows(self, hidden: NDArray[np.float32], windows: NDArray[np.int64]) -> WindowPredictions:
        import torch

        from emimic.model.windows import Windows, regress_windows

        with torch.inference_mode():
            states, mask = self.model.collate([hidden])
            starts, ends = torch.from_numpy(windows).to(states.device).unbind(dim=1)
            output = regress_windows(
                self.model, states, mask, Windows(torch.zeros_like(starts), starts, ends)
            )
        vad = (
            (output.vad_means, None if output.vad is None else output.vad[0])
            if self.spec.vad
            else (None, None)
        )
        arrays = [None if part is None else part.float().cpu().numpy() for part in (output.intensities, *vad)]
        return finish_windows("the training run", arrays, self.calibration)


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
