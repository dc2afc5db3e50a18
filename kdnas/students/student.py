"""`Student`: a spec with weights, for one group; `Team`: the students of all groups, i.e. a joint policy."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import StudentError
from kdnas.policies.arrays import Bools, Floats, Ints
from kdnas.policies.categorical import greedy, mask_logits
from kdnas.spaces.spec import StudentSpec


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Affine map of each observation feature before the network: (x - shift) * scale, both (O,)."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]


class Student(nn.Module):
    """Observations (..., O) -> logits (..., N)."""

    shift: Tensor
    scale: Tensor

    def __init__(
        self, spec: StudentSpec, spaces: AgentSpec, network: nn.Module, normalisation: Normalisation | None = None
    ) -> None:
        super().__init__()
        self.spec, self.spaces, self.normalisation = spec, spaces, normalisation
        self.network = network
        if normalisation is not None:
            self.register_buffer("shift", torch.tensor(normalisation.shift), persistent=False)
            self.register_buffer("scale", torch.tensor(normalisation.scale), persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        if self.normalisation is not None:
            observations = (observations - self.shift) * self.scale
        flat = observations.reshape(-1, self.spaces.observation_size)
        logits: Tensor = self.network(flat)
        return logits.reshape(*observations.shape[:-1], self.spaces.action_count)

    def check_finite(self) -> None:
        """Refuse NaN and infinite weights.

        Raises:
            StudentError: naming the first such tensor.
        """
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise StudentError(f"student {self.spec}: {name} holds NaN or infinity; lower the learning rate")


class Team:
    """One student a group; acts greedily, as `TeamPolicy` says."""

    def __init__(self, spec: EnvSpec, students: Mapping[str, Student]) -> None:
        missing = [group for group in spec.groups if group not in students]
        if missing:
            raise StudentError(f"the team has no student for {', '.join(missing)}")
        self.spec = spec
        self.students = {group: students[group].eval() for group in spec.groups}

    @torch.inference_mode()
    def act(
        self, observations: Mapping[str, Floats], masks: Mapping[str, Bools | None], state: Floats
    ) -> dict[str, Ints]:
        actions: dict[str, Ints] = {}
        for group, student in self.students.items():
            mask = masks.get(group)
            logits = student(torch.from_numpy(np.ascontiguousarray(observations[group], np.float32)))
            actions[group] = greedy(mask_logits(logits, None if mask is None else torch.from_numpy(mask))).numpy()
        return actions
