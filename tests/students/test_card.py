import json
import math

import pytest
from pydantic import ValidationError

from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.students.card import ActionsCard, SpacesCard

NONE = {"counts": [], "low": [], "high": [], "squashed": False}


@pytest.mark.parametrize(
    ("space", "written"),
    [
        (Discrete(5), {"kind": "discrete", "counts": [5]}),
        (MultiDiscrete((5, 10)), {"kind": "multi-discrete", "counts": [5, 10]}),
        (MultiDiscrete((5,)), {"kind": "multi-discrete", "counts": [5]}),
        (Box((-1.0, 0.1), (1.0, 0.5)), {"kind": "box", "low": [-1.0, 0.1], "high": [1.0, 0.5]}),
        # JSON has no infinity.
        (
            Box((-math.inf, -1.0, -math.inf), (1.0, math.inf, math.inf)),
            {"kind": "box", "low": [None, -1.0, None], "high": [1.0, None, None]},
        ),
        (
            Box((-1.0,), (1.0,), squashed=True),
            {"kind": "box", "low": [-1.0], "high": [1.0], "squashed": True},
        ),
    ],
)
def test_spaces_come_back_as_they_were(space: ActionSpace, written: dict[str, object]) -> None:
    text = ActionsCard.of(space).model_dump_json()
    assert json.loads(text) == NONE | written
    assert ActionsCard.model_validate_json(text).space == space


def test_bounds_of_float32_come_back_to_the_last_bit() -> None:
    third = 0.3333333432674408  # 1/3 in float32
    text = ActionsCard.of(Box((-third,), (third,))).model_dump_json()
    assert ActionsCard.model_validate_json(text).space == Box((-third,), (third,))


def test_agents_come_back_as_they_were() -> None:
    card = SpacesCard(observation_size=3, actions=ActionsCard.of(MultiDiscrete((2, 3))), masked=True)
    assert card.spec == AgentSpec(observation_size=3, actions=MultiDiscrete((2, 3)), masked=True)
    partial = AgentSpec(observation_size=3, actions=Discrete(2), constant=(0, 2))
    assert SpacesCard.of(partial).spec == partial


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"kind": "discrete"}, "discrete actions have one count, but got ()"),
        ({"kind": "discrete", "counts": [2, 3]}, "discrete actions have one count, but got (2, 3)"),
        ({"kind": "discrete", "counts": [0]}, "greater than or equal to 1"),
        ({"kind": "multi-discrete"}, "MultiDiscrete: each factor needs at least one choice"),
        ({"kind": "multi-discrete", "counts": [1 << 20]}, "less than or equal to 65536"),
        ({"kind": "box"}, "Box: low < high must hold in each dimension"),
        ({"kind": "box", "low": [0.0], "high": [1.0, 2.0]}, "Box: low < high must hold in each dimension"),
        ({"kind": "box", "low": [1.0], "high": [None], "squashed": True}, "squashed actions need finite bounds"),
        ({"kind": "text"}, "kind"),
    ],
)
def test_cards_of_no_space(written: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ActionsCard.model_validate_json(json.dumps(written))
    assert said in str(caught.value)
