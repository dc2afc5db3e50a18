from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from kdnas.envs.spec import AgentSpec
from kdnas.export.graph import IR_VERSION, OPSET, make_model, open_session
from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.policies.distribution import greedy
from kdnas.policies.masks import mask_logits


def _echo(agent: str) -> Any:
    """What it sees is what it says."""
    return helper.make_node("Identity", [f"{agent}.observation"], [f"{agent}.outputs"])


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
        "a.outputs": ("tensor(float)", ["batch", 2]),
        "b.action": ("tensor(int64)", ["batch"]),
        "b.outputs": ("tensor(float)", ["batch", 3]),
    }


def test_versions_are_those_that_onnxruntime_reads() -> None:
    model = make_model({"a": AgentSpec(observation_size=2, actions=Discrete(2))}, [_echo("a")], [])
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET) == (8, 17)
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT


def _decide(actions: ActionSpace, outputs: list[list[float]], mask: list[list[int]] | None = None) -> NDArray[Any]:
    """What the graph makes of outputs, which must be what torch makes of them."""
    spaces = AgentSpec(observation_size=actions.outputs, actions=actions, masked=mask is not None)
    session = open_session(make_model({"fox": spaces}, [_echo("fox")], []).SerializeToString())
    said, legal = np.array(outputs, np.float32), None if mask is None else np.array(mask, np.bool_)
    feeds = {"fox.observation": said} | ({} if legal is None else {"fox.mask": legal})
    (chosen,) = session.run(["fox.action"], feeds)
    masked = mask_logits(torch.from_numpy(said), None if legal is None else torch.from_numpy(legal))
    wanted = greedy(actions, masked).numpy()
    assert chosen.shape == wanted.shape == (len(said), *actions.shape)
    assert chosen.dtype == wanted.dtype
    np.testing.assert_allclose(chosen, wanted, rtol=1e-6, atol=1e-6)
    answer: NDArray[Any] = chosen
    return answer


def test_factors_are_chosen_one_by_one_and_masked_one_by_one() -> None:
    # Logits of 2 and 3 choices. Ties take the lowest of the factor; the second row's best, 9, is in the second factor.
    outputs: list[list[float]] = [[1, 1, 0, 2, 2], [-5, -4, 9, 0, 0], [3, 0, 0, 0, 1]]
    assert _decide(MultiDiscrete((2, 3)), outputs).tolist() == [[0, 1], [1, 0], [0, 2]]
    # The same with forbidden choices: 0 of the first factor; then 0 of the second; then all but one of each.
    mask = [[0, 1, 1, 1, 1], [1, 1, 0, 1, 1], [0, 1, 1, 0, 0]]
    assert _decide(MultiDiscrete((2, 3)), outputs, mask).tolist() == [[1, 1], [1, 1], [1, 0]]


def test_continuous_actions_are_clipped_to_their_bounds() -> None:
    space = Box((-1.0, 0.0, -np.inf), (1.0, 5.0, 2.0))
    # Within; below; above, with no bound below in the third dimension.
    outputs: list[list[float]] = [[0.5, 2, -7], [-3, -1, 0], [3, 8, 9]]
    assert _decide(space, outputs).tolist() == [[0.5, 2, -7], [-1, 0, 0], [1, 5, 2]]


def test_squashed_actions_stay_inside_their_bounds() -> None:
    # The middle of the bounds at 0; tanh(ln 3 / 2) = (3 - 1) / (3 + 1) = 1/2, half of the way to the upper one.
    space, half = Box((-1.0, 0.0), (1.0, 10.0), squashed=True), float(np.log(3) / 2)
    chosen = _decide(space, [[0.0, 0.0], [half, half], [-50.0, 50.0]])
    np.testing.assert_allclose(chosen, [[0, 5], [0.5, 7.5], [-1, 10]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("bounds", [(-0.1, 0.7), (-0.3, 0.3), (0.1, 0.3), (1000.0, 1000.1), (-1.0, 1.0), (0.0, 1e-3)])
def test_no_squashed_action_leaves_its_bounds_by_rounding(bounds: tuple[float, float]) -> None:
    """Environments may assert that actions are theirs; tanh of onnxruntime is 1.0000002 for some numbers above 7.5."""
    outputs = np.concatenate([np.linspace(-60, 60, 10_001), np.linspace(-10, -5, 10_001), np.linspace(5, 10, 10_001)])
    low, high = (float(np.float32(bound)) for bound in bounds)  # as environments have them
    chosen = _decide(Box((low,), (high,), squashed=True), outputs[:, None].tolist())
    assert low <= chosen.min() < low + 0.02 * (high - low)
    assert high >= chosen.max() > high - 0.02 * (high - low)


@pytest.mark.parametrize(
    ("actions", "kind", "shape", "width"),
    [
        (MultiDiscrete((2, 3)), "tensor(int64)", ["batch", 2], 5),
        (Box((-1.0,) * 4, (1.0,) * 4), "tensor(float)", ["batch", 4], 4),
    ],
)
def test_ports_of_other_actions_and_of_what_is_remembered(
    actions: ActionSpace, kind: str, shape: list[object], width: int
) -> None:
    spaces = AgentSpec(observation_size=width, actions=actions, masked=isinstance(actions, MultiDiscrete))
    nodes = [_echo("a"), helper.make_node("Identity", ["a.hidden"], ["a.next_hidden"])]
    model = make_model({"a": spaces}, nodes, [], hidden_sizes={"a": 7})
    session = open_session(model.SerializeToString())
    inputs = {port.name: (port.type, port.shape) for port in session.get_inputs()}
    outputs = {port.name: (port.type, port.shape) for port in session.get_outputs()}
    assert inputs == {
        "a.observation": ("tensor(float)", ["batch", width]),
        "a.hidden": ("tensor(float)", ["batch", 7]),
    } | ({"a.mask": ("tensor(bool)", ["batch", width])} if spaces.masked else {})
    assert outputs == {
        "a.action": (kind, shape),
        "a.outputs": ("tensor(float)", ["batch", width]),
        "a.next_hidden": ("tensor(float)", ["batch", 7]),
    }
