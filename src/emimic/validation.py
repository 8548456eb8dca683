"""What is wrong with values that a user gave."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from emimic.wording import did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


def explain(error: "ValidationError", schema: "type[BaseModel]") -> str:
    """Return what pydantic found wrong first, in a sentence; for an unknown name, those that the schema knows."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    known = ""
    if first["type"] == "extra_forbidden":
        fields = _model_at(schema, first["loc"][:-1]).model_fields
        known = f"{did_you_mean(str(first['loc'][-1]), fields)}; known names: {', '.join(fields)}"
    return f"{where}: {first['msg']}, found {first['input']!r}{known}"


def _model_at(schema: "type[BaseModel]", path: "tuple[int | str, ...]") -> "type[BaseModel]":
    """Return the model that stands at a path of field names and keys."""
    for part in path:
        if part in schema.model_fields:
            schema = next(_models(schema.model_fields[str(part)].annotation), schema)
    return schema


def _models(annotation: Any) -> "Iterator[type[BaseModel]]":
    """Yield the models within a type, such as that of a mapping's values or of an optional field."""
    if hasattr(annotation, "model_fields"):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
