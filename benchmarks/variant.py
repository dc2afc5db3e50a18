"""The shipped study `spread` with something changed, as several benchmarks search it."""

import tomllib
from pathlib import Path
from typing import Any

import tomli_w


def write_variant(changes: dict[str, Any], folder: Path) -> Path:
    """Write `study.toml`, with the paths of the shipped study made absolute; entries of its tables are replaced.

    Example: `write_variant({"search": {"front": 1}}, folder)` leaves the rest of `[search]` as it is.
    """
    from kdnas.config.shipped import find_space, find_study

    shipped = find_study("spread")
    study = tomllib.loads(shipped.read_text("utf-8"))
    study["space"] = str(find_space(study["space"], shipped.parent).resolve())
    study["teacher"]["checkpoint"] = str((shipped.parent / study["teacher"]["checkpoint"]).resolve())
    for name, change in changes.items():
        study[name] = study.get(name, {}) | change if isinstance(change, dict) else change
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.toml"
    path.write_text(tomli_w.dumps(study))
    return path
