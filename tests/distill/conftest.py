"""A classroom of the task in `echo.py`, and lessons of a few numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from echo import STEPS, Echo, teach
from torch import Tensor, nn

from kdnas.config.study import DistillTable
from kdnas.distill import Classroom, Lessons, make_pools, open_classroom
from kdnas.envs import EnvSpec, TeamEnv
from kdnas.teachers import Teacher, record
from kdnas.teachers.episodes import Episodes, teacher_chooser

MakeRoom = Callable[..., Classroom]
MakeLessons = Callable[..., Lessons]

RECIPE: dict[str, Any] = {
    "ancestor_steps": 200,
    "recovery_steps": 100,
    "qat_steps": 40,
    "batch": 128,
    "learning_rate": 0.01,
    "on_policy_rounds": 2,
    "on_policy_episodes": 16,
}


class Half(nn.Module):
    """A critic that expects 1/2 of everyone."""

    def forward(self, state: Tensor, gone: Tensor) -> Tensor:
        return torch.full((len(state), 2), 0.5)


def teach_with_critic(spec: EnvSpec) -> Teacher:
    """`echo.teach` with a critic, so that none is fitted, which takes seconds."""
    return Teacher(spec, teach(spec).actors, Half())


def demonstrate(env: TeamEnv, teacher: Teacher) -> Episodes:
    """64 episodes of the teacher."""
    choose = teacher_chooser(teacher, torch.Generator().manual_seed(0))
    return record(env, teacher, choose, range(64), copies=64, max_steps=STEPS)


@pytest.fixture(scope="session")
def make_room() -> MakeRoom:
    def make(
        env: dict[str, Any] | None = None, make_teacher: Callable[..., Teacher] = teach, **recipe: Any
    ) -> Classroom:
        team_env = TeamEnv(Echo(**env or {}), {"left": ("left",), "right": ("right",)})
        teacher = make_teacher(team_env.spec)
        return open_classroom(
            team_env,
            teacher,
            make_pools(team_env.spec, teacher)["left"],
            DistillTable(**RECIPE | recipe),
            demonstrate(team_env, teacher),
            copies=16,
            max_steps=STEPS,
            seed=0,
        )

    return make


@pytest.fixture(scope="session")
def demonstrations(make_room: MakeRoom) -> Lessons:
    """640 decisions, 64 tracks of 5 steps of each of both agents."""
    room = make_room()
    return room.lessons(demonstrate(room.env, room.teacher))


@pytest.fixture(scope="session")
def tracks_of() -> MakeLessons:
    def make(*tracks: Sequence[float], masked: bool = False) -> Lessons:
        """One feature, whose negative is what the teacher says; legal where the value is even."""
        views = torch.tensor([value for track in tracks for value in track], dtype=torch.float32).reshape(-1, 1)
        position = torch.tensor([step for track in tracks for step in range(len(track))], dtype=torch.int64)
        return Lessons(views=views, parameters=-views, position=position, masks=views % 2 == 0 if masked else None)

    return make
