import math

import numpy as np
import pytest
import torch
from echo import STEPS, Echo, perfect, teach
from scenes import scene_of
from torch import Tensor, nn
from toys import Counting

from kdnas.envs import Copies, TeamEnv, View
from kdnas.errors import TeacherError
from kdnas.policies import Actions, Scene, greedy
from kdnas.teachers import Episodes, GaussianActor, Reading, Teacher, make_mlp, record
from kdnas.teachers.episodes import teacher_chooser

GROUPS = {"early": ("early",), "late": ("late",)}


def counting(masks: str | None = None, views: dict[str, View] | None = None) -> TeamEnv:
    return TeamEnv(Copies("counting", lambda: Counting(masks=masks)), GROUPS, views)


def always_two(scene: Scene, parameters: dict[str, Tensor]) -> dict[str, Actions]:
    """The last action, or 1 where 2 is illegal."""
    return {group: torch.where(said[..., 2] > -1e8, 2, 1).numpy() for group, said in parameters.items()}


def some_teacher(env: TeamEnv) -> Teacher:
    shared = make_mlp(3, (4,), 3, generator=torch.Generator().manual_seed(0))
    return Teacher(env.spec, dict.fromkeys(env.spec.groups, shared))


def recorded(env: TeamEnv, seeds: list[int], *, copies: int = 9, max_steps: int = 9) -> Episodes:
    return record(env, some_teacher(env), always_two, seeds, copies=copies, max_steps=max_steps)


def luck(seed: int) -> np.float32:
    return np.float32(np.random.default_rng(seed).random())


def test_episodes_keep_the_order_of_time() -> None:
    episodes = recorded(counting(), [1, 2, 3], copies=2)
    early, late = episodes.groups["early"], episodes.groups["late"]
    # `early` acts in steps 0 and 1, `late` in 0 to 3.
    assert early.alive[..., 0].tolist() == [[True, True, False, False]] * 3
    assert late.alive.all()
    # Observations are (step, sum of own actions, luck), and zeros for who has left.
    assert early.observations[1, :, 0].tolist() == [[0, 0, luck(2)], [1, 2, luck(2)], [0, 0, 0], [0, 0, 0]]
    assert late.observations[2, :, 0].tolist() == [[step, 2 * step, luck(3)] for step in range(4)]
    # 10 x 2 x step for `early`, a tenth of it for `late`: of the step that the action led to.
    assert early.rewards[..., 0].tolist() == [[20, 40, 0, 0]] * 3
    assert late.rewards[..., 0].tolist() == [[2, 4, 6, 8]] * 3
    assert early.masks is early.limited_views is None
    assert early.views is early.observations
    # The state is both observations in a row.
    np.testing.assert_array_equal(episodes.state[:, :2, 3:], late.observations[:, :2, 0])


def test_rows_are_the_decisions_of_the_living() -> None:
    rows = recorded(counting(), [1, 2]).groups["early"].rows
    assert rows.views[:, :2].tolist() == [[0, 0], [1, 2], [0, 0], [1, 2]]
    assert (rows.parameters.shape, rows.masks) == ((4, 3), None)
    masked = recorded(counting("info"), [1, 2]).groups["late"].rows
    assert masked.masks is not None
    # Of 3 actions, step % 3 is illegal.
    assert masked.masks.tolist() == [[action != step % 3 for action in range(3)] for step in (0, 1, 2, 3)] * 2


def test_labels_are_the_teachers_unmasked_parameters() -> None:
    env = counting("info")
    teacher = some_teacher(env)
    said = record(env, teacher, always_two, [1, 2, 3], copies=3, max_steps=9).groups["late"]
    for step in range(4):
        scene = scene_of({"late": said.observations[:, step], "early": np.zeros((3, 1, 3))})
        torch.testing.assert_close(teacher.parameters(scene)["late"], torch.from_numpy(said.parameters[:, step]))


@pytest.mark.parametrize("masks", [None, "info"])
def test_batches_do_not_matter(masks: str | None) -> None:
    """Also where episodes of one batch are shorter than those of another, and for agents that have left."""

    class Short(Counting):
        def _last(self, agent: str) -> int:
            return super()._last(agent) if self._luck > 0.5 else 1

    seeds = [1, 2, 3, 4, 5]
    assert {bool(luck(seed) > 0.5) for seed in seeds} == {False, True}
    env = TeamEnv(Copies("short", lambda: Short(masks=masks)), GROUPS)
    together, apart = (recorded(env, seeds, copies=copies) for copies in (5, 1))
    for group in GROUPS:
        one, other = together.groups[group], apart.groups[group]
        for name in ("observations", "alive", "rewards", "masks", "views"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_allclose(one.parameters, other.parameters, atol=1e-6)
        assert not one.parameters[~one.alive].any()
        assert one.masks is None or one.masks[~one.alive].all()


def test_an_episode_is_cut() -> None:
    episodes = recorded(counting(), [1], copies=1, max_steps=3)
    assert [episodes.groups[group].rows.views.shape for group in GROUPS] == [(2, 3), (3, 3)]
    assert episodes.state.shape == (1, 3, 6)


def test_students_see_less_than_what_the_teacher_answers_to() -> None:
    views = {"late": View(observation_size=3, own=(0, 2))}
    free, limited = recorded(counting(), [1, 2]), recorded(counting(views=views), [1, 2])
    late = limited.groups["late"]
    assert late.views is late.limited_views
    # The step and the luck.
    np.testing.assert_array_equal(late.views, free.groups["late"].observations[..., [0, 2]])
    np.testing.assert_array_equal(late.observations, free.groups["late"].observations)
    np.testing.assert_array_equal(late.parameters, free.groups["late"].parameters)
    assert limited.groups["early"].limited_views is None
    assert late.rows.views.shape == (8, 2)


def test_a_teacher_that_remembers_answers_to_the_whole_episode() -> None:
    class Sum(nn.Module):
        def forward(self, rows: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
            total = hidden + rows[:, :1]
            return total.expand(-1, 3), total

    env = counting()
    teacher = Teacher(env.spec, dict.fromkeys(GROUPS, Sum()), reading=dict.fromkeys(GROUPS, Reading(hidden_size=1)))
    episodes = record(env, teacher, always_two, [1, 2, 3], copies=2, max_steps=9)
    # Sums of the steps 0, 1, 2, 3, in each episode from its beginning.
    assert episodes.groups["late"].parameters[..., 0, 0].tolist() == [[0, 1, 3, 6]] * 3
    assert episodes.groups["early"].parameters[..., 0, 0].tolist() == [[0, 1, 0, 0]] * 3


def two_of(**env: str) -> TeamEnv:
    return TeamEnv(Echo(**env), {"left": ("left",), "right": ("right",)})


@pytest.mark.parametrize("actions", ["discrete", "multi-discrete"])
def test_half_of_the_copies_are_greedy(actions: str) -> None:
    env = two_of(actions=actions)
    teacher, space = teach(env.spec, sharpness=0.5), env.spec.actions["left"]
    size = env.spec.group_spec("left").observation_size
    said = torch.randn(400, 1, size, generator=torch.Generator().manual_seed(0)) / 2
    chosen = teacher_chooser(teacher, torch.Generator().manual_seed(0))(scene_of({"left": said}), {"left": said})
    same = torch.from_numpy(chosen["left"]) == greedy(space, said)
    assert same[:200].all()
    assert 0.2 < float(same[200:].float().mean()) < 0.9


def test_half_of_the_copies_say_their_means() -> None:
    env = two_of(actions="box")
    said = torch.zeros(4000, 1, 4)
    said[..., 0], said[..., 2:] = 0.25, math.log(0.5)
    choose = teacher_chooser(teach(env.spec), torch.Generator().manual_seed(0))
    chosen = choose(scene_of({"left": said}), {"left": said})["left"][:, 0]
    assert chosen.dtype == np.float32
    np.testing.assert_array_equal(chosen[:2000], [[0.25, 0.0]] * 2000)
    # Beyond 1 are 6.7 % (1.5 deviations) and 2.3 % (2), beyond -1 0.6 % and 2.3 %; those are clipped.
    shares = [(chosen[2000:] == bound).mean(0).tolist() for bound in (1.0, -1.0)]
    assert shares == [pytest.approx([0.0668, 0.0228], abs=0.022), pytest.approx([0.0062, 0.0228], abs=0.013)]
    assert np.abs(chosen).max() == 1


@pytest.mark.parametrize("actions", ["discrete", "multi-discrete", "box"])
def test_a_recorded_teacher_earns_what_it_is_worth(actions: str) -> None:
    env = two_of(actions=actions)
    teacher = teach(env.spec, sharpness=100.0)
    greedily = lambda scene, said: teacher.act(scene)  # noqa: E731
    episodes = record(env, teacher, greedily, range(20), copies=8, max_steps=9)
    for group in episodes.groups.values():
        assert group.rewards.shape == (20, STEPS, 1)
        np.testing.assert_allclose(group.rewards, 1.0, atol=1e-6)


def test_deviations_are_recorded_too() -> None:
    env = two_of(actions="box")
    actor = GaussianActor(perfect(2, 2, 1.0), 2, log_std=-1.25)
    teacher = Teacher(env.spec, {"left": actor, "right": actor})
    choose = teacher_chooser(teacher, torch.Generator().manual_seed(0))
    left = record(env, teacher, choose, range(4), copies=4, max_steps=9).groups["left"]
    assert left.parameters.shape == (4, STEPS, 1, 4)
    np.testing.assert_allclose(left.parameters[..., :2], left.observations, atol=1e-6)
    assert (left.parameters[..., 2:] == -1.25).all()


def test_a_teacher_that_returns_nan() -> None:
    env = counting()
    teacher = some_teacher(env)
    with torch.no_grad():
        teacher.actors["late"][0].weight[0, 0] = torch.nan
    with pytest.raises(TeacherError, match="the teacher of group 'early' returns NaN or infinity in counting"):
        record(env, teacher, always_two, [1], copies=1, max_steps=9)
