"""What every ONNX model of the house shares: versions, the decision at its end, and how a session opens it."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from kdnas.envs.spec import AgentSpec
from kdnas.policies.categorical import ILLEGAL

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto
    from onnxruntime import InferenceSession

OPSET = 17
"""What brevitas exports to; onnx 1.23 would write 28, onnxruntime 1.31 reads 26 at most."""
IR_VERSION = 8
"""The file format of opset 17; onnx 1.23 would write 14, onnxruntime 1.31 reads 13 at most."""

_ILLEGAL = "kdnas.illegal"


def make_model(
    agents: Mapping[str, AgentSpec], nodes: Iterable["NodeProto"], weights: Iterable["TensorProto"]
) -> "ModelProto":
    """A checked model of agents, from nodes that compute each `AGENT.logits` from its `AGENT.observation`.

    The model adds the ports and the decision:

    | port | type | shape | |
    |---|---|---|---|
    | `AGENT.observation` | float32 | (B, O) | |
    | `AGENT.mask` | bool | (B, N) | True is legal; only where the agent sends masks |
    | `AGENT.action` | int64 | (B,) | most likely legal action, the lowest among equals |
    | `AGENT.logits` | float32 | (B, N) | before the mask |
    """
    import onnx
    from onnx import TensorProto, helper

    inputs, outputs, decisions, constants = [], [], [], list(weights)
    for agent, spaces in agents.items():
        scores = f"{agent}.logits"
        inputs.append(_port(f"{agent}.observation", TensorProto.FLOAT, spaces.observation_size))
        if spaces.masked:
            inputs.append(_port(f"{agent}.mask", TensorProto.BOOL, spaces.action_count))
            decisions.append(helper.make_node("Where", [f"{agent}.mask", scores, _ILLEGAL], [f"{agent}.legal_logits"]))
            scores = f"{agent}.legal_logits"
        decisions.append(
            helper.make_node("ArgMax", [scores], [f"{agent}.action"], axis=-1, keepdims=0, select_last_index=0)
        )
        outputs.append(_port(f"{agent}.action", TensorProto.INT64))
        outputs.append(_port(f"{agent}.logits", TensorProto.FLOAT, spaces.action_count))
    if any(spaces.masked for spaces in agents.values()):
        constants.append(helper.make_tensor(_ILLEGAL, TensorProto.FLOAT, [], [ILLEGAL]))
    graph = helper.make_graph([*nodes, *decisions], "team", inputs, outputs, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="kdnas"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


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
