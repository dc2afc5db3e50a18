"""What every ONNX model of the house shares: versions, the decision at its end, and how a session opens it."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.policies.distribution import squash_map
from kdnas.policies.masks import ILLEGAL

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto
    from onnxruntime import InferenceSession

OPSET = 17
"""What brevitas exports to; onnx 1.23 would write 28, onnxruntime 1.31 reads 26 at most."""
IR_VERSION = 8
"""The file format of opset 17; onnx 1.23 would write 14, onnxruntime 1.31 reads 13 at most."""

_ILLEGAL = "kdnas.illegal"


def make_model(
    agents: Mapping[str, AgentSpec],
    nodes: Iterable["NodeProto"],
    weights: Iterable["TensorProto"],
    *,
    hidden_sizes: Mapping[str, int] | None = None,
) -> "ModelProto":
    """A checked model of agents, from nodes that compute each `AGENT.outputs` from its `AGENT.observation`.

    The model adds the ports and the decision:

    | port | type | shape | |
    |---|---|---|---|
    | `AGENT.observation` | float32 | (B, O) | |
    | `AGENT.mask` | bool | (B, N) | True is legal; only where the agent sends masks |
    | `AGENT.hidden` | float32 | (B, H) | only where the student is recurrent; zeros at the beginning of an episode |
    | `AGENT.action` | int64 | (B,) or (B, K) | most likely legal action, the lowest among equals |
    | | float32 | (B, D) | or the most likely continuous one, within its bounds |
    | `AGENT.outputs` | float32 | (B, N) | logits before the mask, or means before clipping and squashing |
    | `AGENT.next_hidden` | float32 | (B, H) | to be given back as `AGENT.hidden` at the next step |
    """
    import onnx
    from onnx import TensorProto, helper

    inputs, outputs, decisions, constants = [], [], [], list(weights)
    for agent, spaces in agents.items():
        scores = f"{agent}.outputs"
        inputs.append(_port(f"{agent}.observation", TensorProto.FLOAT, spaces.observation_size))
        if spaces.masked:
            inputs.append(_port(f"{agent}.mask", TensorProto.BOOL, spaces.actions.outputs))
            decisions.append(helper.make_node("Where", [f"{agent}.mask", scores, _ILLEGAL], [f"{agent}.legal_logits"]))
            scores = f"{agent}.legal_logits"
        chosen, bounds = _decide(agent, spaces.actions, scores)
        decisions += chosen
        constants += bounds
        kind = TensorProto.FLOAT if isinstance(spaces.actions, Box) else TensorProto.INT64
        outputs.append(_port(f"{agent}.action", kind, *spaces.actions.shape))
        outputs.append(_port(f"{agent}.outputs", TensorProto.FLOAT, spaces.actions.outputs))
        if size := (hidden_sizes or {}).get(agent, 0):
            inputs.append(_port(f"{agent}.hidden", TensorProto.FLOAT, size))
            outputs.append(_port(f"{agent}.next_hidden", TensorProto.FLOAT, size))
    if any(spaces.masked for spaces in agents.values()):
        constants.append(helper.make_tensor(_ILLEGAL, TensorProto.FLOAT, [], [ILLEGAL]))
    graph = helper.make_graph([*nodes, *decisions], "team", inputs, outputs, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="kdnas"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _decide(agent: str, actions: ActionSpace, scores: str) -> tuple[list["NodeProto"], list["TensorProto"]]:
    """Nodes from masked outputs to the action, as `policies.distribution.greedy` makes it, and their constants."""
    import numpy as np
    from onnx import helper, numpy_helper

    action = f"{agent}.action"
    if isinstance(actions, Discrete):
        return [helper.make_node("ArgMax", [scores], [action], axis=-1, keepdims=0, select_last_index=0)], []
    if isinstance(actions, MultiDiscrete):
        sizes = numpy_helper.from_array(np.array(actions.counts, np.int64), f"{agent}/counts")
        parts = [f"{agent}/factor_{index}" for index in range(len(actions.counts))]
        chosen = [f"{part}.action" for part in parts]
        return [
            helper.make_node("Split", [scores, sizes.name], parts, axis=-1),
            *(
                helper.make_node("ArgMax", [part], [one], axis=-1, keepdims=1, select_last_index=0)
                for part, one in zip(parts, chosen, strict=True)
            ),
            helper.make_node("Concat", chosen, [action], axis=-1),
        ], [sizes]
    if actions.squashed:
        scale, shift = squash_map(actions)
        bounds = [numpy_helper.from_array(scale, f"{agent}/scale"), numpy_helper.from_array(shift, f"{agent}/shift")]
        return [
            helper.make_node("Tanh", [scores], [f"{agent}/tanh"]),
            helper.make_node("Mul", [f"{agent}/tanh", bounds[0].name], [f"{agent}/scaled"]),
            helper.make_node("Add", [f"{agent}/scaled", bounds[1].name], [action]),
        ], bounds
    low, high = (np.array(bound, np.float32) for bound in (actions.low, actions.high))
    bounds = [numpy_helper.from_array(low, f"{agent}/low"), numpy_helper.from_array(high, f"{agent}/high")]
    return [
        helper.make_node("Max", [scores, bounds[0].name], [f"{agent}/raised"]),
        helper.make_node("Min", [f"{agent}/raised", bounds[1].name], [action]),
    ], bounds


def open_session(model: bytes, *, optimised: str | None = None) -> "InferenceSession":
    """An onnxruntime session on one thread of the CPU; `optimised` is where it writes the graph that it really runs."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # warnings about nodes that it has folded are of no use to a user
    if optimised is not None:
        options.optimized_model_filepath = optimised
    return InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _port(name: str, kind: int, *features: int) -> "ValueInfoProto":
    from onnx import helper

    return helper.make_tensor_value_info(name, kind, ["batch", *features])
