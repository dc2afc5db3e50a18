"""`Teacher`: the frozen joint policy that students learn from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdnas.envs.spec import EnvSpec
from kdnas.errors import TeacherError, name_nearest
from kdnas.policies.actions import Box
from kdnas.policies.arrays import Actions
from kdnas.policies.distribution import greedy
from kdnas.policies.masks import mask_logits
from kdnas.policies.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a group's network is asked, and what its answer means.

    Example: a recurrent QMIX agent of 64 units is `Reading(hidden_size=64, q_temperature=0.5)`.
    """

    state: bool = False
    """It reads the observation and the global state side by side, (rows, O + S): a centralised teacher."""
    hidden_size: int = 0
    """It is recurrent: (rows, inputs), (rows, hidden_size) -> (rows, P), (rows, hidden_size), beginning at zeros."""
    q_temperature: float | None = None
    """It says action values Q: the policy is softmax(Q / q_temperature), and the greedy action is theirs."""


class Teacher:
    """For each group a network (rows, O) -> (rows, P), and a value where there is one: from the state (rows, S) and the
    share of the episode that is gone (rows,) to the value of each agent (rows, agents).

    The P numbers are logits of discrete actions, or means and logarithms of deviations of continuous ones (`Box`).
    Groups may share one module. Every parameter is frozen when the teacher is made, and never trained afterwards.

    Example: `Teacher(spec, actors={"drone": nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 5))})`.

    Args:
        spec: the environment.
        actors: group -> network.
        value: the critic, where there is one.
        reading: group -> how its network is asked, for those that do not simply map observations to logits.

    Raises:
        TeacherError: a group without a network, a network that does not fit the group's spaces or is not finite, or a
            reading of a group that is not there.
    """

    def __init__(
        self,
        spec: EnvSpec,
        actors: Mapping[str, nn.Module],
        value: nn.Module | None = None,
        *,
        reading: Mapping[str, Reading] | None = None,
    ) -> None:
        self.spec = spec
        self.actors = {group: actor.eval().requires_grad_(False) for group, actor in actors.items()}
        self.value = value.eval().requires_grad_(False) if value is not None else None
        unknown = [group for group in reading or {} if group not in spec.groups]
        if unknown:
            raise TeacherError(f"reading: no group {unknown[0]!r}: {name_nearest(unknown[0], spec.groups)}")
        self.reading = {group: (reading or {}).get(group, Reading()) for group in spec.groups}
        self._hidden: dict[str, Tensor] = {}
        self._check()

    @torch.inference_mode()
    def parameters(self, scene: Scene) -> dict[str, Tensor]:
        """Group -> parameters (B, A, P) of its agents' action distributions, masked actions left in.

        A recurrent teacher remembers, from one call to the next, since the last scene that was `first`.

        Raises:
            TeacherError: they are NaN or infinite.
        """
        said = {}
        for group, observations in scene.observations.items():
            answer = self._ask(group, torch.from_numpy(observations), torch.from_numpy(scene.state), scene.first)
            if not answer.isfinite().all():
                raise TeacherError(f"the teacher of group {group!r} returns NaN or infinity in {self.spec.name}")
            said[group] = answer
        return said

    @torch.inference_mode()
    def act(self, scene: Scene) -> dict[str, Actions]:
        """Greedy actions, as `TeamPolicy` says."""
        actions: dict[str, Actions] = {}
        for group, parameters in self.parameters(scene).items():
            mask = scene.masks.get(group)
            masked = mask_logits(parameters, None if mask is None else torch.from_numpy(mask))
            actions[group] = greedy(self.spec.group_spec(group).actions, masked).numpy()
        return actions

    def probe(self, group: str, rows: int = 1) -> tuple[Tensor, ...]:
        """Zeros that a group's network takes: what it is counted, timed and checked with."""
        reading, features = self.reading[group], self.spec.group_spec(group).observation_size
        inputs = torch.zeros(rows, features + self.spec.state_size * reading.state)
        return (inputs, torch.zeros(rows, reading.hidden_size)) if reading.hidden_size else (inputs,)

    def digest(self, group: str) -> str:
        """Content hash of a group's network: groups with equal digests have the same teacher."""
        reading = self.reading[group]
        return _digest(self.actors[group], "" if reading == Reading() else repr(reading))

    @property
    def value_digest(self) -> str:
        """Content hash of the critic; `none` where there is none."""
        return "none" if self.value is None else _digest(self.value)

    def _ask(self, group: str, observations: Tensor, state: Tensor, first: bool) -> Tensor:
        """Parameters (B, A, P) for observations (B, A, O) in states (B, S)."""
        reading, actor = self.reading[group], self.actors[group]
        copies, seats = observations.shape[:2]
        rows = observations.flatten(0, 1)
        if reading.state:
            rows = torch.cat([rows, state.repeat_interleave(seats, 0)], -1)
        answer: Tensor
        if reading.hidden_size:
            if first or group not in self._hidden:
                self._hidden[group] = torch.zeros(len(rows), reading.hidden_size)
            answer, self._hidden[group] = actor(rows, self._hidden[group])
        else:
            answer = actor(rows)
        if reading.q_temperature is not None:
            answer = answer / reading.q_temperature
        return answer.reshape(copies, seats, -1)

    def _check(self) -> None:
        for group in self.spec.groups:
            where = f"the teacher of group {group!r}"
            if group not in self.actors:
                raise TeacherError(f"the teacher has no network for group {group!r}; it has: {', '.join(self.actors)}")
            want, reading = self.spec.group_spec(group), self.reading[group]
            if reading.q_temperature is not None and (isinstance(want.actions, Box) or not reading.q_temperature > 0):
                raise TeacherError(
                    f"{where}: q_temperature = {reading.q_temperature} needs discrete actions and must be positive"
                )
            for name, tensor in self.actors[group].state_dict().items():
                if tensor.is_floating_point() and not tensor.isfinite().all():
                    raise TeacherError(f"{where} holds NaN or infinity in {name!r}; export it again")
            probe = self.probe(group, rows=2)
            reads = f"{probe[0].shape[1]} features" + " (observation and state)" * reading.state
            try:
                with torch.inference_mode():
                    answer = self.actors[group](*probe)
            except Exception as error:  # a user's module may raise anything
                raise TeacherError(f"{where} refuses observations of {reads}: {error}") from error
            out = _check_hidden(where, answer, reading.hidden_size) if reading.hidden_size else answer
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            if shape != (2, want.actions.parameters):
                means = "means and logarithms of deviations" if isinstance(want.actions, Box) else "logits"
                raise TeacherError(
                    f"{where} gives {shape} for two observations of {reads}; "
                    f"the environment needs {means} (2, {want.actions.parameters})"
                )
            if not out.isfinite().all():
                raise TeacherError(f"{where} returns NaN or infinity for a zero observation")


def _check_hidden(where: str, answer: object, size: int) -> Tensor:
    """The first part of a recurrent network's answer.

    Raises:
        TeacherError: the answer is not a pair whose second part has the shape (2, size).
    """
    if not isinstance(answer, tuple) or len(answer) != 2 or not all(isinstance(part, Tensor) for part in answer):
        raise TeacherError(f"{where} is recurrent and must return (logits, hidden), but gives {type(answer).__name__}")
    if tuple(answer[1].shape) != (2, size):
        raise TeacherError(f"{where} returns a hidden state {tuple(answer[1].shape)}; it needs (2, {size})")
    out: Tensor = answer[0]
    return out


def _digest(network: nn.Module, more: str = "") -> str:
    digest = hashlib.sha256((repr(network) + more).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
