"""Configuration of a training run: every value documented, saved with the run; the defaults are the paper's."""

from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, field_validator

from emimic.baselines.system import get_system
from emimic.data.corpus_settings import ContextSettings, CorpusSettings, MixtureSettings, Numbers
from emimic.model.settings import ModelSettings, check_source
from emimic.task import EMOTIONS, SettingsError
from emimic.training.baseline_settings import check_baseline, read_defaults, uses_waveform
from emimic.training.machine_settings import AUTO_SECONDS, MachineSettings
from emimic.training.settings_file import apply_overrides, read_yaml
from emimic.training.settings_file import parse_overrides as parse_overrides
from emimic.validation import explain

FILE: Final = "train.json"
"""Name of the settings' file in a run folder."""


def check_new(out: Path) -> None:
    """Raise SettingsError where a folder holds a training run already."""
    if (out / FILE).exists():
        raise SettingsError(f"{out} already holds a run: resume it (--resume), or name another folder")


def check_encoder(out: Path, settings: "TrainSettings | None") -> None:
    """Raise ModelError where a new run's encoder is a missing folder; a run that resumes has its encoder."""
    if settings is None or (out / FILE).exists() or settings.baseline is not None or not settings.audio:
        return
    if settings.encoder is not None:
        check_source(settings.encoder)


class TrainSettings(Numbers, MachineSettings, ModelSettings):
    """Settings of a run (paper section 4, "Implementation Details"; where the paper is silent, the released code).

    `ModelSettings` has those that are also in the model's configuration.

    Raises:
        SettingsError: from `read`, on unknown names and on values out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The model, beside ModelSettings
    encoder: str | None = Field(
        "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
        description="pre-trained encoder: a folder (a finished run's too) or a name on the hub",
    )
    encoder_config: dict[str, Any] | None = Field(
        None, description="instead of `encoder`: a transformers configuration, trained from scratch"
    )
    encoder_layers: int | None = Field(None, ge=1, description="keep only the encoder's first layers")
    start_heads: bool = Field(
        False,
        description="start from all weights of `encoder`, which is a finished run: also from those of its poolings and "
        "heads; false: from its encoder's",
    )
    frozen_copies: int = Field(
        0,
        ge=0,
        description="number of augmented copies of each clip for which the frozen layers' outputs are kept on disk "
        "while training; the epochs use them in turn; 0: compute them again in each epoch",
    )
    vad_dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="dropout in the V/A/D head; null: that of the encoder's checkpoint, else 0.1",
    )
    domain_targets: dict[str, tuple[str, ...]] = Field(
        {},
        description="domain (see corpora) -> targets with a linear layer of their own there; the model also learns to "
        "classify a clip's domain",
    )
    domain_weight: float = Field(0.1, ge=0, description="weight of the cross-entropy of the clips' domains")
    domain_ridge: float | None = Field(
        None,
        gt=0,
        description="strength of a ridge regression that fits the domains' own layers before the first step and "
        "freezes them, to the training clips without augmentation; null: train them",
    )
    vad_ridge: float | None = Field(
        None,
        gt=0,
        description="as domain_ridge, of a V/A/D head without units; a corpus's vad_weight weights its clips",
    )
    baseline: str | None = Field(
        None, description="train this baseline instead of the model; its own settings are the defaults"
    )
    modalities: dict[str, str] = Field(
        {},
        description="inputs of a baseline: modality -> folder under FOLDER/features, or waveform (with an encoder); "
        "branches whose modalities are left out are left out",
    )
    baseline_options: dict[str, Any] = Field({}, description="the baseline's own fields")
    targets: tuple[str, ...] | None = Field(
        None,
        description=f"target columns; null: the corpus's own ({', '.join(EMOTIONS)} if all six are columns)",
    )
    corpora: dict[str, CorpusSettings] = Field(
        {}, description="name of a corpus's folder -> its own settings, see CorpusSettings"
    )
    label_scale: float | None = Field(
        None, gt=0, description="divide labels by this, e.g. 100 for a 0-100 scale"
    )
    standardize_targets: bool = Field(
        False, description="z-score the targets inside the loss [later challenge results]"
    )

    # Learning
    loss: dict[str, float] = Field(
        {"mse": 1.0},
        description="weights of mse, bce, ccc, pearson (section 4: mse alone); a correlation needs a whole step in "
        "memory",
    )
    vad_weight: float = Field(
        1.0, ge=0, description="weight of the V/A/D labels' squared error, where the corpus has such columns"
    )
    rank_weight: float = Field(
        0.0, ge=0, description="weight of the rank loss over pairs of a step's clips, see ranks of a corpus"
    )
    category: str | None = Field(
        None, description="column of class names that an auxiliary layer learns beside the targets"
    )
    category_weight: float = Field(0.1, ge=0, description="weight of the auxiliary task's cross-entropy")
    augment: float = Field(
        0.0,
        ge=0,
        le=1,
        description="fraction of training clips that are augmented: noise, room, band, speed, gain",
    )
    codec: float = Field(
        0.0,
        ge=0,
        le=1,
        description="fraction of training clips encoded with mp3 (16-48 kb/s) or mu-law at 8 kHz, and decoded",
    )
    lengths: float = Field(
        0.0,
        ge=0,
        le=1,
        description="fraction of training clips whose length is changed: half of these cropped to .5 s or more, the "
        "others repeated up to max_seconds or joined with a clip of the same corpus, class and speaker",
    )
    mixtures: MixtureSettings | None = Field(
        None,
        description="join training clips with one of other corpora, before, after or mixed: {fraction: 0.2, corpora: "
        "[FOLDER, ...]}; a label that is 0 becomes the second clip's if that is larger, or unknown",
    )
    context: ContextSettings | None = Field(
        None,
        description="encode training clips side by side, for timelines in one pass: {fraction: 0.5, seconds: 6}",
    )
    teacher: str | None = Field(
        None,
        description="key of the teacher whose predictions are targets too; set by emimic distill, which writes them",
    )
    teacher_cache: str | None = Field(
        None,
        description="folder of the teacher's predictions, which several runs may use; null: in the run folder",
    )
    unlabeled: tuple[str, ...] = Field(
        (), description="further folders of recordings, read recursively, with the teacher's targets only"
    )
    teacher_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description="fraction of the teacher's intensities in a target; the rest is the label, where there is one",
    )
    teacher_vad_weight: float = Field(
        1.0, ge=0, description="weight of the squared error to the teacher's V/A/D, frame by frame"
    )
    teacher_frame_weight: float = Field(
        0.05,
        ge=0,
        description="weight of the squared error to the teacher's standardized hidden states, after a linear layer "
        "that is trained with the student",
    )
    lr: float = Field(1e-4, gt=0, description="AdamW's learning rate (section 4)")
    encoder_lr: float | None = Field(
        None, gt=0, description="learning rate of the encoder and its pre-trained V/A/D head; null: lr"
    )
    rates: dict[str, float] = Field(
        {},
        description="other learning rates: part of a parameter's name, such as lstm or a baseline's modality -> rate",
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's decays of its two averages")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay [released code]")
    l2: float = Field(
        0.0,
        ge=0,
        description="l2 x sum of squares of the weight matrices in the loss minimized (not in the one shown); of a "
        "baseline, of each branch's in its own loss",
    )
    warmup_epochs: float = Field(1.0, ge=0, description="linear warm-up, before any schedule [released code]")
    schedule: Literal["cosine", "restarts", "constant"] = Field(
        "cosine",
        description="of the rate: cosine to 0 at the last step (section 4); restarts: cosine that restarts after 5 "
        "epochs, then after twice as many each time; constant",
    )
    epochs: int = Field(30, ge=1, description="epochs (section 4)")
    batch_size: int = Field(32, ge=1, description="clips of one optimizer step (section 4)")
    clip_value: float | None = Field(
        100.0, gt=0, description="clip each gradient value to this [released code]"
    )
    patience: int | None = Field(
        5,
        ge=1,
        description="epochs without a better mean validation Pearson before stopping; null: never [chosen here]",
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay of averaged weights (less at first), used for scoring [later challenge results]",
    )
    train_on: Literal["train", "train+valid"] = Field(
        "train", description="train+valid runs all epochs, without validation (section 5)"
    )
    seed: int = Field(0, ge=0, description="seed of the weights, the order of clips and dropout")
    init_seed: int | None = Field(
        None,
        ge=0,
        description="seed of the weights only, so that runs of several seeds start alike and can be averaged; null: "
        "seed",
    )

    def model_post_init(self, _: Any) -> None:
        """Check settings that depend on each other. Raises SettingsError."""
        if self.baseline is not None:
            check_baseline(self.baseline, self)
        elif self.modalities or self.baseline_options:
            raise SettingsError("modalities and baseline_options are a baseline's: set baseline, too")
        elif self.audio and (self.encoder is None) == (self.encoder_config is None):
            raise SettingsError(
                "give one of encoder (pre-trained) and encoder_config (from scratch), and null the other"
            )
        if self.compile and (self.gradient_checkpointing or not self.audio):
            raise SettingsError(
                "compile is of the audio encoder's layers as one graph each: set audio, and not gradient_checkpointing"
            )
        self._check_vision()
        self._check_text()
        self._check_losses()
        self._check_ridge()
        self._check_frozen()
        self._check_corpora()
        if self.encoder_layers is not None and self.encoder_config is not None:
            raise SettingsError(
                "encoder_layers cuts a pre-trained encoder; set num_hidden_layers in encoder_config"
            )
        if self.audio and not (self.global_vector or self.lstm or self.attentive):
            raise SettingsError("global_vector, lstm and attentive are all off: switch one on")

    def _check_vision(self) -> None:
        if not self.audio and self.vision is None and self.text is None:
            raise SettingsError("audio is off, and nothing else is on: set vision or text, too")
        alone = (
            ()
            if self.audio
            else ("augment", "codec", "frozen_layers", "standardize_frames", "domain_targets")
        )
        for name in ("baseline", "teacher", "lengths", "mixtures", *alone) if self.vision else ():
            if getattr(self, name):
                raise SettingsError(
                    f"{name} and vision {'' if self.audio else 'without audio '}are both set; expected one of them: "
                    "images can't follow what it does to the voice, or it trains another model. Leave one out"
                )

    def _check_text(self) -> None:
        if self.text is None:
            return
        for name in ("baseline", "teacher", "mixtures", "lengths"):
            if getattr(self, name):
                raise SettingsError(
                    f"text and {name} are both set: "
                    + (
                        f"{name} changes what is said in a clip, and its words stay"
                        if name in ("mixtures", "lengths")
                        else f"the text branch is the main model's, and {name} trains another"
                    )
                    + ". Set one of the two"
                )

    def _check_losses(self) -> None:
        if self.loss.get("bce") and not self.bounded:
            raise SettingsError("the loss bce is of probabilities: set bounded, too, or another loss")
        if self.bounded and self.standardize_targets:
            raise SettingsError("bounded intensities can't be of z-scored targets: set one of the two")

    def _check_ridge(self) -> None:
        if self.domain_ridge is not None and not self.domain_targets:
            raise SettingsError("domain_ridge solves layers of domain_targets: set those, too")
        if self.ridge and not (self.probe_layers and max(self.probe_layers) <= self.frozen_layers):
            raise SettingsError(
                "domain_ridge and vad_ridge solve layers on frames that no step changes; expected probe_layers within "
                f"the frozen ones, found probe_layers {self.probe_layers} and frozen_layers {self.frozen_layers}"
            )
        if self.vad_ridge is not None and (not self.vad_head or self.vad_units != 0):
            raise SettingsError("vad_ridge solves a linear V/A/D head: set vad_head and vad_units: 0, too")

    def _check_frozen(self) -> None:
        if self.frozen_copies and not self.frozen_layers:
            raise SettingsError("frozen_copies keeps the outputs of frozen layers: set frozen_layers, too")
        if self.padding == "zeros-batch" and (self.freeze_encoder or self.frozen_layers):
            raise SettingsError(
                "padding=zeros-batch changes from step to step, but frozen layers are computed once per clip: train "
                "all layers, or set padding=zeros"
            )
        for name in ("augment", "codec", "lengths", "mixtures", "context"):
            if getattr(self, name) and self.freeze_encoder:
                raise SettingsError(
                    f"{name} changes waveforms, but a frozen encoder's features are computed once: set one of {name} "
                    "and freeze_encoder only"
                )

    def _check_corpora(self) -> None:
        if (self.baseline or self.teacher) and (self.corpora or self.rank_weight):
            kind = "a baseline" if self.baseline else "a student"
            raise SettingsError(f"{kind} can't have corpora or rank_weight: leave them out")
        if self.rank_weight and not any(corpus.ranks for corpus in self.corpora.values()):
            raise SettingsError("rank_weight is set, but no corpus has ranks: add them under corpora")
        if self.teacher is not None and self.targets is not None:
            raise SettingsError("a student has its teacher's targets; leave targets out")

    @property
    def seconds_in_batch(self) -> float:
        """`batch_seconds` as a number."""
        return AUTO_SECONDS if isinstance(self.batch_seconds, str) else self.batch_seconds

    @property
    def ridge(self) -> bool:
        """True if layers are solved before the first step."""
        return not (self.domain_ridge is None and self.vad_ridge is None)

    @property
    def roles(self) -> tuple[str, ...]:
        """Modalities that the baseline can use; none without a baseline."""
        return () if self.baseline is None else tuple(get_system(self.baseline).modalities)

    @property
    def folds(self) -> int:
        """Number of models that are trained, each without the speakers of one fold."""
        return (
            1
            if self.baseline is None
            else get_system(self.baseline).read_options(self.baseline_options).folds
        )

    @field_validator("targets", mode="before")
    @classmethod
    def _wrap_target(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @classmethod
    def read(
        cls, file: Path | None = None, overrides: dict[str, Any] | None = None, *, base: Path | None = None
    ) -> Self:
        """Read settings from a YAML file, then overrides; dotted names set values of groups (`loss.pearson`).

        Args:
            file: YAML of `name: value` lines.
            overrides: values by name.
            base: another YAML file, which both override; an encoder_config of theirs replaces its encoder.

        Raises:
            SettingsError: if a file can't be read, or on unknown names and values out of range.
        """
        values, overrides = {} if file is None else read_yaml(file), overrides or {}
        if base is not None:
            scratch = any(name.partition(".")[0] == "encoder_config" for name in (*values, *overrides))
            dropped = ("encoder", "encoder_layers") if scratch else ()
            defaults = {name: value for name, value in read_yaml(base).items() if name not in dropped}
            values = defaults | values
        given = {*values, *overrides}
        baseline = overrides.get("baseline", values.get("baseline"))
        if baseline is not None:
            values = read_defaults(str(baseline), given) | values
        fields = {name: field.default for name, field in cls.model_fields.items()}
        groups = {name: default for name, default in fields.items() if isinstance(default, dict)}
        apply_overrides(values, overrides, groups)
        if values.get("encoder_config") is not None:
            values.setdefault("encoder", None)
        waveform = uses_waveform(values.get("modalities")) and not values.get("encoder_config")
        if baseline is not None and "encoder" not in given and not waveform:
            values["encoder"] = None
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(explain(error, cls)) from error
