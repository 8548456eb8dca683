"""The paper's model: a speech encoder, the VAD head per frame, global mean vector and LSTM, regression head.

Figure 4 and section 4 of the paper; every component of Table 2 is a switch of EmiConfig.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from emimic import batching
from emimic.files import read_json
from emimic.model import encoders, pooling, recurrent
from emimic.model.config import EmiConfig
from emimic.model.pooling import AttentiveStatistics
from emimic.prediction import Prediction
from emimic.task import SAMPLE_RATE, VAD, ModelError

WEIGHTS: Final = "model.safetensors"


@dataclass
class EmiOutput(ModelOutput):  # type: ignore[misc]
    """intensities (batch, target), unbounded but where the configuration says so; vad (batch, frame, 3) in the order
    arousal, dominance, valence, or None without the VAD head; frame_mask (batch, frame), true where a frame is real;
    categories (batch, category), logits of the auxiliary task, when there is one; domains (batch, domain), logits,
    when there are any; pooled (batch, 2 * feature), mean and standard deviation over real frames, outside training."""

    # transformers wants a default for every field but the first; these two are always there.
    intensities: Tensor = None  # type: ignore[assignment]
    frame_mask: Tensor = None  # type: ignore[assignment]
    vad: Tensor | None = None
    categories: Tensor | None = None
    domains: Tensor | None = None
    pooled: Tensor | None = None


class TanhHead(nn.Module):
    """Dense layer, tanh, projection (the layout of the audeering checkpoint's `classifier`, paper section 4)."""

    def __init__(self, features: int, outputs: int, dropout: float = 0.0, units: int | None = None) -> None:
        super().__init__()
        units = features if units is None else units
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(features, units) if units else None
        self.out_proj = nn.Linear(units or features, outputs)

    def hidden(self, features: Tensor) -> Tensor:
        """(..., feature) -> (..., unit): what the projection sees; without units the features themselves."""
        features = self.dropout(features)
        return features if self.dense is None else self.dropout(torch.tanh(self.dense(features)))

    def forward(self, features: Tensor) -> Tensor:
        """(..., feature) -> (..., output)."""
        return self.out_proj(self.hidden(features))  # type: ignore[no-any-return]


class DomainHeads(nn.Module):
    """What kind of recording a clip is, and the targets that a kind has a linear layer of its own for.

    Both read the mean and the standard deviation of a clip's (standardized) frames, as ridge regression on frozen
    features does: on speech of few speakers such a layer carries over to other languages, where a deeper head that
    learns from other recordings too does not.
    """

    def __init__(self, config: EmiConfig) -> None:
        super().__init__()
        features = 2 * len(config.probe_features)
        self.dropout = nn.Dropout(config.head_dropout)
        self.domain = nn.Linear(features, len(config.domains))
        own = config.domain_targets or {}
        self.own = nn.ModuleDict({name: nn.Linear(features, len(targets)) for name, targets in own.items()})
        # Domain -> its place, and the places of its targets among all.
        self.places = {
            name: (config.domains.index(name), [list(config.targets).index(target) for target in targets])
            for name, targets in own.items()
        }

    def forward(
        self, intensities: Tensor, hidden: Tensor, frame_mask: Tensor, domains: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return intensities (batch, target) with the domains' own in their place, and logits (batch, domain).

        intensities: of the regression head. hidden (batch, frame, feature), frame_mask (batch, frame). domains:
        (batch,), the known ones, else -1; None where none is known.
        """
        moments = self.dropout(pooling.moments(hidden, frame_mask))
        logits = self.domain(moments)
        weights = logits.softmax(dim=-1)
        if domains is not None:
            known = nn.functional.one_hot(domains.clamp(min=0), logits.shape[1]).to(weights.dtype)
            weights = torch.where((domains >= 0)[:, None], known, weights)
        common = intensities.unbind(dim=1)
        columns = list(common)
        for name, (domain, targets) in self.places.items():
            for target, own in zip(targets, self.own[name](moments).unbind(dim=1), strict=True):
                columns[target] = columns[target] + weights[:, domain] * (own - common[target])
        return torch.stack(columns, dim=1), logits


class EmiModel(PreTrainedModel):  # type: ignore[misc]
    """Waveforms in, intensities out; see EmiConfig for the switches and `from_encoder` to start from a checkpoint."""

    config_class = EmiConfig
    base_model_prefix = "emimic"
    main_input_name = "input_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: EmiConfig) -> None:
        super().__init__(config)
        features, outputs = config.frame_features, len(config.targets)
        self.encoder = encoders.build(config.encoder_config)
        if config.vad_head:
            self.vad = TanhHead(len(config.probe_features), len(VAD), config.vad_dropout, config.vad_units)
        if config.standardize_frames:
            self.register_buffer("frame_mean", torch.zeros(config.hidden_features))
            self.register_buffer("frame_std", torch.ones(config.hidden_features))
        pooled = features * (config.global_vector * (1 + config.global_spread) + 2 * config.attentive)
        if config.attentive and outputs:
            self.attention = AttentiveStatistics(features)
        if config.lstm and outputs:
            # torch warns of dropout where no second layer could use it.
            dropout = config.lstm_dropout if config.lstm_layers > 1 else 0.0
            units = config.lstm_units or features
            self.lstm = nn.LSTM(features, units, config.lstm_layers, batch_first=True, dropout=dropout)
            pooled += units
        if outputs:
            head = TanhHead(pooled, outputs, config.head_dropout, config.head_units)
            self.head = head if config.regression_head else nn.Linear(pooled, outputs)
            if config.categories:
                last = head.out_proj.in_features if config.regression_head else pooled
                self.category = nn.Linear(last, len(config.categories))
            if config.domains:
                self.domains = DomainHeads(config)
        self.post_init()
        self._freeze()

    def _freeze(self) -> None:
        if self.config.freeze_encoder:
            self.encoder.requires_grad_(False)
            if self.config.vad_head and self.config.vad_pretrained:
                self.vad.requires_grad_(False)
        elif self.config.frozen_layers:
            for part in self._frozen_parts():
                part.requires_grad_(False)
        elif self.config.freeze_convolutions:
            if self.config.encoder_config.model_type == "whisper":
                self.encoder.conv1.requires_grad_(False)
                self.encoder.conv2.requires_grad_(False)
            else:
                # Not `freeze_feature_encoder`, which HuBERT's bare encoder lacks.
                self.encoder.feature_extractor._freeze_parameters()  # type: ignore[operator, union-attr]

    def train(self, mode: bool = True) -> Self:
        """As torch's; a frozen encoder stays in evaluation mode (no dropout, no SpecAugment)."""
        super().train(mode)
        for part in self._frozen_parts() if self.config.frozen_layers else ():
            part.eval()
        if self.config.freeze_encoder:
            self.encoder.eval()
            if self.config.vad_head and self.config.vad_pretrained:
                self.vad.eval()
        return self

    def _frozen_parts(self) -> list[nn.Module]:
        """The parts of a Whisper encoder up to the last frozen layer."""
        encoder: Any = self.encoder
        return [
            encoder.conv1,
            encoder.conv2,
            encoder.embed_positions,
            *encoder.layers[: self.config.frozen_layers],
        ]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # The paper's heads are plain torch modules, so they start as torch starts them; the encoder starts itself.
        if isinstance(module, nn.Linear | nn.LSTM):
            module.reset_parameters()

    # Frame arithmetic

    def num_frames(self, samples: int) -> int:
        """Frames of a clip of `samples` samples (192,000 -> 599 with the paper's encoder)."""
        return encoders.num_frames(self.config.encoder_config, samples)

    @property
    def receptive_field(self) -> int:
        """Samples one frame sees before attention (400 with the paper's encoder)."""
        return encoders.receptive_field(self.config.encoder_config)

    @property
    def min_samples(self) -> int:
        """What shorter clips are filled up to with zeros, in samples: the encoder's smallest input, or with the padding
        "zeros" the longest clip, so that batches are of one length and no mask has anything to hide."""
        longest = round(self.config.max_seconds * SAMPLE_RATE) if self.config.padding == "zeros" else 0
        return max(encoders.min_samples(self.config.encoder_config), longest)

    @property
    def exact_under_padding(self) -> bool:
        """False when only clips of equal length may share a batch (`buckets.plan(equal=True)`)."""
        return encoders.is_exact_under_padding(self.config.encoder_config)

    def frame_times(self, frames: int) -> NDArray[np.float64]:
        """Center of each frame in seconds, (frame,)."""
        return encoders.frame_times(self.config.encoder_config, frames)

    # The way of a batch

    def encode(self, input_values: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Prepared samples (batch, sample) at 16 kHz -> hidden states (batch, frame, feature), mask (batch, frame)."""
        mask = torch.ones_like(input_values) if attention_mask is None else attention_mask
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_encoder):
            return encoders.run(
                self.encoder, input_values, mask.bool(), self.config.hidden_layers, self.config.frozen_layers
            )

    @torch.no_grad()
    def encode_frozen(self, input_values: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """As `encode`, but the outputs of the frozen layers alone, which `encode_rest` goes on from."""
        layers, frozen = self.config.hidden_layers, self.config.frozen_layers
        return encoders.run_frozen(self.encoder, input_values, attention_mask.bool(), layers, frozen)

    def encode_rest(self, states: Tensor, frame_mask: Tensor) -> Tensor:
        """Outputs of the frozen layers -> the hidden states that `encode` gives, (batch, frame, feature)."""
        return encoders.run_rest(
            self.encoder, states, frame_mask, self.config.hidden_layers, self.config.frozen_layers
        )

    def regress(self, hidden: Tensor, frame_mask: Tensor, domains: Tensor | None = None) -> EmiOutput:
        """Hidden states (batch, frame, feature) -> EmiOutput; padded frames change nothing (paper section 4).

        domains: (batch,) the number of each clip's domain where that is known, else -1: the model's own guess.
        """
        hidden = self._standardized(hidden)
        vad = self._vad(hidden, frame_mask) if self.config.vad_head else None
        if not self.config.targets:
            return EmiOutput(intensities=hidden.new_empty(len(hidden), 0), vad=vad, frame_mask=frame_mask)
        pooled = None if self.training else pooling.moments(hidden, frame_mask)
        frames = hidden if vad is None else torch.cat([hidden, vad], dim=-1)
        frames = frames * frame_mask[..., None]
        last = self._pooled(frames, frame_mask)
        if self.config.regression_head:
            last = self.head.hidden(last)  # type: ignore[operator]
        else:
            last = nn.functional.dropout(last, self.config.head_dropout, self.training)
        output = self.head.out_proj if self.config.regression_head else self.head
        answer: Tensor = output(last)  # type: ignore[operator]
        if self.config.bounded:
            answer = answer.sigmoid()
        categories = self.category(last) if self.training and self.config.categories else None
        logits = None
        if self.config.domains:
            answer, logits = self.domains(answer, self._probed(hidden), frame_mask, domains)
            if self.config.bounded:
                answer = answer.clamp(0.0, 1.0)
        if self.config.target_std is not None:
            answer = answer * answer.new_tensor(self.config.target_std)
            answer = answer + answer.new_tensor(self.config.target_mean)
        return EmiOutput(
            intensities=answer,
            vad=vad,
            frame_mask=frame_mask,
            categories=categories,
            domains=logits,
            pooled=pooled,
        )

    def _pooled(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """What the regression head reads of a clip, (batch, feature)."""
        parts = []
        if self.config.global_vector:
            parts.append(pooling.mean(frames, frame_mask))
            if self.config.global_spread:
                parts.append(pooling.std(frames, frame_mask, parts[0]))
        if self.config.attentive:
            parts.append(self.attention(frames, frame_mask))
        if self.config.lstm:
            parts.append(recurrent.last_outputs(self.lstm, frames, frame_mask))
        return torch.cat(parts, dim=-1)

    def frozen_moments(self, states: Tensor, frame_mask: Tensor) -> Tensor:
        """Outputs of the frozen layers -> what the domains' layers read of a clip, (batch, 2 * feature), where
        probe_layers are among those; the V/A/D head reads the first half."""
        config = self.config
        kept = encoders.kept_layers(config.hidden_layers, config.frozen_layers)
        outputs = dict(zip(kept, states.chunk(len(kept), dim=-1), strict=True))
        probed = torch.cat([outputs[layer] for layer in config.probe_layers], dim=-1)
        if config.standardize_frames:
            places = config.probe_features
            probed = (probed - self.frame_mean[places]) / self.frame_std[places]
        return pooling.moments(probed, frame_mask)

    def _standardized(self, hidden: Tensor) -> Tensor:
        return (hidden - self.frame_mean) / self.frame_std if self.config.standardize_frames else hidden

    def _probed(self, hidden: Tensor) -> Tensor:
        """The features of the layers that V/A/D and the domains' layers read."""
        return hidden if self.config.probe_layers is None else hidden[..., self.config.probe_features]

    def _vad(self, hidden: Tensor, frame_mask: Tensor) -> Tensor:
        """V/A/D of each frame, (batch, frame, 3)."""
        width = (
            2 * round(self.config.vad_seconds * SAMPLE_RATE / encoders.hop(self.config.encoder_config) / 2)
            + 1
        )
        vad = self.vad(self._probed(hidden))
        if width > 1:
            vad = pooling.smooth(vad, frame_mask, width)
        return vad.sigmoid() if self.config.vad_bounded else vad

    def forward(self, input_values: Tensor, attention_mask: Tensor | None = None) -> EmiOutput:
        """input_values: prepared clips at 16 kHz; attention_mask: nonzero where they are real; (batch, sample) both."""
        return self.regress(*self.encode(input_values, attention_mask))

    @torch.inference_mode()
    def predict(
        self,
        clips: Sequence[NDArray[Any]],
        *,
        batch_seconds: float = 60.0,
        encoded: bool = False,
        hidden: bool = False,
    ) -> list[Prediction]:
        """Prepared clips, (sample,) float32 each -> one Prediction a clip, in the same order.

        batch_seconds: the most audio of a batch after padding. encoded: the clips are hidden states
        (frame, feature) that `encode` gave before. hidden: also hand those out. Dropout is off whatever the
        model's mode.
        """
        training = self.training
        self.eval()
        answers: dict[int, Prediction] = {}
        try:
            for rows in self.plan(
                [len(clip) for clip in clips], batch_seconds=batch_seconds, encoded=encoded
            ):
                states, mask = self.collate([clips[i] for i in rows])
                if not encoded:
                    states, mask = self.encode(states, mask)
                output = self.regress(states, mask)
                answers.update(zip(rows, self._split(output, states if hidden else None), strict=True))
        finally:
            self.train(training)
        return [answers[i] for i in range(len(clips))]

    def plan(self, lengths: Sequence[int], *, batch_seconds: float, encoded: bool = False) -> list[list[int]]:
        """Which clips (of `lengths` samples, or frames when encoded) share a batch without changing an answer."""
        hop = encoders.hop(self.config.encoder_config) if encoded else 1
        budget = batching.budget(batch_seconds, hop)
        return batching.plan(lengths, budget=budget, equal=not (encoded or self.exact_under_padding))

    def collate(self, clips: Sequence[NDArray[Any]]) -> tuple[Tensor, Tensor]:
        """Clips -> padded values (batch, sample or frame, ...) and mask (batch, sample or frame) where the model is."""
        values, mask = batching.pad(clips)
        return torch.from_numpy(values).to(self.device, self.dtype), torch.from_numpy(mask).to(self.device)

    def _split(self, output: EmiOutput, hidden: Tensor | None) -> list[Prediction]:
        """A batch's output -> one Prediction a row, without the padded frames."""

        def array(tensor: Tensor) -> NDArray[np.float32]:
            return tensor.float().cpu().numpy()

        counts = output.frame_mask.sum(dim=1).tolist()
        return [
            Prediction(
                intensities=array(output.intensities[row]),
                vad=array(output.vad[row, :count]) if self.config.predicts_vad else None,  # type: ignore[index]
                times=self.frame_times(count),
                hidden=None if hidden is None else array(hidden[row, :count]),
                pooled=None if output.pooled is None else array(output.pooled[row]),
            )
            for row, count in enumerate(counts)
        ]

    # Loading

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Self:
        """A finished model from a folder or the hub: safetensors only, every weight accounted for.

        Raises ModelError when `source` isn't an emimic model, is damaged, or lacks or exceeds the model's weights.
        """
        _check_folder(source)
        try:
            with torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
                model, info = super().from_pretrained(
                    source,
                    *args,
                    **{
                        **kwargs,
                        "use_safetensors": True,
                        "output_loading_info": True,
                        "ignore_mismatched_sizes": True,  # so that they are named below
                    },
                )
        except Exception as error:  # safetensors, JSON and hub errors share no other base
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ModelError(f"{source} can't be loaded as an emimic model: {reason}") from error
        wrong = {
            kind: sorted(map(str, names)) for kind, names in info.items() if kind != "error_msgs" and names
        }
        if wrong:
            raise ModelError(f"{source} doesn't fit its own config.json: {wrong}; train or download it again")
        for parameter in model.parameters():
            # Mapped weights lie wherever the file has them, and unaligned ones give other last bits.
            parameter.data = parameter.data.clone()
        model._freeze()
        return (model, info) if kwargs.get("output_loading_info") else model  # type: ignore[return-value]

    @classmethod
    def open_run(cls, folder: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """A model folder on this computer, ready to answer; the hub is never asked.

        device: as torch names it ("cpu", "cuda", "mps"); None takes a GPU where there is one. Raises ModelError.
        """
        if not Path(folder).is_dir():
            raise ModelError(f"{folder} is no folder; expected a run folder written by emimic train")
        model = cls.from_pretrained(folder, local_files_only=True).eval()
        try:
            return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[no-any-return]
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"device {device!r} can't be used here: {error}") from error

    @classmethod
    def from_encoder(
        cls,
        source: str | os.PathLike[str],
        *,
        layers: int | None = None,
        local_files_only: bool = False,
        **config: Any,
    ) -> Self:
        """The paper's head, fresh, on a pre-trained encoder from a folder or the hub (safetensors only).

        A checkpoint in the audeering layout brings its VAD head along, unless config asks for another kind of head
        (vad_units, vad_bounded, other frames). layers: keep the encoder's first layers only
        (its final layer norm stays). config: further EmiConfig fields. Raises ModelError when files are missing or
        a weight is missing or left over.
        """
        from emimic.model import pretrained

        loaded = pretrained.read_encoder(source, layers=layers, local_files_only=local_files_only)
        config = {"do_normalize": loaded.do_normalize, **config}
        made = EmiConfig(encoder_config=loaded.config, **config)
        has_vad = made.vad_pretrained = loaded.vad is not None and made.published_vad_head
        if has_vad and "vad_dropout" not in config:
            made.vad_dropout = getattr(loaded.config, "final_dropout", 0.1)
        model = cls(made)
        pretrained.fill(model.encoder, loaded.encoder, source)
        if has_vad and loaded.vad is not None:
            pretrained.fill(model.vad, loaded.vad, source)
        return model


def _check_folder(source: str | os.PathLike[str]) -> None:
    """Name what is wrong with a local model folder before transformers does in its own words."""
    folder = Path(source)
    if not folder.exists():
        return  # a name on the hub, or transformers says that there is nothing
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file; expected a model folder with config.json and {WEIGHTS}")
    for name in ("config.json", WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder} has no {name}; expected a model folder written by emimic train")
    try:
        found = read_json(folder / "config.json").get("model_type")
    except (ValueError, AttributeError) as error:
        raise ModelError(
            f"{folder / 'config.json'} isn't a JSON object ({error}); the folder is damaged"
        ) from error
    if found == "emimic-baseline":
        raise ModelError(
            f"{folder} is a run of a compared system, which hears features: use emimic evaluate or emimic submit"
        )
    if found != EmiConfig.model_type:
        raise ModelError(
            f"{folder} holds a model of type {found!r}, expected {EmiConfig.model_type!r}: "
            "a bare encoder starts a training run (encoder=...), it isn't a finished model"
        )


AutoModel.register(EmiConfig, EmiModel)
