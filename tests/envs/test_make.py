import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import Batched

import kdnas.envs
from kdnas.config.study import EnvTable
from kdnas.envs import TeamEnv, check_twin, choose_processes, make_env, make_twin, mpe_twin
from kdnas.envs.processes import Processes
from kdnas.errors import ConfigError, EnvError, KdnasError, PluginError

HERE = Path(__file__).parent
SPREAD = EnvTable(name="mpe/simple_spread", twin="mpe/simple_spread_twin", kwargs={"max_cycles": 5}, groups="by-kind")


def toy(factory: str = "toys:make", **fields: Any) -> EnvTable:
    return EnvTable(factory=factory, **fields)


def test_the_door_is_sorted_and_opens_no_environment_package() -> None:
    assert kdnas.envs.__all__ == sorted(kdnas.envs.__all__)
    assert all(hasattr(kdnas.envs, name) for name in kdnas.envs.__all__)
    code = "import sys, kdnas.envs; print([m for m in ('pettingzoo', 'gymnasium', 'mpe2') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_plugin_by_name() -> None:
    env = make_env(SPREAD, None)
    assert env.spec.name == "mpe/simple_spread"
    assert env.spec.groups == {"agent": ("agent_0", "agent_1", "agent_2")}
    # Velocity 2, position 2, 3 landmarks x 2, 2 others x 2, 2 others' messages x 2.
    assert env.spec.group_spec("agent").observation_size == 18
    assert env.spec.state_size == 54
    env.close()


def test_a_reference_is_looked_up_in_the_study_s_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my_envs.py").write_text("import toys\n\ndef build(**kwargs):\n    return toys.Counting(**kwargs)\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    env = make_env(toy("my_envs:build", kwargs={"masks": "info"}, groups={"both": ("late", "early")}), tmp_path)
    assert env.spec.name == "my_envs:build"
    assert env.reset([1]).masks["both"].shape == (1, 2, 3)


def test_an_environment_that_steps_in_batches_is_used_as_it_is() -> None:
    env = make_env(toy("toys:make_batched"), HERE, processes=4)
    assert isinstance(env._batched, Batched)
    assert env.reset([1, 2, 3]).observations["solo"].shape == (3, 1, 1)


def test_processes_step_the_same_episodes() -> None:
    here, there = make_env(toy(), HERE), make_env(toy(), HERE, processes=2)
    try:
        assert isinstance(there._batched, Processes)
        actions = {"early": np.array([[1], [2], [0]]), "late": np.array([[2], [2], [1]])}
        for env in (here, there):
            env.reset([1, 2, 3])
        ours, theirs = here.step(actions), there.step(actions)
        np.testing.assert_array_equal(ours.state, theirs.state)
        np.testing.assert_array_equal(ours.rewards["early"], theirs.rewards["early"])
    finally:
        there.close()


@pytest.mark.parametrize(
    ("table", "kind", "sentence"),
    [
        (EnvTable(name="mpe/simple_sprad"), PluginError, "no plugin 'mpe/simple_sprad' .*did you mean"),
        (toy("nowhere:make"), PluginError, "'nowhere:make' cannot be imported"),
        (toy("toys:mak"), PluginError, "module 'toys' has no 'mak': did you mean 'make'"),
        (toy("toys:NUMBER"), PluginError, "'toys:NUMBER' is int and not a function"),
        (toy("toys:make_nothing"), EnvError, "'toys:make_nothing' is no PettingZoo parallel environment"),
        (toy("toys:fail"), EnvError, r"'toys:fail' cannot be made with .*RuntimeError: no licence \(.*toys.py, line"),
        (
            toy("toys:make_binary"),
            EnvError,
            r"'toys:make_binary': agent 'early' has the actions MultiBinary\(2\); kdnas distills Discrete and",
        ),
        (toy(kwargs={"speed": 2}), EnvError, r"'toys:make' .*\(speed=2\): TypeError: .*unexpected keyword .*'speed'"),
        (toy("toys:take_size"), EnvError, "'toys:take_size' cannot .*missing a required argument: 'size'.*takes: size"),
        (
            EnvTable(name="mpe/simple_spread", kwargs={"n": 3}),
            EnvError,
            "'mpe/simple_spread' cannot be made with .*n=3.*unexpected keyword",
        ),
        (toy(groups={"one": ("early",)}), ConfigError, "late in no group"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(table: EnvTable, kind: type[KdnasError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        make_env(table, HERE)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpe2.simple_spread_v3", None)  # as if it were not installed
    sentence = "environment 'mpe/simple_spread' needs the package 'mpe2'; install it with: pip install 'kdnas[mpe]'"
    with pytest.raises(PluginError) as caught:
        make_env(SPREAD, None)
    assert str(caught.value) == sentence


def test_no_twin_is_none() -> None:
    assert make_twin(EnvTable(name="mpe/simple_spread"), None) is None


def test_a_twin_takes_the_same_kwargs_and_groups() -> None:
    twin = make_twin(SPREAD, None)
    assert twin is not None
    assert twin.spec == make_env(SPREAD, None).spec
    check_twin(make_env(SPREAD, None), twin, seed=3, max_steps=100)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (toy("toys:make", twin="toys:make"), "env.twin 'toys:make' does not step in batches"),
        (
            EnvTable(name="mpe/simple_spread", twin="mpe/simple_speaker_listener_twin"),
            "'mpe/simple_speaker_listener_twin' has other agents .*'speaker_0'.* in the place of .*'agent_0'",
        ),
        (toy("toys:Counting", twin="toys:make_batched"), "'toys:make_batched' has other agents .*'solo'.*'early'"),
    ],
)
def test_a_twin_that_is_none_is_refused(table: EnvTable, sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence):
        make_twin(table, HERE)


def solo(**kwargs: Any) -> TeamEnv:
    return TeamEnv(Batched(**kwargs), {"solo": ("solo",)})


@pytest.mark.parametrize(
    ("twin", "sentence"),
    [
        # Actions are 0 or 1, so a reward of 1.5 instead of 1 is wrong by 0.5, as soon as an action is 1.
        (lambda: solo(reward=1.5), r"'batched' and its twin differ at step \d: rewards of group 'solo' by up to 0.5 "),
        (lambda: solo(reward=np.nan), "rewards of group 'solo' by up to inf"),
        (lambda: solo(reward=1 + 2e-5), "rewards of group 'solo' by up to 2e-05"),
    ],
)
def test_a_twin_that_plays_other_episodes_is_found_out(twin: Callable[[], TeamEnv], sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence):
        check_twin(solo(), twin(), seed=1, max_steps=9)


def test_a_twin_may_be_off_by_a_rounding() -> None:
    check_twin(solo(), solo(reward=1 + 5e-6), seed=1, max_steps=9)


def test_a_longer_time_step_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real, twin = make_env(SPREAD, None), make_twin(SPREAD, None)
    assert twin is not None
    monkeypatch.setattr(mpe_twin, "DT_S", 0.1001)
    # A push of 5 for 0.0001 s more is 5e-4 of velocity after the first step.
    with pytest.raises(EnvError, match=r"at step 1: observations of group 'agent' by up to 0\.0005 "):
        check_twin(real, twin, seed=0, max_steps=25)


def test_processes_are_chosen_by_measuring() -> None:
    slow, started = toy("toys:Slow"), time.monotonic()
    # 2 ms a copy: 100 copies take 200 ms a step, 1 copy 2 ms.
    assert choose_processes(slow, HERE, copies=100, cores=4) == 4
    assert time.monotonic() - started < 10  # as many steps of all copies would take 20 s
    assert choose_processes(slow, HERE, copies=3, cores=4) == 3
    assert choose_processes(slow, HERE, copies=1, cores=4) == 1
    assert choose_processes(slow, HERE, copies=100, cores=1) == 1
    # A step of the toy takes some 20 us.
    assert choose_processes(toy(), HERE, copies=2, cores=4) == 1
    assert choose_processes(toy("toys:make_batched"), HERE, copies=10**9, cores=4) == 1
