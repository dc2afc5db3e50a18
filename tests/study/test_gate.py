from collections.abc import Callable

import pytest

from .conftest import Home, mlp

MakeHome = Callable[..., Home]


def team(pair: str, pair_units: int, solo: str, solo_units: int):
    return {"pair": mlp(pair, pair_units), "solo": mlp(solo, solo_units)}


def test_violations_by_hand(make_home: MakeHome) -> None:
    verdict = make_home().gate("flops<1k", "team.macs<=1104", "solo.memory<10%").judge(team("float", 16, "float", 16))
    # 16 units: 18 * 16 + 16 * 5 = 368 MACs, 736 FLOPs; three seats 1,104. Memory of 16 float units: weights 1,472,
    # biases 4 * 21, vectors 4 * (18 + 16) = 1,692 bytes; the teacher's 4 * (1,472 + 69) + 4 * (18 + 64) = 6,492.
    assert verdict.violations == pytest.approx(
        {"flops<1000": -0.264, "team.macs<=1104": 0.0, "solo.memory<10%": 1692 / 649.2 - 1}
    )
    assert not verdict.feasible
    assert verdict.reason == "breaks solo.memory<10% by 161 %"
    assert verdict.cost.team.macs == 1104


@pytest.mark.parametrize(
    ("text", "feasible"),
    [
        ("flops<=736", True),
        ("flops<736", False),  # met with equality: `<` is strict
        ("flops<737", True),
        ("pair.flops<=736", True),
        ("team.flops<=2207", False),
        ("latency<=32us", True),  # 2 x 16 us at the 95th percentile
        ("latency<32us", False),
        ("team.latency<=96us", True),
        ("flops<=25%", True),  # 736 of 2,944
        ("flops<25%", False),
    ],
)
def test_limits_are_limits(make_home: MakeHome, text: str, feasible: bool) -> None:
    assert make_home().gate(text).judge(team("float", 16, "float", 16)).feasible is feasible


def test_an_empty_budget_allows_everything(make_home: MakeHome) -> None:
    verdict = make_home().gate().judge(team("float", 64, "float", 64))
    assert (verdict.feasible, dict(verdict.violations)) == (True, {})


def test_latency_is_measured_only_for_what_passes_the_rest(make_home: MakeHome) -> None:
    home = make_home()
    gate = home.gate("flops<1k", "latency<1ms")
    verdict = gate.judge(team("float", 64, "float", 16))
    assert list(verdict.violations) == ["flops<1000"]
    assert home.target.asked == []
    assert verdict.cost.team.latency_p95_s == 0
    assert list(gate.judge(team("float", 16, "float", 16)).violations) == ["flops<1000", "latency<0.001s"]
    assert "mlp 16 float" in home.target.asked


def test_every_constraint_of_a_refused_candidate_can_be_asked_for(make_home: MakeHome) -> None:
    verdict = make_home().gate("flops<1k", "latency<100us").judge(team("float", 64, "float", 16), measure_all=True)
    # 2 x 64 us over 100, 2,944 FLOPs over 1,000.
    assert verdict.violations == pytest.approx({"flops<1000": 1.944, "latency<0.0001s": 0.28})


def test_what_is_refused_is_not_measured_for_a_budget_without_such_limits(make_home: MakeHome) -> None:
    home = make_home()
    verdict = home.gate("flops<1k").judge(team("float", 64, "float", 16), measure_all=True)
    assert not verdict.feasible
    assert home.target.asked == []


def test_nothing_is_measured_for_a_budget_without_such_limits(make_home: MakeHome) -> None:
    home = make_home()
    verdict = home.gate("flops<1k").judge(team("float", 16, "float", 16), measure_all=True)
    assert verdict.feasible
    assert (home.target.asked, verdict.cost.team.latency_p95_s) == ([], 0.0)
    assert list(verdict.price) == ["flops", "macs", "bops", "params", "memory_bytes"]
    assert "latency_s" in home.gate("latency<1s").judge(team("float", 16, "float", 16)).price


def test_a_group_alone(make_home: MakeHome) -> None:
    gate = make_home().gate("flops<1k", "pair.memory<1kB", "team.flops<1")
    # 16 float units take 1,692 bytes, of 4 bits 460 (184 of weights, 84 of biases, 156 of scales, 36 of vectors).
    assert gate.alone("pair", mlp("float", 16)) == pytest.approx({"flops<1000": -0.264, "pair.memory<1000B": 0.692})
    assert gate.alone("solo", mlp("float", 16)) == pytest.approx({"flops<1000": -0.264})
    assert [gate.allows(group, mlp("float", 16)) for group in ("pair", "solo")] == [False, True]
    assert gate.allows("pair", mlp("w4a8i8", 16))
    # 2,944 FLOPs.
    assert not gate.allows("solo", mlp("w4a8i8", 64))
