"""Components of the model, for a training's settings and a model's configuration: names, defaults, limits."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from emimic.task import MAX_SECONDS, ModelError, SettingsError


def check_source(source: str | os.PathLike[str]) -> None:
    """Raise ModelError where an encoder's folder is missing; a name on the hub is not checked."""
    if str(source).startswith(("/", ".", "~")) and not Path(source).is_dir():
        raise ModelError(f"the encoder {source} can't be read: there is no such folder")


class BranchSettings(BaseModel):
    """Settings of any branch beside audio: its pre-trained part, and what happens without its input."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    encoder: str | None = Field(
        None, description="pre-trained weights: a folder in transformers' format, or a name on the hub"
    )
    encoder_config: dict[str, Any] | None = Field(
        None, description="instead of encoder: a transformers configuration, trained from scratch"
    )
    freeze: bool = Field(False, description="don't train the encoder")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of training clips whose input is replaced by the learned vector of a missing one "
        "[chosen here]",
    )

    def model_post_init(self, _: Any) -> None:
        """Check that there is one encoder. Raises SettingsError."""
        if (self.encoder is None) == (self.encoder_config is None):
            raise SettingsError(
                "give a branch one of encoder (pre-trained) and encoder_config (from scratch)"
            )


class VisionSettings(BranchSettings):
    """Settings of the vision branch (section 6.2): an image encoder over frames, pooled over time."""

    frames: str = Field(
        "faces",
        description="frames of a clip: faces (found in raw/ by the detector, stored under FOLDER/features), "
        "face_images (the corpus's own crops), video (whole images of raw/), or the name of a folder of crops that "
        "emimic features made",
    )
    fps: float = Field(
        6.0, gt=0, le=1000, description="frames in a second, by the container's times (section 3.1)"
    )
    detector: str | None = Field(
        None, description="face detector, an ONNX file; null: the included BlazeFace"
    )
    score: float = Field(0.6, gt=0, le=1, description="minimum score of a face")
    margin: float = Field(
        0.1, ge=0, le=2, description="added on each side of a face, as a fraction of its box's longer side"
    )
    size: int = Field(
        256, ge=16, le=2048, description="side of a crop in pixels (section 6.2: 160, then 256)"
    )
    align: bool = Field(False, description="rotate faces so that the eyes are level (section 6.2)")
    padding: Literal["masked", "zeros"] = Field(
        "masked",
        description="masked: frames without a face are left out; zeros: they are black, and so are frames up to "
        "max_seconds, without a mask (section 6.2: detrimental)",
    )
    global_vector: bool = Field(True, description="pool the mean over frames")
    global_std: bool = Field(False, description="pool the standard deviation over frames too")
    attentive: bool = Field(False, description="pool attentive statistics too")
    lstm: bool = Field(True, description="pool the last output of an LSTM over frames")
    lstm_layers: int = Field(2, ge=1, description="layers of the LSTM")
    lstm_units: int | None = Field(None, ge=1, description="units of the LSTM; null: the encoder's features")
    lstm_dropout: float = Field(0.1, ge=0, lt=1, description="dropout between the LSTM's layers")
    batch_frames: int = Field(
        512, ge=1, description="maximum frames of one forward pass; a clip with more is one by itself"
    )
    checkpoint_frames: int | None = Field(
        None,
        ge=1,
        description="keep no activations of the encoder, which computes this number of frames at a time and again in "
        "the backward pass; null: keep them",
    )

    def model_post_init(self, context: Any) -> None:
        """Check settings that depend on each other. Raises SettingsError."""
        super().model_post_init(context)
        if not (self.global_vector or self.lstm or self.attentive):
            raise SettingsError("vision: global_vector, lstm and attentive are all off; switch one on")
        if self.global_std and not self.global_vector:
            raise SettingsError("vision: global_std needs the mean; switch global_vector on, too")


class TextSettings(BranchSettings):
    """Settings of the text branch (section 7): a text encoder over a clip's words."""

    tokenizer: str | None = Field(
        None, description="its tokenizer, a folder or a name on the hub; null: encoder's own"
    )
    pool: Literal["mean", "cls"] = Field("mean", description="mean over tokens, or the first of them (CLS)")
    max_tokens: int = Field(128, ge=3, description="maximum of a clip; a longer text is cut")
    transcriber: str | None = Field(
        None,
        description="Whisper model with which predict finds the words of a recording: a folder, or a name on the hub; "
        "null: it must be named there",
    )
    language: str | None = Field(None, description="spoken language, such as en; null: Whisper detects it")


@dataclass(init=False, kw_only=True)  # subclasses have their own __init__
class ModelSettings:
    """Switches and sizes of the paper's model; the defaults are its full one (Table 2, last row).

    `TrainSettings` reads the limits and descriptions, `EmiConfig` the types and defaults.
    """

    audio: Annotated[
        bool, Field(description="use the voice; false: only the other branches (Table 1, vision alone)")
    ] = True
    vision: Annotated[
        VisionSettings | None,
        Field(description="branch of frames beside the voice (section 6.2); null: none"),
    ] = None
    text: Annotated[
        TextSettings | None,
        Field(description="branch of the words beside the voice (section 7); null: none"),
    ] = None
    freeze_encoder: Annotated[
        bool,
        Field(description="train the heads only, from features computed once (Table 1, frozen)"),
    ] = False
    freeze_convolutions: Annotated[
        bool, Field(description="exclude the encoder's convolutional layers from training")
    ] = False
    frozen_layers: Annotated[
        int,
        Field(
            ge=0,
            description="number of the last layer of a Whisper encoder that is frozen, with all before it; "
            "see freeze_encoder",
        ),
    ] = 0
    hidden_layers: Annotated[
        list[int] | None,
        Field(
            description="layers, counted from 1, whose concatenated outputs are a frame; null: the last hidden states"
        ),
    ] = None
    probe_layers: Annotated[
        list[int] | None,
        Field(description="those of hidden_layers that the V/A/D head and the domain heads read; null: all"),
    ] = None
    standardize_frames: Annotated[
        bool,
        Field(
            description="scale each feature of a frame to zero mean and unit variance, measured on the first 500 "
            "training clips"
        ),
    ] = False
    attention_seconds: Annotated[
        float | None,
        Field(
            gt=0,
            description="seconds on either side of a frame to which it attends, in each layer of a Whisper encoder "
            "(less than half a timeline's window: one pass agrees better with its windows alone); null: the clip",
        ),
    ] = None
    global_vector: Annotated[bool, Field(description="pool the mean over frames (Table 2)")] = True
    global_std: Annotated[
        bool,
        Field(description="pool the standard deviation over frames too; needs global_vector [chosen here]"),
    ] = False
    attentive: Annotated[
        bool, Field(description="pool attentive statistics too [later challenge results]")
    ] = False
    lstm: Annotated[bool, Field(description="pool the last output of an LSTM over frames (Table 2)")] = True
    lstm_layers: Annotated[int, Field(ge=1, description="layers of the LSTM [released code]")] = 2
    lstm_units: Annotated[
        int | None,
        Field(ge=1, description="units of the LSTM; null: the features of a frame [released code]"),
    ] = None
    lstm_dropout: Annotated[
        float, Field(ge=0, lt=1, description="dropout between the LSTM's layers (section 5)")
    ] = 0.1
    regression_head: Annotated[
        bool, Field(description="dense layer, tanh, projection; false: one linear layer (Table 2)")
    ] = True
    head_units: Annotated[
        int | None,
        Field(
            ge=1, description="units of the regression head's dense layer; null: its input width (section 4)"
        ),
    ] = None
    head_dropout: Annotated[
        float, Field(ge=0, lt=1, description="dropout in the regression head (the paper has none)")
    ] = 0.0
    bounded: Annotated[
        bool,
        Field(
            description="apply a sigmoid to the regression head's outputs, as [0, 1] intensities; the loss bce needs it"
        ),
    ] = False
    vad_head: Annotated[bool, Field(description="concatenate V/A/D predictions to each frame (Table 2)")] = (
        True
    )
    vad_units: Annotated[
        int | None,
        Field(
            ge=0,
            description="units of the V/A/D head's dense layer; null: its input width; 0: no dense layer (linear)",
        ),
    ] = None
    vad_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="seconds around a frame over which V/A/D are averaged; 0: the frame alone (the paper)",
        ),
    ] = 0.0
    vad_bounded: Annotated[bool, Field(description="apply a sigmoid to V/A/D, as [0, 1] values")] = False
    max_seconds: Annotated[float, Field(gt=0, description="clips are cut to this length (section 3.2)")] = (
        MAX_SECONDS
    )
    padding: Annotated[
        Literal["masked", "zeros", "zeros-batch"],
        Field(
            description="masked: padding does not change a result; zeros: each clip is zero-padded to max_seconds, "
            "without a mask (section 6.2: detrimental); zeros-batch: to the longest clip of its step, in training "
            "only (with several processes, of the process's clips)"
        ),
    ] = "masked"


# A configuration checks types only: transformers' strict dataclasses reject Annotated.
for _field in fields(ModelSettings):
    _field.type = get_args(_field.type)[0]
