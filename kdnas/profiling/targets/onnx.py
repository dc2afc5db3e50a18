"""`OnnxTarget`: one thread of this machine's CPU under onnxruntime, on the graphs that `kdnas.export.onnx` writes."""

import platform
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec
from kdnas.export.graph import make_model, open_session
from kdnas.export.piece import trace
from kdnas.policies.actions import Discrete
from kdnas.policies.arrays import Floats
from kdnas.profiling.machine import cpu_model
from kdnas.profiling.shape_graph import make_shape_model
from kdnas.profiling.target import Measurement, Target
from kdnas.profiling.timing import Call, Timing
from kdnas.profiling.untrained import make_untrained
from kdnas.spaces.spec import Bits, StudentSpec
from kdnas.students.activation import RELU
from kdnas.students.family import LayerShape, load_family
from kdnas.students.student import Student

if TYPE_CHECKING:
    from onnx import ModelProto

AGENT = "agent"
"""Name of the one agent in a model that is only timed."""

_REFERENCE = [LayerShape(rows=64, columns=64, weight_bits=32, input_bits=32, output_bits=32) for _ in range(4)]


class OnnxTarget(Target):
    """`onnx`: see `Target`. What is timed is a call of `InferenceSession.run` from Python, the binding's time included,
    in turns with one of a perceptron of four square layers, the reference kernel.

    Its arguments, which a study gives as `[target]`, are those of `Timing`.
    """

    name = "onnx"
    note = "Latency was measured where the search ran, in onnxruntime, one thread, called from Python."

    def __init__(self, *, calls: int = 2000, chunks: int = 5, warm_up: int = 100, limit_s: float = 0.04) -> None:
        self._timing = Timing(calls=calls, chunks=chunks, warm_up=warm_up, limit_s=limit_s)

    def number_format(self, bits: Bits) -> str:
        """Floats, or bytes and which of them are clipped.

        Widths below 8 bits are stored in bytes and run no faster, but each clip is a node (5 to 10 % of a small
        decision).
        """
        if not bits.quantized:
            return "float"
        clipped = "+clipped-inputs" * (bits.input < 8)
        if isinstance(bits.activation, int):
            return "int8" + clipped + "+clipped-activations" * (bits.activation < 8)
        narrow = [str(layer) for layer, width in enumerate(bits.activation) if width < 8]
        some = len(narrow) < len(bits.activation)
        return "int8" + clipped + "-".join(["+clipped-activations", *(narrow if some else [])])

    def fingerprint(self) -> dict[str, str]:
        import onnxruntime

        return {
            "runtime": "onnxruntime",
            "version": onnxruntime.__version__,
            "python": platform.python_version(),
            "cpu": cpu_model(),
            "threads": "1",
        }

    def measure(self, family: str, spec: StudentSpec, spaces: AgentSpec, *, normalised: bool = False) -> Measurement:
        known = load_family(family)
        if known.chain is not None:
            layers = known.layers(spec, spaces.inputs)
            model = make_shape_model(AGENT, layers, spaces, between=known.chain, normalised=normalised)
            return self._time(model, spaces)
        # What is exported is timed, for its shape alone does not say how its layers hang together.
        student = make_untrained(known, spec, spaces, normalised=normalised)
        return self._time_traced(student, student.probe(), spaces)

    def measure_student(self, student: Student, views: Floats) -> Measurement:
        return self._time_traced(student, student.probe(), student.spaces)

    def measure_module(self, network: nn.Module, probe: tuple[Tensor, ...]) -> Measurement:
        with torch.inference_mode():
            answer = network(*probe)
        outputs = answer[0] if isinstance(answer, tuple) else answer
        spaces = AgentSpec(observation_size=probe[0].shape[-1], actions=Discrete(outputs.shape[-1]))
        return self._time_traced(network, probe, spaces)

    def reference_s(self) -> float:
        return self._timing.measure(self._reference, self._reference).p50_s

    @cached_property
    def _reference(self) -> Call:
        spaces = AgentSpec(observation_size=_REFERENCE[0].columns, actions=Discrete(_REFERENCE[-1].rows))
        return _call(make_shape_model(AGENT, _REFERENCE, spaces, between=RELU, normalised=False), spaces)

    def _time_traced(self, network: nn.Module, probe: tuple[Tensor, ...], spaces: AgentSpec) -> Measurement:
        hidden = {AGENT: probe[1].shape[-1]} if len(probe) > 1 else {}
        piece = trace(network, probe, group=AGENT)
        model = make_model({AGENT: spaces}, piece.nodes(AGENT), piece.weights, hidden_sizes=hidden)
        return self._time(model, spaces, hidden.get(AGENT, 0))

    def _time(self, model: "ModelProto", spaces: AgentSpec, hidden_size: int = 0) -> Measurement:
        return self._timing.measure(_call(model, spaces, hidden_size), self._reference)


def _call(model: "ModelProto", spaces: AgentSpec, hidden_size: int = 0) -> Call:
    """A decision of a model of one agent."""
    session = open_session(model.SerializeToString())
    feeds: dict[str, Any] = {f"{AGENT}.observation": np.full((1, spaces.observation_size), 0.5, np.float32)}
    asked = [f"{AGENT}.action"]
    if spaces.masked:
        feeds[f"{AGENT}.mask"] = np.ones((1, spaces.actions.outputs), np.bool_)
    if hidden_size:
        feeds[f"{AGENT}.hidden"] = np.zeros((1, hidden_size), np.float32)
        asked.append(f"{AGENT}.next_hidden")
    return partial(session.run, asked, feeds)

