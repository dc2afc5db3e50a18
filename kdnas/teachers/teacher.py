"""`Teacher`: the frozen joint policy that students learn from."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdnas.envs.spec import EnvSpec
from kdnas.errors import TeacherError
from kdnas.policies.arrays import Bools, Floats, Ints
from kdnas.policies.categorical import greedy, mask_logits


class Teacher:
    """For each group a network (rows, O) -> logits (rows, N), and a value where there is one: from the state
    (rows, S) and the share of the episode that is gone (rows,) to the value of each agent (rows, agents).

    Groups may share one module. Every parameter is frozen when the teacher is made, and never trained afterwards.

    Example: `Teacher(spec, actors={"drone": nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 5))})`.

    Raises:
        TeacherError: a group without a network, or a network that does not fit the group's spaces or is not finite.
    """

    def __init__(self, spec: EnvSpec, actors: Mapping[str, nn.Module], value: nn.Module | None = None) -> None:
        self.spec = spec
        self.actors = {group: actor.eval().requires_grad_(False) for group, actor in actors.items()}
        self.value = value.eval().requires_grad_(False) if value is not None else None
        self._check()

    def logits(self, group: str, observations: Tensor) -> Tensor:
        """Unmasked logits (..., N) of observations (..., O)."""
        rows = observations.reshape(-1, observations.shape[-1])
        logits: Tensor = self.actors[group](rows)
        return logits.reshape(*observations.shape[:-1], -1)

    @torch.inference_mode()
    def act(
        self, observations: Mapping[str, Floats], masks: Mapping[str, Bools | None], state: Floats
    ) -> dict[str, Ints]:
        """Greedy actions, as `TeamPolicy` says."""
        actions: dict[str, Ints] = {}
        for group, rows in observations.items():
            mask = masks.get(group)
            logits = self.logits(group, torch.from_numpy(rows))
            chosen = greedy(mask_logits(logits, None if mask is None else torch.from_numpy(mask)))
            actions[group] = chosen.numpy()
        return actions

    def digest(self, group: str) -> str:
        """Content hash of a group's network: groups with equal digests have the same teacher."""
        digest = hashlib.sha256(repr(self.actors[group]).encode())
        for name, tensor in sorted(self.actors[group].state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _check(self) -> None:
        for group in self.spec.groups:
            if group not in self.actors:
                raise TeacherError(f"the teacher has no network for group {group!r}; it has: {', '.join(self.actors)}")
            want = self.spec.group_spec(group)
            for name, tensor in self.actors[group].state_dict().items():
                if tensor.is_floating_point() and not tensor.isfinite().all():
                    raise TeacherError(
                        f"the teacher of group {group!r} holds NaN or infinity in {name!r}; export it again"
                    )
            probe = torch.zeros(2, want.observation_size)
            try:
                with torch.inference_mode():
                    out = self.actors[group](probe)
            except Exception as error:  # a user's module may raise anything
                raise TeacherError(
                    f"the teacher of group {group!r} refuses observations of {want.observation_size} features: {error}"
                ) from error
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            if shape != (2, want.action_count):
                raise TeacherError(
                    f"the teacher of group {group!r} gives {shape} for two observations of "
                    f"{want.observation_size} features; the environment needs logits (2, {want.action_count})"
                )
            if not out.isfinite().all():
                raise TeacherError(f"the teacher of group {group!r} returns NaN or infinity for a zero observation")
