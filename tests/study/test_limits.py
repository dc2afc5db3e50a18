from dataclasses import replace
from pathlib import Path

import pytest
from fronts import cost, member, new_study, tell

from kdnas.errors import RunError
from kdnas.study.front import ParetoFront
from kdnas.study.limits import Limit, read_limits, weigh_limits

from .conftest import Notes

FLOPS, MEMORY = "flops<2000", "memory<4096B"

FRONT = [member(0, 0.9, pair=cost(980, 1024)), member(1, 0.5, pair=cost(250, 2048))]
"""1,960 and 500 FLOPs, 1 and 2 KiB an agent: 98 and 25 % of one limit, 25 and 50 % of the other."""

PLAYED = [{FLOPS: -0.02, MEMORY: -0.75}, {FLOPS: -0.75, MEMORY: -0.5}]

LARGE = {FLOPS: 0.5, MEMORY: -0.5}
"""3,000 FLOPs."""
BOTH = {FLOPS: 0.5, MEMORY: 0.5}


def weigh(*more: dict[str, float]) -> dict[str, Limit]:
    """The limits after the front's two trials and these."""
    study = new_study()
    for violations in (*PLAYED, *more):
        tell(study, violations)
    return {limit.text: limit for limit in weigh_limits(FRONT, study.get_trials())}


def test_a_limit_at_which_the_front_ends() -> None:
    limits = weigh(LARGE, LARGE, BOTH)
    flops = limits[FLOPS]
    assert (flops.used, flops.slack, flops.trial) == (pytest.approx(0.98), pytest.approx(0.02), 0)
    assert (flops.rejected, flops.broke, flops.broke_only) == (3, 3, 2)
    assert (flops.reached, flops.binds, flops.binds_with_others) == (True, True, False)
    memory = limits[MEMORY]
    assert (memory.used, memory.trial) == (pytest.approx(0.5), 1)
    assert (memory.rejected, memory.broke, memory.broke_only) == (3, 1, 0)
    assert (memory.reached, memory.binds, memory.binds_with_others) == (True, False, True)
    assert list(limits) == [FLOPS, MEMORY]  # what binds comes first


def test_a_limit_beyond_which_nothing_was_better() -> None:
    """A candidate that takes 99 % was tried, and is not on the front: more FLOPs were no use."""
    flops = weigh(LARGE, {FLOPS: -0.01, MEMORY: -0.9})[FLOPS]
    assert (flops.tried, flops.reached, flops.binds) == (pytest.approx(0.99), False, False)
    assert (flops.rejected, flops.broke_only) == (1, 1)


@pytest.mark.parametrize("left", [{}, {FLOPS: -0.001}])
def test_a_trial_that_lost_constraints_says_nothing(left: dict[str, float]) -> None:
    assert weigh(LARGE, left) == weigh(LARGE)


def test_nothing_was_rejected() -> None:
    limits = weigh()
    assert [(limit.binds, limit.binds_with_others, limit.rejected) for limit in limits.values()] == [
        (False, False, 0)
    ] * 2
    assert list(limits) == [FLOPS, MEMORY]  # the most used


def test_a_trial_that_ended_early_for_another_reason_was_not_rejected() -> None:
    study = new_study()
    for violations in PLAYED:
        tell(study, violations)
    trial = study.ask()
    for text in (FLOPS, MEMORY):
        trial.set_constraint(text, -0.01)
    study.tell(trial, state=type(study.get_trials()[0].state).PRUNED)
    limits = weigh_limits(FRONT, study.get_trials())
    # It was tried, goes further than the front into both, and is not on it.
    assert [(limit.rejected, limit.tried, limit.reached) for limit in limits] == [(0, pytest.approx(0.99), False)] * 2


def test_no_budget() -> None:
    study = new_study()
    tell(study, {})
    assert weigh_limits(FRONT[:1], study.get_trials()) == ()


def test_trials_of_another_run() -> None:
    study = new_study()
    tell(study, PLAYED[0])
    with pytest.raises(RunError, match="the study of this run has no trial 1, which is on its front; was it deleted"):
        weigh_limits(FRONT, study.get_trials())


def test_the_limits_of_a_search(finished: tuple[Path, ParetoFront, Notes]) -> None:
    run, front, _ = finished
    limits = {limit.text: limit for limit in read_limits(run, front)}
    assert set(limits) == {"flops<=96", "team.memory<1024B"}
    # 12 units were rejected for their 144 FLOPs alone: two agents of them take less than a KiB.
    flops = limits["flops<=96"]
    assert flops.rejected == flops.broke == flops.broke_only > 0
    assert flops.used == max(member.cost.worst_agent.flops for member in front) / 96
    # An anchor of 8 units for both was played; the limit binds when such agents are on the front.
    assert flops.binds == (flops.used == 1.0)
    with pytest.raises(RunError, match="is no kdnas run"):
        read_limits(run / "students", front)
    elsewhere = replace(front, members=(replace(front[0], trial=99),))
    with pytest.raises(RunError, match="has no trial 99"):
        read_limits(run, elsewhere)
