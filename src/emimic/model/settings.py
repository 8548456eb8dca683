"""Components of the model, for a training's settings and a model's configuration: names, defaults, limits."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal, get_args

from pydantic import Field

from emimic.task import MAX_SECONDS


@dataclass(init=False, kw_only=True)  # subclasses have their own __init__
class ModelSettings:
    """Switches and sizes of the paper's model; the defaults are its full one (Table 2, last row).

    `TrainSettings` reads the limits and descriptions, `EmiConfig` the types and defaults.
    """

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
