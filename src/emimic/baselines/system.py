"""What a compared system is: where it comes from, its members, how it reads features, and how it is trained."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from emimic.data.corpus_settings import Numbers
from emimic.task import SettingsError

if TYPE_CHECKING:  # settings are read without torch
    from torch import nn

    from emimic.baselines.inputs import Shorten

NAMES: Final = (
    "baseline", "savchenko", "yu", "zhang", "vision_lstm", "concatenated_lstm", "wavlm_tcn", "concatenated",
)  # fmt: skip
"""Every system, in the order of Table 1, then of the record since; each is a module of this package."""


class Options(Numbers):
    """A system's own fields (setting `baseline_options`): what its authors don't publish is a field with a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fusion: Literal["mean", "global", "emotion"] = Field(
        "mean",
        description="how members' answers are joined: their mean, or with weights searched on validation, for all "
        "emotions or for each",
    )
    folds: int = Field(
        1,
        ge=1,
        description="so many models of each member, each without the speakers of one fold; their mean answers",
    )


@dataclass(frozen=True)
class System:
    """One compared system.

    modalities: role -> the feature folder it reads by default (`FOLDER/features/NAME`).
    settings: TrainSettings in place of the main system's.
    members: (options, features of a frame by role, number of targets) -> the networks whose answers are joined, by
    name. Each has `roles`, the modalities it hears, and maps parts {role: (batch, frame, feature)} and masks {role:
    (batch, frame)} to (batch, target). Roles come in the order of `modalities`; one that isn't given is left out.
    shorten: options -> what is read of a role's frames, where that isn't all.
    published: mean Pearson on "valid" and "test" of Hume-Vidmimic2, as its source says; None where it doesn't, or where
    this is another system than the source's.
    unsure: what keeps a published figure from being one, such as "unreviewed"; empty where nothing does.
    """

    title: str
    source: str
    published: Mapping[str, float | None]
    modalities: Mapping[str, str]
    settings: Mapping[str, Any]
    members: Callable[[Any, Mapping[str, int], int], "dict[str, nn.Module]"]
    options: type[Options] = Options
    shorten: Callable[[Any], "Mapping[str, Shorten]"] = lambda _: {}
    unsure: str = ""

    def read_options(self, values: Mapping[str, Any]) -> Options:
        """Raises SettingsError on an unknown name or a value out of range."""
        try:
            return self.options(**values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            known = ", ".join(self.options.model_fields)
            raise SettingsError(
                f"baseline_options.{where}: {first['msg']}, found {first['input']!r}; known names: {known}"
            ) from error


def system(name: str) -> System:
    """The system of that name. Raises SettingsError when there is none."""
    if name not in NAMES:
        raise SettingsError(f"baseline is {name!r}; known are {', '.join(NAMES)}")
    found: System = importlib.import_module(f"emimic.baselines.{name}").SYSTEM
    return found
