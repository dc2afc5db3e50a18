import json
from pathlib import Path

import pytest

from kdnas.errors import RunError
from kdnas.profiling import Measurement
from kdnas.study.device_profile import (
    PROFILE,
    DeviceProfile,
    adopt_profile,
    fresh_profile,
    known_measurements,
    read_profile,
)

from .conftest import WidthTarget

TAKES = Measurement(p50_s=1e-6, p95_s=2e-6, p99_s=3e-6, flash_bytes=4, ram_bytes=5, reference_s=6e-6, drift=0.07)
KNOWN = DeviceProfile(target="width", fingerprint={}, measured={"width/mlp/3-4-5/float": TAKES})


def test_what_was_measured_is_read_back(tmp_path: Path) -> None:
    KNOWN.write(tmp_path / PROFILE)
    assert read_profile(tmp_path / PROFILE) == KNOWN
    assert known_measurements(tmp_path, WidthTarget()) == KNOWN
    assert adopt_profile(tmp_path / PROFILE, WidthTarget()) == KNOWN
    written = json.loads((tmp_path / PROFILE).read_text())["measured"]["width/mlp/3-4-5/float"]
    assert (written["flash_bytes"], written["reference_s"], written["drift"]) == (4, 6e-6, 0.07)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"target": "width", "fingerprint": {}, "measured": {"x": {}}}'])
def test_a_damaged_profile(text: str, tmp_path: Path) -> None:
    (tmp_path / PROFILE).write_text(text)
    # A run measures again, and whoever names the file is told.
    assert known_measurements(tmp_path, WidthTarget()) == fresh_profile(WidthTarget())
    with pytest.raises(RunError, match=r"device.json: is no device profile .*; give the device.json of a run"):
        adopt_profile(tmp_path / PROFILE, WidthTarget())


def test_another_device(tmp_path: Path) -> None:
    path = tmp_path / PROFILE
    DeviceProfile(target="height", fingerprint={}, measured={}).write(path)
    assert known_measurements(tmp_path, WidthTarget()).measured == {}
    with pytest.raises(RunError, match="is a profile of 'height', and the target is 'width'"):
        adopt_profile(path, WidthTarget())
    DeviceProfile(target="width", fingerprint={"cpu": "old"}, measured={"a": TAKES}).write(path)
    assert known_measurements(tmp_path, WidthTarget()).measured == {}
    with pytest.raises(RunError, match=r"another device \(cpu was 'old', is None\); leave it out"):
        adopt_profile(path, WidthTarget())
    with pytest.raises(RunError, match="cannot be read: No such file"):
        adopt_profile(tmp_path / "none", WidthTarget())
