"""A classroom of the task in `echo.py`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from echo import STEPS, Echo, teach

from kdnas.config.study import DistillTable
from kdnas.distill import Classroom, make_pools
from kdnas.envs import TeamEnv
from kdnas.teachers import Rows, record
from kdnas.teachers.demonstrations import teacher_chooser

MakeRoom = Callable[..., Classroom]

RECIPE: dict[str, Any] = {
    "ancestor_steps": 200,
    "recovery_steps": 100,
    "qat_steps": 40,
    "batch": 128,
    "learning_rate": 0.01,
    "on_policy_rounds": 2,
    "on_policy_episodes": 16,
}


@pytest.fixture(scope="session")
def make_room() -> MakeRoom:
    def make(env: dict[str, Any] | None = None, **recipe: Any) -> Classroom:
        team_env = TeamEnv(Echo(**env or {}), {"left": ("left",), "right": ("right",)})
        teacher = teach(team_env.spec)
        return Classroom(
            env=team_env,
            teacher=teacher,
            pool=make_pools(team_env.spec, teacher)["left"],
            recipe=DistillTable(**RECIPE | recipe),
            copies=16,
            max_steps=STEPS,
        )

    return make


@pytest.fixture(scope="session")
def demonstrations(make_room: MakeRoom) -> Rows:
    """320 decisions of `left`."""
    room = make_room()
    choose = teacher_chooser(torch.Generator().manual_seed(0))
    return record(room.env, room.teacher, choose, range(64), copies=64, max_steps=STEPS)["left"]
