"""The description of a baseline: its source, its branches, the features it reads, and its training settings."""

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
    "baseline", "savchenko", "yu", "zhang", "vision_lstm", "semantic_matters", "text_anchored", "wavlm_tcn",
    "concatenated",
)  # fmt: skip
"""All baselines, in the order of Table 1, then of later challenge results; each is a module of this package."""


class Options(Numbers):
    """Options of a baseline (setting `baseline_options`): values that its authors don't publish, with defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fusion: Literal["mean", "global", "emotion"] = Field(
        "mean",
        description="how predictions of branches are joined: their mean, or with weights searched on validation, the "
        "same for all emotions (global) or for each (emotion)",
    )
    folds: int = Field(
        1,
        ge=1,
        description="number of models of each branch, each trained without the speakers of one fold; predictions are "
        "their mean",
    )


@dataclass(frozen=True)
class System:
    """One baseline.

    Attributes:
        published: mean Pearson on "valid" and "test" of Hume-Vidmimic2 by its source; None where the source gives
            none, or where this differs from the source's system.
        modalities: modality -> the feature folder that is read by default (`FOLDER/features/NAME`).
        settings: TrainSettings in place of the main model's.
        branches: a function (options, features of a frame by modality, number of targets) -> networks by name, whose
            predictions are joined. A network has `modalities`, the ones it reads. It maps frames {modality: (batch,
            frame, feature)} and masks {modality: (batch, frame)} to (batch, target). Modalities come in the order of
            `modalities`, without the ones that aren't used.
        options: the class of its options.
        shorten: a function options -> by modality, what reduces its frames, where it does.
        unsure: a caveat of the published figure, such as "unreviewed".
    """

    title: str
    source: str
    published: Mapping[str, float | None]
    modalities: Mapping[str, str]
    settings: Mapping[str, Any]
    branches: Callable[[Any, Mapping[str, int], int], "dict[str, nn.Module]"]
    options: type[Options] = Options
    shorten: Callable[[Any], "Mapping[str, Shorten]"] = lambda _: {}
    unsure: str = ""

    def read_options(self, values: Mapping[str, Any]) -> Options:
        """Return the options with these values.

        Raises:
            SettingsError: if a name is unknown or a value out of range.
        """
        try:
            return self.options(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            names = ", ".join(self.options.model_fields)
            raise SettingsError(
                f"baseline_options.{name}: {first['msg']}, found {first['input']!r}; known names: {names}"
            ) from error


def get_system(name: str) -> System:
    """Return the baseline of that name.

    Raises:
        SettingsError: if there is none.
    """
    if name not in NAMES:
        raise SettingsError(f"baseline is {name!r}; known are {', '.join(NAMES)}")
    system: System = importlib.import_module(f"emimic.baselines.{name}").SYSTEM
    return system
