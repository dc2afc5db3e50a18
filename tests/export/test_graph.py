import numpy as np
from onnx import TensorProto, helper

from kdnas.envs.spec import AgentSpec
from kdnas.export.graph import IR_VERSION, OPSET, make_model, open_session
from kdnas.policies.actions import Discrete


def _echo(agent: str) -> object:
    return helper.make_node("Identity", [f"{agent}.observation"], [f"{agent}.logits"])


def test_equal_logits_take_the_lowest_action_and_masks_are_obeyed() -> None:
    spaces = AgentSpec(observation_size=3, actions=Discrete(3), masked=True)
    session = open_session(make_model({"fox": spaces}, [_echo("fox")], []).SerializeToString())
    logits = np.array([[1, 2, 2], [1, 2, 2], [0, 0, 0], [-5, -6, -7]], np.float32)
    mask = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1]], np.bool_)
    (actions,) = session.run(["fox.action"], {"fox.observation": logits, "fox.mask": mask})
    # A tie of 1 and 2: 1. With 1 illegal: 2. A tie of all with 0 illegal: 1. Only 2 legal: 2, the least likely.
    assert actions.tolist() == [1, 2, 1, 2]


def test_ports_are_named_after_agents_and_the_batch_is_free() -> None:
    free = AgentSpec(observation_size=2, actions=Discrete(2))
    masked = AgentSpec(observation_size=3, actions=Discrete(3), masked=True)
    model = make_model({"a": free, "b": masked}, [_echo("a"), _echo("b")], [])
    session = open_session(model.SerializeToString())
    inputs = {port.name: (port.type, port.shape) for port in session.get_inputs()}
    outputs = {port.name: (port.type, port.shape) for port in session.get_outputs()}
    assert inputs == {
        "a.observation": ("tensor(float)", ["batch", 2]),
        "b.observation": ("tensor(float)", ["batch", 3]),
        "b.mask": ("tensor(bool)", ["batch", 3]),
    }
    assert outputs == {
        "a.action": ("tensor(int64)", ["batch"]),
        "a.logits": ("tensor(float)", ["batch", 2]),
        "b.action": ("tensor(int64)", ["batch"]),
        "b.logits": ("tensor(float)", ["batch", 3]),
    }


def test_versions_are_those_that_onnxruntime_reads() -> None:
    model = make_model({"a": AgentSpec(observation_size=2, actions=Discrete(2))}, [_echo("a")], [])
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET) == (8, 17)
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
