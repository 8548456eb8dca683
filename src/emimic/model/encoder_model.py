"""The part of the model around its encoder: what is frozen, frames and their times, and hidden states."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from emimic.media.waveform import ClipFormat
from emimic.model import encoders, whisper
from emimic.task import SAMPLE_RATE


class EncoderModel(PreTrainedModel):  # type: ignore[misc]
    """A model with a speech encoder (unless audio is off), a V/A/D head and further branches, as `EmiConfig` says."""

    encoder: nn.Module
    vad: nn.Module
    branches: nn.ModuleDict

    def _freeze(self) -> None:
        for branch in self.branches.values():
            branch.freeze()  # type: ignore[operator]
        if not self.config.audio:
            return
        if self.config.freeze_encoder:
            self.encoder.requires_grad_(False)
            if self.config.vad_head and self.config.vad_pretrained:
                self.vad.requires_grad_(False)
        elif self.config.frozen_layers:
            for module in self._list_frozen():
                module.requires_grad_(False)
        elif self.config.freeze_convolutions:
            if self.config.encoder_config.model_type == "whisper":
                self.encoder.conv1.requires_grad_(False)
                self.encoder.conv2.requires_grad_(False)
            else:
                # Not `freeze_feature_encoder`, which HuBERT's bare encoder doesn't have.
                self.encoder.feature_extractor._freeze_parameters()  # type: ignore[operator, union-attr]

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; a frozen encoder stays in evaluation mode (no dropout, no SpecAugment)."""
        super().train(mode)
        if not self.config.audio:
            return self
        for module in self._list_frozen() if self.config.frozen_layers else ():
            module.eval()
        if self.config.freeze_encoder:
            self.encoder.eval()
            if self.config.vad_head and self.config.vad_pretrained:
                self.vad.eval()
        return self

    def _list_frozen(self) -> list[nn.Module]:
        """Return the modules of a Whisper encoder up to the last frozen layer."""
        encoder: Any = self.encoder
        return [
            encoder.conv1,
            encoder.conv2,
            encoder.embed_positions,
            *encoder.layers[: self.config.frozen_layers],
        ]

    # Frame arithmetic

    def count_frames(self, samples: int) -> int:
        """Return the frames of a clip of `samples` samples (192,000 -> 599 with the paper's encoder)."""
        return encoders.count_frames(self.config.encoder_config, samples)

    @property
    def clip_format(self) -> ClipFormat:
        """The form of its clips; shorter ones are zero-padded to the encoder's smallest input.

        With padding="zeros" they are padded to max_seconds: all batches are of one length, and masks hide nothing.
        """
        config = self.config
        if not config.audio:
            return ClipFormat(config.max_seconds, config.do_normalize, 0)
        longest = round(config.max_seconds * SAMPLE_RATE) if config.padding == "zeros" else 0
        shortest = max(encoders.compute_min_samples(config.encoder_config), longest)
        return ClipFormat(config.max_seconds, config.do_normalize, shortest)

    @property
    def exact_under_padding(self) -> bool:
        """False if a batch may hold only clips of equal length (`batching.plan(equal=True)`)."""
        return not self.config.audio or encoders.is_exact_under_padding(self.config.encoder_config)

    def compute_frame_times(self, frames: int) -> NDArray[np.float64]:
        """Return the center of each frame of audio in seconds, (frame,); there is none without audio."""
        if not self.config.audio:
            return np.zeros(0)
        return encoders.compute_frame_times(self.config.encoder_config, frames)

    # Encoding

    def encode(
        self, input_values: Tensor, attention_mask: Tensor | None = None, reach: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return hidden states (batch, frame, feature) and mask (batch, frame) of samples (batch, sample) at 16 kHz.

        Args:
            input_values: (batch, sample).
            attention_mask: (batch, sample), nonzero at real samples; None: all are.
            reach: frames on either side that a frame attends to, at most; see `attention_seconds`.
        """
        limits = [limit for limit in (reach, self.config.reach) if limit is not None]
        mask = torch.ones_like(input_values) if attention_mask is None else attention_mask
        if not self.config.audio:
            return input_values.new_zeros(len(input_values), 0, 0), mask.bool()[:, :0]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_encoder):
            return encoders.encode(
                self.encoder,
                input_values,
                mask.bool(),
                self.config.hidden_layers,
                self.config.frozen_layers,
                min(limits, default=None),
            )

    @torch.no_grad()
    def encode_frozen(self, input_values: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the frozen layers, from which `encode_rest` continues, and the frame mask."""
        config, mask = self.config, attention_mask.bool()
        count = encoders.count_frames(config.encoder_config, input_values.shape[1])
        frames = encoders.compute_frame_mask(config.encoder_config, mask, count)
        states = whisper.encode_frozen(
            self.encoder,
            input_values,
            mask,
            frames,
            config.hidden_layers,
            config.frozen_layers,
            config.reach,
        )
        return states, frames

    def encode_rest(self, states: Tensor, frame_mask: Tensor) -> Tensor:
        """Return the hidden states of `encode`, (batch, frame, feature), from the outputs of the frozen layers."""
        config = self.config
        return whisper.encode_rest(
            self.encoder,
            states,
            frame_mask,
            config.hidden_layers,
            config.frozen_layers,
            config.reach,
        )
