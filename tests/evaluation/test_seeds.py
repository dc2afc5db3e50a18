from itertools import combinations

from kdnas.evaluation import SeedSets


def sets(study: int, count: int = 3000) -> list[list[int]]:
    seeds = SeedSets(study)
    return [draw(count) for draw in (seeds.search, seeds.validation, seeds.final, seeds.demonstrations)]


def test_sets_are_disjoint_whatever_the_study() -> None:
    drawn = [(kind, set(seeds)) for study in (0, 1, 12_345) for kind, seeds in enumerate(sets(study))]
    assert [1 for (kind, one), (other, more) in combinations(drawn, 2) if kind != other and one & more] == []


def test_the_two_lowest_bits_name_the_set() -> None:
    assert [{seed % 4 for seed in drawn} for drawn in sets(5)] == [{0}, {1}, {2}, {3}]


def test_they_are_the_same_each_time_and_others_for_another_study() -> None:
    assert sets(7) == sets(7)
    assert all(one != other for one, other in zip(sets(7), sets(8), strict=True))


def test_more_episodes_begin_with_the_fewer_ones() -> None:
    assert SeedSets(3).final(500)[:100] == SeedSets(3).final(100)


def test_every_environment_takes_them() -> None:
    """Positive in 32 bits, and hardly two alike: of 3,000 in 2^29 about 3000^2 / 2 / 2^29 = 0.008 pairs."""
    for drawn in sets(0):
        assert all(type(seed) is int and 0 <= seed < 2**31 for seed in drawn)
        assert len(set(drawn)) >= 2999
