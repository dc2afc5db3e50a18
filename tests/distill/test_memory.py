import pytest
import torch

from kdnas.distill import LessonMemory, Lessons
from kdnas.distill.memory import Windows

from .conftest import MakeLessons


def held(memory: LessonMemory) -> list[float]:
    """What can be drawn: 2,000 draws of at most 20 rows miss none."""
    rows = memory.batch(2000)
    assert torch.equal(rows.parameters, -rows.views)
    if rows.masks is not None:
        assert torch.equal(rows.masks, rows.views % 2 == 0)
    return sorted(set(rows.views[:, 0].tolist()))


def make(demonstrations: Lessons, capacity: int, seed: int = 0) -> LessonMemory:
    return LessonMemory(demonstrations, capacity, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("masked", [False, True])
def test_the_oldest_on_policy_rows_make_room(masked: bool, tracks_of: MakeLessons) -> None:
    memory = make(tracks_of([0, 1, 2], masked=masked), 7)  # 7 // 2 = 3 demonstrations stay, 4 places are a ring
    assert held(memory) == [0, 1, 2]
    memory.add(tracks_of([10, 11], masked=masked))
    assert held(memory) == [0, 1, 2, 10, 11]
    memory.add(tracks_of([12, 13], masked=masked))
    assert held(memory) == [0, 1, 2, 10, 11, 12, 13]
    memory.add(tracks_of([14], masked=masked))
    assert held(memory) == [0, 1, 2, 11, 12, 13, 14]
    memory.add(tracks_of([15, 16, 17], masked=masked))  # into the places of 11, 12 and 13
    assert held(memory) == [0, 1, 2, 14, 15, 16, 17]
    memory.add(tracks_of([18, 19], masked=masked))
    assert held(memory) == [0, 1, 2, 16, 17, 18, 19]


def test_of_more_than_a_ringful_the_latest_stay(tracks_of: MakeLessons) -> None:
    memory = make(tracks_of([0, 1]), 5)
    memory.add(tracks_of(range(100, 120)))
    assert held(memory) == [0, 1, 117, 118, 119]
    memory.add(tracks_of([200]))
    assert held(memory) == [0, 1, 118, 119, 200]


def test_nothing_to_add(tracks_of: MakeLessons) -> None:
    memory = make(tracks_of([0, 1]), 5)
    memory.add(tracks_of([]))
    assert held(memory) == [0, 1]


def test_a_random_half_of_too_many_demonstrations(tracks_of: MakeLessons) -> None:
    nine = tracks_of(*([value] for value in range(9)))  # tracks of one step
    kept = {tuple(held(make(nine, 6, seed))) for seed in range(20)}
    assert {len(values) for values in kept} == {3}
    assert len(kept) > 5  # not always the same three
    assert held(make(nine, 6)) == held(make(nine, 6))


def test_demonstrated_tracks_are_kept_whole(tracks_of: MakeLessons) -> None:
    tracks = [[0, 1], [10, 11, 12], [20, 21], [30, 31, 32], [40]]
    kept = {tuple(held(make(tracks_of(*tracks), 10, seed))) for seed in range(40)}
    # Of 5 rows fit, in a random order of tracks, those up to the first that does not: always whole ones.
    for values in kept:
        found = [[value for value in values if value // 10 == index] for index in range(5)]
        assert all(part in ([], track) for part, track in zip(found, tracks, strict=True))
        assert 1 < len(values) <= 5
    assert len(kept) > 5


def test_of_one_track_that_is_too_long_the_beginning_stays(tracks_of: MakeLessons) -> None:
    assert held(make(tracks_of(range(9)), 6)) == [0, 1, 2]


@pytest.mark.parametrize("capacity", [1, 2])
def test_the_smallest_memory(capacity: int, tracks_of: MakeLessons) -> None:
    memory = make(tracks_of([0]), capacity)
    assert held(memory) == [0]
    memory.add(tracks_of([1, 2]))
    assert held(memory) == [0, 2]


def test_demonstrations_are_not_written_to(tracks_of: MakeLessons) -> None:
    demonstrations = tracks_of([0, 1])
    memory = make(demonstrations, 4)
    memory.add(tracks_of([5, 6, 7]))
    assert held(memory) == [0, 1, 6, 7]
    assert demonstrations.views.tolist() == [[0], [1]]


def test_every_column_comes_along(tracks_of: MakeLessons) -> None:
    plain = tracks_of([0, 2, 4], [6])
    columns = plain.columns | {
        name: plain.views.expand(4, width) * sign for name, width, sign in (("others", 3, 1), ("roles", 2, -1))
    }
    rows = make(Lessons(**columns, advantages=plain.views[:, 0]), 100).batch(50)
    assert torch.equal(rows.others, rows.views.expand(50, 3))
    assert torch.equal(rows.roles, -rows.views.expand(50, 2))
    assert torch.equal(rows.advantages, rows.views[:, 0])
    assert make(plain, 100).batch(3).others is None


# Windows.

Stretches = dict[tuple[float, ...], int]
"""What counts of a stretch -> how many of the windows were it."""


def stretches(windows: Windows) -> Stretches:
    """The values that count, in their order, and checks that they stand where they should."""
    length = windows.length
    values = windows.lessons.views[:, 0].reshape(-1, length)
    position = windows.lessons.position.reshape(-1, length)
    assert windows.counted.shape == values.shape
    found: Stretches = {}
    for row, place, counted in zip(values, position, windows.counted, strict=True):
        own = tuple(row[counted].tolist())
        # What counts is one piece of one track: no hole, and one step after the other.
        assert place[counted].tolist() == list(range(int(place[counted][0]), int(place[counted][0]) + len(own)))
        found[own] = found.get(own, 0) + 1
    return found


def test_windows_of_short_tracks_by_hand(tracks_of: MakeLessons) -> None:
    memory = make(tracks_of([0, 1, 2], [10, 11]), 100)
    found = stretches(memory.windows(6000, 3, 0))
    # Without burn-in a stretch begins at its row: 0, 1, 2, 10 or 11, each with 1/5, and ends with its track.
    assert set(found) == {(0, 1, 2), (1, 2), (2,), (10, 11), (11,)}
    assert all(abs(count / 6000 - 1 / 5) < 0.03 for count in found.values())  # five deviations


def test_burn_in_by_hand(tracks_of: MakeLessons) -> None:
    memory = make(tracks_of(range(6), [10, 11]), 100)
    windows = memory.windows(8000, 4, 2)
    # A row r begins at max(r - 2, 0) of its track. From 0 all four steps count, from later ones the last two.
    # 0, 1, 2 -> (0, 1, 2, 3); 3 -> begins at 1, counts (3, 4); 4 -> at 2, (4, 5); 5 -> at 3, (5,), then the track ends.
    # 10, 11 -> (10, 11).
    want = {(0, 1, 2, 3): 3 / 8, (3, 4): 1 / 8, (4, 5): 1 / 8, (5,): 1 / 8, (10, 11): 2 / 8}
    found = stretches(windows)
    assert set(found) == set(want)
    assert all(abs(found[own] / 8000 - share) < 0.03 for own, share in want.items())
    # The steps before are there to warm up on, though they do not count.
    values = windows.lessons.views[:, 0].reshape(-1, 4).tolist()
    counted = windows.counted.tolist()
    warm = [row for row, mask in zip(values, counted, strict=True) if mask == [False, False, True, True]]
    assert {tuple(row) for row in warm} == {(1, 2, 3, 4), (2, 3, 4, 5)}
    ending = [row for row, mask in zip(values, counted, strict=True) if mask == [False, False, True, False]]
    assert {tuple(row[:3]) for row in ending} == {(3, 4, 5)}


def test_windows_across_the_seam_of_the_ring(tracks_of: MakeLessons) -> None:
    memory = make(tracks_of([0, 1]), 6)  # places 0 and 1 stay, 2 to 5 are the ring
    memory.add(tracks_of([10, 11, 12]))  # places 2, 3, 4
    memory.add(tracks_of([20, 21, 22]))  # places 5, then 2 and 3; 12 is left in 4
    assert held(memory) == [0, 1, 12, 20, 21, 22]
    found = stretches(memory.windows(3000, 3, 0))
    # 20 goes on in place 2: no stretch ends at the seam, and none goes from 1 into 21, or from 22 into 12.
    assert set(found) == {(0, 1), (1,), (20, 21, 22), (21, 22), (22,), (12,)}


def test_burn_in_across_the_seam_of_the_ring(tracks_of: MakeLessons) -> None:
    memory = make(tracks_of([0]), 6)  # place 0 stays, 1 to 5 are the ring
    memory.add(tracks_of([10, 11, 12]))  # places 1, 2, 3
    memory.add(tracks_of(range(20, 25)))  # places 4 and 5, then 1, 2 and 3
    # Four steps before any of its rows is the beginning of the track, also before place 1.
    assert set(stretches(memory.windows(500, 5, 4))) == {(0,), (20, 21, 22, 23, 24)}
    # One step: from 20 all three count; 22 begins at 21, 23 at 22 and 24 at 23, and the first only warms up.
    assert set(stretches(memory.windows(500, 3, 1))) == {(0,), (20, 21, 22), (22, 23), (23, 24), (24,)}


def test_the_end_of_a_track_that_fills_the_ring_is_not_followed_by_its_middle(tracks_of: MakeLessons) -> None:
    memory = make(tracks_of([0]), 5)
    memory.add(tracks_of(range(10, 20)))  # 16 to 19 are left, and beside 19 there is 16
    memory.add(tracks_of([]))
    assert set(stretches(memory.windows(500, 3, 0))) == {(0,), (16, 17, 18), (17, 18, 19), (18, 19), (19,)}


def test_a_track_whose_head_was_overwritten_is_warmed_up_from_the_middle(tracks_of: MakeLessons) -> None:
    memory = make(tracks_of([0, 1]), 8)  # places 2 to 7 are the ring
    memory.add(tracks_of(range(10, 16)))  # all of it
    memory.add(tracks_of([20, 21]))  # over 10 and 11
    assert held(memory) == [0, 1, 12, 13, 14, 15, 20, 21]
    found = stretches_that_count(memory.windows(4000, 4, 2))
    # With 2 steps of burn-in 14 begins at 12 and 15 at 13; 12 and 13 cannot begin before 12, and begin at themselves.
    # None of them begins an episode: the first two steps of the stretch never count.
    assert set(found) == {(0, 1), (20, 21), (14, 15), (15,)}
    # 12 -> 12, 13 | 14, 15; 13 -> 13, 14 | 15; 14 -> 12, 13 | 14, 15; 15 -> 13, 14 | 15.
    assert abs(found[14, 15] / 4000 - 2 / 8) < 0.04
    assert abs(found[(15,)] / 4000 - 2 / 8) < 0.04


def stretches_that_count(windows: Windows) -> Stretches:
    """As `stretches`, without those of which nothing counts."""
    some = windows.counted.any(1)
    rows = some.repeat_interleave(windows.length).nonzero().squeeze(1)
    kept = Windows(lessons=windows.lessons.take(rows), length=windows.length, counted=windows.counted[some])
    return stretches(kept)


def test_a_stretch_longer_than_the_memory(tracks_of: MakeLessons) -> None:
    memory = make(tracks_of([0, 1, 2]), 6)
    assert set(stretches(memory.windows(200, 10, 0))) == {(0, 1, 2), (1, 2), (2,)}
    memory.add(tracks_of([5, 6, 7]))  # now the ring is full, and places after the last are places of the ring again
    assert set(stretches(memory.windows(200, 10, 0))) == {(0, 1, 2), (1, 2), (2,), (5, 6, 7), (6, 7), (7,)}


def test_random_generators_decide_the_windows(tracks_of: MakeLessons) -> None:
    one, two, other = (make(tracks_of(range(50)), 200, seed).windows(20, 4, 2) for seed in (0, 0, 1))
    assert torch.equal(one.lessons.views, two.lessons.views)
    assert not torch.equal(one.lessons.views, other.lessons.views)


def test_demonstrations_can_be_forgotten(tracks_of: MakeLessons) -> None:
    memory = make(tracks_of([1, 2, 3], [4, 5, 6]), 14)
    memory.forget_demonstrations()
    memory.add(tracks_of([7, 8, 9], [10, 11, 12]))
    assert held(memory) == [7, 8, 9, 10, 11, 12]
    memory.forget_demonstrations()  # there are none left
    memory.add(tracks_of([13, 14, 15], [16, 17, 18], [19, 20, 21]))  # one row more than there is room for
    assert held(memory) == list(range(8, 22))
