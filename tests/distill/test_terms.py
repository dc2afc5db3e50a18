import re
from typing import Any

import pytest
from pydantic import ValidationError

from kdnas.config.study import AdaptiveTable, DistillTable, LossTable
from kdnas.distill.terms import check_terms
from kdnas.errors import ConfigError
from kdnas.policies.actions import Box, Discrete

EVERYTHING: dict[str, Any] = {
    "actions": Discrete(5),
    "other_agents": 2,
    "hidden_layer": True,
    "q_temperature": 0.5,
}


def check(facts: dict[str, Any], **weights: float) -> None:
    check_terms(LossTable(**weights), "drone", **EVERYTHING | facts)


def test_with_everything_there_everything_may_be_on() -> None:
    check({}, kl=1, cross_entropy=1, relation=1, role=1, q=1)


def test_the_divergence_needs_nothing() -> None:
    check({"actions": Box((0.0,), (1.0,)), "other_agents": 0, "hidden_layer": False, "q_temperature": None})


def test_one_term_is_enough() -> None:
    check({}, kl=0, q=0.1)


@pytest.mark.parametrize(
    ("facts", "weights", "said"),
    [
        (
            {},
            {"kl": 0},
            "distill.loss: every weight is 0, so nothing would be learned; "
            "give kl, cross_entropy, relation, role or q a weight above 0",
        ),
        (
            {"actions": Box((0.0,), (1.0,))},
            {"cross_entropy": 0.5},
            "distill.loss.cross_entropy = 0.5: the students of group 'drone' have continuous actions, for which it is "
            "the same as kl up to a constant; set cross_entropy = 0 and use kl",
        ),
        (
            {"other_agents": 0},
            {"relation": 1},
            "distill.loss.relation = 1.0: the students of group 'drone' have no other agent to relate to; "
            "set relation = 0",
        ),
        (
            {"hidden_layer": False},
            {"role": 1},
            "distill.loss.role = 1.0: the teacher of group 'drone' has no nn.Linear, so no hidden layer that roles can "
            "be taken from; set role = 0",
        ),
        (
            {"q_temperature": None},
            {"q": 1},
            "distill.loss.q = 1.0: the teacher of group 'drone' says no action values; set q = 0, or give its Reading "
            "a q_temperature if its network does say them",
        ),
    ],
)
def test_what_is_not_there_is_refused(facts: dict[str, Any], weights: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        check(facts, **weights)


def test_a_study_that_says_nothing_learns_by_the_divergence_alone() -> None:
    table = DistillTable()
    assert {name for name in ("kl", "cross_entropy", "relation", "role", "q") if getattr(table.loss, name)} == {"kl"}
    assert (table.loss.advantage_beta, table.adaptive.quantile, table.adaptive.patience) == (0, 0, 0)


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"advantage_low = 2\.0 lies above advantage_high = 1\.0; exchange them"):
        LossTable(advantage_low=2.0, advantage_high=1.0)


@pytest.mark.parametrize("field", ["quantile", "momentum"])
def test_a_share_of_one_would_leave_nothing(field: str) -> None:
    with pytest.raises(ValidationError, match="less than 1"):
        AdaptiveTable(**{field: 1.0})
