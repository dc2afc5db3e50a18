import pytest

from kdnas.config.study import DistillTable
from kdnas.distill import Stage, last_stage, lineage
from kdnas.distill.stage import Effort
from kdnas.spaces import StudentSpec, parse_bits

RECIPE = DistillTable(ancestor_steps=8000, recovery_steps=12000, qat_steps=10000, on_policy_rounds=12, flip_rounds=100)


def stage(bits: str, hidden: int, rung: int = 0) -> Stage:
    """A student pruned from 16 units."""
    return Stage(spec=StudentSpec(family="mlp", base=(16,), hidden=(hidden,), bits=parse_bits(bits)), rung=rung)


DENSE, FLOAT, NARROW, WHOLE = ("float", 16), ("float", 8), ("w4a8i8", 8), ("w4a8i8", 16)


@pytest.mark.parametrize(
    ("own", "line"),
    [
        (stage(*DENSE), [stage(*DENSE)]),
        (stage(*FLOAT), [stage(*DENSE), stage(*FLOAT)]),
        (stage(*FLOAT, 2), [stage(*DENSE), stage(*FLOAT, 0), stage(*FLOAT, 1), stage(*FLOAT, 2)]),
        (stage(*NARROW), [stage(*DENSE), stage(*FLOAT), stage(*NARROW)]),
        # Each rung quantizes anew what the float student has become there.
        (stage(*NARROW, 1), [stage(*DENSE), stage(*FLOAT, 0), stage(*FLOAT, 1), stage(*NARROW, 1)]),
        # Without pruning there is nothing to recover from: whichever the rung, it comes of the ancestor.
        (stage(*WHOLE), [stage(*DENSE), stage(*WHOLE)]),
        (stage(*WHOLE, 2), [stage(*DENSE), stage(*WHOLE, 2)]),
    ],
)
def test_lineage(own: Stage, line: list[Stage]) -> None:
    assert lineage(own) == line


def test_an_ancestor_has_one_rung() -> None:
    assert stage(*DENSE, 2) == stage(*DENSE)
    assert last_stage(stage(*DENSE).spec, RECIPE).rung == 0
    assert last_stage(stage(*WHOLE).spec, RECIPE).rung == 2
    assert [stage(*kind).is_ancestor for kind in (DENSE, FLOAT, NARROW, WHOLE)] == [True, False, False, False]


def test_it_names_itself() -> None:
    assert str(stage(*DENSE)) == "mlp 16 float"
    assert str(stage(*NARROW, 1)) == "mlp 8 w4a8i8, rung 1"


@pytest.mark.parametrize(
    ("own", "steps", "rounds", "flips"),
    [
        (stage(*DENSE), 8000, 12, 0),
        # .11 x 12,000; of 12 rounds 1.32, and of 100 rounds of flips none, for floats have none.
        (stage(*FLOAT, 0), 1320, 1, 0),
        (stage(*FLOAT, 1), 3960, 4, 0),
        (stage(*FLOAT, 2), 12000, 12, 0),
        # .33 x 10,000 of its own steps.
        (stage(*NARROW, 0), 1100, 1, 11),
        (stage(*NARROW, 1), 3300, 4, 33),
        (stage(*WHOLE, 2), 10000, 12, 100),
        # 8 bits take 10,000 x 2^((4 - 8) / 2), whatever the inputs have; of mixed ones, the narrowest count.
        (stage("w8a8i4", 8, 2), 2500, 12, 100),
        (stage("w8a8i8", 8, 0), 275, 1, 11),
        (stage("w8a6i8", 8, 2), 5000, 12, 100),
        (stage("w8-4a8i8", 8, 2), 10000, 12, 100),
        (stage("w2a8i8", 8, 2), 10000, 12, 100),
    ],
)
def test_what_a_stage_costs(own: Stage, steps: int, rounds: int, flips: int) -> None:
    assert Effort.of(own, RECIPE) == Effort(steps=steps, on_policy_rounds=rounds, flip_rounds=flips)


def test_a_short_rung_plays_at_least_once_unless_nobody_plays() -> None:
    short = RECIPE.model_copy(update={"on_policy_rounds": 2})  # .11 x 2 would be none
    assert Effort.of(stage(*FLOAT, 0), short).on_policy_rounds == 1
    never = RECIPE.model_copy(update={"on_policy_rounds": 0})
    assert Effort.of(stage(*FLOAT, 2), never).on_policy_rounds == 0
