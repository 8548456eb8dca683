"""Settings of `emimic adapt`."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from emimic.data.corpus_settings import Numbers
from emimic.task import SettingsError
from emimic.validation import explain


class AdaptSettings(Numbers):
    """Settings of `emimic adapt`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(1600, ge=1, description="optimizer steps")
    lr: float = Field(1.2e-4, gt=0, description="highest learning rate; it falls to 3 % as a cosine")
    reach: float = Field(
        0.5,
        gt=0,
        description="seconds on either side to which a frame attends, in each layer of a Whisper encoder",
    )
    rows: int = Field(8, ge=1, description="pieces of sound in a step")
    seconds: float = Field(10.0, ge=5, le=60, description="length of a piece")
    windows: int = Field(2, ge=1, le=10, description="windows of a piece")
    augment: float = Field(0.7, ge=0, le=1, description="fraction of the pieces that are augmented")
    codec: float = Field(0.15, ge=0, le=1, description="fraction of the pieces that pass through a codec")
    average: float = Field(0.99, ge=0, lt=1, description="decay of the averaged weights, which are kept")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="of the encoder")
    seed: int = Field(0, ge=0, description="of all draws")

    @classmethod
    def read(cls, overrides: dict[str, Any] | None = None) -> "AdaptSettings":
        """Return settings. Raises SettingsError on unknown names and on values out of range."""
        try:
            return cls.model_validate(overrides or {})
        except ValidationError as error:
            raise SettingsError(explain(error, cls)) from error
