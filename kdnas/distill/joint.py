"""Joint recovery: the students of a whole team learn on, on the states that they meet together.

Among teachers, which is how the bank's students learn, a student never sees what its team mates' errors lead to. Here
all seats are the students', the teacher says what it would have done in each state (DAgger, Ross et al. 2011, arXiv
1011.0686), and every student learns from what its own group saw. The result is good for this team and for no other.
"""

import copy
import math
from collections.abc import Mapping

import torch

from kdnas.compress.quantize import training_twin
from kdnas.config.refine import JointTable
from kdnas.distill.classroom import Classroom
from kdnas.distill.flips import MOST_BITS, flip_weights
from kdnas.distill.memory import LessonMemory
from kdnas.distill.teaching import Teaching
from kdnas.distill.trainer import COOL_DOWN, SETTLE_EVERY, join_gradients
from kdnas.errors import StudentError
from kdnas.evaluation.seeds import SeedSets
from kdnas.policies.arrays import Actions
from kdnas.policies.scene import Scene
from kdnas.students.fake_quant import FakeQuantMlp
from kdnas.students.family import Settling, load_family
from kdnas.students.student import Seats, Student
from kdnas.teachers.episodes import Episodes, record


def recover_jointly(
    students: Mapping[str, Student], rooms: Mapping[str, Classroom], table: JointTable, *, seed: int
) -> None:
    """Train the students of all groups in place, on episodes in which nobody else acts.

    Of quantized students everything is trained, on their fast twins where they have one, and each keeps its bits.
    Weights of more than `MOST_BITS` bits are trained through their rounding. Those of students with narrower ones,
    which that would throw about, are let go and become integers again one after the other (`Settling`), and are moved
    by single steps then (`flip_weights`), as in the training that they come from.

    Args:
        students: group -> student, each a network of its own.
        rooms: group -> the classroom of its pool; all of one environment and one teacher.
        table: how long, and on how many episodes.
        seed: of all that is drawn. Episodes are of the demonstrations' kind, so that no student is trained on one that
            it is scored on.

    Raises:
        StudentError: a loss or a weight is NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    learners = {group: _Learner(group, student, rooms[group], table, generator) for group, student in students.items()}
    rounds, first = min(table.rounds, table.steps), 0
    for index in range(rounds):
        last = (index + 1) * table.steps // rounds
        episodes = _play_together(learners, rooms, table.episodes, generator)
        for learner in learners.values():
            learner.remember(episodes)
            learner.learn(first, last)
        first = last
    for learner in learners.values():
        learner.finish(table.flip_rounds)


class _Learner:
    """One student in training."""

    def __init__(
        self, group: str, student: Student, room: Classroom, table: JointTable, generator: torch.Generator
    ) -> None:
        self._group, self._room, self._table, self._generator = group, room, table, generator
        # A twin computes without calling its layers, so that nobody could listen to the last one.
        self._pupil = student if room.roles is not None else training_twin(student, load_family(student.spec.family))
        self._device = torch.device(room.recipe.device)
        self._pupil.to(self._device)
        self._teaching = Teaching(room, self._pupil, generator)
        self._teaching.to(self._device)
        parameters = [*self._pupil.parameters(), *self._teaching.parameters()]
        self._optimizer = torch.optim.Adam(parameters, lr=table.learning_rate, fused=True)
        self._gradient = join_gradients(parameters)
        self._memory: LessonMemory | None = None
        self._settling = self._pupil.network if isinstance(self._pupil.network, Settling) else None
        self._narrow = student.spec.bits.narrowest_weight <= MOST_BITS

    def player(self) -> Seats:
        """The student as it is, where environments and teachers are."""
        self._pupil.eval()
        at_home = self._device.type == "cpu"
        return Seats(self._pupil if at_home else copy.deepcopy(self._pupil).to("cpu"))

    def remember(self, episodes: Episodes) -> None:
        """Take in what the own group met."""
        pool, spec = self._room.pool, self._room.env.spec
        own = {group: torch.full((1, len(spec.groups[group])), group == self._group) for group in pool.groups}
        lessons = self._room.lessons(episodes, own)
        if self._memory is None:
            self._memory = LessonMemory(lessons, self._room.recipe.memory_rows, self._generator)
        else:
            self._memory.add(lessons)

    def learn(self, first: int, last: int) -> None:
        """Take the steps of one round."""
        assert self._memory is not None
        steps = self._table.steps
        cooling = max(int(COOL_DOWN * steps), 1)
        total = torch.zeros((), device=self._device)
        self._pupil.train()
        for step in range(first, last):
            if self._settling is not None and self._narrow and step % SETTLE_EVERY == 0:
                self._settling.settle(step / steps)
            for setting in self._optimizer.param_groups:
                setting["lr"] = self._table.learning_rate * min((steps - step) / cooling, 1.0)
            loss = self._teaching.loss(self._memory, self._room.recipe.batch)
            self._gradient.zero_()
            loss.backward()  # type: ignore[no-untyped-call]
            self._gradient.mul_((1 / self._gradient.norm()).clamp_max(1.0))
            self._optimizer.step()
            total += loss.detach()
        if not math.isfinite(total):
            raise StudentError(
                f"student {self._pupil.spec} of {self._group}: the loss became {float(total)} in joint recovery; lower "
                "refine.joint.learning_rate"
            )

    def finish(self, flip_rounds: int) -> None:
        """Leave the student as it acts, on the CPU, in evaluation mode."""
        assert self._memory is not None
        if self._settling is not None:
            self._settling.settle(1.0)
        self._pupil.eval().to("cpu")
        if isinstance(self._pupil.network, FakeQuantMlp) and self._narrow and flip_rounds:
            flip_weights(self._pupil, self._memory, self._teaching, rounds=flip_rounds, batch=self._room.recipe.batch)
        self._pupil.check_finite()


def _play_together(
    learners: Mapping[str, _Learner], rooms: Mapping[str, Classroom], count: int, generator: torch.Generator
) -> Episodes:
    """Episodes in which every seat is a student's, with what the teacher says to each state."""
    room = next(iter(rooms.values()))
    players = {group: learner.player() for group, learner in learners.items()}

    def choose(scene: Scene, _: object) -> dict[str, Actions]:
        return {
            group: seats.act(scene.views[group], scene.masks[group], first=scene.first).numpy()
            for group, seats in players.items()
        }

    seeds = SeedSets(int(torch.randint(2**31 - 1, (), generator=generator))).demonstrations(count)
    return record(room.env, room.teacher, choose, seeds, copies=room.copies, max_steps=room.max_steps)
