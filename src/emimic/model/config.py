"""Configuration of a model: the paper's full one, and every component of its Table 2 as a switch."""

from collections.abc import Collection
from typing import Any

from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoConfig, PreTrainedConfig

from emimic.model import encoders, whisper
from emimic.model.branches import list_branches
from emimic.model.settings import ModelSettings
from emimic.task import EMOTIONS, SAMPLE_RATE, VAD, ModelError


@strict
class EmiConfig(ModelSettings, PreTrainedConfig):  # type: ignore[misc]
    """Configuration of an EmiModel; `ModelSettings` describes the fields that a training's settings have too.

    Attributes:
        encoder_config: a transformers configuration (or its dict) of one of `encoders.FAMILIES`.
        targets: names of the outputs, in order.
        vad_dropout: dropout inside the V/A/D head.
        vad_pretrained: the V/A/D head came with the encoder; with freeze_encoder it is frozen, too.
        vad_learned: the V/A/D head was trained on labels. V/A/D are predicted only with one of these two.
        categories: classes of an auxiliary linear layer beside the targets, for training only.
        do_normalize: scale each clip to zero mean and unit variance, after it is cut to max_seconds.
        domains: kinds of recordings, which a linear layer classifies from mean and std of a clip's frames.
        domain_targets: domain -> targets with a linear layer of their own, weighted by the domain's probability.
        target_mean, target_std: scale of the labels, (target,), where training saw z-scored targets.
    """

    model_type = "emimic"
    sub_configs = {"encoder_config": AutoConfig}  # noqa: RUF012 - the name and kind are transformers'

    encoder_config: dict[str, Any] | PreTrainedConfig | None = None
    targets: list[str] | tuple[str, ...] = EMOTIONS
    vision: dict[str, Any] | None = None  # type: ignore[assignment] # of `vision.make_config`
    text: dict[str, Any] | None = None  # type: ignore[assignment] # of `text.make_config`
    vad_dropout: float = 0.1
    vad_pretrained: bool = False
    vad_learned: bool = False
    categories: list[str] | tuple[str, ...] = ()
    do_normalize: bool = True
    domains: list[str] | tuple[str, ...] = ()
    domain_targets: dict[str, Any] | None = None
    target_mean: list[float] | None = None
    target_std: list[float] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.targets = list(self.targets)
        self.categories = list(self.categories)
        if self.audio:
            self.encoder_config = _read_encoder_config(self.encoder_config)
        else:
            self._remove_audio()
        self._check_components()
        self._check_domains()
        if self.audio:
            self._check_encoder(self.encoder_config)
        super().__post_init__(**kwargs)

    def _remove_audio(self) -> None:
        self.encoder_config, self.vad_head, self.vad_pretrained, self.vad_learned = None, False, False, False
        self.standardize_frames = False
        if not list_branches(self) or self.domains:
            raise ModelError(
                "audio is off, and there is no other branch, or domains, which are predicted from audio: set audio, "
                "or add vision or text without domains"
            )

    def _check_encoder(self, encoder: Any) -> None:
        self._check_layers(encoder)
        limit = encoders.compute_max_samples(encoder)
        if limit is not None and self.max_seconds * SAMPLE_RATE > limit:
            raise ModelError(
                f"max_seconds is {self.max_seconds:g}, this encoder takes at most {limit / SAMPLE_RATE:g} s: lower it"
            )

    def _check_components(self) -> None:
        if len(set(self.targets)) != len(self.targets) or not (self.targets or self.vad_head):
            raise ModelError(
                "targets must be one or more different names, or none for the V/A/D head alone; "
                f"found {self.targets}"
            )
        if self.audio and not (self.global_vector or self.lstm or self.attentive):
            raise ModelError(
                "global_vector, lstm and attentive are all off: switch one on, or no frame reaches the output"
            )
        if self.global_std and not self.global_vector:
            raise ModelError("global_std needs the mean: switch global_vector on, too")
        for name in ("head_units", "vad_units", "vad_seconds"):
            if (getattr(self, name) or 0) < 0:
                raise ModelError(f"{name} is {getattr(self, name)}; expected 0 or more")
        if self.bounded and self.target_std is not None:
            raise ModelError("bounded intensities can't be of z-scored targets: give one of the two")

    def _check_layers(self, encoder: Any) -> None:
        count = encoders.count_layers(encoder)
        if encoder.model_type == "whisper":
            whisper.check_relative(encoder)
        if self.frozen_layers and (encoder.model_type != "whisper" or not 0 < self.frozen_layers < count):
            raise ModelError(
                f"frozen_layers is {self.frozen_layers} with a {encoder.model_type} encoder of {count} layers; "
                f"expected 0, or 1 to {count - 1} with a whisper encoder: freeze_encoder freezes any encoder entirely"
            )
        if self.attention_seconds is not None and encoder.model_type != "whisper":
            raise ModelError(
                f"attention_seconds is set with a {encoder.model_type} encoder, expected a whisper encoder: "
                "leave it out"
            )
        probed = self.probe_layers or []
        if not set(probed) <= set(self.hidden_layers or ()):
            layers = "which are not set" if self.hidden_layers is None else self.hidden_layers
            raise ModelError(f"probe_layers are {probed}; expected some of hidden_layers, {layers}")
        self.probe_layers = probed or None
        if self.hidden_layers is None:
            return
        valid = sorted(set(self.hidden_layers) & set(range(1, count + 1)))
        if not self.hidden_layers or valid != self.hidden_layers:
            raise ModelError(
                f"hidden_layers are {self.hidden_layers}; expected some of 1 to {count}, in order"
            )

    def _check_domains(self) -> None:
        self.domains = list(self.domains)
        # Sorted as in a saved config.json, so that sums over domains have the same last bits after loading.
        self.domain_targets = {
            name: list(targets) for name, targets in sorted((self.domain_targets or {}).items())
        }
        if len(set(self.domains)) != len(self.domains) or len(self.domains) == 1:
            raise ModelError(f"domains are {self.domains}; expected two or more different names, or none")
        for name, targets in self.domain_targets.items():
            different = len(set(targets) & set(self.targets))
            if name not in self.domains or not targets or different < len(targets):
                raise ModelError(
                    f"domain_targets has {name}: {targets}; expected a name among domains, which are "
                    f"{', '.join(self.domains) or 'none'}, and different targets among {', '.join(self.targets)}"
                )
            if not name or "." in name or hasattr(nn.ModuleDict(), name):
                raise ModelError(
                    f"domain_targets has the domain {name!r}, which can't be part of a weight's name: rename it, "
                    "without a dot (in a training: corpora.FOLDER.domain)"
                )

    @property
    def reach(self) -> int | None:
        """Frames on either side that a frame attends to in each layer of the encoder; None: all."""
        if self.attention_seconds is None:
            return None
        return max(1, round(self.attention_seconds * SAMPLE_RATE / encoders.compute_hop(self.encoder_config)))

    @property
    def hidden_features(self) -> int:
        """Number of features of an encoder's frame: 1024 with the paper's, 0 without audio."""
        if not self.audio:
            return 0
        size = int(self.encoder_config.hidden_size)  # type: ignore[union-attr]
        return size * (1 if self.hidden_layers is None else len(self.hidden_layers))

    @property
    def probe_features(self) -> list[int]:
        """Indices of the features of probe_layers in a frame."""
        return self._list_features(self.probe_layers or self.hidden_layers or [0])

    def _list_features(self, chosen: Collection[int]) -> list[int]:
        layers = self.hidden_layers or [0]
        size = self.hidden_features // len(layers)
        return [
            feature
            for index, layer in enumerate(layers)
            if layer in chosen
            for feature in range(index * size, (index + 1) * size)
        ]

    @property
    def frame_features(self) -> int:
        """Number of features of a pooled frame: 1024, and 3 more with the V/A/D head (paper section 4)."""
        return self.hidden_features + (len(VAD) if self.vad_head else 0)

    @property
    def published_vad_head(self) -> bool:
        """True if the V/A/D head has the inputs and outputs of published ones, so that their weights fit it."""
        plain = self.hidden_layers is None and self.vad_units is None
        return self.vad_head and plain and not (self.standardize_frames or self.vad_bounded)

    @property
    def predicts_vad(self) -> bool:
        """True if the V/A/D head was trained on V/A/D, before or with this model."""
        return self.vad_head and (self.vad_pretrained or self.vad_learned)


def _read_encoder_config(config: Any) -> Any:
    """Return the transformers configuration of a dict, of a configuration, or by default of the paper's encoder."""
    config = encoders.PAPER_ENCODER if config is None else config
    if isinstance(config, dict):
        settings = dict(config)
        if "model_type" not in settings:
            raise ModelError(f"encoder_config has no model_type; give one of {', '.join(encoders.FAMILIES)}")
        encoders.check_family(str(settings["model_type"]))
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    encoders.check_family(config.model_type)
    return config


AutoConfig.register(EmiConfig.model_type, EmiConfig)
