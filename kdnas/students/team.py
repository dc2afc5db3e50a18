"""`Team`: the students of all groups, i.e. a joint policy; `Actor`: one of them, deciding."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdnas.envs.spec import EnvSpec
from kdnas.errors import StudentError
from kdnas.policies.arrays import Actions, Bools, Floats
from kdnas.policies.distribution import greedy
from kdnas.policies.masks import mask_logits
from kdnas.policies.scene import Scene
from kdnas.policies.team_policy import TeamPolicy
from kdnas.students.family import IntegerMaker, load_family
from kdnas.students.integer import decide, student_inputs, to_integers
from kdnas.students.student import Student

Hidden = Tensor | np.ndarray[Any, np.dtype[np.int32]] | None
"""What a student remembers (R, H), as floats or as integers; None for one that remembers nothing."""


class Actor:
    """A finished student that decides greedily.

    A quantized one does it in the integers of its reference (`kdnas.students.integer`), as its C does, to the last bit;
    one of a family without an integer form does it in torch, as one in float.

    Raises:
        StudentError: a quantized student that was not calibrated, or that 32-bit sums cannot hold.
    """

    def __init__(self, student: Student) -> None:
        self.student = student
        quantized = student.spec.bits.quantized and isinstance(load_family(student.spec.family), IntegerMaker)
        self._integers = to_integers(student) if quantized else None

    def begin(self, rows: int) -> Hidden:
        """The hidden state at the beginning of an episode."""
        return self.student.begin(rows) if self._integers is None else self._integers.begin(rows)

    @torch.inference_mode()
    def act(self, views: Floats, mask: Bools | None, hidden: Hidden) -> tuple[Actions, Hidden]:
        """Actions (R, *shape) for views (R, V), legal choices (R, N) and hidden states, and the next states."""
        actions = self.student.spaces.actions
        rows = np.ascontiguousarray(views, np.float32)
        if self._integers is not None:
            assert not isinstance(hidden, Tensor)
            outputs, following = self._integers.step(student_inputs(self.student, rows), hidden)
            return decide(actions, outputs, mask), following
        assert not isinstance(hidden, np.ndarray)
        said, after = self.student.step(torch.from_numpy(rows), hidden)
        legal = None if mask is None else torch.from_numpy(mask)
        return greedy(actions, mask_logits(said, legal)).numpy(), after


class Team:
    """One student a group; acts greedily, as `TeamPolicy` says. Students may learn on between episodes.

    Groups without a student are played by `others`, for example by the teacher.
    """

    def __init__(self, spec: EnvSpec, students: Mapping[str, Student], others: TeamPolicy | None = None) -> None:
        missing = [group for group in spec.groups if group not in students]
        if missing and others is None:
            raise StudentError(f"the team has no student for {', '.join(missing)}")
        self.spec = spec
        self.students = {group: students[group].eval() for group in spec.groups if group in students}
        self._others = others if missing else None
        self._actors: dict[str, Actor] = {}
        self._hidden: dict[str, Hidden] = {}

    def act(self, scene: Scene) -> dict[str, Actions]:
        if scene.first:
            self._actors = {group: Actor(student) for group, student in self.students.items()}
        actions = {} if self._others is None else self._others.act(scene)
        for group, actor in self._actors.items():
            views, mask = scene.views[group], scene.masks.get(group)
            rows = views.reshape(-1, views.shape[-1])
            if scene.first:
                self._hidden[group] = actor.begin(len(rows))
            legal = None if mask is None else mask.reshape(len(rows), -1)
            chosen, self._hidden[group] = actor.act(rows, legal, self._hidden[group])
            actions[group] = chosen.reshape((*views.shape[:2], *chosen.shape[1:]))
        return actions
