"""Strict reading of TOML files: every complaint names file, table, key and the nearest known key."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kdnas.errors import ConfigError, KdnasError, name_nearest

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 1 << 20
"""A study or space file is a page of text; a larger file is something else."""


def read_toml(path: Path, model: type[Model]) -> Model:
    """Read a TOML file into a strict model.

    Raises:
        ConfigError: no such file, not TOML, or keys and values that the model refuses.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: is {path.stat().st_size:,} bytes long; no study or space file is so large")
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    return validate(tables, model, where=str(path))


def validate(tables: dict[str, Any], model: type[Model], *, where: str) -> Model:
    """Check tables against a strict model; `where` begins each complaint.

    Raises:
        ConfigError: with one line for each key that is refused.
    """
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        raise ConfigError(_complaints(error, model, where)) from error


def validate_json(text: str, model: type[Model], *, where: str, error: type[KdnasError] = ConfigError) -> Model:
    """Check a JSON document that the house wrote against its model, raising errors of the reader's kind.

    Raises:
        KdnasError: `error`, with one line for each key that is refused.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as refused:
        raise error(_complaints(refused, model, where)) from refused


def _complaints(error: ValidationError, model: type[BaseModel], where: str) -> str:
    return "\n".join(dict.fromkeys(_complaint(detail, model, where) for detail in error.errors()))


def _complaint(detail: ErrorDetails, model: type[BaseModel], where: str) -> str:
    location = [str(part) for part in detail["loc"]]
    table, key = ".".join(location[:-1]), location[-1] if location else ""
    place = f"{where}: [{table}] {key}" if table else f"{where}: {key}" if key else where
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown key; {name_nearest(key, _known_keys(model, location[:-1]))}"
    if detail["type"] == "missing":
        return f"{place}: is missing"
    message = detail["msg"].removeprefix("Value error, ")
    shown = detail.get("input")
    given = "" if isinstance(shown, dict | list) or shown is None else f", but got {shown!r}"
    return f"{place}: {message[:1].lower()}{message[1:]}{given}"


def _known_keys(model: type[BaseModel], tables: list[str]) -> list[str]:
    """The keys of the table that a path of tables leads to."""
    for table in tables:
        field = model.model_fields.get(table)
        inner = _inner_model(field.annotation) if field is not None else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        inner = _inner_model(argument)
        if inner is not None:
            return inner
    return None
