import pytest
from fronts import cost, member

from kdnas.errors import BudgetError
from kdnas.study.selector import parse_selector

FRONT = [
    member(1, 0.99, pair=cost(2000, 9000, 20)),
    member(2, 0.95, pair=cost(1000, 4000, 15)),
    member(3, 0.94, pair=cost(900, 5000, 12), solo=cost(1200, 1000, 12)),
    member(4, 0.50, pair=cost(100, 500, 9)),
    member(5, 0.50, pair=cost(100, 500, 9)),
]
"""Team FLOPs: 12,000, 6,000, 6,000, 600, 600; team memory 27,000, 12,000, 11,000, 1,500, 1,500."""


@pytest.mark.parametrize(
    ("text", "trial"),
    [
        ("", 1),
        ("max retention", 1),
        ("  max   retention ", 1),
        ("flops<2k", 4),  # 2 x 900 and 2 x 1,200: each agent counts
        ("flops<=2k", 2),
        ("pair.flops<2k", 3),
        ("team.flops<=6k", 2),
        ("team.memory<12kB", 3),
        ("flops<10%", 4),  # 2,000 of 20,000 is not less
        ("flops<=10%", 2),
        ("latency<15us", 3),
        ("retention>=95%, min memory", 2),
        ("retention>=0.95,min flops", 2),
        ("retention>95%, min memory", 1),
        ("retention > 0.4, min flops", 4),  # equal members: the earlier trial
        ("min flops", 4),
        ("max flops", 1),
        ("min latency", 4),
        ("retention>=90%, min flops", 2),  # 6,000 both: the higher retention
        ("retention>=90%, team.memory<=11kB, max retention", 3),
        ("min retention", 4),
        ("retention>=-1, min bops", 4),
        # Retention 0.99, 0.95, 0.94, 0.5 is 1, 0.918, 0.898, 0. FLOPs are 20, 10, 10 and 1 times the fewest: 1, 0.769,
        # 0.769, 0. Memory is 18, 8, 7.33 and 1 times the least: 1, 0.719, 0.689, 0. Heights: 0, 0.174, 0.169, 0.
        ("knee", 2),
        (" knee  flops ", 2),  # 0.918 - 0.769; trial 3 has as many and retains less
        ("knee memory", 3),  # 0.898 - 0.689 = 0.209 and 0.918 - 0.719 = 0.199
        # Of trials 2 to 5: 1, 0.978, 0; FLOPs 1, 1, 0; memory 1, 0.958, 0. Heights 0, -0.001, 0: the higher retention.
        ("team.flops<=6k, knee", 2),
        ("retention>=99%, knee", 1),  # one is left
        ("one-se", 1),  # no interval is wider than its mean: nobody comes near
        ("one-se, retention>=0.4", 1),
        ("team.flops<=6k, one-se", 2),
        ("flops<2k, one-se, min memory", 4),  # equal ones have no distance
    ],
)
def test_what_it_means(text: str, trial: int) -> None:
    assert parse_selector(text).choose(FRONT).trial == trial


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("min speed", "selector 'min speed': unknown metric 'speed': .*known: bops, flash, flops"),
        ("min flop", "did you mean 'flops'"),
        ("min flops, max retention", "only one 'min METRIC', 'max METRIC' or 'knee' can be the goal"),
        ("knee, min flops", "only one 'min METRIC', 'max METRIC' or 'knee' can be the goal"),
        ("knee flop", "selector 'knee flop': unknown metric 'flop': did you mean 'flops'"),
        ("knee retention", "unknown metric 'retention'"),
        ("kne", "selector 'kne': unknown rule 'kne': did you mean 'knee'"),
        ("flops<2k, onese", r"selector .*: unknown rule 'onese': did you mean 'one-se'\? \(known: knee, "),
        ("one-se, max retention", "'one-se' takes the cheapest; give it no goal but 'min METRIC' of a cost"),
        ("one-se, min retention", "'one-se' takes the cheapest"),
        ("knee, one-se", "'one-se' takes the cheapest"),
        ("retention>=95", "selector 'retention>=95': retention is a share; write '95%' or '0.95'"),
        ("retention>=high", "selector 'retention>=high': 'high' is not NUMBER"),
        ("retention>=95ms", "selector 'retention>=95ms': 'ms' is a unit of time"),
        ("retention<95%", "retention is bounded from below; write 'retention>=95%'"),
        ("retention", "retention is bounded from below"),
        ("flops>2k", "'>' is not a limit"),
        ("flops", "has no limit"),
        ("flopz<2k", "unknown metric 'flopz'"),
        ("latency<2", "needs a unit of time"),
        ("smallest", "unknown rule 'smallest': .*known: knee, knee METRIC, max METRIC, min METRIC, one-se"),
        ("min", "unknown rule 'min'"),
    ],
)
def test_what_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(BudgetError, match=said):
        parse_selector(text)


def test_nothing_meets_it() -> None:
    said = "no student of the front meets 'flops<100': the best retention is 99.0 %, the fewest team FLOPs 600"
    with pytest.raises(BudgetError, match=said):
        parse_selector("flops<100").choose(FRONT)


def test_a_group_that_is_not_there() -> None:
    with pytest.raises(BudgetError, match="no group 'duo': "):
        parse_selector("duo.flops<2k").choose(FRONT)


@pytest.mark.parametrize("text", ["knee flash", "min flash", "flash<8KiB", "team.flash<8KiB, max retention"])
def test_what_the_target_does_not_measure_decides_nothing(text: str) -> None:
    with pytest.raises(BudgetError, match=f"selector '{text}': the target of this front does not measure flash"):
        parse_selector(text).choose(FRONT)


def test_the_cheapest_of_those_near_the_best() -> None:
    """0.96 and 0.955 are within 0.012 of 0.965; 0.95 is not, and would be the cheapest."""
    near = [
        member(1, 0.965, error=0.012, pair=cost(3000, 3000)),
        member(2, 0.96, error=0.5, pair=cost(2000, 2000)),
        member(3, 0.955, error=0.5, pair=cost(2500, 1000)),
        member(4, 0.95, error=0.5, pair=cost(100, 100)),
    ]
    assert parse_selector("one-se").choose(near).trial == 2
    assert parse_selector("one-se, min memory").choose(near).trial == 3
    # Of those that fit: 0.5 is the error of trial 2, which is the best that is left.
    assert parse_selector("team.flops<15k, one-se, min flops").choose(near).trial == 4
