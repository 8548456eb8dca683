"""Options of requests, checked: a recording's timeline and response format, a comparison, a stream."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from emimic.inference.grid import HOP, WINDOW, TimelineOptions
from emimic.media.waveform import RATES
from emimic.mimicry import MimicryError, Settings
from emimic.server.errors import ApiError
from emimic.task import MAX_SECONDS, SAMPLE_RATE


def _leave_null_out(schema: dict[str, Any]) -> None:
    """Take null out of the schema of an option that may be left out: neither a query nor a form can send it."""
    schema.update(next(kind for kind in schema.pop("anyOf") if kind["type"] != "null"))
    schema.pop("default", None)


_Window = Field(
    None, ge=0.02, le=MAX_SECONDS, allow_inf_nan=False, json_schema_extra=_leave_null_out,
    description="Seconds of a timeline's window; default 2.5.",
)  # fmt: skip
_Hop = Field(
    None, ge=0.02, le=MAX_SECONDS, allow_inf_nan=False, json_schema_extra=_leave_null_out,
    description="Seconds between two windows, at most a window's; default 0.2.",
)  # fmt: skip


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    window: float | None = _Window
    hop: float | None = _Hop

    @model_validator(mode="after")
    def _check_hop(self) -> Self:
        if self.grid.hop > self.grid.window:
            raise ValueError("the hop is longer than the window")
        return self

    @property
    def grid(self) -> TimelineOptions:
        """The windows of a timeline."""
        return TimelineOptions(
            WINDOW if self.window is None else self.window, HOP if self.hop is None else self.hop
        )


class EmotionOptions(_Options):
    """Options of a prediction."""

    timeline: bool = Field(
        False, description="Predict over time too. Implied by window, hop, and every format but json."
    )
    response_format: Literal["json", "csv", "vtt", "textgrid", "eaf", "html"] = Field(
        "json", description="csv: one row per step. vtt: captions. textgrid: Praat. eaf: ELAN. html: a page."
    )

    @property
    def timeline_options(self) -> TimelineOptions | None:
        """The options of the timeline, None where none is requested."""
        is_implied = self.window is not None or self.hop is not None or self.response_format != "json"
        return self.grid if self.timeline or is_implied else None


class MimicryOptions(_Options):
    """Options of a comparison.

    Memory grows with the square of the steps in a window, so the hop has a limit.
    """

    hop: float | None = Field(
        None, ge=HOP, le=MAX_SECONDS, allow_inf_nan=False, json_schema_extra=_leave_null_out,
        description="Seconds between two values of a timeline, at most a window's; default 0.2, the shortest.",
    )  # fmt: skip
    alignment: Literal["dtw", "windowed"] | None = Field(
        None, json_schema_extra=_leave_null_out,
        description="dtw: each at its own speed (default). windowed: two speakers of one conversation.",
    )  # fmt: skip
    correlation_window: float = Field(
        5.0, gt=0, le=60, allow_inf_nan=False, description="Seconds of a window (windowed)."
    )
    lag: float = Field(
        2.5, gt=0, le=30, allow_inf_nan=False, description="Maximum lag in seconds (windowed)."
    )
    draws: int = Field(999, ge=19, le=1999, description="Surrogates that estimate the similarity by chance.")
    level: float = Field(0.95, gt=0, lt=1, description="Fraction of unrelated pairs that stay within chance.")
    random_seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the surrogates.")

    def make_settings(self, default: Literal["dtw", "windowed"]) -> Settings:
        """Return the settings of a comparison.

        Raises:
            ApiError: They don't fit each other.
        """
        try:
            return Settings(
                alignment=self.alignment or default, window=self.correlation_window, lag=self.lag, draws=self.draws,
                level=self.level, seed=self.random_seed,
            )  # fmt: skip
        except MimicryError as error:
            raise ApiError("invalid_parameter", f"{error}.") from None


class StreamOptions(_Options):
    """Options of a stream."""

    rate: float = Field(
        SAMPLE_RATE, ge=RATES[0], le=RATES[1], allow_inf_nan=False, description="Samples per second."
    )
    encoding: Literal["s16le", "float32"] = Field(
        "s16le", description="Of the samples; float32 is little-endian."
    )


def describe_errors(errors: list[Any]) -> str:
    """Return pydantic's errors as one sentence, without the values that were given."""
    texts = []
    for error in errors[:3]:
        name = ".".join(str(part) for part in error["loc"] if part not in ("query", "path", "body"))
        texts.append(f"{name}: {error['msg']}" if name else str(error["msg"]))
    return "; ".join(texts)[:500] + "."


def validate(kind: type[BaseModel], values: dict[str, Any]) -> Any:
    """Return options of a kind.

    Raises:
        ApiError: A value is invalid, or a name unknown.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ApiError(
            "invalid_parameter", describe_errors(error.errors(include_url=False, include_input=False))
        ) from None
