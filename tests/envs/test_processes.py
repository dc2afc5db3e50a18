import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from toys import assert_same, play_random

from kdnas.envs import Copies
from kdnas.envs.make import EnvMaker
from kdnas.envs.processes import Processes
from kdnas.errors import EnvError

HERE = Path(__file__).parent


def maker(**kwargs: object) -> EnvMaker:
    return EnvMaker(reference="toys:make", plugin=False, kwargs=kwargs, folder=HERE)


@pytest.fixture(scope="module")
def toy() -> Iterator[Processes]:
    """Shared by the tests, because a process takes seconds to start."""
    env = Processes("toy", maker(masks="info"), processes=2)
    yield env
    env.close()


def children(name: str) -> list[multiprocessing.process.BaseProcess]:
    return [child for child in multiprocessing.active_children() if child.name == f"kdnas {name}"]


def test_the_same_episodes_as_copies_in_the_same_order(toy: Processes) -> None:
    here = Copies("toy", maker(masks="info"))
    assert toy.agents == here.agents
    assert toy.state_size == here.state_size
    # 5 copies are 3 + 2, 1 copy leaves a process idle, 2 are one each; none at all is a batch too.
    for seeds in ([1, 2, 3, 4, 5], [6], [7, 8], []):
        assert_same(play_random(toy, seeds), play_random(here, seeds))


def test_the_processes_are_daemons_and_leave_ctrl_c_to_the_parent(toy: Processes) -> None:
    before = play_random(toy, [1, 2])
    assert [child.daemon for child in children("toy")] == [True, True]
    for child in children("toy"):
        os.kill(child.pid or 0, signal.SIGINT)
    assert_same(play_random(toy, [1, 2]), before)


def test_an_error_in_the_environment_comes_back_and_the_processes_live_on(toy: Processes) -> None:
    first = toy.reset([1, 2])
    with pytest.raises(EnvError, match=r"^environment 'toy' failed in step\(\): ValueError: an illegal .*toys\.py"):
        toy.step({agent: np.zeros(2, np.int64) for agent in toy.agents})
    assert_same([toy.reset([1, 2])], [first])


def test_an_environment_that_cannot_be_made_leaves_no_process() -> None:
    with pytest.raises(EnvError, match=r"environment 'toys:fail' cannot be made .*RuntimeError: no licence"):
        Processes("unmade", EnvMaker(reference="toys:fail", plugin=False, folder=HERE), processes=1)
    assert children("unmade") == []


def test_a_process_that_dies_is_reported_and_closing_twice_is_allowed() -> None:
    env = Processes("mortal", maker(dies_at=1), processes=1)
    env.reset([1])
    with pytest.raises(EnvError, match=r"environment 'mortal': a process that steps it died \(exit code 3\)"):
        env.step({agent: np.zeros(1, np.int64) for agent in env.agents})
    with pytest.raises(EnvError, match="died"):
        env.reset([1])
    env.close()
    env.close()
    assert children("mortal") == []
    with pytest.raises(EnvError, match="environment 'mortal' is closed; make it again"):
        env.reset([1])
