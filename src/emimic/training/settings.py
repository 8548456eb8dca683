"""The one configuration of a training run: every value documented, saved with the run; defaults are the paper's."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal, Self

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator

from emimic.baselines.system import system
from emimic.data.cells import read_number
from emimic.data.corpus_settings import CorpusSettings, MixtureSettings, Numbers
from emimic.features.store import WAVEFORM
from emimic.task import EMOTIONS, MAX_SECONDS, SettingsError
from emimic.validation import explain

FILE: Final = "train.json"
"""What a training run's folder keeps its settings in."""


def check_new(out: Path) -> None:
    """Raise SettingsError where a folder holds a training run already."""
    if (out / FILE).exists():
        raise SettingsError(f"{out} already holds a run: resume it (--resume), or name another folder")


class TrainSettings(Numbers):
    """What a run is made of (paper section 4, "Implementation Details"; where the paper is silent, the released code).

    Raises SettingsError from `read` on unknown names and on values out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The model
    encoder: str | None = Field(
        "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
        description="pre-trained encoder: a folder (a finished run's too) or a name on the hub",
    )
    encoder_config: dict[str, Any] | None = Field(
        None, description="instead of `encoder`: a transformers configuration, trained from scratch"
    )
    encoder_layers: int | None = Field(None, ge=1, description="keep only the encoder's first layers")
    freeze_encoder: bool = Field(
        False, description="train the heads only, from features computed once (Table 1, frozen)"
    )
    freeze_convolutions: bool = Field(False, description="don't train the encoder's convolution stack")
    hidden_layers: tuple[int, ...] | None = Field(
        None,
        description="layers, counted from 1, whose outputs side by side are a frame; null: the last hidden states",
    )
    probe_layers: tuple[int, ...] | None = Field(
        None, description="those of hidden_layers that V/A/D and the domains' own layers read; null: all"
    )
    frozen_layers: int = Field(
        0,
        ge=0,
        description="the encoder (Whisper's) up to and with this layer isn't trained; see freeze_encoder",
    )
    frozen_copies: int = Field(
        0,
        ge=0,
        description="keep the outputs of the frozen layers on disk while training, for so many changed copies of each "
        "clip, which the epochs take in turn; 0: compute them again in each epoch",
    )
    standardize_frames: bool = Field(
        False,
        description="bring each feature of a frame to zero mean and unit variance over the first 500 training clips",
    )
    global_vector: bool = Field(True, description="mean over frames (Table 2)")
    regression_head: bool = Field(
        True, description="dense, tanh, projection; off: one linear layer (Table 2)"
    )
    lstm: bool = Field(True, description="LSTM over frames (Table 2)")
    vad_head: bool = Field(True, description="VAD predictions beside each frame (Table 2)")
    global_spread: bool = Field(
        False, description="the standard deviation over frames beside their mean [chosen here]"
    )
    attentive: bool = Field(
        False, description="attentive statistics pooling beside the others [record since]"
    )
    head_units: int | None = Field(
        None,
        ge=1,
        description="units of the regression head's dense layer; null: as many as its inputs (section 4)",
    )
    bounded: bool = Field(
        False,
        description="a sigmoid keeps what the regression head says within [0, 1]; the loss bce needs that",
    )
    domain_targets: dict[str, tuple[str, ...]] = Field(
        {},
        description="domain (see corpora) -> targets that have a linear layer of their own there; which domain a clip "
        "is of is learned beside them",
    )
    domain_weight: float = Field(0.1, ge=0, description="weight of the cross-entropy of the clips' domains")
    domain_ridge: float | None = Field(
        None,
        gt=0,
        description="before the first step, solve the domains' own layers by ridge regression of this strength on the "
        "clips of the first epoch (of all copies, with frozen_copies), and leave them so; null: the steps train them",
    )
    ridge_piece: float | None = Field(
        None,
        gt=0,
        description="in domain_ridge and vad_ridge each clip counts once more, by a piece of its frames of this length "
        "in seconds, so that short clips are predicted alike",
    )
    lstm_layers: int = Field(2, ge=1, description="layers of the LSTM [released code]")
    lstm_units: int | None = Field(
        None, ge=1, description="units of the LSTM; null: as many as a frame has features [released code]"
    )
    lstm_dropout: float = Field(0.1, ge=0, lt=1, description="dropout between the LSTM's layers (section 5)")
    vad_dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="dropout in the VAD head; null: as the encoder's checkpoint says, else 0.1",
    )
    vad_units: int | None = Field(
        None,
        ge=0,
        description="units of the V/A/D head's dense layer; null: as many as its inputs; 0: none, linear",
    )
    vad_seconds: float = Field(
        0.0, ge=0, description="V/A/D are means over so many seconds around a frame; 0: of the frame alone"
    )
    vad_bounded: bool = Field(False, description="a sigmoid keeps V/A/D within [0, 1]")
    vad_ridge: float | None = Field(
        None,
        gt=0,
        description="as domain_ridge, of a V/A/D head without units; a clip counts as its corpus's vad_weight says",
    )
    head_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout in the regression head (the paper has none)"
    )
    baseline: str | None = Field(
        None,
        description="in the model's place, a system that the paper compares with; its settings are the defaults",
    )
    modalities: dict[str, str] = Field(
        {},
        description="what a baseline hears: role -> folder under FOLDER/features, or waveform (with an encoder); fewer "
        "roles leave the members that need them out",
    )
    baseline_options: dict[str, Any] = Field({}, description="the baseline's own fields")
    max_seconds: float = Field(MAX_SECONDS, gt=0, description="clips are cut to this length (section 3.2)")
    padding: Literal["masked", "zeros", "zeros-batch"] = Field(
        "masked",
        description="masked: padding changes nothing; zeros: each clip is filled up with silence to max_seconds and no "
        "mask says where (section 6.2: detrimental); zeros-batch: to the longest clip of its step, in training alone "
        "(with several processes, of a process's part of it)",
    )
    targets: tuple[str, ...] | None = Field(
        None,
        description=f"target columns; by default the corpus's own ({', '.join(EMOTIONS)} where all six are there)",
    )
    corpora: dict[str, CorpusSettings] = Field(
        {}, description="name of a corpus's folder -> its own settings, see CorpusSettings"
    )
    label_scale: float | None = Field(
        None, gt=0, description="divide labels by this, e.g. 100 for a 0-100 scale"
    )
    standardize_targets: bool = Field(False, description="z-score the targets inside the loss [record since]")

    # Learning
    loss: dict[str, float] = Field(
        {"mse": 1.0},
        description="weights of mse, bce, ccc, pearson (section 4: mse alone); a correlation holds a step in memory",
    )
    vad_weight: float = Field(
        1.0, ge=0, description="weight of the VAD labels' squared error, where the corpus has such columns"
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
        description="share of training clips that are changed: noise, room, band, speed, gain",
    )
    codec: float = Field(
        0.0,
        ge=0,
        le=1,
        description="fraction of training clips that go through mp3 (16-48 kb/s) or mu-law at 8 kHz",
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
        description="join training clips with one of other corpora, before, after or over: {fraction: 0.2, corpora: "
        "[FOLDER, ...]}; a label that is 0 becomes the second clip's if that is larger, or unknown",
    )
    teacher: str | None = Field(
        None,
        description="whose answers are learned beside the labels: set by emimic distill, which wrote them",
    )
    answers: str | None = Field(
        None, description="folder of the teacher's answers, which runs may share; default: in the run"
    )
    unlabelled: tuple[str, ...] = Field(
        (), description="further folders of recordings, in depth, that the teacher alone speaks for"
    )
    teacher_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of the teacher's intensities in a target; the rest is the label, where there is one",
    )
    teacher_vad_weight: float = Field(
        1.0, ge=0, description="weight of the squared error to the teacher's VAD, frame by frame"
    )
    teacher_frame_weight: float = Field(
        0.05,
        ge=0,
        description="weight of the squared error to the teacher's standardized hidden states, by way of a linear "
        "layer of the training's own",
    )
    lr: float = Field(1e-4, gt=0, description="AdamW's learning rate (section 4)")
    encoder_lr: float | None = Field(
        None, gt=0, description="another rate for the encoder and its pre-trained VAD head"
    )
    rates: dict[str, float] = Field(
        {},
        description="other rates: part of a parameter's name, such as lstm or a baseline's role -> its rate",
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's decays of its two averages")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay [released code]")
    l2: float = Field(
        0.0,
        ge=0,
        description="l2 x sum of squares of the weight matrices in the loss minimized (not in the one shown); of a "
        "baseline, each branch's beside its own loss",
    )
    warmup_epochs: float = Field(1.0, ge=0, description="linear warm-up, before any schedule [released code]")
    schedule: Literal["cosine", "restarts", "constant"] = Field(
        "cosine",
        description="of the rate: cosine to 0 at the last step (section 4); cosine that restarts after 5 epochs, then "
        "after twice as many each time; constant",
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
        description="decay of averaged weights (less at first), used for scoring [record since]",
    )
    train_on: Literal["train", "train+valid"] = Field(
        "train", description="train+valid runs all epochs: nothing is left to watch (section 5)"
    )
    seed: int = Field(0, ge=0, description="of the weights, the order of clips and dropout")
    init_seed: int | None = Field(
        None,
        ge=0,
        description="of the weights alone, so that runs of several seeds begin alike and can be averaged; null: seed",
    )

    # The machine
    precision: Literal["32-true", "bf16-mixed"] = Field(
        "32-true", description="bf16-mixed halves a GPU's memory"
    )
    gradient_checkpointing: bool = Field(False, description="less memory, about a tenth more time")
    batch_seconds: float = Field(
        60.0,
        gt=0,
        description="most audio of one forward pass, in seconds after padding; of cached features 8 times as much",
    )
    accelerator: str = Field("auto", description="auto, cpu, cuda, mps (Lightning Fabric)")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; by default torch's choice")
    workers: int = Field(2, ge=1, description="threads that decode ahead")
    checkpoint_steps: int = Field(
        200, ge=1, description="optimizer steps between two writings of last.safetensors"
    )
    features: str | None = Field(
        None, description="folder of cached features of a frozen encoder; default: in the run"
    )
    feature_dtype: Literal["float16", "float32"] = Field("float16", description="type of cached features")

    def _check_pairs(self) -> None:
        if self.loss.get("bce") and not self.bounded:
            raise SettingsError("the loss bce is of probabilities: set bounded, too, or another loss")
        if self.bounded and self.standardize_targets:
            raise SettingsError("bounded intensities can't be of z-scored targets: set one of the two")
        if self.frozen_copies and not self.frozen_layers:
            raise SettingsError("frozen_copies keeps the outputs of frozen layers: set frozen_layers, too")
        if self.domain_ridge is not None and not self.domain_targets:
            raise SettingsError("domain_ridge solves layers of domain_targets: set those, too")
        if self.ridge and not (self.probe_layers and max(self.probe_layers) <= self.frozen_layers):
            raise SettingsError(
                f"domain_ridge and vad_ridge solve layers on frames that no step changes; expected probe_layers within "
                f"the frozen ones, found probe_layers {self.probe_layers} and frozen_layers {self.frozen_layers}"
            )
        if self.vad_ridge is not None and (not self.vad_head or self.vad_units != 0):
            raise SettingsError("vad_ridge solves a linear V/A/D head: set vad_head and vad_units: 0, too")

    def model_post_init(self, _: Any) -> None:
        """Checks over several fields."""
        if self.baseline is not None:
            self._check_baseline(self.baseline)
        elif self.modalities or self.baseline_options:
            raise SettingsError("modalities and baseline_options are a baseline's: set baseline, too")
        elif (self.encoder is None) == (self.encoder_config is None):
            raise SettingsError(
                "give one of encoder (pre-trained) and encoder_config (from scratch), and null the other"
            )
        self._check_pairs()
        if self.padding == "zeros-batch" and (self.freeze_encoder or self.frozen_layers):
            raise SettingsError(
                "padding=zeros-batch changes from step to step, but what is frozen is computed once for a clip: learn "
                "all layers, or set padding=zeros"
            )
        for name in ("augment", "codec", "lengths", "mixtures"):
            if getattr(self, name) and self.freeze_encoder:
                raise SettingsError(
                    f"{name} changes waveforms, but a frozen encoder's features are computed once: set one of {name} "
                    "and freeze_encoder only"
                )
        self._check_corpora()
        if self.encoder_layers is not None and self.encoder_config is not None:
            raise SettingsError(
                "encoder_layers cuts a pre-trained encoder; set num_hidden_layers in encoder_config"
            )
        if self.teacher is not None and self.targets is not None:
            raise SettingsError("a student has its teacher's targets; leave targets out")
        if not (self.global_vector or self.lstm or self.attentive):
            raise SettingsError("global_vector, lstm and attentive are all off: switch one on")

    def _check_corpora(self) -> None:
        if (self.baseline or self.teacher) and (self.corpora or self.rank_weight):
            who = "a baseline" if self.baseline else "a student"
            raise SettingsError(f"{who} can't have corpora or rank_weight: leave them out")
        if self.rank_weight and not any(one.ranks for one in self.corpora.values()):
            raise SettingsError("rank_weight is set, but no corpus has ranks: add them under corpora")

    @property
    def ridge(self) -> bool:
        """Whether layers are solved before the first step."""
        return not (self.domain_ridge is None and self.vad_ridge is None)

    @property
    def roles(self) -> tuple[str, ...]:
        """What the baseline may hear; without one, nothing."""
        return () if self.baseline is None else tuple(system(self.baseline).modalities)

    @property
    def folds(self) -> int:
        """So many models are learned, each without the speakers of one fold."""
        return 1 if self.baseline is None else system(self.baseline).read_options(self.baseline_options).folds

    def _check_baseline(self, name: str) -> None:
        found = system(name)
        found.read_options(self.baseline_options)
        if not self.modalities or set(self.modalities) - set(found.modalities):
            raise SettingsError(
                f"modalities are {', '.join(self.modalities) or 'none'}, expected some of {', '.join(found.modalities)}"
            )
        heard = list(self.modalities.values()).count(WAVEFORM)
        if heard > 1 or (heard == 1) == (self.encoder is None and self.encoder_config is None):
            raise SettingsError(
                f"{name} hears {heard} waveforms; expected one with encoder or encoder_config, or none without"
            )
        for other in (
            "category",
            "teacher",
            "augment",
            "codec",
            "lengths",
            "mixtures",
            "gradient_checkpointing",
        ):
            if getattr(self, other):
                raise SettingsError(f"a baseline can't have {other}: leave it out")

    @field_validator("targets", mode="before")
    @classmethod
    def _one_target(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @classmethod
    def read(
        cls, file: Path | None = None, overrides: dict[str, Any] | None = None, *, base: Path | None = None
    ) -> Self:
        """Settings from a YAML file, then overrides; dotted names reach into dictionaries (`loss.pearson`).

        base: another YAML file, which goes before both; its encoder gives way to an encoder_config.
        """
        values = {} if file is None else _read_yaml(file)
        if base is not None:
            scratch = any(
                name.partition(".")[0] == "encoder_config" for name in (*values, *(overrides or {}))
            )
            values = {
                name: value
                for name, value in _read_yaml(base).items()
                if not (scratch and name in ("encoder", "encoder_layers"))
            } | values
        given = {*values, *(overrides or {})}
        baseline = (overrides or {}).get("baseline", values.get("baseline"))
        if baseline is not None:
            values = _beneath_baseline(str(baseline), given) | values
        for name, value in (overrides or {}).items():
            *path, last = name.split(".")
            default = getattr(cls.model_fields.get(path[0]), "default", None) if path else None
            if isinstance(default, dict):  # loss.pearson=0.1 goes beside the default mse
                values.setdefault(path[0], dict(default))
            place = values
            for part in path:
                place = place.setdefault(part, {})
                if not isinstance(place, dict):
                    raise SettingsError(f"{name}: {part} isn't a group of values")
            place[last] = value
        if "encoder_config" in values and values["encoder_config"] is not None:
            values.setdefault("encoder", None)
        heard = values.get("modalities")
        waveform = isinstance(heard, dict) and WAVEFORM in heard.values()
        if (
            baseline is not None
            and "encoder" not in given
            and not (waveform and not values.get("encoder_config"))
        ):
            values["encoder"] = None
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(explain(error, cls)) from error


IDLE: Final = {
    "attentive", "bounded", "category", "category_weight", "domain_ridge", "domain_targets",
    "domain_weight", "feature_dtype", "features", "freeze_convolutions", "freeze_encoder", "frozen_copies",
    "frozen_layers", "global_spread", "global_vector", "gradient_checkpointing", "head_dropout", "head_units",
    "hidden_layers", "lstm", "lstm_dropout", "lstm_layers", "lstm_units", "padding", "probe_layers",
    "regression_head", "ridge_piece", "standardize_frames", "vad_bounded", "vad_dropout", "vad_head", "vad_ridge",
    "vad_seconds", "vad_units", "vad_weight",
}  # fmt: skip
"""Settings of the paper's model that do nothing for a baseline."""


def _beneath_baseline(name: str, given: set[str]) -> dict[str, Any]:
    """A baseline's own settings. Raises SettingsError where the user gave some that do nothing for it."""
    if idle := sorted(IDLE & given):
        raise SettingsError(
            f"a baseline has no {', '.join(idle)}: leave that out; its own fields are in baseline_options, and what it "
            "uses in modalities"
        )
    found = system(name)
    return {"encoder": None, "modalities": dict(found.modalities), **found.settings}


_SLIP: Final = re.compile(r"[-+]?(0[\d_]|\d*[\d.]*[_:])[\d_.:]*([eE][-+]?\d+)?", re.ASCII)


def _load_yaml(text: str, source: str) -> Any:
    """Read YAML, whose plain numbers must mean what they look like: it takes 0_5 for 5, 010 for 8 and 1:30 for 90.

    Raises:
        SettingsError: at such a number.
        yaml.YAMLError: if it is no YAML.
    """
    events: Iterable[Any] = yaml.parse(text, yaml.SafeLoader)
    for event in events:
        plain = isinstance(event, yaml.ScalarEvent) and event.style is None
        if plain and _SLIP.fullmatch(event.value) and any(map(str.isdigit, event.value)):
            raise SettingsError(
                f"{source}: found {event.value}, expected a number such as 0.5 or 10; quote it if it is a name"
            )
    return yaml.safe_load(text)


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = _load_yaml(file.read_text(encoding="utf-8"), str(file)) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{file} can't be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{file} must hold `name: value` lines; found a {type(values).__name__}")
    return values


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """`["lr=3e-4", "loss.pearson=1"]` -> values read as YAML, so that null, true, 1e-4 and lists mean what they say."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise SettingsError(f"--set takes name=value, found {pair!r}")
        try:
            value = _load_yaml(text, f"--set {pair}")
        except yaml.YAMLError as error:
            raise SettingsError(f"--set {pair} can't be read as YAML: {error}") from error
        if value and isinstance(value, str) and (number := read_number(value)) is not None:
            value = number  # YAML 1.1 reads 1e-4, without a point, as text
        overrides[name] = value
    return overrides
