"""Explanations of pydantic's validation errors."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from emimic.wording import suggest_name

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


def explain(error: "ValidationError", schema: "type[BaseModel]") -> str:
    """Return pydantic's first error as a sentence; for an unknown name, with the names of the schema."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    names = ""
    if first["type"] == "extra_forbidden":
        fields = _find_model(schema, first["loc"][:-1]).model_fields
        names = f"{suggest_name(str(first['loc'][-1]), fields)}; known names: {', '.join(fields)}"
    return f"{path}: {first['msg']}, found {first['input']!r}{names}"


def _find_model(schema: "type[BaseModel]", path: "tuple[int | str, ...]") -> "type[BaseModel]":
    """Return the model at a path of field names and keys."""
    for part in path:
        if part in schema.model_fields:
            schema = next(_find_models(schema.model_fields[str(part)].annotation), schema)
    return schema


def _find_models(annotation: Any) -> "Iterator[type[BaseModel]]":
    """Yield the models within a type, such as that of a mapping's values or of an optional field."""
    if hasattr(annotation, "model_fields"):
        yield annotation
    for part in get_args(annotation):
        yield from _find_models(part)
