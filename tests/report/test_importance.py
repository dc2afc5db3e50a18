from kdnas.report.importance import describe_lack, importance_tables
from kdnas.study.importance import Choice, Importance, Parameter


def test_a_table_for_each_group() -> None:
    choices = [
        Choice(label="float", candidates=8, retention=0.9123),
        Choice(label="w4", candidates=16, retention=0.8),
    ]
    bits = Parameter(label="bits", share=0.254, chance=0.005, choices=tuple(choices))
    tables = importance_tables(Importance(candidates=24, groups={"pair": (bits,), "solo": ()}))
    assert list(tables) == ["pair", "solo"]
    assert tables["pair"].rows == (("bits", "25 %", "0.5 %", "float: 0.912 (8), w4: 0.800 (16)"),)
    assert len(tables["pair"].header) == 4
    assert tables["solo"].rows == ()


def test_too_few_are_said_in_a_sentence() -> None:
    assert describe_lack(Importance(candidates=12, groups={})) == (
        "what decides the retention cannot be told from 12 different candidates that were played: it takes 20; go on "
        "with a larger --trials"
    )
