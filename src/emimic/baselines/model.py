"""A compared system as the training loop, `evaluate` and `submit` take it: its members, and how they are joined.

It answers what EmiModel answers, in the same calls, so there is one loop for both.
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
from emimic.baselines import system as systems
from emimic.baselines.inputs import Clip
from emimic.data.corpus import Item
from emimic.features.store import WAVEFORM
from emimic.files import read_json
from emimic.model import encoders, pretrained
from emimic.model.config import EmiConfig
from emimic.model.model import WEIGHTS
from emimic.prediction import Prediction
from emimic.task import MAX_SECONDS, SAMPLE_RATE, ModelError

MODEL_TYPE: Final = "emimic-baseline"
RATE: Final = 50.0
"""Frames a second that a batch of features is planned for; none of the systems has more."""

Parts = Mapping[str, Tensor]


class BaselineConfig(BaseModel):
    """What a finished system is made of, `config.json` in its run's folder.

    modalities: role -> feature folder, or "waveform"; sizes: role -> features of a frame; made_by: role -> what made
    its features, where that is known (`store.made_by`). weights: member -> its weight for each target, once they were
    searched. encoder_config: of the encoder behind a waveform, as transformers has it. The rest is as in EmiConfig.
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
        """As it stands in `config.json`."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"

    @property
    def waveform(self) -> str | None:
        """The role that is the clip itself, if there is one."""
        return next((role for role, name in self.modalities.items() if name == WAVEFORM), None)


@dataclass(frozen=True)
class BaselineOutput:
    """intensities: joined (batch, target); while learning, of every member and fold (batch, member x fold x target).
    frame_mask (batch, frame) of one role; vad and categories are not answered."""

    intensities: Tensor
    frame_mask: Tensor
    vad: None = None
    categories: None = None


class BaselineModel(nn.Module):
    """The members of a compared system, `options.folds` of each."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config
        self.system = systems.system(config.baseline)
        self.options = self.system.read_options(config.options)
        if config.encoder_config is not None:
            settings = dict(config.encoder_config)
            self.encoder = encoders.build(AutoConfig.for_model(settings.pop("model_type"), **settings))
        # In the system's order: a configuration's may be any.
        sizes = {role: config.sizes[role] for role in self.system.modalities if role in config.sizes}
        members = [
            self.system.members(self.options, sizes, len(config.targets)) if sizes else {}
            for _ in range(self.options.folds)
        ]
        if not members[0]:
            raise ModelError(
                f"no member of {config.baseline} hears {', '.join(config.modalities)} alone; its modalities are "
                f"{', '.join(self.system.modalities)}"
            )
        self.members = nn.ModuleDict(
            {name: nn.ModuleList(fold[name] for fold in members) for name in members[0]}
        )

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device

    @property
    def models(self) -> int:
        """How many models learn, each from a loss of its own: branches x folds."""
        return len(self.members) * self.options.folds

    @property
    def min_samples(self) -> int:
        """The shortest waveform its encoder can take; 1 without one."""
        return encoders.compute_min_samples(self.encoder.config) if self.config.waveform else 1

    # The way of a batch

    def plan(self, lengths: Sequence[int], *, batch_seconds: float, encoded: bool = True) -> list[list[int]]:
        """Which clips, of `lengths` frames (of samples, with a waveform), share a batch without changing an answer."""
        budget = max(1, int(batch_seconds * (RATE if encoded else SAMPLE_RATE)))
        equal = not encoded and not encoders.is_exact_under_padding(self.encoder.config)
        return batching.plan(lengths, budget=budget, equal=equal)

    def collate(self, clips: Sequence[Clip]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Clips -> padded parts and their masks, by role: (batch, frame, feature) and (batch, frame)."""
        parts, masks = {}, {}
        for role in self.config.modalities:
            values, _ = batching.pad([clip.parts[role] for clip in clips])
            mask, _ = batching.pad([clip.masks[role] for clip in clips])
            parts[role], masks[role] = (torch.from_numpy(array).to(self.device) for array in (values, mask))
        return parts, masks

    def encode(self, parts: Parts, masks: Parts) -> tuple[Parts, Parts]:
        """A waveform (batch, sample) in its role -> hidden states (batch, frame, feature); the others as they are."""
        role = self.config.waveform
        if role is None:
            return parts, masks
        hidden, frames = encoders.encode(self.encoder, parts[role], masks[role])
        return {**parts, role: hidden}, {**masks, role: frames}

    def regress(self, parts: Parts, masks: Parts) -> BaselineOutput:
        """Frames by role -> answers; frames that are not there change nothing."""
        answers, heard = self.answers(parts, masks)
        mask = next(iter(masks.values()))
        if self.training:
            return BaselineOutput(answers.permute(2, 0, 1, 3).flatten(1), mask)
        return BaselineOutput(join(answers.mean(dim=1), heard, self._weights(answers)), mask)

    def answers(self, parts: Parts, masks: Parts) -> tuple[Tensor, Tensor]:
        """What each member says (member, fold, batch, target), and whether it heard anything (member, batch)."""
        answers, heard = [], []
        for name in self.members:
            folds: Any = self.members[name]
            answers.append(torch.stack([member(parts, masks) for member in folds]))
            heard.append(torch.stack([masks[role].any(dim=1) for role in folds[0].roles]).any(dim=0))
        said = torch.stack(answers).float()
        if self.config.target_std is not None and self.config.target_mean is not None:
            said = said * said.new_tensor(self.config.target_std) + said.new_tensor(self.config.target_mean)
        return said, torch.stack(heard)

    def wanted(self, targets: Tensor, items: Sequence[Item]) -> Tensor:
        """Labels (clip, target) -> (clip, member x fold x target): what each is to learn; NaN where a clip's speaker
        is in the fold that a model goes without."""
        folds = self.options.folds
        wide = targets[:, None, None].repeat(1, len(self.members), folds, 1)
        if folds > 1:
            without = torch.tensor([fold_of(item, folds) for item in items], device=targets.device)
            out = without[:, None] == torch.arange(folds, device=targets.device)
            wide = wide.masked_fill(out[:, None, :, None], torch.nan)
        return wide.flatten(1)

    def _weights(self, like: Tensor) -> Tensor:
        """(member, target)"""
        if self.config.weights is None:
            return like.new_ones(len(self.members), len(self.config.targets))
        return like.new_tensor([self.config.weights[name] for name in self.members])

    @torch.inference_mode()
    def predict(
        self, clips: Sequence[Clip], *, batch_seconds: float = 60.0, encoded: bool = True
    ) -> list[Prediction]:
        """One Prediction a clip, in order; dropout is off whatever the model's mode."""
        intensities, _ = self._answer_all(clips, batch_seconds=batch_seconds, encoded=encoded)
        return [Prediction(row, None, np.zeros(0)) for row in intensities]

    @torch.inference_mode()
    def predict_members(
        self, clips: Sequence[Clip], *, batch_seconds: float = 60.0, encoded: bool = True
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What each member answers alone (clip, member, target), and whether it heard the clip (clip, member)."""
        _, (answers, heard) = self._answer_all(clips, batch_seconds=batch_seconds, encoded=encoded)
        return answers, heard

    def _answer_all(
        self, clips: Sequence[Clip], *, batch_seconds: float, encoded: bool
    ) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        training = self.training
        self.eval()
        shape = len(clips), len(self.members), len(self.config.targets)
        joined = np.empty((shape[0], shape[2]), np.float32)
        answers, known = np.empty(shape, np.float32), np.empty(shape[:2], np.bool_)
        try:
            for rows in self.plan(
                [len(clip) for clip in clips], batch_seconds=batch_seconds, encoded=encoded
            ):
                said, heard = self.answers(*self.encode(*self.collate([clips[row] for row in rows])))
                means = said.mean(dim=1)
                joined[rows] = join(means, heard, self._weights(means)).cpu().numpy()
                answers[rows] = means.transpose(0, 1).cpu().numpy()
                known[rows] = heard.t().cpu().numpy()
        finally:
            self.train(training)
        return joined, (answers, known)

    # Loading

    @classmethod
    def fresh(
        cls, config: BaselineConfig, encoder: str | dict[str, Any] | None = None, layers: int | None = None
    ) -> Self:
        """A system at its start. encoder: behind a waveform, a pre-trained one, its first `layers` only, or the
        configuration of a fresh one. Raises ModelError."""
        if config.waveform is None or encoder is None:
            return cls(config)
        loaded = (
            None
            if isinstance(encoder, dict)
            else pretrained.read_encoder(encoder, layers=layers, local_files_only=False)
        )
        inner: Any = EmiConfig(encoder_config=encoder).encoder_config if loaded is None else loaded.config
        found = {
            "encoder_config": inner.to_diff_dict() | {"model_type": inner.model_type},
            "sizes": {**config.sizes, config.waveform: int(inner.hidden_size)},
            "do_normalize": config.do_normalize if loaded is None else loaded.do_normalize,
        }
        made = cls(config.model_copy(update=found))
        if loaded is not None:
            pretrained.fill(made.encoder, loaded.encoder, str(encoder))
        return made

    @staticmethod
    def config_of(folder: Path) -> BaselineConfig:
        """What a run's system is made of. Raises ModelError."""
        try:
            return BaselineConfig(**read_json(folder / "config.json"))
        except (OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"{folder} can't be loaded as a compared system: config.json: {reason}"
            ) from error

    @classmethod
    def open_run(cls, folder: Path, *, device: str | None = None) -> Self:
        """A finished system from its run's folder, ready to answer. Raises ModelError."""
        config = cls.config_of(folder)
        try:
            with torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
                model = cls(config)
            model.load_state_dict(load_file(folder / WEIGHTS), strict=True)
        except (OSError, ValueError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{folder} can't be loaded as a compared system: {reason}") from error
        return model.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def join(answers: Tensor, heard: Tensor, weights: Tensor) -> Tensor:
    """answers (member, batch, target), heard (member, batch), weights (member, target) -> (batch, target).

    The weighted mean of the members that heard the clip; of those alone that have no weight, their mean.
    """
    there = heard[:, :, None].to(answers.dtype)
    given = there * weights[:, None]
    given = torch.where(given.sum(dim=0) > 0, given, there)
    joined: Tensor = (given * answers).sum(dim=0) / given.sum(dim=0)
    return joined


def fold_of(item: Item, folds: int) -> int:
    """The fold of a clip's speaker (of the clip, where no speaker is known), whatever the other clips are."""
    return zlib.crc32((item.speaker or item.id).encode(errors="surrogateescape")) % folds
