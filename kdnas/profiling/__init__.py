"""Profiling: what one decision of an agent costs, counted by arithmetic or measured on a target."""

from kdnas.profiling.flops import count_macs
from kdnas.profiling.memory import bops, memory_bytes, parameters
from kdnas.profiling.pricer import Pricer
from kdnas.profiling.target import Measurement, Target
from kdnas.profiling.targets.onnx import OnnxTarget

__all__ = [
    "Measurement", "OnnxTarget", "Pricer", "Target", "bops", "count_macs", "memory_bytes", "parameters",
]  # fmt: skip
