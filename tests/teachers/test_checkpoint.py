import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scenes import scene_of

from kdnas.config.study import TrainTable
from kdnas.envs import AgentSpec, EnvSpec, make_groups
from kdnas.errors import TeacherError
from kdnas.policies.actions import ActionSpace, Box, Discrete, MultiDiscrete
from kdnas.teachers import GaussianActor, Networks, Teacher, load_teacher, read_card, save_teacher
from kdnas.teachers.mappo import make_networks

ALIKE, OTHER = AgentSpec(observation_size=3, actions=Discrete(4)), AgentSpec(observation_size=5, actions=Discrete(2))
AGENTS = {"agent_0": ALIKE, "agent_1": ALIKE, "base": OTHER}
TABLE = TrainTable(hidden=(8, 6))


def env(rule: Any = "per-agent", **agents: AgentSpec) -> EnvSpec:
    own = AGENTS | agents
    state = sum(spec.observation_size for spec in own.values())
    return EnvSpec(name="test", agents=own, groups=make_groups(rule, own), state_size=state)


def save(folder: Path, spec: EnvSpec | None = None, table: TrainTable = TABLE) -> Networks:
    networks = make_networks(spec or env(), table)
    networks.value_mean, networks.value_std = -3.0, 2.0
    save_teacher(folder, networks, spec or env(), table, 1000, "0.1.0")
    return networks


def said_by(teacher: Teacher, group: str, seen: torch.Tensor) -> torch.Tensor:
    """Parameters (rows, P) of a group for observations (rows, O), dealt out to its seats."""
    seats, spec = teacher.spec.seats, teacher.spec
    copies = len(seen) // seats[group]
    shown = {other: np.zeros((copies, seats[other], spec.group_spec(other).observation_size)) for other in seats}
    shown[group] = seen.reshape(copies, seats[group], -1).numpy()
    return teacher.parameters(scene_of(shown))[group].flatten(0, 1)


def test_what_is_read_answers_as_what_was_written(tmp_path: Path) -> None:
    networks = save(tmp_path / "new" / "teacher")
    teacher = load_teacher(env(), folder=tmp_path / "new" / "teacher")
    generator = torch.Generator().manual_seed(0)
    for group, actor in networks.actors.items():
        seen = torch.randn(100, env().group_spec(group).observation_size, generator=generator)
        assert torch.equal(said_by(teacher, group, seen), actor(seen))
    # Groups that shared an actor still do, so that they share students.
    assert teacher.actors["agent_0"] is teacher.actors["agent_1"]
    assert sorted(path.name for path in (tmp_path / "new" / "teacher").iterdir()) == [
        "teacher.json",
        "teacher.safetensors",
    ]
    modes = {path.stat().st_mode for path in (tmp_path / "new" / "teacher").iterdir()}
    assert len(modes) == 1  # the weights are as readable as the card


def test_the_value_is_in_units_of_return(tmp_path: Path) -> None:
    networks = save(tmp_path)
    teacher = load_teacher(env(), folder=tmp_path)
    assert teacher.value is not None
    state, gone = torch.randn(7, 11, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 1, 7)
    with torch.no_grad():
        want = networks.critic(torch.cat([state, gone[:, None]], 1)) * 2.0 - 3.0
    assert torch.equal(teacher.value(state, gone), want)
    # In an environment with another state the actors still do; there is no value.
    wider = EnvSpec(name="test", agents=env().agents, groups=env().groups, state_size=12)
    assert load_teacher(wider, folder=tmp_path).value is None


def test_each_agent_has_its_own_value_however_a_study_groups_them(tmp_path: Path) -> None:
    """Groups of a kind bring agents together that are not side by side in the environment."""
    agents = {"a_0": ALIKE, "b_0": OTHER, "a_1": ALIKE}

    def grouped(rule: str) -> EnvSpec:
        return EnvSpec(name="test", agents=agents, groups=make_groups(rule, agents), state_size=4)

    save(tmp_path, grouped("per-agent"))
    assert read_card(tmp_path).agents == ("a_0", "b_0", "a_1")
    state, gone = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 1, 7)
    values = {}
    for rule in ("per-agent", "by-kind"):
        spec = grouped(rule)
        value = load_teacher(spec, folder=tmp_path).value
        assert value is not None
        names = [agent for own in spec.groups.values() for agent in own]
        values[rule] = dict(zip(names, value(state, gone).T, strict=True))
    assert list(values["by-kind"]) == ["a_0", "a_1", "b_0"]
    for agent, said in values["by-kind"].items():
        assert torch.equal(values["per-agent"][agent], said)
    # Of other agents nothing is known.
    fewer = {name: agents[name] for name in ("a_0", "b_0")}
    other = EnvSpec(name="test", agents=fewer, groups=make_groups("per-agent", fewer), state_size=4)
    assert load_teacher(other, folder=tmp_path).value is None


def test_what_a_card_asks_for_is_not_made_before_it_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither memory nor time is spent on layers that the file does not have, nor on those that it has."""
    save(tmp_path)
    path = tmp_path / "teacher.json"
    card = json.loads(path.read_text())

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights are drawn")

    monkeypatch.setattr(torch.nn.init, "orthogonal_", refuse)
    before = torch.get_rng_state()
    load_teacher(env(), folder=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    card["actors"]["actor0"]["sizes"] = [3, *[1 << 20] * 20, 4]  # 80 TB
    path.write_text(json.dumps(card))
    with pytest.raises(TeacherError, match=r"the tensors of 'actor0' are not those of the layer sizes"):
        load_teacher(env(), folder=tmp_path)


def test_a_critic_says_a_value_of_each_agent(tmp_path: Path) -> None:
    save(tmp_path)
    path = tmp_path / "teacher.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"agents": ["agent_0", "base"]}))
    with pytest.raises(TeacherError, match=r"the critic has 3 outputs for 2 agents"):
        load_teacher(env(), folder=tmp_path)


def test_groups_by_kind_take_the_actor_that_their_agents_shared(tmp_path: Path) -> None:
    networks = save(tmp_path)
    teacher = load_teacher(env("by-kind"), folder=tmp_path)
    seen = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(said_by(teacher, "agent", seen), networks.actors["agent_0"](seen))


def test_separate_actors_are_no_one_teacher_of_a_shared_group(tmp_path: Path) -> None:
    save(tmp_path, table=TrainTable(hidden=(8,), share_actors=False))
    load_teacher(env(), folder=tmp_path)
    with pytest.raises(
        TeacherError, match=r"holds no one actor for group 'agent'; it was trained for: agent_0, agent_1, base"
    ):
        load_teacher(env("by-kind"), folder=tmp_path)


def test_other_spaces(tmp_path: Path) -> None:
    save(tmp_path)
    wider = env(base=AgentSpec(observation_size=6, actions=Discrete(2)))
    with pytest.raises(
        TeacherError,
        match=r"group 'base' maps 5 observations to 2 actions, but test has 6 and Discrete\(count=2\); use the teacher",
    ):
        load_teacher(wider, folder=tmp_path)


@pytest.mark.parametrize("squashed", [False, True])
def test_continuous_actors_come_back_with_their_deviations(tmp_path: Path, squashed: bool) -> None:
    arm = AgentSpec(observation_size=5, actions=Box((-1.0, 0.0), (1.0, 2.0), squashed))
    networks = make_networks(env(base=arm), TABLE)
    actor = networks.actors["base"]
    assert isinstance(actor, GaussianActor)
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor([-1.5, 0.25]))
    save_teacher(tmp_path, networks, env(base=arm), TABLE, 1000, "0.1.0")
    cards = read_card(tmp_path).actors.values()
    assert [(card.sizes, card.gaussian) for card in cards] == [((3, 8, 6, 4), False), ((5, 8, 6, 2), True)]
    seen = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    said = said_by(load_teacher(env(base=arm), folder=tmp_path), "base", seen)
    assert torch.equal(said, actor(seen))
    assert said[:, 2:].tolist() == [[-1.5, 0.25]] * 50


def test_choices_of_several_factors_come_back(tmp_path: Path) -> None:
    own = env(base=AgentSpec(observation_size=5, actions=MultiDiscrete((2, 3))))
    networks = save(tmp_path, own)
    seen = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(said_by(load_teacher(own, folder=tmp_path), "base", seen), networks.actors["base"](seen))


@pytest.mark.parametrize(
    ("have", "want", "said"),
    [
        (Discrete(2), Box((0.0, 0.0), (1.0, 1.0)), r"5 observations to 2 actions, but test has 5 and Box\(low="),
        (Box((0.0, 0.0), (1.0, 1.0)), Discrete(2), r"5 observations to 2 continuous actions, but .* 5 and Discrete\("),
        (Box((0.0, 0.0), (1.0, 1.0)), Box((0.0,), (1.0,)), "to 2 continuous actions, but test has 5 and Box"),
        (MultiDiscrete((2, 3)), MultiDiscrete((2, 4)), r"to 5 actions, but test has 5 and MultiDiscrete\("),
    ],
)
def test_other_actions(tmp_path: Path, have: ActionSpace, want: ActionSpace, said: str) -> None:
    save(tmp_path, env(base=AgentSpec(observation_size=5, actions=have)))
    with pytest.raises(TeacherError, match=f"actor of group 'base' maps .*{said}"):
        load_teacher(env(base=AgentSpec(observation_size=5, actions=want)), folder=tmp_path)


def test_deviations_that_are_missing_or_not_finite(tmp_path: Path) -> None:
    own = env(base=AgentSpec(observation_size=5, actions=Box((-1.0, 0.0), (1.0, 2.0))))
    save(tmp_path, own)
    change_weights(tmp_path, lambda tensors: tensors["actor1.log_std"].fill_(torch.nan))
    with pytest.raises(TeacherError, match="group 'base' holds NaN or infinity in 'log_std'"):
        load_teacher(own, folder=tmp_path)
    change_weights(tmp_path, lambda tensors: tensors.pop("actor1.log_std"))
    with pytest.raises(TeacherError, match=r"tensors of 'actor1' are not those of the layer sizes \(5, 8, 6, 2\)"):
        load_teacher(own, folder=tmp_path)


def test_other_agents(tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(TeacherError, match="no one actor for group 'third'"):
        load_teacher(env(third=ALIKE), folder=tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_weights_that_are_cut(tmp_path: Path, share: float) -> None:
    save(tmp_path)
    path = tmp_path / "teacher.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(TeacherError, match=r"teacher.safetensors: is damaged \(.*\); copy it again"):
        load_teacher(env(), folder=tmp_path)


def change_weights(folder: Path, change: Any) -> None:
    path = folder / "teacher.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


def test_nan_in_an_actor(tmp_path: Path) -> None:
    save(tmp_path)
    change_weights(tmp_path, lambda tensors: tensors["actor1.0.weight"].fill_(torch.nan))
    with pytest.raises(TeacherError, match=r"group 'base' holds NaN or infinity in '0\.weight'"):
        load_teacher(env(), folder=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("actor0.2.bias"),
        lambda tensors: tensors.update({"actor0.2.bias": torch.zeros(7)}),
        lambda tensors: tensors.update({"actor0.9.bias": torch.zeros(7)}),
    ],
)
def test_weights_that_are_not_those_of_the_card(tmp_path: Path, change: Any) -> None:
    save(tmp_path)
    change_weights(tmp_path, change)
    with pytest.raises(TeacherError, match=r"tensors of 'actor0' are not those of the layer sizes \(3, 8, 6, 4\)"):
        load_teacher(env(), folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda card: card.update(colour="red"), r"teacher.json: colour: unknown key"),
        (lambda card: card.pop("critic_sizes"), r"teacher.json: critic_sizes: is missing"),
        (lambda card: card.update(schema_version=2), r"schema_version: must be 1, but got 2"),
        (lambda card: card["train"].update(gama=0.9), r"gama: unknown key; did you mean 'gamma'"),
        (lambda card: card["actors"]["actor0"].update(sizes=[3]), r"sizes"),
    ],
)
def test_a_card_with_other_keys(tmp_path: Path, change: Any, said: str) -> None:
    save(tmp_path)
    card = json.loads((tmp_path / "teacher.json").read_text())
    change(card)
    (tmp_path / "teacher.json").write_text(json.dumps(card))
    with pytest.raises(TeacherError, match=said):
        load_teacher(env(), folder=tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b" " * (1 << 21)])
def test_a_card_that_is_none(tmp_path: Path, content: bytes) -> None:
    save(tmp_path)
    (tmp_path / "teacher.json").write_bytes(content)
    with pytest.raises(TeacherError, match=r"teacher\.json: "):
        read_card(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"cannot be read: No such .* train a teacher with 'kdnas teacher train'"):
        load_teacher(env(), folder=tmp_path / "nowhere")
    save(tmp_path)
    (tmp_path / "teacher.safetensors").unlink()
    with pytest.raises(TeacherError, match=r"teacher.safetensors: cannot be read: No such file"):
        load_teacher(env(), folder=tmp_path)


def test_a_training_that_diverged_writes_nothing(tmp_path: Path) -> None:
    networks = make_networks(env(), TABLE)
    with torch.no_grad():
        networks.critic[0].bias[0] = torch.inf
    with pytest.raises(TeacherError, match=r"diverged \('critic.0.bias' holds NaN or infinity\) and nothing was w"):
        save_teacher(tmp_path / "teacher", networks, env(), TABLE, 1000, "0.1.0")
    assert not (tmp_path / "teacher").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TeacherError, match=r"file/teacher: the teacher cannot be written: Not a directory"):
        save(tmp_path / "file" / "teacher")


def test_the_shipped_teachers_are_readable() -> None:
    for name in ("spread", "speaker_listener"):
        folder = Path(__file__).resolve().parents[2] / "studies" / "teachers" / name
        assert {actor.sizes[1:-1] for actor in read_card(folder).actors.values()} == {(256, 256)}
