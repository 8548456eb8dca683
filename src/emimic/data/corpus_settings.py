"""Settings of one corpus of a training run, and of mixtures across corpora."""

import itertools
from collections import Counter
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from emimic.task import SettingsError


class Numbers(BaseModel):
    """Settings with finite numbers, in which yes and no, which YAML reads as truth values, are no numbers."""

    model_config = ConfigDict(allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse truth values in fields for numbers."""
        kinds = _list_types(cls.model_fields[str(info.field_name)].annotation)
        is_nested = any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)
        if not (is_nested or kinds & {bool, Any}) and _holds_truth(value):
            raise ValueError("yes, no, true and false are no numbers")
        return value


def _list_types(hint: Any) -> set[Any]:
    """Return the types within a type hint."""
    return set().union(*map(_list_types, get_args(hint))) if get_args(hint) else {hint}


def _holds_truth(value: Any) -> bool:
    """Return whether a value, or one within it, is a truth value."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(map(_holds_truth, parts))


class _Settings(Numbers):
    """Settings that are frozen and have no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RankSettings(_Settings):
    """An order of a corpus's classes, for the rank loss."""

    column: str = Field(description="column of the split tables with the classes")
    by: str | None = Field(
        "Speaker", description="column within whose values clips are compared; null: all clips of the corpus"
    )
    order: dict[str, tuple[tuple[str, ...], ...]] = Field(
        description="target, Arousal, Dominance or Valence -> groups of classes, the highest first; a class without "
        "a group is not compared"
    )
    temperature: float = Field(
        0.1,
        gt=0,
        description="difference of two predictions at which the loss of a pair in the right order is .31",
    )

    def model_post_init(self, _: Any) -> None:
        """Check the groups of each target.

        Raises:
            SettingsError: there are fewer than two groups, or a class is in several.
        """
        if not self.order:
            raise SettingsError(
                "ranks.order is empty; expected target -> groups of classes, the highest first"
            )
        for name, groups in self.order.items():
            counts = Counter(itertools.chain.from_iterable(groups))
            if len(groups) < 2 or not all(groups) or max(counts.values()) > 1:
                raise SettingsError(
                    f"ranks.order.{name} is {[list(group) for group in groups]}; expected two groups of classes or "
                    "more, each class in one of them"
                )


class CorpusSettings(_Settings):
    """Settings of one corpus of a run; the defaults are those of a run on one corpus."""

    fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="fraction of a step's clips from this corpus; corpora without one have the rest, in proportion "
        "to their clips",
    )
    weight: float = Field(1.0, ge=0, description="factor of the loss of its clips' targets")
    vad_weight: float = Field(1.0, ge=0, description="factor of the loss of its clips' V/A/D labels")
    ridge_weight: float | None = Field(
        None, ge=0, description="weight of its clips in domain_ridge; null: same as weight"
    )
    domain: str | None = Field(None, description="kind of recordings; default: the folder's name")
    label_scale: float | None = Field(None, gt=0, description="label_scale of this corpus alone")
    balance: str | None = Field(
        None, description="column whose classes are drawn equally often, instead of each clip equally often"
    )
    together: str | None = Field(
        None,
        description="column, such as Speaker, whose clips are drawn one after another, so that a step has pairs",
    )
    trim: bool = Field(
        False,
        description="leave out digital silence (below 1e-4 of full scale) at both ends of a clip while training; "
        "not in evaluate",
    )
    ranks: RankSettings | None = Field(
        None,
        description="order of its classes, for the rank loss (rank_weight): column, by, order, temperature",
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the split tables that are needed besides the labels."""
        ranks = () if self.ranks is None else (self.ranks.column, self.ranks.by)
        return tuple(dict.fromkeys(name for name in (self.balance, self.together, *ranks) if name))


class ContextSettings(_Settings):
    """Settings of training clips in context: encoded side by side, as in a long recording."""

    fraction: float = Field(0.5, ge=0, le=1, description="fraction of the batches")
    seconds: float = Field(6.0, gt=0, le=30, description="maximum length of a sequence of clips")


class MixtureSettings(_Settings):
    """Settings of mixtures: training clips joined with a clip of another corpus."""

    fraction: float = Field(0.2, ge=0, le=1, description="fraction of the other corpora's training clips")
    corpora: tuple[str, ...] = Field(
        min_length=1,
        description="corpora (names of folders) from whose training clips the second one is drawn",
    )
