"""Every shipped study and space works: loaded, opened, priced, and searched in small form."""

from pathlib import Path

import numpy as np
import pytest
import tomli_w

import kdnas
from kdnas.config import StudyConfig, find_study, read_toml
from kdnas.config.shipped import shipped
from kdnas.policies.actions import Box
from kdnas.spaces import SpaceConfig, make_space
from kdnas.study.search import profile
from kdnas.study.setup import open_study, read_study
from kdnas.study.tasks import RANDOM, TEACHER, play_demonstrations

STUDIES = sorted(shipped("studies"))
SPACES = sorted(shipped("search_spaces"))

TINY = {
    "refine": {"joint": {"steps": 20, "rounds": 1, "episodes": 16, "flip_rounds": 1}, "validation_episodes": 32},
    "distill": {
        "demonstration_episodes": 16,
        "ancestor_steps": 60,
        "recovery_steps": 40,
        "qat_steps": 20,
        "flip_rounds": 4,
        "batch": 128,
        "on_policy_rounds": 1,
        "on_policy_episodes": 8,
    },
    "evaluation": {"search_episodes": 12, "final_episodes": 12, "copies": 16},
}
"""What takes the place of a study's own `[distill]`, `[refine]` and `[evaluation]` here."""

MOST_SPECS, MOST_BASES = 64, 3
"""Of one group: so many trials hit the bank."""


@pytest.fixture
def tiny_study(tmp_path):
    """A shipped study with its trainings and episodes cut down, in a file of its own."""

    def write(name: str) -> Path:
        path = find_study(name)
        tables = read_toml(path, StudyConfig).model_dump(exclude_none=True) | TINY
        tables["teacher"]["checkpoint"] = str(path.parent / tables["teacher"]["checkpoint"])
        own = tmp_path / f"{name}.toml"
        own.write_text(tomli_w.dumps(tables), encoding="utf-8")
        return own

    return write


def test_what_is_shipped():
    assert STUDIES == ["speaker_listener", "spread", "spread_blind", "spread_continuous", "spread_tiny"]
    assert {"mlp_small", "mlp_wide", "recurrent"} <= set(SPACES)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_opens_and_is_priced(name):
    setup = open_study(read_study(name))  # the twin plays the same episodes, and the teacher fits
    try:
        assert setup.config.name == name
        # Both actors are 256 wide twice; the ratios of the documents refer to that.
        for actor in setup.teacher.actors.values():
            widths = [tuple(weight.shape) for weight in actor.parameters() if weight.ndim == 2]
            assert [rows for rows, _ in widths[:-1]] == [256, 256]
    finally:
        setup.env.close()
    report = profile(name)
    assert [team.name for team in report.teams] == ["smallest", "median", "largest", "teacher"]
    flops = [team.cost.team.flops for team in report.teams]
    assert flops == sorted(flops)
    assert report.feasible_share == 1.0  # no shipped study has a budget of its own


def test_spread_agents_do_not_talk():
    """Of 18 features the last four are what the two others say; in the speaker's task all of them change."""
    found = {}
    for name in ("spread_tiny", "speaker_listener"):
        setup = open_study(read_study(name))
        found[name] = setup.without_constants(play_demonstrations(setup)).constant
    assert found == {"spread_tiny": {f"agent_{seat}": (14, 15, 16, 17) for seat in range(3)}, "speaker_listener": {}}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STUDIES if name != "spread_tiny"])
def test_a_study_is_searched(name, tiny_study, tmp_path):
    """`spread_tiny` is searched as it is, by the commands of the README."""
    run = tmp_path / "run"
    front = kdnas.search(tiny_study(name), trials=2, workers=2, out=run)
    assert 1 <= len(front) <= 2
    spec = open_study(read_study(name)).spec
    for member in front:
        assert set(member.candidate) == set(spec.groups)
        seen = {agent: spec.student_spec(group) for group, agents in spec.groups.items() for agent in agents}
        observations = {agent: np.zeros(spaces.observation_size) for agent, spaces in seen.items()}
        actions = kdnas.load_student(member.path).act(observations)
        for agent, spaces in spec.agents.items():
            if isinstance(spaces.actions, Box):
                assert actions[agent].shape == spaces.actions.shape
                assert (np.float32(spaces.actions.low) <= actions[agent]).all()
                assert (actions[agent] <= np.float32(spaces.actions.high)).all()
            else:
                assert 0 <= actions[agent] < spaces.actions.count
    # The teachers beat random play, on the real environment too.
    returns = {who: np.load(run / f"returns/final-{who}.npy").mean() for who in (TEACHER, RANDOM)}
    assert returns[TEACHER] > returns[RANDOM] + 10


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_small_enough_for_the_bank(name):
    config = read_toml(shipped("search_spaces")[name], SpaceConfig)
    assert config.name == name
    space = make_space(config, ["a", "b", "c"])
    for group in space.groups.values():
        assert len(group.table.bases) <= MOST_BASES
        assert 1 < len(group.parameters) <= MOST_SPECS
        # Every realised spec can be asked for.
        for spec, parameters in group.parameters.items():
            assert space.parameters({group.group: spec}) == parameters


def test_every_space_is_somebodys_or_offered():
    used = {read_toml(find_study(name), StudyConfig).space for name in STUDIES}
    assert used <= set(SPACES)
    # For teachers with larger observations than the shipped ones, and for devices where each byte counts.
    assert set(SPACES) - used == {"mlp_wide", "mlp_mixed"}
