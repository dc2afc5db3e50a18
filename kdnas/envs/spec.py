"""What an environment looks like from outside: its agents, their spaces, and who shares a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kdnas.envs.entities import Entities
from kdnas.envs.view import View
from kdnas.errors import ConfigError, name_nearest
from kdnas.policies.actions import ActionSpace, Box

RESERVED_GROUP = "team"
"""Scope name of budgets that sums over agents; no group may be called so."""


@dataclass(frozen=True, kw_only=True)
class AgentSpec:
    """The spaces of one agent: O observation features, its actions, and whether the environment sends action masks."""

    observation_size: int
    actions: ActionSpace
    masked: bool = False
    entities: Entities | None = None
    """What the features speak of, where the environment says so: families without an order of entities read it."""
    constant: tuple[int, ...] = ()
    """Features that never change, in ascending order: students are shown them and do not read them."""
    pruned: tuple[int, ...] = ()
    """Features that change, and that one student was pruned of, in ascending order: shown, and not read either."""

    def __post_init__(self) -> None:
        if self.entities is not None:
            self.entities.check_fits(self.observation_size)
        self._check_constant()
        self._check_pruned()

    @property
    def reads_all(self) -> bool:
        return not self.constant and not self.pruned

    @property
    def kept(self) -> tuple[int, ...]:
        """The features that students read, in ascending order."""
        unread = {*self.constant, *self.pruned}
        return tuple(feature for feature in range(self.observation_size) if feature not in unread)

    @property
    def inputs(self) -> "AgentSpec":
        """The spaces as the network of a student has them: without the features that it does not read.

        What is left to a student that was pruned of inputs speaks of no whole entities any more.

        Example: of simple_spread's 18 features, the last four of which never change, its network has 14.
        """
        if self.reads_all:
            return self
        kept = self.kept
        entities = None if self.entities is None or self.pruned else self.entities.keep(kept)
        return replace(self, observation_size=len(kept), entities=entities, constant=(), pruned=())

    def reading(self, features: Sequence[int]) -> "AgentSpec":
        """The spaces of a student that is pruned of all inputs but some.

        Example: `AgentSpec(observation_size=4, ..., constant=(1,)).reading((0, 3))` is pruned of 2.
        """
        return replace(self, pruned=tuple(sorted({*self.pruned, *self.kept} - {*features})))

    def _check_constant(self) -> None:
        """
        Raises:
            ConfigError: features that are not there or out of order, all of them, or one of a member of a set.
        """
        if not self.constant:
            return
        ordered = list(self.constant) == sorted(set(self.constant))
        if not ordered or self.constant[0] < 0 or self.constant[-1] >= self.observation_size:
            raise ConfigError(
                f"constant: features are counted from 0 to {self.observation_size - 1}, each once and in ascending "
                f"order, but got {list(self.constant)}"
            )
        if len(self.constant) == self.observation_size:
            raise ConfigError(f"constant: all {self.observation_size} features; a student reads at least one")
        for each in self.entities.sets if self.entities is not None else ():
            taken = [feature for feature in self.constant if any(feature in member for member in each.members)]
            if taken:
                raise ConfigError(
                    f"constant: feature {taken[0]} is one of the entities {each.name!r}, which are read alike; keep it"
                )


    def _check_pruned(self) -> None:
        """
        Raises:
            ConfigError: features that are not there, constant, or out of order, or all that are left.
        """
        if not self.pruned:
            return
        changing = [feature for feature in range(self.observation_size) if feature not in self.constant]
        if list(self.pruned) != sorted({*self.pruned} & {*changing}):
            raise ConfigError(
                f"pruned: features are counted from 0 to {self.observation_size - 1}, each once and in ascending "
                f"order, none of them constant, but got {list(self.pruned)}"
            )
        if len(self.pruned) == len(changing):
            raise ConfigError(f"pruned: all {len(changing)} features that change; a student reads at least one")


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """A multi-agent environment and its group map.

    Example: simple_spread with `groups = "by-kind"` is
    `EnvSpec(name="mpe/simple_spread", agents={"agent_0": AgentSpec(observation_size=18, actions=Discrete(5)), ...},
    groups={"agent": ("agent_0", "agent_1", "agent_2")}, state_size=54)`.
    """

    name: str
    agents: Mapping[str, AgentSpec]
    """Agent -> its spaces, in the environment's order."""
    groups: Mapping[str, tuple[str, ...]]
    """Group -> the agents that share one network; every agent is in exactly one group."""
    state_size: int
    """S: length of the global state that centralised critics read."""
    views: Mapping[str, View] = field(default_factory=dict)
    """Group -> what its students see, for groups whose view the study limits."""
    constant: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Group -> `AgentSpec.constant` of its students, counted in what they see."""

    def group_spec(self, group: str) -> AgentSpec:
        """The spaces that all agents of a group have in common."""
        return self.agents[self.groups[group][0]]

    def student_spec(self, group: str) -> AgentSpec:
        """The spaces of a group's students: as the environment's, with the features that their view leaves."""
        spaces, constant = self.group_spec(group), self.constant.get(group, ())
        if group not in self.views:
            return replace(spaces, constant=constant)
        # The environment's declaration counts the features of the whole observation, the view's those that are left.
        view = self.views[group]
        return replace(spaces, observation_size=view.size, entities=view.entities, constant=constant)

    @property
    def actions(self) -> dict[str, ActionSpace]:
        """Group -> the action space of its agents."""
        return {group: self.group_spec(group).actions for group in self.groups}

    @property
    def seats(self) -> dict[str, int]:
        """Group -> number of agents in it."""
        return {group: len(agents) for group, agents in self.groups.items()}


def squash_actions(agents: Mapping[str, AgentSpec]) -> dict[str, AgentSpec]:
    """The same agents, with continuous actions squashed to their bounds instead of clipped.

    Raises:
        ConfigError: no agent has continuous actions, or one has no finite bounds.
    """
    if not any(isinstance(spaces.actions, Box) for spaces in agents.values()):
        kinds = sorted({type(spaces.actions).__name__ for spaces in agents.values()})
        raise ConfigError(
            f"env.squash = true is for continuous actions (Box), but the agents have {' and '.join(kinds)} ones; "
            "leave out env.squash"
        )
    return {
        agent: replace(spaces, actions=replace(spaces.actions, squashed=True))
        if isinstance(spaces.actions, Box)
        else spaces
        for agent, spaces in agents.items()
    }


def make_groups(rule: str | Mapping[str, Sequence[str]], agents: Mapping[str, AgentSpec]) -> dict[str, tuple[str, ...]]:
    """Read the group map of a study: `"per-agent"`, `"by-kind"` (equal spaces), or a table group -> agents.

    Raises:
        ConfigError: an unknown rule or agent, an agent in no group or in two, unequal spaces inside one group.
    """
    if isinstance(rule, str):
        rules = {"per-agent": _per_agent, "by-kind": _by_kind}
        if rule not in rules:
            raise ConfigError(f"env.groups = {rule!r}: {name_nearest(rule, rules)}, or a table group -> agents")
        groups = rules[rule](agents)
    else:
        groups = {group: tuple(members) for group, members in rule.items()}
    _check_groups(groups, agents)
    return groups


def _per_agent(agents: Mapping[str, AgentSpec]) -> dict[str, tuple[str, ...]]:
    return {agent: (agent,) for agent in agents}


def _by_kind(agents: Mapping[str, AgentSpec]) -> dict[str, tuple[str, ...]]:
    """Agents with equal spaces share one network, named after what their names have in common."""
    kinds: dict[AgentSpec, list[str]] = {}
    for agent, spec in agents.items():
        kinds.setdefault(spec, []).append(agent)
    groups: dict[str, tuple[str, ...]] = {}
    for members in kinds.values():
        stem = _stem(members) if len(members) > 1 else members[0]
        # An agent's name is kept for its own group, so that the fallback is never taken.
        taken = stem in groups or stem == RESERVED_GROUP or (stem in agents and stem not in members)
        groups[members[0] if taken else stem] = tuple(members)
    return groups


def _stem(names: list[str]) -> str:
    first, last = min(names), max(names)
    shared = next((first[:i] for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), first)
    return shared.rstrip("_-0123456789 ") or names[0]


def _check_groups(groups: Mapping[str, tuple[str, ...]], agents: Mapping[str, AgentSpec]) -> None:
    seen: dict[str, str] = {}
    for group, members in groups.items():
        if group == RESERVED_GROUP:
            raise ConfigError(f"env.groups: {RESERVED_GROUP!r} is a reserved name (budgets sum over agents by it)")
        if not members:
            raise ConfigError(f"env.groups.{group}: a group needs at least one agent")
        for agent in members:
            if agent not in agents:
                raise ConfigError(f"env.groups.{group}: no agent {agent!r}: {name_nearest(agent, agents)}")
            if agent in seen:
                raise ConfigError(f"env.groups: {agent!r} is in two groups, {seen[agent]!r} and {group!r}")
            if agents[agent] != agents[members[0]]:
                raise ConfigError(
                    f"env.groups.{group}: {members[0]!r} and {agent!r} have different spaces "
                    f"({agents[members[0]]} and {agents[agent]}) and cannot share a network"
                )
            seen[agent] = group
    left = [agent for agent in agents if agent not in seen]
    if left:
        raise ConfigError(f"env.groups: {', '.join(left)} in no group; every agent needs exactly one")
