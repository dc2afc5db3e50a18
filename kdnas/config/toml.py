"""Strict reading of TOML files: every complaint names file, table, key and the nearest known key."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

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
    except (ValueError, RecursionError) as error:  # bytes that are no text, nesting or numbers beyond Python's limits
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


_WORDING = {
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "missing": "is missing",
    "model_type": "must be a table",
    "string_type": "must be text, in quotes",
    "tuple_type": "must be a list, in [ ]",
}
"""TOML's words where pydantic's own are Python's."""

_Step = tuple[str | int, Any]
"""A key or index, and the annotation of what stands there (None where it is unknown)."""


def _complaints(error: ValidationError, model: type[BaseModel], where: str) -> str:
    details = [(_walk(model, detail["loc"]), detail) for detail in error.errors()]
    paths = [_path(steps) for steps, _ in details]
    messages: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    for (steps, detail), path in zip(details, paths, strict=True):
        deeper = any(len(other) > len(path) and other[: len(path)] == path for other in paths)
        if deeper and detail["type"] in (*_WORDING, "too_short"):
            # Said again from above: the list that its refused item left too short, the type that a union also allows.
            continue
        place = f"{where}: {_place(steps)}" if steps else where
        messages.setdefault(place, []).append(_message(model, steps, detail))
        given[place] = _given(detail)
    return "\n".join(f"{place}: {' or '.join(dict.fromkeys(said))}{given[place]}" for place, said in messages.items())


def _message(model: type[BaseModel], steps: list[_Step], detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        table = steps[-2][1] if len(steps) > 1 else model
        return f"unknown key; {name_nearest(str(steps[-1][0]), getattr(table, 'model_fields', ()))}"
    words = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    words = words.replace("Tuple should have", "must have").replace(" after validation", "")
    return _WORDING.get(detail["type"], words[:1].lower() + words[1:])


def _given(detail: ErrorDetails) -> str:
    """The value that was refused, unless the sentence holds it or it would not fit into one."""
    value = detail["input"]
    if detail["type"] in ("extra_forbidden", "value_error") or value is None or isinstance(value, dict | list | tuple):
        return ""
    shown = repr(value)
    return f", but got {shown if len(shown) <= 80 else shown[:77] + '...'}"


def _place(steps: list[_Step]) -> str:
    """`[groups.default.bases[0]] prune[1]`, or the table alone when all of it is meant; indices count from 0."""
    path = _path(steps)
    if hasattr(steps[-1][1], "model_fields"):
        return f"[{_dotted(path)}]"
    last = max(index for index, part in enumerate(path) if isinstance(part, str))
    table = _dotted(path[:last])
    return f"[{table}] {_dotted(path[last:])}" if table else _dotted(path[last:])


def _dotted(path: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _path(steps: list[_Step]) -> list[str | int]:
    return [part for part, _ in steps]


def _walk(model: type[BaseModel], location: Sequence[str | int]) -> list[_Step]:
    """Follow pydantic's location through the annotations; the names that it gives to members of a union are no keys."""
    steps: list[_Step] = []
    here: Any = model
    for part in location:
        members = _members(here)
        if len(members) > 1:
            here = next((member for member in members if str(part).partition("[")[0] == _name(member)), None)
            continue
        here = _inside(members[0], part)
        steps.append((part, _members(here)[0] if len(_members(here)) == 1 else here))
    return steps


def _members(annotation: Any) -> list[Any]:
    """The types that an annotation allows, None and `Annotated` taken off."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for member in get_args(annotation) if member is not NoneType]
    return [annotation]


def _name(annotation: Any) -> str:
    return getattr(get_origin(annotation) or annotation, "__name__", "")


def _inside(annotation: Any, part: str | int) -> Any:
    fields = getattr(annotation, "model_fields", None)
    if fields is not None:
        # Tables whose keys are names of the user's choice say what stands under them.
        others = annotation.__annotations__.get("__pydantic_extra__")
        return fields[part].annotation if part in fields else get_args(others)[1] if others else None
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    return get_args(annotation)[0] if get_origin(annotation) in (list, tuple) else None
