import operator

import pytest

from kdnas.study.leases import Leases, kind_of


def test_a_lease_is_ten_times_what_such_tasks_took_and_never_short() -> None:
    leases = Leases(patience_s=600)
    assert leases.lease_s("train") == 6000  # nothing is known of it
    leases.took("train", 30.0)
    assert leases.lease_s("train") == 600
    leases.took("train", 200.0)
    leases.took("train", 1.0)
    assert leases.lease_s("train") == 2000
    assert leases.lease_s("play") == 6000


@pytest.mark.parametrize(("failures", "lease_s"), [(0, 50), (1, 100), (2, 200)])
def test_what_is_begun_again_may_take_longer(failures: int, lease_s: float) -> None:
    assert Leases(patience_s=5).lease_s("play", failures) == lease_s


def test_kinds_are_functions_with_their_switches() -> None:
    assert kind_of(operator.add, (1, [2], "three")) == "add"
    assert kind_of(operator.add, ("a team", True)) == "add True" != kind_of(operator.add, ("a team", False))
