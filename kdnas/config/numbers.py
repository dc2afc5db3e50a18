"""Numbers of a study file, and the features of an observation."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

# Numbers are strict: pydantic would read `true` as 1 and "no" as false.
Share = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
CountOrZero = Annotated[int, Field(ge=0, strict=True)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
"""NumPy's older generators, which Optuna draws with, take 32 bits."""
Positive = Annotated[float, Field(gt=0.0, strict=True)]
NonNegative = Annotated[float, Field(ge=0.0, strict=True)]
BelowOne = Annotated[float, Field(ge=0.0, lt=1.0, strict=True)]
Switch = Annotated[bool, Field(strict=True)]

MAX_FEATURES = 1 << 16
"""Features of an observation are counted from 0 to below this."""

_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


def _read_features(given: Any) -> Any:
    """`["0-3", 7]` or `"0-3"` -> (0, 1, 2, 3, 7); what is neither index nor range is left for pydantic to refuse."""
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list | tuple):
        return given
    features: list[Any] = []
    for item in given:
        ends = _RANGE.fullmatch(item) if isinstance(item, str) else None
        if ends is None:
            if isinstance(item, str):
                raise ValueError(f"write a feature as 7 and a range as '4-5', both ends in it, but got {item!r}")
            features.append(item)
            continue
        first, last = int(ends[1]), int(ends[2])
        if not first <= last < MAX_FEATURES:
            raise ValueError(f"a range goes up, and ends below {MAX_FEATURES}, but got {item!r}")
        features.extend(range(first, last + 1))
    return tuple(features)


def format_features(features: Sequence[int]) -> str:
    """Ascending indices as a study file names them: (0, 1, 2, 3, 7) -> "0-3, 7"."""
    runs: list[list[int]] = []
    for feature in features:
        if runs and feature == runs[-1][-1] + 1:
            runs[-1].append(feature)
        else:
            runs.append([feature])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


Features = Annotated[tuple[CountOrZero, ...], Field(min_length=1), BeforeValidator(_read_features)]
"""Features of an observation, counted from 0: indices and ranges, for example `["0-3", 7]`."""
