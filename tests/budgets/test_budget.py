import math

import pytest

from kdnas.budgets.budget import Budget, Constraint, parse_budget, parse_constraint
from kdnas.budgets.cost import Cost, TeamCost
from kdnas.budgets.metric import METRICS
from kdnas.errors import BudgetError


def cost(macs=1000, bops=0, params=0, memory=0, p50=0.0, p95=0.0):
    return Cost(macs=macs, bops=bops, params=params, memory_bytes=memory, latency_p50_s=p50, latency_p95_s=p95)


SEATS = {"speaker": 1, "listener": 2}
# FLOPs are 2 a MAC: speaker 96, listener 2256, team 96 + 2 * 2256 = 4608.
TEAM = TeamCost(
    agents={
        "speaker": cost(macs=48, bops=3072, params=59, memory=280, p50=4e-6, p95=6e-6),
        "listener": cost(macs=1128, bops=72_192, params=1181, memory=1400, p50=6e-6, p95=9e-6),
    },
    seats=SEATS,
)
# Teacher's FLOPs: speaker 1000, listener 20,000, team 41,000.
TEACHER = TeamCost(
    agents={
        "speaker": cost(macs=500, bops=512_000, params=500, memory=2000, p50=9e-6, p95=1e-5),
        "listener": cost(macs=10_000, bops=10_240_000, params=10_000, memory=40_000, p50=2e-5, p95=3e-5),
    },
    seats=SEATS,
)


def refusal(text: str) -> str:
    with pytest.raises(BudgetError) as raised:
        parse_constraint(text)
    return str(raised.value)


# The grammar.


@pytest.mark.parametrize(
    ("text", "scope", "metric", "strict", "limit"),
    [
        ("latency<2ms", None, "latency", True, 0.002),
        ("latency<=2ms", None, "latency", False, 0.002),
        ("macs<1k", None, "macs", True, 1000),
        ("flops<2.2k", None, "flops", True, 2200),
        ("bops<=1M", None, "bops", False, 1e6),
        ("params<800", None, "params", True, 800),
        ("memory<4KiB", None, "memory", True, 4096),
        ("memory<4096", None, "memory", True, 4096),
        ("team.memory<=12KiB", "team", "memory", False, 12_288),
        ("listener.flops<2k", "listener", "flops", True, 2000),
        ("adversary_0.flops<2k", "adversary_0", "flops", True, 2000),
        ("blue.tank.flops<2k", "blue.tank", "flops", True, 2000),  # a group's name may hold dots
        ("blue tank.flops<2k", "blue tank", "flops", True, 2000),  # and spaces
        ("  team . latency  <=  2 ms ", "team", "latency", False, 0.002),
    ],
)
def test_reads(text, scope, metric, strict, limit):
    constraint = parse_constraint(text)
    assert (constraint.scope, constraint.metric, constraint.strict) == (scope, METRICS[metric], strict)
    assert constraint.limit == pytest.approx(limit, rel=1e-15)
    assert not constraint.relative


def test_reads_a_percentage():
    constraint = parse_constraint("listener.flops<5%")
    assert constraint == Constraint(scope="listener", metric=METRICS["flops"], strict=True, limit=0.05, relative=True)
    assert parse_constraint("latency <= 150 %").limit == 1.5


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("latency < 2ms", "latency<0.002s"),
        ("team.memory <= 4KiB", "team.memory<=4096B"),
        ("flops<2.2k", "flops<2200"),
        ("listener.bops<7 %", "listener.bops<7%"),
        ("flops<2G", "flops<2e+09"),
        ("latency<250ns", "latency<2.5e-07s"),
    ],
)
def test_one_spelling(text, canonical):
    constraint = parse_constraint(text)
    assert constraint.text == canonical
    again = parse_constraint(canonical)
    assert again.text == canonical
    assert again.limit == pytest.approx(constraint.limit)


def test_commas_and_repeats_are_a_conjunction():
    texts = ["latency<2ms, team.memory<=12KiB", "flops<5%"]
    assert [item.text for item in parse_budget(texts).constraints] == [
        "latency<0.002s",
        "team.memory<=12288B",
        "flops<5%",
    ]
    assert parse_budget(["flops<2k,,"]) == parse_budget(["flops<2k"])


@pytest.mark.parametrize("texts", [[], [""], [" , "]])
def test_no_constraint_is_an_empty_budget(texts):
    assert parse_budget(texts) == Budget(())


def test_one_bad_part_refuses_the_whole():
    with pytest.raises(BudgetError, match=r"^budget 'memory<4kg': 'kg' is not a unit of memory"):
        parse_budget(["latency<2ms, memory<4kg"])


# Every sentence.


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "latencyy<2ms",
            "budget 'latencyy<2ms': unknown metric 'latencyy': did you mean 'latency'? "
            "(known: bops, flash, flops, latency, macs, memory, params, ram)",
        ),
        (
            "Flops<2k",
            "budget 'Flops<2k': unknown metric 'Flops': did you mean 'flops'? "
            "(known: bops, flash, flops, latency, macs, memory, params, ram)",
        ),
        (
            "team<2k",
            "budget 'team<2k': unknown metric 'team': did you mean 'ram'? "
            "(known: bops, flash, flops, latency, macs, memory, params, ram)",
        ),
        (
            "memory<4kib",
            "budget 'memory<4kib': 'kib' is not a unit of memory: did you mean 'KiB'? "
            "(known: %, B, GB, GiB, KiB, MB, MiB, kB)",
        ),
        (
            "latency<2MS",
            "budget 'latency<2MS': 'MS' is not a unit of time: did you mean 'ms'? (known: %, ms, ns, s, us, µs)",
        ),
        ("flops<2ms", "budget 'flops<2ms': 'ms' is a unit of time, not a unit of count: known: %, G, K, M, k"),
        ("latency<2", "budget 'latency<2': '2' needs a unit of time; write for example 2ms"),
        ("latency<0ms", "budget 'latency<0ms': the limit must be positive and finite, but got 0ms"),
        ("flops<-2k", "budget 'flops<-2k': the limit must be positive and finite, but got -2k"),
        ("flops<0%", "budget 'flops<0%': the limit must be positive and finite, but got 0%"),
        ("flops<1e400", "budget 'flops<1e400': the limit must be positive and finite, but got 1e400"),
        ("flops<nan", "budget 'flops<nan': 'nan' is not NUMBER[UNIT]; write for example 2k"),
        ("flops<inf", "budget 'flops<inf': 'inf' is not NUMBER[UNIT]; write for example 2k"),
        ("flops<", "budget 'flops<' has no limit; write for example \"flops<2k\""),
        ("team.latency<=", "budget 'team.latency<=' has no limit; write for example \"team.latency<=2ms\""),
        ("flops<<2k", "budget 'flops<<2k': '<2k' is not NUMBER[UNIT]; write for example 2k"),
        ("flops>2k", "budget 'flops>2k': '>' is not a limit; a budget is an upper bound, '<' or '<='"),
        ("flops>=2k", "budget 'flops>=2k': '>=' is not a limit; a budget is an upper bound, '<' or '<='"),
        ("flops=2k", "budget 'flops=2k': '=' is not a limit; a budget is an upper bound, '<' or '<='"),
        ("flops==2k", "budget 'flops==2k': '==' is not a limit; a budget is an upper bound, '<' or '<='"),
        ("<2ms", "budget '<2ms' is not [SCOPE.]METRIC<NUMBER[UNIT]; write for example \"latency<2ms\""),
        (".flops<2", "budget '.flops<2' is not [SCOPE.]METRIC<NUMBER[UNIT]; write for example \"latency<2ms\""),
        ("latency 2ms", "budget 'latency 2ms' is not [SCOPE.]METRIC<NUMBER[UNIT]; write for example \"latency<2ms\""),
    ],
)
def test_refuses_with_a_sentence(text, sentence):
    assert refusal(text) == sentence


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("latency", "latency<2ms"),  # what is left of an unquoted latency<2ms
        ("flops", "flops<2k"),
        ("team.memory", "team.memory<4KiB"),
        ("listener.bops", "listener.bops<1M"),
    ],
)
def test_a_metric_alone_hints_at_quoting(text, quoted):
    assert refusal(text) == (
        f"budget {text!r} has no limit; a shell takes '<' for a redirection, so quote it: --budget \"{quoted}\""
    )


def test_every_metric_has_an_example_that_can_be_read():
    for name in METRICS:
        example = refusal(name).partition("--budget ")[2].strip('"')
        assert parse_constraint(example).metric.name == name


def test_an_unknown_scope_names_the_nearest_group():
    budget = parse_budget(["team.flops<2k", "listner.flops<2k"])
    with pytest.raises(BudgetError) as raised:
        budget.check_scopes(SEATS)
    assert str(raised.value) == (
        "budget 'listner.flops<2000': no group 'listner': did you mean 'listener'? (known: listener, speaker, team)"
    )


def test_known_scopes_pass():
    parse_budget(["flops<2k", "team.flops<2k", "listener.flops<2k", "speaker.memory<1%"]).check_scopes(SEATS)


# Violations: value / limit - 1, at most 0 where feasible.


@pytest.mark.parametrize(
    ("text", "violation"),
    [
        ("flops<2k", 0.128),  # the listener: 2256 / 2000 - 1
        ("flops<2256", 1e-12),  # strict: equality is refused
        ("flops<=2256", 0.0),
        ("flops<2257", 2256 / 2257 - 1),
        ("flops<4512", -0.5),  # 2256 / 4512 - 1
        ("speaker.flops<100", -0.04),  # 96 / 100 - 1
        ("listener.flops<1k", 1.256),  # 2256 / 1000 - 1
        ("team.flops<4k", 0.152),  # 4608 / 4000 - 1
        ("team.flops<=4608", 0.0),
        ("team.flops<4608", 1e-12),
        ("macs<1000", 0.128),  # 1128 / 1000 - 1
        ("bops<60160", 0.2),  # 72,192 / 60,160 - 1
        ("params<1k", 0.181),
        ("memory<1KiB", 0.3671875),  # 1400 / 1024 - 1
        ("team.memory<3KiB", 0.0026041666666667),  # (280 + 2 * 1400) / 3072 - 1 = 3080 / 3072 - 1
        ("latency<10us", -0.1),  # p95 of the listener: 9 / 10 - 1
        ("team.latency<20us", 0.2),  # p95: (6 + 2 * 9) / 20 - 1 = 24 / 20 - 1
    ],
)
def test_violation_by_hand(text, violation):
    assert parse_constraint(text).worst_violation(TEAM, TEACHER) == pytest.approx(violation, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "violation"),
    [
        # Per agent, each against the teacher of the same agent: speaker 96 / (0.05 * 1000) - 1 = 0.92,
        # listener 2256 / (0.05 * 20,000) - 1 = 1.256; the worst counts.
        ("flops<5%", 1.256),
        ("speaker.flops<5%", 0.92),
        ("listener.flops<12%", -0.06),  # 2256 / 2400 - 1
        ("team.flops<10%", 0.12390243902439),  # 4608 / 4100 - 1
        ("memory<10%", 0.4),  # speaker 280 / 200 - 1 = 0.4, listener 1400 / 4000 - 1 = -0.65
        ("speaker.latency<=60%", 0.0),  # 6e-6 / (0.6 * 1e-5) - 1, equal but for rounding
        ("speaker.latency<60%", 1e-12),
        ("team.latency<=20%", 24 / 14 - 1),  # 24e-6 / (0.2 * (10 + 2 * 30) * 1e-6) - 1
    ],
)
def test_percentage_of_the_teacher_by_hand(text, violation):
    assert parse_constraint(text).worst_violation(TEAM, TEACHER) == pytest.approx(violation, abs=1e-13)


@pytest.mark.parametrize("hundreds", [1, 3, 7, 11, 410])
@pytest.mark.parametrize("percent", [7, 14, 28, 29, 55, 57])
def test_equality_survives_the_rounding_of_percentages(percent, hundreds):
    """7 % of 100 is 7.000000000000001 in floats and 29 % is 28.999999999999996, and neither may decide."""
    team = TeamCost(agents={"a": cost(macs=percent * hundreds)}, seats={"a": 1})
    teacher = TeamCost(agents={"a": cost(macs=100 * hundreds)}, seats={"a": 1})
    assert parse_constraint(f"macs<={percent}%").worst_violation(team, teacher) == 0.0
    assert parse_constraint(f"macs<{percent}%").worst_violation(team, teacher) == 1e-12


def test_equality_survives_the_rounding_of_units():
    # 1.1 * 1000 is 1100.0000000000002 in floats.
    team = TeamCost(agents={"a": cost(macs=550)}, seats={"a": 1})
    assert parse_constraint("flops<1.1k").worst_violation(team, team) == 1e-12
    assert parse_constraint("flops<=1.1k").worst_violation(team, team) == 0.0


def test_one_flop_in_a_billion_is_no_equality():
    team = TeamCost(agents={"a": cost(macs=500_000_000)}, seats={"a": 1})
    assert parse_constraint("flops<1000000001").worst_violation(team, team) == pytest.approx(-1e-9, rel=1e-6)
    assert parse_constraint("flops<=999999999").worst_violation(team, team) == pytest.approx(1e-9, rel=1e-6)


def test_an_unscoped_constraint_ignores_how_many_agents_there_are():
    crowd = TeamCost(agents=TEAM.agents, seats={"speaker": 1, "listener": 9})
    for text in ("flops<2k", "listener.flops<2k"):
        assert parse_constraint(text).worst_violation(crowd, TEACHER) == pytest.approx(0.128)
    # 96 + 9 * 2256 = 20,400
    assert parse_constraint("team.flops<20k").worst_violation(crowd, TEACHER) == pytest.approx(0.02)


def test_what_was_not_measured_breaks_every_limit():
    # The order of the agents may not matter, as it does to max() over NaN.
    unknown, known = cost(p95=math.nan), cost(p95=1e-6)
    for agents in ({"a": unknown, "b": known}, {"b": known, "a": unknown}):
        team = TeamCost(agents=agents, seats={"a": 1, "b": 1})
        assert parse_constraint("latency<2ms").worst_violation(team, team) == math.inf
    assert parse_constraint("b.latency<2ms").worst_violation(team, team) < 0


def test_a_share_of_nothing_is_refused():
    teacher = TeamCost(agents={"a": cost(macs=0)}, seats={"a": 1})
    with pytest.raises(BudgetError) as raised:
        parse_constraint("flops<5%").worst_violation(teacher, teacher)
    assert str(raised.value) == (
        "budget 'flops<5%': the teacher's flops of 'a' is 0, and a share of it says nothing; give an absolute limit"
    )


def test_readings_name_their_places():
    assert parse_constraint("flops<5%").readings(TEAM, TEACHER) == {"speaker": (96, 50.0), "listener": (2256, 1000.0)}
    assert parse_constraint("team.memory<4KiB").readings(TEAM, TEACHER) == {"team": (3080, 4096.0)}
    assert parse_constraint("speaker.params<100").readings(TEAM, TEACHER) == {"speaker": (59, 100.0)}


# Budgets.


def test_violations_by_constraint():
    budget = parse_budget(["flops<2k, team.memory<=3080, latency<10us"])
    assert budget.violations(TEAM, TEACHER) == {
        "flops<2000": pytest.approx(0.128),
        "team.memory<=3080B": 0.0,
        "latency<1e-05s": pytest.approx(-0.1),
    }


def test_the_part_that_arithmetic_decides():
    budget = parse_budget(["latency<2ms, flops<2k, team.latency<9ms, memory<4KiB"])
    assert [item.text for item in budget.unmeasured().constraints] == ["flops<2000", "memory<4096B"]
    assert budget.measured
    assert not budget.unmeasured().measured
    assert not Budget(()).measured


def test_what_takes_a_target_to_know():
    assert [name for name, metric in METRICS.items() if metric.measured] == ["latency", "flash", "ram"]


def test_a_limit_that_nobody_measures_is_refused():
    budget = parse_budget(["latency<2ms", "team.flash<32KiB"])
    budget.check_metrics({"latency", "flash"}, "board")
    with pytest.raises(BudgetError, match=r"'team.flash<32768B': the target 'onnx' does not measure flash; take one"):
        budget.check_metrics({"latency"}, "onnx")


def test_metrics_read_and_write():
    one = cost(macs=1128, bops=2, params=3, memory=3712, p50=5.0, p95=0.0021)
    assert {name: metric.read(one) for name, metric in METRICS.items()} == {
        "latency": 0.0021,  # the 95th percentile
        "macs": 1128,
        "flops": 2256,
        "bops": 2,
        "params": 3,
        "memory": 3712,
        "flash": 0,  # nothing was said of these
        "ram": 0,
    }
    assert METRICS["latency"].format(0.0021) == "2.1 ms"
    assert METRICS["memory"].format(3712) == "3.625 KiB"
