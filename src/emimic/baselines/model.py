"""A baseline for the training loop, `evaluate` and `submit`: its branches, and the fusion of their predictions.

Its methods are those of EmiModel, so that one loop serves both.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig

from emimic import batching
from emimic.baselines.inputs import Clip
from emimic.baselines.system import get_system
from emimic.data.corpus import Item
from emimic.features.store import WAVEFORM
from emimic.files import read_json
from emimic.media.waveform import ClipFormat
from emimic.model import encoders, pretrained
from emimic.model.config import EmiConfig
from emimic.model.model import WEIGHTS
from emimic.model.transfer import move, move_mask
from emimic.prediction import Prediction
from emimic.task import MAX_SECONDS, SAMPLE_RATE, ModelError

MODEL_TYPE: Final = "emimic-baseline"
RATE: Final = 50.0
"""Frames a second for which a batch of features is planned; no baseline has more."""

Parts = Mapping[str, Tensor]


class BaselineConfig(BaseModel):
    """The configuration of a baseline, `config.json` in its run's folder; other fields are as in EmiConfig.

    Attributes:
        modalities: modality -> feature folder, or "waveform".
        sizes: modality -> features of a frame.
        made_by: modality -> digest of what made its features, where that is known (`store.digest_facts`).
        weights: branch -> its weight for each target, once they were searched.
        encoder_config: of the encoder of a waveform, as in transformers.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model_type: str = MODEL_TYPE
    baseline: str
    options: dict[str, Any] = {}
    modalities: dict[str, str]
    sizes: dict[str, int]
    made_by: dict[str, str] = {}
    targets: list[str]
    target_mean: list[float] | None = None
    target_std: list[float] | None = None
    weights: dict[str, list[float]] | None = None
    encoder_config: dict[str, Any] | None = None
    max_seconds: float = MAX_SECONDS
    do_normalize: bool = True

    categories: tuple[()] = ()
    predicts_vad: bool = False

    def to_json_string(self) -> str:
        """Return the text of `config.json`."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"

    @property
    def waveform(self) -> str | None:
        """The modality that is the clip itself, if there is one."""
        return next((modality for modality, name in self.modalities.items() if name == WAVEFORM), None)


@dataclass(frozen=True)
class BaselineOutput:
    """The output of a forward pass; V/A/D and categories are not predicted.

    Attributes:
        intensities: joined (batch, target); in training, of every branch and fold (batch, branch x fold x target).
        frame_mask: (batch, frame) of one modality.
    """

    intensities: Tensor
    frame_mask: Tensor
    vad: None = None
    categories: None = None


class BaselineModel(nn.Module):
    """The branches of a baseline, `options.folds` models of each."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config
        self.system = get_system(config.baseline)
        self.options = self.system.read_options(config.options)
        if config.encoder_config is not None:
            settings = dict(config.encoder_config)
            self.encoder = encoders.build(AutoConfig.for_model(settings.pop("model_type"), **settings))
        # In the baseline's order: a configuration's may be any.
        sizes = {name: config.sizes[name] for name in self.system.modalities if name in config.sizes}
        folds = [
            self.system.branches(self.options, sizes, len(config.targets)) if sizes else {}
            for _ in range(self.options.folds)
        ]
        if not folds[0]:
            raise ModelError(
                f"no branch of {config.baseline} reads {', '.join(config.modalities)} alone; its modalities are "
                f"{', '.join(self.system.modalities)}"
            )
        self.branches = nn.ModuleDict(
            {name: nn.ModuleList(branches[name] for branches in folds) for name in folds[0]}
        )

    @property
    def device(self) -> torch.device:
        """The device of its parameters."""
        return next(self.parameters()).device

    @property
    def models(self) -> int:
        """The number of models, each with its own loss: branches x folds."""
        return len(self.branches) * self.options.folds

    @property
    def clip_format(self) -> ClipFormat:
        """The form of its waveforms; shorter ones are zero-padded to the smallest input of its encoder."""
        shortest = encoders.compute_min_samples(self.encoder.config) if self.config.waveform else 1
        return ClipFormat(self.config.max_seconds, self.config.do_normalize, shortest)

    # Batches

    def plan(self, clips: Sequence[Clip], *, batch_seconds: float, encoded: bool = True) -> list[list[int]]:
        """Return batches of rows that change no prediction."""
        budget = max(1, int(batch_seconds * (RATE if encoded else SAMPLE_RATE)))
        equal = not encoded and not encoders.is_exact_under_padding(self.encoder.config)
        return batching.plan(list(map(len, clips)), budget=budget, equal=equal)

    def collate(self, clips: Sequence[Clip]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pad clips: frames (batch, frame, feature) and masks (batch, frame), by modality."""
        parts, masks = {}, {}
        for name in self.config.modalities:
            values, _ = batching.pad([clip.parts[name] for clip in clips])
            mask, _ = batching.pad([clip.masks[name] for clip in clips])
            parts[name] = move(torch.from_numpy(values), self.device)
            masks[name] = move_mask(torch.from_numpy(mask), self.device)
        return parts, masks

    def encode(self, parts: Parts, masks: Parts) -> tuple[Parts, Parts]:
        """Replace a waveform (batch, sample) by hidden states (batch, frame, feature)."""
        waveform = self.config.waveform
        if waveform is None:
            return parts, masks
        hidden, frames = encoders.encode(self.encoder, parts[waveform], masks[waveform])
        return {**parts, waveform: hidden}, {**masks, waveform: frames}

    def regress(self, parts: Parts, masks: Parts) -> BaselineOutput:
        """Predict intensities from frames by modality; absent frames change nothing."""
        predictions, present = self.regress_branches(parts, masks)
        mask = next(iter(masks.values()))
        if self.training:
            return BaselineOutput(predictions.permute(2, 0, 1, 3).flatten(1), mask)
        return BaselineOutput(join(predictions.mean(dim=1), present, self._get_weights(predictions)), mask)

    def regress_branches(self, parts: Parts, masks: Parts) -> tuple[Tensor, Tensor]:
        """Return predictions (branch, fold, batch, target), and where a branch had input (branch, batch)."""
        outputs, present = [], []
        for name in self.branches:
            folds: Any = self.branches[name]
            outputs.append(torch.stack([branch(parts, masks) for branch in folds]))
            present.append(torch.stack([masks[key].any(dim=1) for key in folds[0].modalities]).any(dim=0))
        predictions = torch.stack(outputs).float()
        if self.config.target_std is not None and self.config.target_mean is not None:
            std, mean = predictions.new_tensor(self.config.target_std), self.config.target_mean
            predictions = predictions * std + predictions.new_tensor(mean)
        return predictions, torch.stack(present)

    def expand_targets(self, targets: Tensor, items: Sequence[Item]) -> Tensor:
        """Return the labels (clip, target) of every model: (clip, branch x fold x target).

        They are NaN where a clip's speaker is in the fold that the model is trained without.
        """
        folds = self.options.folds
        expanded = targets[:, None, None].repeat(1, len(self.branches), folds, 1)
        if folds > 1:
            clip_folds = torch.tensor([get_fold(item, folds) for item in items], device=targets.device)
            held_out = clip_folds[:, None] == torch.arange(folds, device=targets.device)
            expanded = expanded.masked_fill(held_out[:, None, :, None], torch.nan)
        return expanded.flatten(1)

    def _get_weights(self, like: Tensor) -> Tensor:
        """Return the weights of the fusion, (branch, target), with the type and device of `like`."""
        if self.config.weights is None:
            return like.new_ones(len(self.branches), len(self.config.targets))
        return like.new_tensor([self.config.weights[name] for name in self.branches])

    @torch.inference_mode()
    def predict(
        self, clips: Sequence[Clip], *, batch_seconds: float = 60.0, encoded: bool = True
    ) -> list[Prediction]:
        """Return one Prediction per clip, in order; dropout is off in any mode of the model."""
        intensities, _ = self._predict_all(clips, batch_seconds=batch_seconds, encoded=encoded)
        return [Prediction(row, None, np.zeros(0)) for row in intensities]

    @torch.inference_mode()
    def predict_branches(
        self, clips: Sequence[Clip], *, batch_seconds: float = 60.0, encoded: bool = True
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the predictions of each branch (clip, branch, target), and where it had input (clip, branch)."""
        _, (predictions, present) = self._predict_all(clips, batch_seconds=batch_seconds, encoded=encoded)
        return predictions, present

    def _predict_all(
        self, clips: Sequence[Clip], *, batch_seconds: float, encoded: bool
    ) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        training = self.training
        self.eval()
        shape = len(clips), len(self.branches), len(self.config.targets)
        joined = np.empty((shape[0], shape[2]), np.float32)
        predictions, present = np.empty(shape, np.float32), np.empty(shape[:2], np.bool_)
        try:
            for rows in self.plan(clips, batch_seconds=batch_seconds, encoded=encoded):
                batch = self.encode(*self.collate([clips[row] for row in rows]))
                outputs, mask = self.regress_branches(*batch)
                means = outputs.mean(dim=1)
                joined[rows] = join(means, mask, self._get_weights(means)).cpu().numpy()
                predictions[rows] = means.transpose(0, 1).cpu().numpy()
                present[rows] = mask.t().cpu().numpy()
        finally:
            self.train(training)
        return joined, (predictions, present)

    # Loading

    @classmethod
    def create(
        cls, config: BaselineConfig, encoder: str | dict[str, Any] | None = None, layers: int | None = None
    ) -> Self:
        """Return an untrained baseline.

        Args:
            config: its configuration.
            encoder: of a waveform: a pre-trained one, or the configuration of one to train from scratch.
            layers: how many layers of a pre-trained encoder are used, from the first; all by default.

        Raises:
            ModelError: if the encoder can't be loaded.
        """
        if config.waveform is None or encoder is None:
            return cls(config)
        loaded = (
            None
            if isinstance(encoder, dict)
            else pretrained.read_encoder(encoder, layers=layers, local_files_only=False)
        )
        inner: Any = EmiConfig(encoder_config=encoder).encoder_config if loaded is None else loaded.config
        update = {
            "encoder_config": inner.to_diff_dict() | {"model_type": inner.model_type},
            "sizes": {**config.sizes, config.waveform: int(inner.hidden_size)},
            "do_normalize": config.do_normalize if loaded is None else loaded.do_normalize,
        }
        model = cls(config.model_copy(update=update))
        if loaded is not None:
            pretrained.fill(model.encoder, loaded.encoder, str(encoder))
        return model

    @staticmethod
    def read_config(folder: Path) -> BaselineConfig:
        """Return the configuration of a run's baseline.

        Raises:
            ModelError: if it can't be read.
        """
        try:
            return BaselineConfig(**read_json(folder / "config.json"))
        except (OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{folder} can't be loaded as a baseline: config.json: {reason}") from error

    @classmethod
    def open_run(cls, folder: Path, *, device: str | None = None) -> Self:
        """Load a trained baseline from its run's folder, in evaluation mode.

        Raises:
            ModelError: if it can't be loaded.
        """
        config = cls.read_config(folder)
        try:
            with torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
                model = cls(config)
            model.load_state_dict(load_file(folder / WEIGHTS), strict=True)
        except (OSError, ValueError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{folder} can't be loaded as a baseline: {reason}") from error
        return model.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def join(predictions: Tensor, present: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the branches that had input; their plain mean where their weights are 0.

    Args:
        predictions: (branch, batch, target).
        present: (branch, batch), True where the branch had input.
        weights: (branch, target).

    Returns:
        (batch, target).
    """
    equal = present[:, :, None].to(predictions.dtype)
    used = equal * weights[:, None]
    used = torch.where(used.sum(dim=0) > 0, used, equal)
    joined: Tensor = (used * predictions).sum(dim=0) / used.sum(dim=0)
    return joined


def get_fold(item: Item, folds: int) -> int:
    """Return the fold of a clip's speaker (of the clip where no speaker is known), independent of other clips."""
    return zlib.crc32((item.speaker or item.id).encode(errors="surrogateescape")) % folds
