"""What a search-space file may choose from."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field


def distinct(choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """The choices themselves.

    Raises:
        ValueError: one stands twice. Optuna records a choice by its place in the list, so that a value in two places
            would be two parameters.
    """
    twice = [choice for index, choice in enumerate(choices) if choice in choices[:index]]
    if twice:
        raise ValueError(f"each choice must stand once, but {twice[0]!r} stands twice")
    return choices


IntegerWidth = Annotated[int, Field(ge=2, le=8, strict=True)]
"""Bits of an integer."""
IntegerWidths = Annotated[tuple[IntegerWidth, ...], Field(min_length=1), AfterValidator(distinct)]
