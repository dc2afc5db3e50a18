"""`Student`: a spec with weights, for one group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.policies.arrays import Bools, Floats
from kdnas.policies.distribution import greedy
from kdnas.policies.masks import mask_logits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Affine map of each feature that the network reads: (x - shift) * scale, both as long as `AgentSpec.kept`."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def of(self, places: Sequence[int]) -> "Normalisation":
        """That of some of the features, by their places."""
        shift, scale = (tuple(values[place] for place in places) for values in (self.shift, self.scale))
        return Normalisation(shift=shift, scale=scale)


class Student(nn.Module):
    """What one group's agents see -> what they do: logits of discrete actions, means of continuous ones.

    `student(views)` maps views (..., V) to outputs (..., N). A recurrent one reads the last axis but one as time, from
    the beginning of an episode: (..., T, V) to (..., T, N); `step` goes on from a hidden state.

    Views are whole; its network is one of `spaces.inputs` and is not shown the features that never change, which could
    do no more than a bias does, nor those that it was pruned of.
    """

    kept: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(
        self, spec: StudentSpec, spaces: AgentSpec, network: nn.Module, normalisation: Normalisation | None = None
    ) -> None:
        super().__init__()
        self.spec, self.spaces, self.normalisation = spec, spaces, normalisation
        self.network = network
        self.hidden_size = load_family(spec.family).hidden_size(spec)
        """Numbers that it remembers from one step to the next; 0 unless it is recurrent."""
        if not spaces.reads_all:
            self.register_buffer("kept", torch.tensor(spaces.kept), persistent=False)
        if normalisation is not None:
            self.register_buffer("shift", torch.tensor(normalisation.shift), persistent=False)
            self.register_buffer("scale", torch.tensor(normalisation.scale), persistent=False)

    def forward(self, views: Tensor) -> Tensor:
        if not self.hidden_size:
            flat = self.step(views.reshape(-1, views.shape[-1]), None)[0]
            return flat.reshape(*views.shape[:-1], flat.shape[-1])
        tracks = views.reshape(-1, *views.shape[-2:])
        if (unroll := getattr(self.network, "unroll", None)) is not None:
            said: Tensor = unroll(self.read(tracks), self.begin(len(tracks)))
            return said.reshape(*views.shape[:-1], said.shape[-1])
        outputs, hidden = [], self.begin(len(tracks))
        for seen in tracks.unbind(1):
            answer, hidden = self.step(seen, hidden)
            outputs.append(answer)
        along = torch.stack(outputs, 1)
        return along.reshape(*views.shape[:-1], along.shape[-1])

    @property
    def device(self) -> torch.device:
        """Where its parameters lie."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def begin(self, rows: int) -> Tensor | None:
        """The hidden state (rows, H) at the beginning of an episode; None for a student that remembers nothing."""
        return torch.zeros(rows, self.hidden_size, device=self.device) if self.hidden_size else None

    def probe(self) -> tuple[Tensor, ...]:
        """Zeros that it takes, of one row: what it is traced with."""
        hidden = self.begin(1)
        views = torch.zeros(1, self.spaces.observation_size)
        return (views,) if hidden is None else (views, hidden)

    def step(self, views: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One decision: views (rows, V) and hidden state (rows, H) or None -> outputs (rows, N) and the next one."""
        features = self.read(views)
        if hidden is None:
            return self.network(features), None
        outputs, following = self.network(features, hidden)
        return outputs, following

    def read(self, views: Tensor) -> Tensor:
        """Views (..., V) -> what the network is shown of them (..., len(`spaces.kept`)): selected, and normalised."""
        # One operator wherever the features stand: onnxruntime gathers in half the time of a slice.
        features = views if self.spaces.reads_all else views.index_select(-1, self.kept)
        return features if self.normalisation is None else (features - self.shift) * self.scale

    def check_finite(self) -> None:
        """Refuse NaN and infinite weights.

        Raises:
            StudentError: naming the first such tensor.
        """
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise StudentError(f"student {self.spec}: {name} holds NaN or infinity; lower the learning rate")


class Seats:
    """A student in the seats of one group while it learns: acts greedily as it is in torch, and remembers since the
    episodes began."""

    def __init__(self, student: Student) -> None:
        self._student = student
        self._hidden: Tensor | None = None

    @torch.inference_mode()
    def act(self, views: Floats, mask: Bools | None, *, first: bool) -> Tensor:
        """Actions (B, A, *shape) for views (B, A, V) and legal actions (B, A, N)."""
        student = self._student
        rows = torch.from_numpy(np.ascontiguousarray(views, np.float32)).flatten(0, 1)
        if first:
            self._hidden = student.begin(len(rows))
        outputs, self._hidden = student.step(rows, self._hidden)
        legal = None if mask is None else torch.from_numpy(mask).flatten(0, 1)
        actions = student.spaces.actions
        return greedy(actions, mask_logits(outputs, legal)).reshape((*views.shape[:2], *actions.shape))
