"""Students of a whole team that learn on together."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from echo import STEPS, Echo, teach
from torch import Tensor, nn

from kdnas.compress import quantize
from kdnas.compress.quantize import training_twin
from kdnas.config.refine import JointTable, TeamPolishTable
from kdnas.config.study import DistillTable
from kdnas.distill import Classroom, make_pools, open_classroom
from kdnas.distill.joint import recover_jointly
from kdnas.distill.polish import polish_team
from kdnas.envs import TeamEnv
from kdnas.envs.rollouts import play
from kdnas.errors import StudentError
from kdnas.export.c import CExporter
from kdnas.export.onnx import OnnxExporter
from kdnas.spaces import StudentSpec, parse_bits
from kdnas.students import Student, Team, load_family
from kdnas.students.integer import to_integers
from kdnas.students.weights import student_tensors, weights_digest

from .conftest import RECIPE, Half, demonstrate

SHORT = JointTable(steps=60, rounds=3, episodes=16, learning_rate=0.01, flip_rounds=2)
Rooms = dict[str, Classroom]


def rooms_of(env: dict[str, Any] | None = None, **recipe: Any) -> Rooms:
    """Group -> the classroom of its pool; there are two pools where the kinds differ."""
    team_env = TeamEnv(Echo(**env or {}), {"left": ("left",), "right": ("right",)})
    teacher = teach(team_env.spec)
    teacher = type(teacher)(team_env.spec, teacher.actors, Half())
    pools, episodes = make_pools(team_env.spec, teacher), demonstrate(team_env, teacher)
    table = DistillTable(**RECIPE | recipe)
    opened = {
        pool.name: open_classroom(team_env, teacher, pool, table, episodes, copies=16, max_steps=STEPS, seed=0)
        for pool in pools.values()
    }
    return {group: opened[pool.name] for group, pool in pools.items()}


def students_of(rooms: Rooms, bits: str = "float", family: str = "mlp", hidden: int = 6) -> dict[str, Student]:
    """Untrained students, quantized ones calibrated."""
    made = {}
    for seed, (group, room) in enumerate(rooms.items()):
        spec = StudentSpec(family=family, base=(hidden,), hidden=(hidden,))
        spaces, generator = room.pool.spaces, torch.Generator().manual_seed(seed)
        student = Student(spec, spaces, load_family(family).build(spec, spaces, generator))
        if bits != "float":
            shape = (64, 5, spaces.observation_size) if student.hidden_size else (64, spaces.observation_size)
            views = [torch.randn(shape, generator=generator)]
            student = quantize(student, replace(spec, bits=parse_bits(bits)), load_family(family), views)
        made[group] = student.eval()
    return made


def returned(rooms: Rooms, students: Mapping[str, Student]) -> float:
    room = next(iter(rooms.values()))
    return float(play(room.env, Team(room.env.spec, students), range(200), copies=200, max_steps=STEPS).mean.mean())


@pytest.mark.parametrize(
    "env", [{}, {"kinds": True}, {"kinds": True, "masked": True}, {"actions": "box"}, {"actions": "multi-discrete"}]
)
def test_a_team_learns_from_what_it_meets(env: dict[str, Any]) -> None:
    rooms = rooms_of(env)
    students = students_of(rooms)
    before = returned(rooms, students)
    recover_jointly(students, rooms, replace_table(SHORT, steps=150), seed=1)
    # What a team can gain: the teacher's 5, or 5 for exact numbers, less what the untrained one returns.
    assert returned(rooms, students) > before + 0.4 * (5 - before)
    assert not any(student.training for student in students.values())


def replace_table(table: JointTable, **changes: Any) -> JointTable:
    return table.model_copy(update=changes)


def test_every_seat_is_a_students(monkeypatch: pytest.MonkeyPatch) -> None:
    """Students that always say the last number act in every seat; the teacher, who knows better, only speaks."""
    rooms = rooms_of()
    students = students_of(rooms)
    with torch.no_grad():
        for student in students.values():
            student.network.linears[-1].weight.zero_()
            student.network.linears[-1].bias.copy_(torch.tensor([0.0, 0.0, 100.0]))
    env, seen, seeds = rooms["left"].env, [], []
    step, reset = env.step, env.reset
    monkeypatch.setattr(env, "step", lambda actions: (seen.append(actions), step(actions))[1])
    monkeypatch.setattr(env, "reset", lambda given: (seeds.extend(given), reset(given))[1])
    recover_jointly(students, rooms, replace_table(SHORT, steps=1, rounds=6, episodes=24), seed=1)
    # One step leaves room for one round: 24 episodes, in copies of 16 and 8, of 5 steps.
    assert len(seeds) == 24
    assert {seed % 4 for seed in seeds} == {3}  # of the demonstrations' kind
    assert len(seen) == 10
    assert all((chosen == 2).all() for actions in seen for chosen in actions.values())


def test_each_student_learns_from_its_own_groups_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one pool, so of equal views: 16 episodes of 5 steps are 80 rows of its own agent each round."""
    rooms = rooms_of()
    taught: list[tuple[tuple[str, ...], int]] = []
    lessons = Classroom.lessons

    def note(self: Classroom, episodes: Any, seats: Mapping[str, Tensor]) -> Any:
        given = lessons(self, episodes, seats)
        taught.append((tuple(group for group, own in seats.items() if own.all()), len(given)))
        return given

    monkeypatch.setattr(Classroom, "lessons", note)
    recover_jointly(students_of(rooms), rooms, replace_table(SHORT, steps=4, rounds=2), seed=1)
    assert taught == [(("left",), 80), (("right",), 80)] * 2


@pytest.mark.parametrize("bits", ["w8a8i8", "w4a8i8", "w2a8i8"])
@pytest.mark.parametrize("family", ["mlp", "mlp_softsign"])
def test_quantized_students_stay_what_brevitas_and_integers_say(family: str, bits: str, tmp_path: Any) -> None:
    rooms = rooms_of()
    students = students_of(rooms, bits, family)
    before = {group: (student.spec, weights_digest(student)) for group, student in students.items()}
    earlier = returned(rooms, students)
    recover_jointly(students, rooms, replace_table(SHORT, steps=200), seed=1)
    assert returned(rooms, students) > earlier
    views = torch.randn(500, 3, generator=torch.Generator().manual_seed(9))
    for group, student in students.items():
        assert student.spec == before[group][0]
        assert weights_digest(student) != before[group][1]
        with torch.no_grad():
            said = student(views)
            assert torch.equal(training_twin(student, load_family(family)).eval()(views), said)
        outputs, _ = to_integers(student).step(views.numpy(), None)
        assert np.array_equal(outputs.argmax(1), said.argmax(1).numpy())
        # Every weight lies on a multiple of its row's scale already: settled, there is nothing left to round.
        twin = training_twin(student, load_family(family)).network
        for index, linear in enumerate(student.network.linears):
            steps = linear.weight.detach() / twin.weight_scale(index).detach()
            assert float((steps - steps.round()).abs().max()) < 1e-3
    recorded = dict.fromkeys(students, views.numpy())
    team = Team(rooms["left"].env.spec, students)
    for exporter in (OnnxExporter(), CExporter()):
        artifact = exporter.export(team, tmp_path, recorded=recorded)
        assert artifact.agreed_rows == artifact.checked_rows == 1000


@pytest.mark.parametrize("bits", ["float", "w8a8i8"])
def test_students_that_remember_learn_on_too(bits: str) -> None:
    rooms = rooms_of({}, sequence_steps=5, burn_in_steps=1)
    students = students_of(rooms, bits, "gru", hidden=4)
    before = returned(rooms, students)
    recover_jointly(students, rooms, replace_table(SHORT, steps=40), seed=1)
    assert returned(rooms, students) > before


def test_students_that_learn_roles_are_listened_to() -> None:
    rooms = rooms_of({}, loss={"role": 0.1, "role_size": 2})
    students = students_of(rooms, "w8a8i8")
    before = {group: weights_digest(student) for group, student in students.items()}
    recover_jointly(students, rooms, replace_table(SHORT, steps=4), seed=1)
    assert all(weights_digest(student) != before[group] for group, student in students.items())


def test_the_same_seed_gives_the_same_team() -> None:
    def made(seed: int) -> list[str]:
        rooms = rooms_of()
        students = students_of(rooms)
        recover_jointly(students, rooms, replace_table(SHORT, steps=5), seed=seed)
        return [weights_digest(student) for student in students.values()]

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_a_loss_that_is_not_finite_is_named() -> None:
    rooms = rooms_of()
    students = students_of(rooms)
    with torch.no_grad():
        students["right"].network.linears[0].weight[0, 0] = torch.nan
    with pytest.raises(StudentError, match=r"student mlp 6 float of right: the loss became nan in joint recovery"):
        recover_jointly(students, rooms, replace_table(SHORT, steps=2), seed=1)


POLISH = TeamPolishTable(rounds=6, episodes=64, learning_rate=0.01, leash=1.0)


@pytest.mark.parametrize("env", [{}, {"actions": "box"}, {"actions": "multi-discrete", "masked": True}])
def test_a_team_is_polished_together(env: dict[str, Any]) -> None:
    rooms = rooms_of(env)
    students = students_of(rooms)
    before = returned(rooms, students)
    polish_team(students, rooms, POLISH, seed=1)
    assert returned(rooms, students) > before


def test_polishing_a_team_leaves_integers_alone() -> None:
    rooms = rooms_of({}, qat_learning_rate=0.01)
    students = students_of(rooms, "w3a8i8", "mlp_softsign")

    def integers() -> list[list[Any]]:
        networks = [training_twin(student, load_family("mlp_softsign")).network for student in students.values()]
        return [
            (linear.weight / network.weight_scale(index)).round().int().tolist()
            for network in networks
            for index, linear in enumerate(network.linears)
        ]

    before = integers()
    tensors = {group: student_tensors(student) for group, student in students.items()}
    polish_team(students, rooms, POLISH.model_copy(update={"rounds": 2}), seed=1)
    assert integers() == before
    for group, student in students.items():
        assert not torch.equal(student_tensors(student)["linears.0.bias"], tensors[group]["linears.0.bias"])


def test_polishing_needs_no_critic_of_the_students(monkeypatch: pytest.MonkeyPatch) -> None:
    """The critic of the room is asked once a round, for the whole team."""
    rooms = rooms_of()
    asked: list[int] = []

    class Listening(nn.Module):
        def forward(self, state: Tensor, gone: Tensor) -> Tensor:
            asked.append(len(state))
            return torch.zeros(len(state), 2)

    critic = Listening()
    rooms = {group: replace(room, value=critic) for group, room in rooms.items()}
    polish_team(students_of(rooms), rooms, POLISH.model_copy(update={"rounds": 2}), seed=1)
    assert asked == [64 * STEPS] * 2
