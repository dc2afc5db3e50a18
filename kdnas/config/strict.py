"""`Strict`: what every table of a file that kdnas reads is."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen table of a TOML file: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
