import numpy as np
import pytest
import torch

from kdnas.distill import Lessons, Pool, make_lessons
from kdnas.distill.lessons import split_tracks
from kdnas.envs import AgentSpec
from kdnas.policies.actions import Discrete
from kdnas.teachers import Episodes, GroupRecord

from .conftest import MakeLessons

SPACES = AgentSpec(observation_size=1, actions=Discrete(2), masked=True)


def recorded(group: int, seats: int, alive: list[list[list[int]]]) -> GroupRecord:
    """2 episodes of 3 steps. What is seen is the number group, episode, step, seat; the teacher says +- a tenth of it.

    Action 1 is legal in even steps only. `alive` is (E, T, A).
    """
    episode, step, seat = np.meshgrid(np.arange(2), np.arange(3), np.arange(seats), indexing="ij")
    seen = (1000 * group + 100 * episode + 10 * step + seat).astype(np.float32)[..., None]
    legal = np.stack([np.ones_like(step), step % 2 == 0], -1).astype(np.bool_)
    lives = np.array(alive, np.bool_)
    return GroupRecord(
        observations=seen,
        parameters=np.concatenate([seen, -seen], -1) / 10,
        alive=lives,
        rewards=np.zeros(lives.shape, np.float32),
        masks=legal,
    )


@pytest.fixture
def episodes() -> Episodes:
    pair = recorded(1, 2, [[[1, 1], [1, 1], [1, 0]], [[1, 1], [0, 1], [0, 0]]])
    solo = recorded(2, 1, [[[1], [0], [0]], [[1], [1], [1]]])
    return Episodes(groups={"pair": pair, "solo": solo}, state=np.zeros((2, 3, 1), np.float32))


def pool(*groups: str) -> Pool:
    return Pool(name=groups[0], groups=groups, spaces=SPACES, teacher_digest="")


TRACKS = [[1000, 1010, 1020], [1001, 1011], [1100], [1101, 1111], [2000], [2100, 2110, 2120]]
"""Of the pair: episode 0 with its first agent, which stays, and its second, which leaves after two steps; episode 1
with its agents, of which the first leaves after one step. Then the tracks of the solo agent."""


def test_the_order_is_group_then_episode_then_agent_then_time(episodes: Episodes) -> None:
    lessons = make_lessons(episodes, pool("pair", "solo"))
    values = [float(value) for track in TRACKS for value in track]
    assert lessons.views[:, 0].tolist() == values
    assert lessons.position.tolist() == [step for track in TRACKS for step in range(len(track))]
    assert lessons.position.dtype == torch.int64
    torch.testing.assert_close(lessons.parameters, lessons.views * torch.tensor([0.1, -0.1]))
    assert lessons.masks is not None
    # Steps 0 and 2, the tens of what is seen, allow both actions.
    assert lessons.masks.tolist() == [[True, value // 10 % 2 == 0] for value in values]
    assert set(lessons.columns) == {"views", "parameters", "position", "masks"}


def test_tracks_of_some_seats_only(episodes: Episodes) -> None:
    seats = {"pair": torch.tensor([[False, True], [True, False]]), "solo": torch.tensor([[True], [False]])}
    assert make_lessons(episodes, pool("pair", "solo"), seats=seats).views[:, 0].tolist() == [1001, 1011, 1100, 2000]
    # One copy after the other: every episode had the same seats.
    again = {"pair": torch.tensor([[False, True]])}
    assert make_lessons(episodes, pool("pair"), seats=again).views[:, 0].tolist() == [1001, 1011, 1101, 1111]


def test_only_the_pools_groups_are_taken_in_its_order(episodes: Episodes) -> None:
    assert make_lessons(episodes, pool("solo")).views[:, 0].tolist() == [2000, 2100, 2110, 2120]
    turned = make_lessons(episodes, pool("solo", "pair")).views[:, 0].tolist()
    assert turned == [value for track in TRACKS[4:] + TRACKS[:4] for value in track]


def test_extra_columns_keep_company(episodes: Episodes) -> None:
    seen = {group: record.observations for group, record in episodes.groups.items()}
    lessons = make_lessons(
        episodes,
        pool("pair", "solo"),
        extras={
            "advantages": {group: -array[..., 0] for group, array in seen.items()},
            "others": {group: np.concatenate([array] * 3, -1) for group, array in seen.items()},
        },
    )
    assert lessons.advantages is not None
    assert torch.equal(lessons.advantages, -lessons.views[:, 0])
    assert lessons.others is not None
    assert torch.equal(lessons.others, lessons.views.expand(-1, 3))
    assert lessons.roles is None


def test_students_learn_from_what_they_see(episodes: Episodes) -> None:
    record = episodes.groups["solo"]
    limited = GroupRecord(
        observations=record.observations,
        parameters=record.parameters,
        alive=record.alive,
        rewards=record.rewards,
        limited_views=np.concatenate([record.observations + 5, record.observations + 6], -1),
    )
    lessons = make_lessons(Episodes(groups={"solo": limited}, state=episodes.state), pool("solo"))
    assert lessons.views.tolist() == [[value + 5, value + 6] for value in (2000, 2100, 2110, 2120)]
    torch.testing.assert_close(lessons.parameters[:, 0], (lessons.views[:, 0] - 5) / 10)
    assert lessons.masks is None


def test_taking_rows(tracks_of: MakeLessons) -> None:
    lessons = tracks_of([4, 5, 6], [7], masked=True)
    taken = lessons.take(torch.tensor([3, 1, 1]))
    assert taken.views[:, 0].tolist() == [7, 5, 5]
    assert taken.position.tolist() == [0, 1, 1]
    assert taken.masks is not None
    assert taken.masks[:, 0].tolist() == [False, False, False]
    assert len(taken) == 3


def values_by_track(lessons: Lessons) -> list[list[float]]:
    track = (lessons.position == 0).cumsum(0)
    return [lessons.views[track == index + 1, 0].tolist() for index in range(int(track.max()))]


def test_whole_tracks_are_held_out(tracks_of: MakeLessons) -> None:
    tracks = [[10.0 * index + step for step in range(1 + index % 4)] for index in range(20)]
    lessons = tracks_of(*tracks)
    left, held = split_tracks(lessons, 0.25, torch.Generator().manual_seed(0))
    assert len(values_by_track(held)) == 5
    assert sorted(values_by_track(left) + values_by_track(held)) == sorted(tracks)
    again = split_tracks(lessons, 0.25, torch.Generator().manual_seed(0))[1]
    other = split_tracks(lessons, 0.25, torch.Generator().manual_seed(1))[1]
    assert torch.equal(again.views, held.views)
    assert values_by_track(other) != values_by_track(held)
    # At least one, of however few.
    assert len(values_by_track(split_tracks(tracks_of([0], [1], [2]), 0.01, torch.Generator())[1])) == 1


def test_one_track_is_learned_from_and_held_out(tracks_of: MakeLessons) -> None:
    lessons = tracks_of([1, 2, 3])
    assert split_tracks(lessons, 0.05, torch.Generator().manual_seed(0)) == (lessons, lessons)
