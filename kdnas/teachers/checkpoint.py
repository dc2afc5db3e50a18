"""A trained teacher on disk: `teacher.safetensors` (actors, critic) and `teacher.json` (what they are)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kdnas.config.strict import Strict
from kdnas.config.study import TrainTable
from kdnas.config.toml import MAX_BYTES, validate_json
from kdnas.envs.spec import EnvSpec
from kdnas.errors import TeacherError
from kdnas.policies.actions import Box
from kdnas.teachers.mappo import Networks
from kdnas.teachers.network import GaussianActor, lay_out
from kdnas.teachers.teacher import Teacher

FILES = ("teacher.safetensors", "teacher.json")
"""Of a teacher folder, in the order in which they are written."""

MAX_WEIGHT_BYTES = 1 << 30
"""A teacher of more than 1 GiB is refused before anything is read."""


Size = Annotated[int, Field(ge=1, le=1 << 24)]


class ActorCard(Strict):
    """One actor network: layer sizes from inputs to outputs, and the groups that share it."""

    sizes: Annotated[tuple[Size, ...], Field(min_length=2, max_length=32)]
    groups: tuple[str, ...]
    gaussian: bool = False
    """Its outputs are means of continuous actions; a deviation a dimension is stored beside them."""


class TeacherCard(Strict):
    """`teacher.json`."""

    schema_version: Literal[1] = 1
    environment: str
    actors: dict[str, ActorCard]
    critic_sizes: Annotated[tuple[Size, ...], Field(min_length=2, max_length=32)]
    agents: tuple[str, ...]
    """Whose values the critic says, in its order."""
    value_mean: float
    """The critic's outputs are normalised: value = output * value_std + value_mean."""
    value_std: float
    env_steps: int
    train: TrainTable
    kdnas_version: str

    @model_validator(mode="after")
    def _a_value_each(self) -> Self:
        if len(set(self.agents)) != self.critic_sizes[-1]:
            raise ValueError(f"the critic has {self.critic_sizes[-1]} outputs for {len(self.agents)} agents")
        return self


class Value(nn.Module):
    """V of each agent from the state and the share of the episode gone: (rows, S), (rows,) -> (rows, agents).

    `columns` are those of the critic's outputs, agent by agent of the groups as a study has them: another one than that
    of the training may group them otherwise.
    """

    columns: Tensor

    def __init__(self, critic: nn.Module, mean: float, std: float, columns: Sequence[int]) -> None:
        super().__init__()
        self.critic, self.mean, self.std = critic, mean, std
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def forward(self, state: Tensor, gone: Tensor) -> Tensor:
        normalised: Tensor = self.critic(torch.cat([state, gone.unsqueeze(-1)], -1))
        return normalised.index_select(1, self.columns) * self.std + self.mean


def save_teacher(
    folder: Path, networks: Networks, spec: EnvSpec, train: TrainTable, env_steps: int, version: str
) -> None:
    """Write a teacher folder of an environment; each file appears whole or not at all.

    Raises:
        TeacherError: the networks hold NaN or infinity, or the folder cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    cards: dict[str, ActorCard] = {}
    for index, (actor, groups) in enumerate(networks.unique_actors().values()):
        name = f"actor{index}"
        cards[name] = ActorCard(
            sizes=_sizes(actor.mean if isinstance(actor, GaussianActor) else actor),
            groups=tuple(groups),
            gaussian=isinstance(actor, GaussianActor),
        )
        tensors |= {f"{name}.{key}": tensor for key, tensor in actor.state_dict().items()}
    tensors |= {f"critic.{key}": tensor for key, tensor in networks.critic.state_dict().items()}
    unusable = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if unusable:
        raise TeacherError(
            f"{folder}: the training diverged ({unusable[0]!r} holds NaN or infinity) and nothing was written; "
            "lower learning_rate in [teacher.train]"
        )
    card = TeacherCard(
        environment=spec.name,
        actors=cards,
        critic_sizes=_sizes(networks.critic),
        agents=_agents(spec),
        value_mean=networks.value_mean,
        value_std=networks.value_std,
        env_steps=env_steps,
        train=train,
        kdnas_version=version,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not safetensors' own writer, whose files only their owner can read.
        content = save({key: tensor.contiguous() for key, tensor in tensors.items()})
        (folder / "teacher.safetensors.part").write_bytes(content)
        (folder / "teacher.json.part").write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
        for name in FILES:
            (folder / f"{name}.part").replace(folder / name)
    except OSError as error:
        raise TeacherError(f"{folder}: the teacher cannot be written: {error.strerror or error}") from error


def load_teacher(spec: EnvSpec, *, folder: str | Path) -> Teacher:
    """Read a teacher folder for an environment's groups.

    A group takes the actor that was trained for it; a group that the training did not know takes the actor that all
    its agents' groups shared, so that `per-agent` and `by-kind` studies can use one checkpoint.

    Raises:
        TeacherError: files that are missing, damaged or contradict each other, or spaces that do not fit.
    """
    folder = Path(folder)
    path = folder / "teacher.safetensors"
    card = read_card(folder)
    tensors = _read_tensors(path)
    actors = {name: _rebuild_actor(path, name, actor, tensors) for name, actor in card.actors.items()}
    critic = _rebuild(path, "critic", card.critic_sizes, tensors)
    owners = {group: name for name, actor in card.actors.items() for group in actor.groups}
    chosen: dict[str, nn.Module] = {}
    for group, agents in spec.groups.items():
        candidates = {owners[group]} if group in owners else {owners[agent] for agent in agents if agent in owners}
        if len(candidates) != 1:
            raise TeacherError(
                f"{folder}: holds no one actor for group {group!r}; it was trained for: {', '.join(sorted(owners))}"
            )
        name = candidates.pop()
        want, have = spec.group_spec(group), card.actors[name]
        fits = (want.observation_size, want.actions.outputs, isinstance(want.actions, Box))
        if (have.sizes[0], have.sizes[-1], have.gaussian) != fits:
            kind = "continuous actions" if have.gaussian else "actions"
            raise TeacherError(
                f"{folder}: the actor of group {group!r} maps {have.sizes[0]} observations to {have.sizes[-1]} {kind}, "
                f"but {spec.name} has {want.observation_size} and {want.actions}; use the teacher of this environment"
            )
        chosen[group] = actors[name]
    if card.critic_sizes[0] != spec.state_size + 1 or sorted(card.agents) != sorted(_agents(spec)):
        return Teacher(spec, chosen, None)
    columns = [card.agents.index(agent) for agent in _agents(spec)]
    return Teacher(spec, chosen, Value(critic, card.value_mean, card.value_std, columns))


def _agents(spec: EnvSpec) -> tuple[str, ...]:
    """The agents of all groups, in the order in which arrays of the whole team have them."""
    return tuple(agent for agents in spec.groups.values() for agent in agents)


def read_card(folder: Path) -> TeacherCard:
    """Read `teacher.json`.

    Raises:
        TeacherError: it is missing or not a teacher card.
    """
    path = folder / "teacher.json"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TeacherError(f"{path}: is too large to be a teacher card")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TeacherError(
            f"{path}: cannot be read: {error.strerror or error}; train a teacher with 'kdnas teacher train'"
        ) from error
    except UnicodeDecodeError as error:
        raise TeacherError(f"{path}: is not text: {error}") from error
    return validate_json(text, TeacherCard, where=str(path), error=TeacherError)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.stat().st_size > MAX_WEIGHT_BYTES:
            raise TeacherError(f"{path}: is larger than {MAX_WEIGHT_BYTES:,} bytes; this is no teacher")
        return load_file(path)
    except OSError as error:
        raise TeacherError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise TeacherError(f"{path}: is damaged ({error}); copy it again") from error


def _sizes(network: nn.Sequential) -> tuple[int, ...]:
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    return (linears[0].in_features, *(layer.out_features for layer in linears))


def _rebuild(path: Path, name: str, sizes: tuple[int, ...], tensors: Mapping[str, Tensor]) -> nn.Sequential:
    network = lay_out(sizes, device="meta")  # shapes are compared before any memory is taken
    _fill(network, path, name, sizes, tensors)
    return network


def _rebuild_actor(path: Path, name: str, card: ActorCard, tensors: Mapping[str, Tensor]) -> nn.Module:
    if not card.gaussian:
        return _rebuild(path, name, card.sizes, tensors)
    network = GaussianActor(lay_out(card.sizes, device="meta"), card.sizes[-1])
    _fill(network, path, name, card.sizes, tensors)
    return network


def _fill(network: nn.Module, path: Path, name: str, sizes: tuple[int, ...], tensors: Mapping[str, Tensor]) -> None:
    """Give a network its tensors of a file.

    Raises:
        TeacherError: their names or shapes are not its own.
    """
    own = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
    want = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    have = {key: tuple(tensor.shape) for key, tensor in own.items()}
    if want != have:
        raise TeacherError(f"{path}: the tensors of {name!r} are not those of the layer sizes {sizes} in teacher.json")
    network.load_state_dict(own, assign=True)
