"""The machine that measures."""

import platform
from pathlib import Path


def cpu_model() -> str:
    """The processor's model; `platform` does not know it on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
