import json
from dataclasses import replace

import pytest

from kdnas.budgets.cost import Cost, TeamCost


def cost(macs: int, **others: float) -> Cost:
    return Cost(
        macs=macs,
        **{"bops": 0, "params": 0, "memory_bytes": 0, "latency_p50_s": 0.0, "latency_p95_s": 0.0} | others,
    )


# 18-24-24-5: MACs 18*24 + 24*24 + 24*5 = 432 + 576 + 120 = 1128, parameters 1128 + 24 + 24 + 5 = 1181.
# Float: BOPs 1128 * 32 * 32 = 1,155,072; memory 4 * 1181 + the largest live pair of vectors (24 + 24) * 4 = 4916.
SPREAD = Cost(
    macs=1128,
    bops=1_155_072,
    params=1181,
    memory_bytes=4916,
    latency_p50_s=6e-6,
    latency_p95_s=9e-6,
    latency_p99_s=1e-5,
    reference_s=2e-6,
)
# 3-8-3: MACs 24 + 24 = 48, parameters 48 + 8 + 3 = 59, BOPs 48 * 1024 = 49,152, memory 4 * 59 + (8 + 3) * 4 = 280.
SPEAKER = Cost(
    macs=48,
    bops=49_152,
    params=59,
    memory_bytes=280,
    latency_p50_s=5e-6,
    latency_p95_s=2e-5,
    latency_p99_s=3e-5,
    reference_s=4e-6,
)


def test_a_multiply_accumulate_is_two_flops():
    assert SPREAD.flops == 2256


def test_a_sum_adds_every_number():
    total = SPREAD + SPEAKER
    assert total == Cost(
        macs=1176,  # 1128 + 48
        bops=1_204_224,  # 1,155,072 + 49,152
        params=1240,  # 1181 + 59
        memory_bytes=5196,  # 4916 + 280
        latency_p50_s=pytest.approx(11e-6),
        latency_p95_s=pytest.approx(29e-6),  # one after the other
        latency_p99_s=pytest.approx(4e-5),
        reference_s=pytest.approx(6e-6),
    )


def test_equal_agents_multiply():
    assert SPREAD.times(3) == SPREAD + SPREAD + SPREAD
    assert SPREAD.times(3).flops == 6768  # 3 * 2256


def test_json_round_trip():
    written = json.loads(json.dumps(SPREAD.as_json()))
    assert Cost.from_json(written) == SPREAD
    assert written == {
        "flops": 2256,
        "macs": 1128,
        "bops": 1_155_072,
        "params": 1181,
        "memory_bytes": 4916,
        "latency_s": {"p50": 6e-6, "p95": 9e-6, "p99": 1e-5, "reference": 2e-6},
        "flash_bytes": 0,
        "ram_bytes": 0,
    }


@pytest.mark.parametrize(("lacking", "field"), [("p99", "latency_p99_s"), ("reference", "reference_s")])
def test_a_record_without_a_later_number_has_none(lacking, field):
    written = SPREAD.as_json()
    del written["latency_s"][lacking]
    assert Cost.from_json(written) == replace(SPREAD, **{field: 0.0})


def test_flash_and_ram_of_agents_add_up():
    small, large = replace(SPREAD, flash_bytes=300, ram_bytes=40), replace(SPREAD, flash_bytes=500, ram_bytes=30)
    team = TeamCost(agents={"a": small, "b": large}, seats={"a": 2, "b": 1})
    assert (team.team.flash_bytes, team.team.ram_bytes) == (1100, 110)
    assert (team.worst_agent.flash_bytes, team.worst_agent.ram_bytes) == (500, 40)
    assert Cost.from_json(small.as_json()) == small


def test_a_team_is_the_sum_over_its_agents():
    team = TeamCost(agents={"speaker": SPEAKER, "listener": SPREAD}, seats={"speaker": 1, "listener": 2})
    assert team.team.macs == 2304  # 48 + 2 * 1128
    assert team.team.memory_bytes == 10_112  # 280 + 2 * 4916
    assert team.team.latency_p95_s == pytest.approx(38e-6)  # 20 + 2 * 9


def test_the_worst_agent_takes_each_number_where_it_is_largest():
    worst = TeamCost(agents={"speaker": SPEAKER, "listener": SPREAD}, seats={"speaker": 1, "listener": 2}).worst_agent
    assert worst == cost(
        1128,
        bops=1_155_072,
        params=1181,
        memory_bytes=4916,
        latency_p50_s=6e-6,
        latency_p95_s=2e-5,  # the speaker's: each number on its own
        latency_p99_s=3e-5,
        reference_s=4e-6,
    )


def test_one_group_is_a_team():
    alone = TeamCost(agents={"agent": SPREAD}, seats={"agent": 3})
    assert alone.team == SPREAD.times(3)
    assert alone.worst_agent == SPREAD
