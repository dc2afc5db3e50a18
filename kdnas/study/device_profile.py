"""`DeviceProfile`: what a target has measured, for this run and for later ones on the same device."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kdnas.errors import RunError
from kdnas.profiling.target import Measurement, Target
from kdnas.study.run_folder import write_text

PROFILE = "device.json"
"""In a run folder."""


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """Measurements of one target, and what they depend on besides the network."""

    target: str
    fingerprint: Mapping[str, str]
    measured: Mapping[str, Measurement] = field(default_factory=dict)
    """Target, family, shape and number format, or the hash of a teacher's network -> what it takes."""

    def write(self, path: Path) -> None:
        """Write a file, whole or not at all.

        Raises:
            RunError: it cannot be written.
        """
        content = {
            "target": self.target,
            "fingerprint": dict(self.fingerprint),
            "measured": {key: value.as_json() for key, value in self.measured.items()},
        }
        write_text(path, json.dumps(content, indent=2) + "\n")


def fresh_profile(target: Target) -> DeviceProfile:
    """The profile of a target that has measured nothing yet."""
    return DeviceProfile(target=target.name, fingerprint=target.fingerprint())


def read_profile(path: Path) -> DeviceProfile:
    """Read a profile.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        measured = {str(key): Measurement.from_json(value) for key, value in data["measured"].items()}
        fingerprint = {str(name): str(value) for name, value in data["fingerprint"].items()}
        return DeviceProfile(target=str(data["target"]), fingerprint=fingerprint, measured=measured)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}; give the {PROFILE} of a run") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: is no device profile ({error!r}); give the {PROFILE} of a run") from error


def known_measurements(run: Path, target: Target) -> DeviceProfile:
    """What an earlier part of a run measured; nothing where the file is missing, damaged, or of another device."""
    fresh = fresh_profile(target)
    try:
        known = read_profile(run / PROFILE)
    except RunError:
        return fresh
    return known if (known.target, known.fingerprint) == (fresh.target, fresh.fingerprint) else fresh


def adopt_profile(path: Path, target: Target) -> DeviceProfile:
    """A profile of another run.

    Raises:
        RunError: it is missing or damaged, or of another target or device.
    """
    known, fresh = read_profile(path), fresh_profile(target)
    if known.target != fresh.target:
        raise RunError(f"{path}: is a profile of {known.target!r}, and the target is {fresh.target!r}; leave it out")
    changed = [name for name in {*known.fingerprint, *fresh.fingerprint}
               if known.fingerprint.get(name) != fresh.fingerprint.get(name)]  # fmt: skip
    if changed:
        told = "; ".join(
            f"{name} was {known.fingerprint.get(name)!r}, is {fresh.fingerprint.get(name)!r}"
            for name in sorted(changed)
        )
        raise RunError(f"{path}: is a profile of another device ({told}); leave it out")
    return known
