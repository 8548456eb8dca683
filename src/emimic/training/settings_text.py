"""Every setting of a training run as commented YAML, to be saved, edited and given as --config."""

import textwrap
from typing import Any, Final

import yaml
from pydantic import BaseModel

from emimic.data.corpus_settings import CorpusSettings, MixtureSettings, RankSettings
from emimic.training.settings import TrainSettings

_SECTIONS: Final = {"encoder": "The model", "loss": "Learning", "precision": "The machine"}
"""The first setting of each section, in the order of `TrainSettings`."""

_INNER: Final[dict[str, type[BaseModel]]] = {
    "corpora": CorpusSettings,
    "ranks": RankSettings,
    "mixtures": MixtureSettings,
}
"""Settings that hold others."""

_HEAD: Final = (
    "All settings of `emimic train` with their defaults, which are the paper's: emimic train --settings > paper.yaml. "
    "Change what you need, delete the rest, and give the file as --config. --set name=value goes over it."
)


def settings_text() -> str:
    """Return the text: each setting's description as a comment, then `name: default`; `TrainSettings.read` takes it."""
    lines = [*_comment(_HEAD), ""]
    defaults = TrainSettings.read().model_dump(mode="json")
    for name, field in TrainSettings.model_fields.items():
        if name in _SECTIONS:
            lines += ["", f"# --- {_SECTIONS[name]} ---", ""]
        lines += _comment(field.description or "")
        if name in _INNER:
            lines += _fields(_INNER[name], "  ")
        lines.append(f"{name}: {_value(defaults[name])}")
    return "\n".join(lines) + "\n"


def _fields(schema: type[BaseModel], indent: str) -> list[str]:
    """The settings inside one, as comments only."""
    lines = []
    for name, field in schema.model_fields.items():
        default = "required" if field.is_required() else _value(field.default)
        lines += _comment(f"{name} ({default}): {field.description}", indent)
        if name == "ranks":
            lines += _fields(_INNER[name], indent + "  ")
    return lines


def _comment(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=f"# {indent}", subsequent_indent=f"# {indent}")


def _value(value: Any) -> str:
    """A value in YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
