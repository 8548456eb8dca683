"""Settings as text: YAML files, and `--set name=value` options."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from emimic.data.fields import read_number
from emimic.task import SettingsError

_AMBIGUOUS: Final = re.compile(r"[-+]?(0[\d_]|\d*[\d.]*[_:])[\d_.:]*([eE][-+]?\d+)?", re.ASCII)


def _load_yaml(text: str, source: str) -> Any:
    """Read YAML, but reject plain numbers that it misreads: 0_5 as 5, 010 as 8, 1:30 as 90.

    Raises:
        SettingsError: at such a number.
        yaml.YAMLError: if it is no YAML.
    """
    events: Iterable[Any] = yaml.parse(text, yaml.SafeLoader)
    for event in events:
        plain = isinstance(event, yaml.ScalarEvent) and event.style is None
        if plain and _AMBIGUOUS.fullmatch(event.value) and any(map(str.isdigit, event.value)):
            raise SettingsError(
                f"{source}: found {event.value}, expected a number such as 0.5 or 10; quote it if it is a name"
            )
    return yaml.safe_load(text)


def read_yaml(file: Path) -> dict[str, Any]:
    """Return a YAML file's values by name. Raises SettingsError."""
    try:
        values = _load_yaml(file.read_text(encoding="utf-8"), str(file)) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{file} can't be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{file} must hold `name: value` lines; found a {type(values).__name__}")
    return values


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """Return the values of `name=value` texts, such as `["lr=3e-4", "loss.pearson=1"]`, by name.

    Values are YAML, so that null, true and lists work; 1e-4 is a number too. Raises SettingsError.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise SettingsError(f"--set takes name=value, found {pair!r}")
        try:
            value = _load_yaml(text, f"--set {pair}")
        except yaml.YAMLError as error:
            raise SettingsError(f"--set {pair} can't be read as YAML: {error}") from error
        if value and isinstance(value, str) and (number := read_number(value)) is not None:
            value = number  # YAML 1.1 reads 1e-4, without a point, as text
        overrides[name] = value
    return overrides


def apply_overrides(
    values: dict[str, Any], overrides: dict[str, Any], groups: dict[str, dict[str, Any]]
) -> None:
    """Set overrides in `values`; a dotted name sets a value in a group.

    Args:
        values: by name, changed in place.
        overrides: by name, dotted or not.
        groups: defaults of the groups, beside which a dotted name's value is set (`loss.pearson` beside mse).

    Raises:
        SettingsError: if a dotted name's first part is no group.
    """
    for name, value in overrides.items():
        *path, last = name.split(".")
        if path and path[0] in groups:
            values.setdefault(path[0], dict(groups[path[0]]))
        group = values
        for part in path:
            group = group.setdefault(part, {})
            if not isinstance(group, dict):
                raise SettingsError(f"{name}: {part} isn't a group of values")
        group[last] = value
