"""The paper's model: a speech encoder, the V/A/D head per frame, global mean vector and LSTM, regression head.

Figure 4 and section 4 of the paper; every component of Table 2 is a switch of EmiConfig.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModel

from emimic import batching
from emimic.model import branches, encoders, loading, pooling, whisper
from emimic.model.config import EmiConfig
from emimic.model.encoder_model import EncoderModel
from emimic.model.heads import DomainHeads, TanhHead
from emimic.model.inputs import Inputs, get_audio, get_further
from emimic.model.loading import WEIGHTS as WEIGHTS
from emimic.model.output import EmiOutput, split_output
from emimic.model.transfer import move, move_mask
from emimic.prediction import Prediction
from emimic.task import SAMPLE_RATE, VAD, ModelError


class EmiModel(EncoderModel):
    """Model from waveforms to intensities; `EmiConfig` has its switches, `from_encoder` starts from a checkpoint."""

    config_class = EmiConfig
    base_model_prefix = "emimic"
    main_input_name = "input_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: EmiConfig) -> None:
        super().__init__(config)
        outputs = len(config.targets)
        if config.audio:
            self.encoder = encoders.build(config.encoder_config)
        if config.vad_head:
            self.vad = TanhHead(len(config.probe_features), len(VAD), config.vad_dropout, config.vad_units)
        if config.standardize_frames:
            self.register_buffer("frame_mean", torch.zeros(config.hidden_features))
            self.register_buffer("frame_std", torch.ones(config.hidden_features))
        self.branches = branches.build_all(config) if outputs else nn.ModuleDict()
        if outputs:
            if config.audio:
                self._add_poolings(config)
            width = sum(pool.width for pool in self.poolings)
            width += sum(branch.width for branch in self.branches.values())  # type: ignore[misc]
            head = TanhHead(width, outputs, config.head_dropout, config.head_units)
            self.head = head if config.regression_head else nn.Linear(width, outputs)
            if config.categories:
                last = head.out_proj.in_features if config.regression_head else width
                self.category = nn.Linear(last, len(config.categories))
            if config.domains:
                self.domains = DomainHeads(config)
        self.post_init()
        self._freeze()

    def _add_poolings(self, config: EmiConfig) -> None:
        features = config.frame_features
        if config.attentive:
            self.attention = pooling.AttentiveStatistics(features)
        if config.lstm:
            # torch warns of dropout where no second layer could use it.
            dropout = config.lstm_dropout if config.lstm_layers > 1 else 0.0
            units = config.lstm_units or features
            self.lstm = nn.LSTM(features, units, config.lstm_layers, batch_first=True, dropout=dropout)

    @property
    def poolings(self) -> list[pooling.Pooling]:
        """Poolings whose concatenated vectors the regression head reads, in order."""
        config, features = self.config, self.config.frame_features
        pools: list[pooling.Pooling] = []
        if not config.audio:
            return pools
        if config.global_vector:
            kind = pooling.MeanStd if config.global_std else pooling.Mean
            pools.append(kind(features))
        if config.attentive:
            pools.append(self.attention)
        if config.lstm:
            pools.append(pooling.LastOutput(self.lstm))
        return pools

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # The paper's heads are initialized as torch's modules; the encoder initializes itself.
        if isinstance(module, nn.Linear | nn.LSTM):
            module.reset_parameters()

    # Forward pass

    def regress(
        self,
        hidden: Tensor,
        frame_mask: Tensor,
        domains: Tensor | None = None,
        further: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> EmiOutput:
        """Return the outputs of hidden states; padded frames don't change them (paper section 4).

        Args:
            hidden: (batch, frame, feature), of `encode`.
            frame_mask: (batch, frame), true at real frames.
            domains: (batch,), number of each clip's domain, or -1 where the model predicts it; None: it predicts all.
            further: values and mask of each further branch, of `collate_further`.
        """
        hidden, vad, frames = self.prepare_frames(hidden, frame_mask)
        if not self.config.targets:
            return EmiOutput(intensities=hidden.new_empty(len(hidden), 0), vad=vad, frame_mask=frame_mask)
        pooled = None if self.training else pooling.compute_moments(hidden, frame_mask)
        moments = (
            pooling.compute_moments(self.select_probed(hidden), frame_mask) if self.config.domains else None
        )
        vectors = [pool(frames, frame_mask) for pool in self.poolings]
        vectors += [branch(*(further or {})[name]) for name, branch in self.branches.items()]
        intensities, logits, categories = self.regress_vector(torch.cat(vectors, dim=-1), moments, domains)
        return EmiOutput(
            intensities=intensities,
            vad=vad,
            frame_mask=frame_mask,
            categories=categories,
            domains=logits,
            pooled=pooled,
        )

    def prepare_frames(self, hidden: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return standardized hidden states, V/A/D, and the frames to pool, (batch, frame, ...) each."""
        hidden = self._standardize(hidden)
        has_vad = self.config.vad_head
        vad = self.finish_vad(self.compute_vad_logits(hidden), frame_mask) if has_vad else None
        frames = hidden if vad is None else torch.cat([hidden, vad], dim=-1)
        return hidden, vad, frames * frame_mask[..., None]

    def regress_vector(
        self, vector: Tensor, moments: Tensor | None, domains: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return intensities (batch, target), and logits of the domains and, in training, of the categories.

        Args:
            vector: (batch, width), the poolings' vectors, concatenated.
            moments: (batch, 2 * feature), mean and standard deviation of the probed features; None without domains.
            domains: as in `regress`.
        """
        if self.config.regression_head:
            last = self.head.compute_hidden(vector)  # type: ignore[operator]
            project: Any = self.head.out_proj
        else:
            last = nn.functional.dropout(vector, self.config.head_dropout, self.training)
            project = self.head
        categories = self.category(last) if self.training and self.config.categories else None
        intensities: Tensor = project(last)
        if self.config.bounded:
            intensities = intensities.sigmoid()
        logits = None
        if moments is not None:
            intensities, logits = self.domains(intensities, moments, domains)
        if self.config.target_std is not None:
            # Filled on the device: a copy from the host would make it wait.
            std, mean = (
                torch.stack([intensities.new_full((), value) for value in values])
                for values in (self.config.target_std, self.config.target_mean)
            )
            intensities = intensities * std + mean
        return intensities, logits, categories

    def compute_frozen_means(self, states: Tensor, frame_mask: Tensor) -> Tensor:
        """Return the domains' layers' and the V/A/D head's input, (batch, feature), from the frozen layers' outputs.

        All probe_layers must be frozen.
        """
        config = self.config
        layers = whisper.list_kept_layers(config.hidden_layers, config.frozen_layers)
        outputs = dict(zip(layers, states.chunk(len(layers), dim=-1), strict=True))
        probed = torch.cat([outputs[layer] for layer in config.probe_layers], dim=-1)
        if config.standardize_frames:
            features = config.probe_features
            probed = (probed - self.frame_mean[features]) / self.frame_std[features]
        return pooling.compute_moments(probed, frame_mask)[:, : probed.shape[-1]]

    def _standardize(self, hidden: Tensor) -> Tensor:
        return (hidden - self.frame_mean) / self.frame_std if self.config.standardize_frames else hidden

    def select_probed(self, hidden: Tensor) -> Tensor:
        """Return the features of probe_layers, of (..., feature)."""
        config = self.config
        if config.probe_layers is None:
            return hidden
        # Neighboring layers are one slice: picking features one by one took a quarter of the heads' time.
        size = len(config.probe_features) // len(config.probe_layers)
        starts = config.probe_features[::size]
        parts: list[tuple[int, int]] = []
        for start in starts:
            if parts and parts[-1][1] == start:
                parts[-1] = parts[-1][0], start + size
            else:
                parts.append((start, start + size))
        return torch.cat([hidden[..., start:end] for start, end in parts], dim=-1)

    def compute_vad_logits(self, hidden: Tensor) -> Tensor:
        """Return the V/A/D head's output for each (standardized) frame, (batch, frame, 3)."""
        return self.vad(self.select_probed(hidden))  # type: ignore[no-any-return]

    def finish_vad(self, logits: Tensor, frame_mask: Tensor) -> Tensor:
        """Return V/A/D of each frame, (batch, frame, 3): the head's outputs, smoothed and bounded as configured."""
        hop = encoders.compute_hop(self.config.encoder_config)
        width = 2 * round(self.config.vad_seconds * SAMPLE_RATE / hop / 2) + 1
        vad = pooling.smooth(logits, frame_mask, width) if width > 1 else logits
        return vad.sigmoid() if self.config.vad_bounded else vad

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> EmiOutput | tuple[Tensor, ...]:
        """Return the outputs of prepared clips, with the loss where there are labels, so that a `Trainer` drives it.

        Args:
            input_values: (batch, sample), at 16 kHz.
            attention_mask: (batch, sample), nonzero at real samples; None: all are.
            labels: (batch, target), NaN where unknown. The loss is their mean squared error (section 4);
                `emimic train` has the others.
            return_dict: false returns a tuple of the outputs that are not None.
        """
        output = self.regress(*self.encode(input_values, attention_mask))
        if labels is not None:
            labeled = ~labels.isnan()
            errors = (output.intensities.float() - labels.nan_to_num()).square() * labeled
            output = replace(output, loss=errors.sum() / labeled.sum().clamp(min=1))
        return output.to_tuple() if return_dict is False else output

    @torch.inference_mode()
    def predict(
        self,
        clips: Sequence[NDArray[Any] | Inputs],
        *,
        batch_seconds: float = 60.0,
        encoded: bool = False,
        hidden: bool = False,
    ) -> list[Prediction]:
        """Return one Prediction per clip, in the same order; dropout is off in either mode of the model.

        Args:
            clips: prepared clips, (sample,) float32 each, or the inputs of all branches.
            batch_seconds: maximum seconds of audio in a batch, after padding.
            encoded: the clips are hidden states of `encode`, (frame, feature) each.
            hidden: include the hidden states in the predictions.
        """
        training = self.training
        self.eval()
        predictions: dict[int, Prediction] = {}
        try:
            for rows in self.plan(clips, batch_seconds=batch_seconds, encoded=encoded):
                batch = [clips[i] for i in rows]
                states, mask = self.collate(batch)
                if not encoded:
                    states, mask = self.encode(states, mask)
                output = self.regress(states, mask, further=self.collate_further(batch))
                split = split_output(
                    output, states if hidden else None, self.compute_frame_times, self.config.predicts_vad
                )
                predictions.update(zip(rows, split, strict=True))
        finally:
            self.train(training)
        return [predictions[i] for i in range(len(clips))]

    def plan(
        self, clips: Sequence[NDArray[Any] | Inputs], *, batch_seconds: float, encoded: bool = False
    ) -> list[list[int]]:
        """Return the clips of each batch such that no batch changes a prediction.

        Args:
            clips: as in `predict`.
            batch_seconds: maximum seconds of audio in a batch, after padding.
            encoded: the clips are hidden states.
        """
        hop = encoders.compute_hop(self.config.encoder_config) if encoded and self.config.audio else 1
        return batching.plan(
            [len(clip) for clip in clips],
            budget=batching.compute_budget(batch_seconds, hop),
            equal=not (encoded or self.exact_under_padding),
            costs=[len(get_further(clip, "vision")) for clip in clips] if self.config.vision else (),
            limit=self.config.vision["batch_frames"] if self.config.vision else 0,
        )

    def collate_further(self, clips: Sequence[NDArray[Any] | Inputs]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return values (batch, step, ...) and mask (batch, step) of each further branch, on the model's device."""
        return branches.collate(self.branches, clips)  # type: ignore[arg-type]

    def collate(self, clips: Sequence[NDArray[Any] | Inputs]) -> tuple[Tensor, Tensor]:
        """Return values (batch, sample or frame, ...) and mask (batch, sample or frame) of the voices."""
        values, mask = batching.pad([get_audio(clip) for clip in clips])
        return (
            move(torch.from_numpy(values), self.device, self.dtype),
            move_mask(torch.from_numpy(mask), self.device),
        )

    # Loading

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Self:
        """Load a finished model from a folder or the hub, from safetensors only.

        Raises:
            ModelError: if `source` isn't an emimic model, is damaged, or has a missing or surplus weight, or another
                attention is asked for than sdpa or eager.
        """
        loading.check_folder(source)
        loading.check_attention(kwargs.get("attn_implementation"))
        try:
            with torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
                model, info = super().from_pretrained(
                    source,
                    *args,
                    **{
                        **kwargs,
                        "use_safetensors": True,
                        "output_loading_info": True,
                        "ignore_mismatched_sizes": True,  # check_loaded names them
                    },
                )
        except Exception as error:  # safetensors, JSON and hub errors have no other common base
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ModelError(f"{source} can't be loaded as an emimic model: {reason}") from error
        loading.check_loaded(source, info)
        for parameter in model.parameters():
            # Memory-mapped weights may be unaligned, which changes the last bits of products.
            parameter.data = parameter.data.clone()
        model._freeze()
        return (model, info) if kwargs.get("output_loading_info") else model  # type: ignore[return-value]

    @classmethod
    def open_run(cls, folder: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Load a model folder from disk in evaluation mode, without access to the hub.

        Args:
            folder: written by `emimic train`.
            device: torch's name ("cpu", "cuda", "mps"); None: a GPU if there is one.

        Raises:
            ModelError: if the folder holds no such model, or the device is unavailable.
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
        """Return a model with untrained heads on a pre-trained encoder from a folder or the hub (safetensors only).

        The V/A/D head of a checkpoint in the audeering layout is loaded, unless config asks for another kind of head
        (vad_units, vad_bounded, other frames).

        Args:
            source: folder, or name on the hub.
            layers: number of the encoder's first layers to keep (with its final layer norm); None: all.
            local_files_only: don't download.
            config: further fields of EmiConfig.

        Raises:
            ModelError: if files or weights are missing, or weights are left over.
        """
        from emimic.model import pretrained

        loaded = pretrained.read_encoder(source, layers=layers, local_files_only=local_files_only)
        config = {"do_normalize": loaded.do_normalize, **config}
        settings = EmiConfig(encoder_config=loaded.config, **config)
        has_vad = settings.vad_pretrained = loaded.vad is not None and settings.published_vad_head
        if has_vad and "vad_dropout" not in config:
            settings.vad_dropout = getattr(loaded.config, "final_dropout", 0.1)
        model = cls(settings)
        pretrained.fill(model.encoder, loaded.encoder, source)
        if has_vad and loaded.vad is not None:
            pretrained.fill(model.vad, loaded.vad, source)
        return model


AutoModel.register(EmiConfig, EmiModel)
