from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import scene_of

from kdnas.errors import BudgetError, ConfigError, EnvError, KdnasError, PluginError, TeacherError
from kdnas.profiling import OnnxTarget
from kdnas.study.setup import check_columns, open_study, read_study
from kdnas.study.tasks import play_demonstrations

from .conftest import SPACE, WriteStudy

GRU = {"family": "gru", "hidden": [8], "prune": [0.5]}


def test_a_study_comes_to_life(write_study: WriteStudy) -> None:
    setup = open_study(read_study(write_study("plain"), budget=["flops<1k"]))
    assert list(setup.spec.groups) == ["left", "right"]
    assert setup.pools["left"] is setup.pools["right"]
    assert list(setup.space.groups) == ["left", "right"]
    assert [item.text for item in setup.budget.constraints] == ["flops<1000"]
    assert isinstance(setup.make_target(), OnnxTarget)
    assert setup.make_real_env().spec == setup.spec
    seen = np.eye(3)[:, None]
    actions = setup.teacher.act(scene_of({"left": seen, "right": seen[::-1]}))
    assert {group: rows.tolist() for group, rows in actions.items()} == {
        "left": [[0], [1], [2]],
        "right": [[2], [1], [0]],
    }


def test_kinds_have_pools_of_their_own(write_study: WriteStudy) -> None:
    setup = open_study(read_study(write_study("plain", **{"env.kwargs": {"kinds": True}})))
    assert setup.pools["left"].groups == ("left",)
    assert setup.pools["right"].spaces.actions.outputs == 2


def test_arguments_replace_what_the_file_says(write_study: WriteStudy) -> None:
    path = write_study("plain", budget=["memory<1KiB"])
    plain = read_study(path).config
    assert (plain.budget, plain.search.trials, plain.search.workers, plain.search.seed) == (("memory<1KiB",), 5, 1, 0)
    changed = read_study(path, budget=["flops<1k"], trials=7, workers=2, seed=9).config
    assert (changed.budget, changed.search.trials, changed.search.workers, changed.search.seed) == (
        ("flops<1k",), 7, 2, 9
    )  # fmt: skip
    assert read_study(path, budget=None, trials=None).config == plain
    assert read_study(path, sampler="nsga2").config.search.sampler == "nsga2"
    # A seed of 0 is a seed.
    assert read_study(write_study("seeded", **{"search.seed": 3}), seed=0).config.search.seed == 0


def test_another_clock_keeps_how_the_same_target_compiles(write_study: WriteStudy) -> None:
    path = write_study("small", **{"target": {"name": "cortex-m4", "kwargs": {"optimise": "-Os"}}})
    same = read_study(path, target="cortex-m4@64MHz").config.target
    assert (same.name, same.kwargs) == ("cortex-m4@64MHz", {"optimise": "-Os"})
    assert read_study(path, target="cortex-m7").config.target.kwargs == {}


@pytest.mark.parametrize("change", [{"trials": 0}, {"workers": -1}, {"seed": -1}])
def test_arguments_are_checked_as_the_file_is(write_study: WriteStudy, change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=rf"\[search\] {next(iter(change))}: must be greater"):
        read_study(write_study("plain"), **change)


def test_a_sampler_that_does_not_exist_is_refused_with_those_that_do(write_study: WriteStudy) -> None:
    with pytest.raises(ConfigError, match=r"^command line: \[search\] sampler: .*multivariate-tpe.*nsga2"):
        read_study(write_study("plain"), sampler="cmaes")


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"teacher.factory": "echo_task:teach_nothing"}, TeacherError, "'echo_task:teach_nothing' returned dict, not"),
        (
            {"teacher.factory": "echo_task:teach_and_fail"},
            TeacherError,
            r"'echo_task:teach_and_fail' cannot be made: FileNotFoundError: weights.pt is not there \(.*echo_task.py,",
        ),
        ({"teacher.factory": "echo_task:STEPS"}, TeacherError, r"'echo_task:STEPS' cannot be made: TypeError"),
        ({"teacher.factory": "echo_task:teech"}, PluginError, r"has no 'teech': did you mean 'teach'"),
        ({"teacher.factory": "echo_task:teach_nan"}, TeacherError, r"group 'left' holds NaN or infinity in '0.weight'"),
        ({"teacher.kwargs": {"sharp": 1}}, TeacherError, r"cannot be made: TypeError: .*'sharp'"),
        ({"teacher": {"factory": None, "checkpoint": "nowhere"}}, TeacherError, r"nowhere/teacher.json: cannot be"),
        ({"teacher": {"factory": None, "name": "torchscript"}}, PluginError, "no plugin 'torchscript' in kdnas.teach"),
        ({"env.factory": "echo_task:maker"}, PluginError, r"has no 'maker': did you mean 'make'"),
        ({"env.kwargs": {"agents": 3}}, EnvError, r"cannot be made with env.kwargs"),
        ({"env.groups": {"all": ["left"]}}, ConfigError, r"right in no group"),
        ({"target.name": "onyx"}, PluginError, r"no plugin 'onyx' in kdnas.targets: did you mean 'onnx'"),
        ({"target.kwargs": {"speed": 3}}, PluginError, r"target 'onnx' refuses its arguments {'speed': 3}"),
        ({"target.kwargs": {"calls": 0}}, ConfigError, r"timing: 1 <= chunks <= calls"),
        ({"budget": ["middle.flops<1k"]}, BudgetError, r"no group 'middle'"),
        ({"budget": ["flopz<1k"]}, BudgetError, r"unknown metric 'flopz'"),
        ({"space": SPACE | {"groups": {"up": SPACE["groups"]["default"]}}}, ConfigError, r"\[groups.up\] is no group"),
        (
            {"space": {"name": "x", "groups": {"default": {"mixed": {"weights": [4, 8]}, "bases": [GRU]}}}},
            ConfigError,
            r"space 'x': group 'left': student gru 4 w4-8a8i8: the family 'gru' has no bits of each layer; w",
        ),
        (
            {"space": {"name": "x", "groups": {"default": {"bits": ["float", "w4a8i8p"], "bases": [GRU]}}}},
            ConfigError,
            r"student gru 4 w4a8i8p: the family 'gru' has no scales that are powers of two",
        ),
        (
            {"env.kwargs": {"still": 1 << 16}},
            ConfigError,
            r"group 'left' sees 65,539 features, and students read 65,536 at most; leave some out in \[observe.left\]",
        ),
        ({"search.free_groups": 2}, ConfigError, r"free_groups = 2: there are 2 groups; give fewer, or 0"),
        ({"distill.batches": 3}, ConfigError, r"\[distill\] batches: unknown key; did you mean 'batch'"),
    ],
)
def test_what_does_not_fit_ends_in_a_sentence(
    write_study: WriteStudy, change: dict[str, Any], kind: type[KdnasError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        open_study(read_study(write_study("bad", **change))).make_target()


def test_a_device_that_is_not_there(write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    file = read_study(write_study("fast", **{"distill.device": "cuda"}))
    with pytest.raises(ConfigError, match=r"distill.device = 'cuda': torch .* finds no CUDA device; install"):
        open_study(file)


def test_files_that_are_not_there(write_study: WriteStudy, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no study 'spred': did you mean 'spread'"):
        read_study("spred")
    with pytest.raises(ConfigError, match=r"study file .*none.toml is not there"):
        read_study(tmp_path / "none.toml")
    path = write_study("lonely")
    (path.parent / "lonely_space.toml").unlink()
    with pytest.raises(ConfigError, match=r"space file .*lonely_space.toml is not there"):
        read_study(path)
    path.write_text("name = 'x")
    with pytest.raises(ConfigError, match=r"lonely.toml: is not TOML"):
        read_study(path)


def test_what_never_changes_is_not_read(write_study: WriteStudy) -> None:
    setup = open_study(read_study(write_study("plain", **{"env.kwargs": {"kinds": True, "still": 2}})))
    assert setup.constant == {}
    assert setup.spec == setup.env.spec
    seen = setup.without_constants(play_demonstrations(setup))
    # 3 numbers and 4, and 2 behind them.
    assert seen.constant == {"left": (3, 4), "right": (4, 5)}
    assert {group: pool.spaces for group, pool in seen.pools.items()} == {
        group: seen.spec.student_spec(group) for group in seen.spec.groups
    }
    assert [len(pool.spaces.kept) for pool in seen.pools.values()] == [3, 4]
    # Environment and teacher are what they were.
    assert (seen.env, seen.teacher) == (setup.env, setup.teacher)


SHARES: dict[str, Any] = {"bases": [{"hidden": [16], "prune": [0.5], "inputs": [1.0, 0.5]}]}


def test_shares_of_inputs_are_counted_of_those_that_change(write_study: WriteStudy) -> None:
    space = {"name": "shares", "groups": {"default": SHARES}}
    setup = open_study(read_study(write_study("shares", space=space, **{"env.kwargs": {"kinds": True, "still": 2}})))
    # Of 5 and 6 inputs, as long as it is not known which of them change: 2.5 and 3.
    assert [[spec.inputs for spec in own.parameters] for own in setup.space.groups.values()] == [[None, 3], [None, 3]]
    seen = setup.without_constants(play_demonstrations(setup))
    # Of 3 and 4.
    assert [[spec.inputs for spec in own.parameters] for own in seen.space.groups.values()] == [[None, 2], [None, 2]]
    assert seen.space.digest == setup.space.digest


def test_families_that_read_all_have_no_choice_of_inputs(write_study: WriteStudy) -> None:
    bases = [*SHARES["bases"], {"family": "deepset", "hidden": [8, 8], "prune": [0.5], "inputs": [0.75]}]
    space = {"name": "whole", "groups": {"default": {"bases": bases}}}
    with pytest.raises(ConfigError) as raised:
        open_study(read_study(write_study("whole", space=space)))
    assert str(raised.value) == (
        "space 'whole': group 'left': students of the family 'deepset' read all of their inputs; leave out inputs in "
        "this base, or take another family"
    )


def test_a_pool_stays_a_pool(write_study: WriteStudy) -> None:
    setup = open_study(read_study(write_study("plain", **{"env.kwargs": {"still": 1}})))
    seen = setup.without_constants(play_demonstrations(setup))
    assert seen.pools["left"] is seen.pools["right"]
    assert seen.constant == {"left": (3,), "right": (3,)}


@pytest.mark.parametrize("changes", [{"env.kwargs": {"still": 2}, "distill.drop_constant_inputs": False}, {}])
def test_students_that_read_all(write_study: WriteStudy, changes: dict[str, Any]) -> None:
    """Because the study says so, or because nothing is constant."""
    setup = open_study(read_study(write_study("plain", **changes)))
    seen = setup.without_constants(play_demonstrations(setup))
    assert (seen.constant, seen.spec) == ({}, setup.spec)
    assert seen.pools["left"].spaces.constant == ()


def test_integers_of_more_products_than_32_bits_hold_are_refused(write_study: WriteStudy) -> None:
    """When it is known which inputs never change: those are not read."""
    bases = [{"hidden": [4], "prune": [0.0]}]
    space = {"name": "x", "groups": {"default": {"bits": ["float", "w4a8i8"], "bases": bases}}}
    setup = open_study(read_study(write_study("wide", space=space, **{"env.kwargs": {"still": 9000}})))
    with pytest.raises(ConfigError, match=r"student mlp 4 w4a8i8 would add 9,003 products in 32 bits, 8,192 are"):
        check_columns(setup.space, setup.spec)
    shown = replace(setup, constant=dict.fromkeys(setup.spec.groups, tuple(range(3, 9003))))
    check_columns(shown.space, shown.spec)
    half = {"name": "x", "groups": {"default": {"bits": ["w4a8i8"], "bases": [bases[0] | {"inputs": [0.5]}]}}}
    setup = open_study(read_study(write_study("half", space=half, **{"env.kwargs": {"still": 9000}})))
    check_columns(setup.space, setup.spec)
    floats = {"name": "x", "groups": {"default": {"bases": bases}}}
    setup = open_study(read_study(write_study("floats", space=floats, **{"env.kwargs": {"still": 9000}})))
    check_columns(setup.space, setup.spec)
