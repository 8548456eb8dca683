"""All settings of a training run as commented YAML, for a --config file."""

import textwrap
from typing import Any, Final

import yaml
from pydantic import BaseModel

from emimic.data.corpus_settings import ContextSettings, CorpusSettings, MixtureSettings, RankSettings
from emimic.model.settings import TextSettings, VisionSettings
from emimic.training.settings import TrainSettings

_SECTIONS: Final = {
    "audio": "Components of the model",
    "precision": "The machine",
    "encoder": "Encoder, domains, baseline, corpora",
    "loss": "Learning",
}
"""First setting -> title of a section, in the order of `TrainSettings`."""

_INNER: Final[dict[str, type[BaseModel]]] = {
    "corpora": CorpusSettings,
    "ranks": RankSettings,
    "mixtures": MixtureSettings,
    "context": ContextSettings,
    "vision": VisionSettings,
    "text": TextSettings,
}
"""Settings that are groups."""

_HEAD: Final = (
    "All settings of `emimic train` with their defaults, which are the paper's: emimic train --settings > paper.yaml. "
    "Change what you need, delete the rest, and give the file as --config. --set name=value overrides it."
)


def format_settings() -> str:
    """Return YAML that `TrainSettings.read` reads: each setting's description as a comment, then `name: default`."""
    lines = [*_format_comment(_HEAD), ""]
    defaults = TrainSettings.read().model_dump(mode="json")
    for name, field in TrainSettings.model_fields.items():
        if name in _SECTIONS:
            lines += ["", f"# --- {_SECTIONS[name]} ---", ""]
        lines += _format_comment(field.description or "")
        if name in _INNER:
            lines += _format_fields(_INNER[name], "  ")
        lines.append(f"{name}: {_format_value(defaults[name])}")
    return "\n".join(lines) + "\n"


def _format_fields(schema: type[BaseModel], indent: str) -> list[str]:
    """Return the settings of a group, as comments."""
    lines = []
    for name, field in schema.model_fields.items():
        default = "required" if field.is_required() else _format_value(field.default)
        lines += _format_comment(f"{name} ({default}): {field.description}", indent)
        if name == "ranks":
            lines += _format_fields(_INNER[name], indent + "  ")
    return lines


def _format_comment(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=f"# {indent}", subsequent_indent=f"# {indent}")


def _format_value(value: Any) -> str:
    """Return a value in YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
