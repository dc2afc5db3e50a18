"""Profiling: what one decision of an agent costs, counted by arithmetic or measured on a target."""

from kdnas.profiling.flops import count_macs
from kdnas.profiling.memory import bops, memory_bytes, parameters
from kdnas.profiling.onnx_target import OnnxTarget
from kdnas.profiling.pricer import Pricer
from kdnas.profiling.target import Latency, Target

__all__ = [
    "Latency", "OnnxTarget", "Pricer", "Target", "bops", "count_macs", "memory_bytes", "parameters",
]  # fmt: skip
