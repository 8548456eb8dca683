"""What a model is made of: the paper's full one, and every component of its Table 2 as a switch."""

from collections.abc import Collection
from typing import Any

from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoConfig, PreTrainedConfig

from emimic.model import encoders
from emimic.task import EMOTIONS, MAX_SECONDS, SAMPLE_RATE, VAD, ModelError


@strict
class EmiConfig(PreTrainedConfig):  # type: ignore[misc]
    """What an EmiModel is made of; the defaults are the paper's full model (Table 2, last row).

    encoder_config: a transformers configuration (or its dict) of one of `encoders.FAMILIES`.
    targets: names of the outputs, in order. global_vector, lstm, regression_head, vad_head: the switches of Table 2;
    without the regression head one linear layer maps to the targets. global_spread: the standard deviation over frames
    beside their mean. lstm_units: None takes as many as a frame has features, as the paper. lstm_dropout acts between
    the LSTM's layers, vad_dropout inside the VAD head, head_dropout in what comes after the poolings (the
    paper has none there).
    freeze_encoder: the encoder (with the VAD head, when that came pre-trained with it) isn't trained and runs without
    dropout. freeze_convolutions: the encoder's convolution stack isn't trained. vad_pretrained: the VAD head came with
    the encoder; vad_learned: it was trained on labels; only with one of them is VAD answered. categories: classes of an
    auxiliary linear layer beside the targets, for training only. max_seconds and do_normalize: how a clip is prepared
    (cut, then zero mean and unit variance). padding: "masked"; or "zeros": every clip is then filled up with zeros to
    max_seconds, which nothing masks (paper section 6.2), while learning and while answering; or "zeros-batch": to the
    longest clip of a step, while learning only, since what a clip's prediction is can't depend on others.
    hidden_layers: the encoder layers, counted from 1, whose outputs side by side are a frame (None: the last hidden
    states, as the paper). standardize_frames: each feature of a frame is brought to zero mean and unit variance over
    the training clips, by numbers that the model carries. attentive: attentive statistics pooling beside the others.
    head_units: width of the regression head's dense layer (None: as wide as its input, as the paper). bounded: a
    sigmoid keeps what the regression head says within [0, 1].
    probe_layers: those of hidden_layers that the V/A/D head and the domains' layers read (None: all). frozen_layers:
    the encoder up to and with this layer isn't trained and runs without dropout.
    vad_units: the same of the V/A/D head; 0 leaves it linear. vad_seconds: V/A/D are the means of what the head says
    over so many seconds around a frame (0: of the frame alone, as the paper). vad_bounded: a sigmoid keeps V/A/D
    within [0, 1].
    domains: kinds of recording, told apart by a linear layer on mean and standard deviation of a clip's frames;
    domain_targets: domain -> targets for which it has a linear layer of its own there, weighted by how probable the
    domain is; elsewhere, and for the other targets, the regression head predicts.
    target_mean, target_std: when training saw z-scored targets, what brings the outputs back to the labels' scale.
    """

    model_type = "emimic"
    sub_configs = {"encoder_config": AutoConfig}  # noqa: RUF012 - the name and kind are transformers'

    encoder_config: dict[str, Any] | PreTrainedConfig | None = None
    targets: list[str] | tuple[str, ...] = EMOTIONS
    global_vector: bool = True
    global_spread: bool = False
    lstm: bool = True
    regression_head: bool = True
    vad_head: bool = True
    lstm_layers: int = 2
    lstm_units: int | None = None
    lstm_dropout: float = 0.1
    vad_dropout: float = 0.1
    vad_pretrained: bool = False
    vad_learned: bool = False
    head_dropout: float = 0.0
    categories: list[str] | tuple[str, ...] = ()
    freeze_encoder: bool = False
    freeze_convolutions: bool = False
    max_seconds: float = MAX_SECONDS
    do_normalize: bool = True
    padding: str = "masked"
    hidden_layers: list[int] | tuple[int, ...] | None = None
    probe_layers: list[int] | tuple[int, ...] | None = None
    frozen_layers: int = 0
    standardize_frames: bool = False
    attentive: bool = False
    head_units: int | None = None
    bounded: bool = False
    vad_units: int | None = None
    vad_seconds: float = 0.0
    vad_bounded: bool = False
    domains: list[str] | tuple[str, ...] = ()
    domain_targets: dict[str, Any] | None = None
    target_mean: list[float] | None = None
    target_std: list[float] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        found = encoders.PAPER_ENCODER if self.encoder_config is None else self.encoder_config
        if isinstance(found, dict):
            settings = dict(found)
            if "model_type" not in settings:
                raise ModelError(
                    f"encoder_config has no model_type; give one of {', '.join(encoders.FAMILIES)}"
                )
            encoders.check_family(str(settings["model_type"]))
            found = AutoConfig.for_model(settings.pop("model_type"), **settings)
        encoders.check_family(found.model_type)
        self.encoder_config = found
        self.targets = list(self.targets)
        self.categories = list(self.categories)
        if len(set(self.targets)) != len(self.targets) or not (self.targets or self.vad_head):
            raise ModelError(
                f"targets must be one or more different names, or none for the VAD head alone; found {self.targets}"
            )
        if not (self.global_vector or self.lstm or self.attentive):
            raise ModelError(
                "global_vector, lstm and attentive are all off: switch one on, or no frame reaches the output"
            )
        if self.global_spread and not self.global_vector:
            raise ModelError("global_spread stands beside the mean: switch global_vector on, too")
        if self.padding not in ("masked", "zeros", "zeros-batch"):
            raise ModelError(f"padding is {self.padding!r}; expected masked, zeros or zeros-batch")
        self._check_layers(found)
        self._check_domains()
        for name in ("head_units", "vad_units", "vad_seconds"):
            if (getattr(self, name) or 0) < 0:
                raise ModelError(f"{name} is {getattr(self, name)}; expected 0 or more")
        limit = encoders.max_samples(found)
        if limit is not None and self.max_seconds * SAMPLE_RATE > limit:
            raise ModelError(
                f"max_seconds is {self.max_seconds:g}, this encoder takes at most {limit / SAMPLE_RATE:g} s: lower it"
            )
        super().__post_init__(**kwargs)

    def _check_layers(self, encoder: Any) -> None:
        if self.bounded and self.target_std is not None:
            raise ModelError("bounded intensities can't be of z-scored targets: give one of the two")
        count = encoders.num_layers(encoder)
        if self.frozen_layers and (encoder.model_type != "whisper" or not 0 < self.frozen_layers < count):
            raise ModelError(
                f"frozen_layers is {self.frozen_layers} with a {encoder.model_type} encoder of {count} layers; "
                f"expected 0, or 1 to {count - 1} with a whisper encoder: freeze_encoder freezes any as a whole"
            )
        probed = list(self.probe_layers or ())
        if not set(probed) <= set(self.hidden_layers or ()):
            known = "which are not set" if self.hidden_layers is None else list(self.hidden_layers)
            raise ModelError(f"probe_layers are {probed}; expected some of hidden_layers, {known}")
        self.probe_layers = probed or None
        if self.hidden_layers is None:
            return
        self.hidden_layers = list(self.hidden_layers)
        if (
            not self.hidden_layers
            or sorted(set(self.hidden_layers) & set(range(1, count + 1))) != self.hidden_layers
        ):
            raise ModelError(
                f"hidden_layers are {self.hidden_layers}; expected some of 1 to {count}, in order"
            )

    def _check_domains(self) -> None:
        self.domains = list(self.domains)
        # In the order that a saved config.json brings them back in: sums then have the same last bits.
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
                    f"domain_targets has the domain {name!r}, by which no weights can be named: call it otherwise, "
                    "without a dot (in a training: corpora.FOLDER.domain)"
                )

    @property
    def hidden_features(self) -> int:
        """Features of a frame as the encoder gives it: 1024 with the paper's."""
        size = int(self.encoder_config.hidden_size)  # type: ignore[union-attr]
        return size * (1 if self.hidden_layers is None else len(self.hidden_layers))

    @property
    def probe_features(self) -> list[int]:
        """Where the features of probe_layers are in a frame."""
        return self._features_of(self.probe_layers or self.hidden_layers or [0])

    def _features_of(self, wanted: Collection[int]) -> list[int]:
        layers = self.hidden_layers or [0]
        size = self.hidden_features // len(layers)
        return [
            i
            for place, layer in enumerate(layers)
            if layer in wanted
            for i in range(place * size, (place + 1) * size)
        ]

    @property
    def frame_features(self) -> int:
        """Features of a frame as the poolings see it: 1024, and 3 more with the VAD head (paper section 4)."""
        return self.hidden_features + (len(VAD) if self.vad_head else 0)

    @property
    def published_vad_head(self) -> bool:
        """Whether the V/A/D head reads and says what published ones do, so that its weights fit another model's."""
        plain = self.hidden_layers is None and self.vad_units is None
        return self.vad_head and plain and not (self.standardize_frames or self.vad_bounded)

    @property
    def predicts_vad(self) -> bool:
        """Whether the VAD head's outputs are VAD; a head that started fresh is only a part of the model."""
        return self.vad_head and (self.vad_pretrained or self.vad_learned)


AutoConfig.register(EmiConfig.model_type, EmiConfig)
