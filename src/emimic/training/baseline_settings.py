"""Settings of a run that trains a baseline: its own defaults, and which others apply."""

from dataclasses import fields
from typing import Any, Final

from emimic.baselines.system import get_system
from emimic.features.store import WAVEFORM
from emimic.model.settings import ModelSettings
from emimic.task import SettingsError

_UNUSED: Final = ({field.name for field in fields(ModelSettings)} - {"max_seconds"}) | {
    "category", "category_weight", "compile", "domain_ridge", "domain_targets", "domain_weight",
    "feature_dtype", "features", "frozen_copies", "gradient_checkpointing", "start_heads", "vad_dropout", "vad_ridge",
    "vad_weight",
}  # fmt: skip
"""Settings of the paper's model that have no effect on a baseline."""

_EXCLUDED: Final = (
    "category", "compile", "teacher", "augment", "codec", "context", "lengths", "mixtures", "gradient_checkpointing",
)  # fmt: skip
"""Settings that a baseline can't be trained with."""


def read_defaults(name: str, given: set[str]) -> dict[str, Any]:
    """Return a baseline's own settings. Raises SettingsError where the user gave some that have no effect on it."""
    if unused := sorted(_UNUSED & given):
        raise SettingsError(
            f"a baseline has no {', '.join(unused)}: leave that out; its own fields are in baseline_options, and what "
            "it uses in modalities"
        )
    baseline = get_system(name)
    return {"encoder": None, "modalities": dict(baseline.modalities), **baseline.settings}


def uses_waveform(modalities: Any) -> bool:
    """Return True if one of the modalities is the waveform, which needs an encoder."""
    return isinstance(modalities, dict) and WAVEFORM in modalities.values()


def check_baseline(name: str, settings: Any) -> None:
    """Raise SettingsError where a `TrainSettings` doesn't fit its baseline."""
    baseline = get_system(name)
    baseline.read_options(settings.baseline_options)
    if not settings.modalities or set(settings.modalities) - set(baseline.modalities):
        raise SettingsError(
            f"modalities are {', '.join(settings.modalities) or 'none'}, expected some of "
            f"{', '.join(baseline.modalities)}"
        )
    waveforms = list(settings.modalities.values()).count(WAVEFORM)
    if waveforms > 1 or (waveforms == 1) == (settings.encoder is None and settings.encoder_config is None):
        raise SettingsError(
            f"{name} uses {waveforms} waveforms; expected one with encoder or encoder_config, or none without"
        )
    for other in _EXCLUDED:
        if getattr(settings, other):
            raise SettingsError(f"a baseline can't have {other}: leave it out")
