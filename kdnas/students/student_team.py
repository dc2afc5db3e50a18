"""`StudentTeam`: a team read from a student folder, on the device."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kdnas.errors import BundleError, name_nearest
from kdnas.policies.actions import ActionSpace, Box
from kdnas.policies.distribution import factors
from kdnas.students.card import StudentCard
from kdnas.students.team import Actor, Hidden, Team


class StudentTeam:
    """A team read from a student folder, ready to act.

    Example: `kdnas.load_student("runs/spread/students/0007").act({"agent_0": observation, ...})`.
    """

    def __init__(self, card: StudentCard, team: Team) -> None:
        self.card = card
        self.team = team
        self._actors = {group: Actor(student) for group, student in team.students.items()}
        self._hidden: dict[str, Hidden] = {}
        self._group_of = {agent: group for group, entry in card.groups.items() for agent in entry.agents}

    def reset(self) -> None:
        """A new episode begins: recurrent students forget. Those that remember nothing do not need it."""
        self._hidden = {}

    def act(
        self, observations: Mapping[str, ArrayLike], masks: Mapping[str, ArrayLike] | None = None
    ) -> dict[str, Any]:
        """Greedy actions of the agents whose observations are given, those of the exported C to the last bit.

        Args:
            observations: agent -> (O,) or a batch (B, O): what its student sees, if the study has limited it.
            masks: agent -> (N,) or (B, N) legal actions; agents without an entry may do everything.

        Returns:
            Agent -> action: an int for one observation of an agent with Discrete actions, else an array, (B, ...) for a
            batch.

        Raises:
            BundleError: an agent that the team does not have, an observation or mask of another size, a mask that
                allows nothing, or a batch of another size than since the last `reset` for a recurrent student.
        """
        for agent in (*observations, *(masks or {})):
            if agent not in self._group_of:
                raise BundleError(f"the team has no agent {agent!r}: {name_nearest(agent, self._group_of)}")
        return {agent: self._act(agent, given, (masks or {}).get(agent)) for agent, given in observations.items()}

    def _act(self, agent: str, given: ArrayLike, mask: ArrayLike | None) -> Any:
        actor = self._actors[self._group_of[agent]]
        spaces = actor.student.spaces
        seen = _array(agent, given, np.float32)
        if seen.ndim not in (1, 2) or seen.shape[-1] != spaces.observation_size:
            raise BundleError(
                f"agent {agent!r} observes {spaces.observation_size} features, but got the shape {seen.shape}"
            )
        rows = seen.reshape(-1, spaces.observation_size)
        legal = None if mask is None else self._legal(agent, mask, seen.shape[:-1], spaces.actions)
        hidden = self._hidden.get(agent, actor.begin(len(rows)))
        if hidden is not None and len(hidden) != len(rows):
            raise BundleError(
                f"agent {agent!r} remembers {len(hidden)} episodes, but got {len(rows)} observations; "
                "call reset() where new episodes begin"
            )
        chosen, following = actor.act(rows, None if legal is None else legal.numpy(), hidden)
        if following is not None:
            self._hidden[agent] = following
        shaped = chosen.reshape((*seen.shape[:-1], *spaces.actions.shape))
        return int(shaped) if shaped.ndim == 0 else shaped

    def _legal(self, agent: str, mask: ArrayLike, rows: tuple[int, ...], actions: ActionSpace) -> Tensor:
        legal = torch.from_numpy(_array(agent, mask, np.bool_))
        if isinstance(actions, Box):
            raise BundleError(f"agent {agent!r} has continuous actions, which have no mask")
        fits = legal.shape == (*rows, actions.outputs)
        if not fits or not all(factor.any(-1).all() for factor in factors(actions, legal)):
            raise BundleError(
                f"agent {agent!r}: the mask must have {actions.outputs} entries for each observation and "
                f"allow one of them, but got the shape {tuple(legal.shape)}"
            )
        return legal.reshape(-1, actions.outputs)


def _array(agent: str, given: ArrayLike, kind: type[np.generic]) -> NDArray[Any]:
    try:
        return np.array(given, kind)
    except (TypeError, ValueError) as error:
        raise BundleError(f"agent {agent!r}: {type(given).__name__} is no array of numbers: {error}") from error
