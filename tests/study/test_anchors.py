from collections.abc import Callable
from dataclasses import replace

from kdnas.spaces.spec import StudentSpec
from kdnas.study.anchors import (
    first_teams,
    frugal,
    largest,
    largest_feasible,
    median,
    ordered_specs,
    smallest,
    uniform,
)

from .conftest import Home, mlp

MakeHome = Callable[..., Home]


def both(spec: StudentSpec) -> dict[str, StudentSpec]:
    return {"pair": spec, "solo": spec}


def test_order_is_by_flops_then_memory(make_home: MakeHome) -> None:
    home = make_home()
    specs = ordered_specs(home.space, home.gate())
    assert [str(spec) for spec in specs["pair"]] == [
        "mlp 16 w4a8i8", "mlp 16 float", "mlp 32 w4a8i8", "mlp 32 float", "mlp 64 w4a8i8", "mlp 64 float"
    ]  # fmt: skip
    assert home.target.asked == []
    assert smallest(specs) == both(mlp("w4a8i8", 16))
    assert median(specs) == both(mlp("float", 32))
    assert largest(specs) == both(mlp("float", 64))


def test_uniform_is_half_and_eight_bits_or_the_nearest(make_home: MakeHome) -> None:
    bases = ({"hidden": [64, 64], "prune": [0.25, 0.5]}, {"hidden": [64], "prune": [0.5]})
    home = make_home(bases, ("float", "w8a8i8", "w4a8i8"))
    assert uniform(home.space, 0.5) == both(mlp("w8a8i8", 32, 32))
    # 0.625 is nearer to a half than 0.25; 4 bits are nearer to 8 than 32 are; the first base counts.
    bases = ({"hidden": [64], "prune": [0.25, 0.625]}, {"hidden": [64, 64], "prune": [0.5]})
    home = make_home(bases, ("float", "w4a4i4"))
    assert uniform(home.space, 0.5) == both(mlp("w4a4i4", 24))


def test_uniform_teams_read_all_where_they_can(make_home: MakeHome) -> None:
    home = make_home(({"hidden": [64], "prune": [0.5], "inputs": [0.5, 0.75, 1.0]},), ("w4a4i4", "w8a8i8"))
    space = home.space.seeing({"pair": 18, "solo": 18})
    assert uniform(space, 0.5) == both(mlp("w8a8i8", 32))
    # 9 of 18 inputs are fewer FLOPs than 14 and 18.
    assert smallest(ordered_specs(space, home.gate())) == both(replace(mlp("w4a4i4", 32), inputs=9))


def test_uniform_teams_have_the_bits_nearest_to_eight_on_average(make_home: MakeHome) -> None:
    # Two weights off by 0 and 4 are off by 2; powers of two come second.
    home = make_home(({"hidden": [64], "prune": [0.5]},), ("w4a8i8", "w8-4a8i8p", "w8-4a8i8", "w5a8i8"))
    assert uniform(home.space, 0.5) == both(mlp("w8-4a8i8", 32))


def test_uniform_at_other_ratios(make_home: MakeHome) -> None:
    home = make_home(bits=("w8a8i8", "float"))
    units = {ratio: uniform(home.space, ratio)["pair"].hidden for ratio in (0.0, 0.24, 0.26, 0.7, 0.9)}
    assert units == {0.0: (64,), 0.24: (64,), 0.26: (32,), 0.7: (16,), 0.9: (16,)}


def test_the_first_teams(make_home: MakeHome) -> None:
    home = make_home()
    feasible_team = {"pair": mlp("float", 32), "solo": mlp("float", 16)}
    assert first_teams(home.space, home.gate(), feasible_team) == [
        both(mlp("w4a8i8", 32)),
        *(both(mlp("w4a8i8", units)) for units in (64, 32, 16)),
        feasible_team,
        both(mlp("w4a8i8", 16)),
    ]


def test_a_search_begins_with_the_uniform_teams_and_the_corners(make_home: MakeHome) -> None:
    bases = ({"hidden": [64, 64], "prune": [0.5, 0.75]},)
    home = make_home(bases, ("float", "w8a8i8"))
    gate = home.gate()
    assert first_teams(home.space, gate, both(mlp("float", 32, 32))) == [
        both(mlp("w8a8i8", 32, 32)),
        both(mlp("w8a8i8", 32, 32)),  # once more, along the ratios; a study asks equal teams once
        both(mlp("w8a8i8", 16, 16)),
        both(mlp("float", 32, 32)),
        both(mlp("w8a8i8", 16, 16)),  # the same FLOPs as in float, and less memory
    ]


def feasible(home: Home, *budget: str) -> dict[str, StudentSpec] | None:
    gate = home.gate(*budget)
    return largest_feasible(ordered_specs(home.space, gate), gate)


def test_the_largest_feasible(make_home: MakeHome) -> None:
    home = make_home()
    assert feasible(home) == both(mlp("float", 64))
    # 32 units are 736 MACs, 1,472 FLOPs.
    assert feasible(home, "flops<=1472") == both(mlp("float", 32))
    assert feasible(home, "pair.flops<=1472") == {"pair": mlp("float", 32), "solo": mlp("float", 64)}
    # 16 units: 32 us at p95, quantized 52; 32 units 64 and 84; 64 units 128 and 148.
    assert feasible(home, "latency<=84us") == both(mlp("float", 32))
    assert feasible(home, "latency<=63us", "memory<1kB") == both(mlp("w4a8i8", 16))
    assert feasible(home, "flops<700") is None


def test_team_limits_step_down_where_most_is_spent(make_home: MakeHome) -> None:
    # 1,472 MACs a seat of 64 units, 736 of 32, 368 of 16. Twice 736 and once 1,472 are 2,944.
    home = make_home(bits=("float",))
    assert feasible(home, "team.macs<=2944") == {"pair": mlp("float", 32), "solo": mlp("float", 64)}
    assert feasible(home, "team.macs<2944") == both(mlp("float", 32))
    assert feasible(home, "team.macs<=1104") == both(mlp("float", 16))
    assert feasible(home, "team.macs<1104") is None


def test_fewest_flops_are_not_always_least_of_the_rest(make_home: MakeHome) -> None:
    """The fastest student is the smallest float one, while the first by FLOPs is the quantized one."""
    home = make_home(({"hidden": [64], "prune": [0.75, 0.8125]},))
    # 12 units: 24 us, quantized 44; 16 units: 32, quantized 52. Three of 24 are 72.
    assert feasible(home, "team.latency<=72us") == both(mlp("float", 12))
    assert feasible(home, "team.latency<72us") is None


def test_frugal_teams(make_home: MakeHome) -> None:
    home = make_home()
    gate = home.gate("team.latency<100us", "flops<1", "team.memory<=50%")
    specs = ordered_specs(home.space, gate)
    fast, light, mixed = frugal(specs, gate)
    assert fast == both(mlp("float", 16))
    assert light == both(mlp("w4a8i8", 16))
    # Shares of the limits for a seat: 32 / 100 + 1692 / 9738 = .49 and 52 / 100 + 320 / 9738 = .55.
    assert mixed == both(mlp("float", 16))
