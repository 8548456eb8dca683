"""Checks of written JSON against the JSON Schemas in the package."""

import json
from pathlib import Path
from typing import Any

import jsonschema

import emimic

PACKAGE = Path(emimic.__file__).parent


def keeps(schema: str, *written: Any) -> None:
    """Assert that each is as the schema (a file of the package) says, with no field that it does not name."""
    actual = json.loads((PACKAGE / schema).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(actual)
    assert actual["$id"] == "urn:" + actual["title"].replace("/", ":")
    strict = jsonschema.Draft202012Validator(closed(actual))
    for one in written:
        strict.validate(one)


def json_lines(file: Path) -> list[Any]:
    """Return the content of each line of a JSON Lines file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def closed(schema: Any) -> Any:
    """Return the schema, refusing every field that it does not name."""
    if isinstance(schema, list):
        return [closed(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if "properties" in schema else {}
    return more | {key: closed(value) for key, value in schema.items()}
