"""What a stage of the end does to a team, and where it is kept."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdnas.config.refine import JointTable, RefineTable, TeamPolishTable
from kdnas.config.study import DistillTable
from kdnas.distill import StudentBank
from kdnas.distill.refine import Returns, refine
from kdnas.distill.refined import RefinedTeams, RefineStage, Students, stages_of
from kdnas.envs.rollouts import play
from kdnas.errors import RunError, StudentError
from kdnas.spaces import StudentSpec
from kdnas.students import Student, Team
from kdnas.students.refinement import IntervalCard, Refinement
from kdnas.students.weights import read_tensors, weights_digest, write_tensors

from .test_joint import Rooms, rooms_of, students_of

TABLE = RefineTable(joint=JointTable(steps=10, episodes=16), polish=TeamPolishTable(rounds=1))
GAIN = IntervalCard(mean=0.01, low=0.005, high=0.015, episodes=100)


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    return rooms_of()


def shifted(by: float) -> RefineStage:
    """A stage that adds a number to every bias of the last layer."""

    def train(students: Students, rooms: object, table: object, *, seed: int) -> None:
        with torch.no_grad():
            for student in students.values():
                student.network.linears[-1].bias.add_(by)

    return RefineStage(name="shift", table=JointTable(), train=train)


def total_bias(team: Team) -> Returns:
    """Plays a team: in episode k it returns k and the first bias of the left student."""
    bias = float(team.students["left"].network.linears[-1].bias[0].detach())
    return np.arange(4.0) + bias


REFERENCES = np.arange(4.0) + 10, np.arange(4.0) - 10


@pytest.mark.parametrize("bits", ["float", "w8a8i8"])
@pytest.mark.parametrize(("by", "kept"), [(0.5, True), (-0.5, False), (0.0, False)])
def test_only_what_returns_more_is_kept(rooms: Rooms, bits: str, by: float, kept: bool) -> None:
    team = Team(rooms["left"].env.spec, students_of(rooms, bits))
    before = [weights_digest(student) for student in team.students.values()]
    record, students = refine(shifted(by), team, rooms, total_bias, REFERENCES, seed=1)
    # Each of the four episodes returns `by` more, of the 20 between the teacher and random play.
    assert record.kept == kept
    assert record.gain is not None
    assert (record.gain.mean, record.gain.low, record.gain.high) == pytest.approx((by / 20,) * 3)
    assert record.gain.episodes == 4
    # The team itself is left alone, and so is what is kept where it is refused.
    assert [weights_digest(student) for student in team.students.values()] == before
    assert ([weights_digest(student) for student in students.values()] == before) == (not kept)


def test_teams_are_compared_on_the_same_episodes(rooms: Rooms) -> None:
    """Episodes that differ by hundreds do not blur a difference that is the same in each."""
    team = Team(rooms["left"].env.spec, students_of(rooms))
    references = np.array([400.0, -300.0, 10.0, 90.0]) + 10, np.array([400.0, -300.0, 10.0, 90.0]) - 10
    record, _ = refine(
        shifted(0.1), team, rooms, lambda own: total_bias(own) + 100 * references[0], references, seed=1
    )
    assert record.gain is not None
    assert (record.gain.low, record.gain.high) == pytest.approx((0.005, 0.005))


def test_a_stage_that_fails_keeps_nothing_and_says_why(rooms: Rooms) -> None:
    team = Team(rooms["left"].env.spec, students_of(rooms))

    def fail(students: Students, rooms: object, table: object, *, seed: int) -> None:
        raise StudentError("student mlp: the loss became nan")

    stage = RefineStage(name="joint recovery", table=JointTable(), train=fail)
    record, students = refine(stage, team, rooms, total_bias, REFERENCES, seed=1)
    assert str(record) == "joint recovery was refused: student mlp: the loss became nan"
    assert students is team.students


def test_training_that_harms_is_refused(rooms: Rooms) -> None:
    """Joint recovery itself, at a learning rate that destroys what a team knows: the teacher's choices, less sharp."""
    room = rooms["left"]
    teacher = room.teacher.actors["left"]
    spec = StudentSpec(family="mlp", base=(64,), hidden=(64,))
    students = {}
    for group in rooms:
        student = students_of(rooms, hidden=64)[group]
        with torch.no_grad():
            for layer, place in enumerate((0, 2)):
                student.network.linears[layer].weight.copy_(teacher[place].weight / (1 + layer))
                student.network.linears[layer].bias.zero_()
        students[group] = Student(spec, room.pool.spaces, student.network).eval()
    team = Team(room.env.spec, students)
    (stage,) = stages_of(RefineTable(joint=JointTable(steps=10, episodes=16, learning_rate=100.0)))

    def validate(own: Team) -> Returns:
        return play(room.env, own, range(64), copies=64, max_steps=5).mean

    record, kept = refine(stage, team, rooms, validate, (np.full(64, 5.0), np.full(64, 5 / 3)), seed=1)
    assert not record.kept
    assert record.gain is not None
    assert record.gain.high < 0
    assert kept is team.students


def test_what_a_record_says() -> None:
    kept = Refinement(stage="joint recovery", kept=True, gain=GAIN)
    assert str(kept) == (
        "joint recovery was kept: retention +0.0100 (95 % interval +0.0050 to +0.0150) on 100 validation episodes"
    )
    worse = GAIN.model_copy(update={"mean": -0.002, "low": -0.004, "high": 0.0})
    refused = Refinement(stage="polish", kept=False, gain=worse)
    assert str(refused).startswith("polish was refused: retention -0.0020 (95 % interval -0.0040 to +0.0000)")


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (RefineTable(), ["joint recovery"]),
        (TABLE, ["joint recovery", "polish"]),
        (RefineTable(joint=JointTable(steps=0)), []),
        (RefineTable(joint=JointTable(steps=0), polish=TeamPolishTable(rounds=1)), ["polish"]),
    ],
)
def test_a_stage_of_no_length_is_none(table: RefineTable, names: list[str]) -> None:
    assert [stage.name for stage in stages_of(table)] == names


# Where teams are kept.


@pytest.fixture
def refined(rooms: Rooms, tmp_path: Path) -> RefinedTeams:
    bank = StudentBank(folder=tmp_path / "bank", environment="echo", recipe=DistillTable(), seed=0)
    pools = {group: room.pool for group, room in rooms.items()}
    for group, student in students_of(rooms).items():
        bank.store(pools[group], student, bank.last(student.spec))
    return RefinedTeams(
        folder=tmp_path / "refined", bank=bank, spec=rooms["left"].env.spec, pools=pools, table=TABLE
    )


CANDIDATE = dict.fromkeys(("left", "right"), StudentSpec(family="mlp", base=(6,), hidden=(6,)))


def others(students: Mapping[str, Student]) -> dict[str, Student]:
    """The same with another bias in each group."""
    changed = {}
    for place, (group, student) in enumerate(students.items()):
        network = type(student.network)([3, 6, 3], torch.Generator().manual_seed(0))
        network.load_state_dict(student.network.state_dict())
        with torch.no_grad():
            network.linears[0].bias.add_(1 + place)
        changed[group] = Student(student.spec, student.spaces, network)
    return changed


def biases(team: Team) -> dict[str, list[float]]:
    return {group: student.network.linears[0].bias.tolist() for group, student in team.students.items()}


def test_a_team_is_followed_as_far_as_it_went(refined: RefinedTeams) -> None:
    recovery, polish = refined.stages
    team, done = refined.follow(CANDIDATE)
    assert done == ()
    assert not refined.folder.exists()
    changed = others(team.students)
    kept = Refinement(stage="joint recovery", kept=True, gain=GAIN)
    refined.store(recovery, team, kept, changed)
    after, done = refined.follow(CANDIDATE)
    assert done == (kept,)
    assert biases(after) == {group: s.network.linears[0].bias.tolist() for group, s in changed.items()}
    assert biases(after) != biases(team)
    assert not any(student.training for student in after.students.values())
    # What is refused holds no weights, and the team stays what it was.
    refused = Refinement(stage="polish", kept=False, gain=GAIN)
    refined.store(polish, after, refused, after.students)
    last, done = refined.follow(CANDIDATE)
    assert done == (kept, refused)
    assert biases(last) == biases(after)
    sizes = sorted(len(read_tensors(path)[0]) for path in refined.folder.iterdir())
    assert sizes == [0, 8]  # two groups of two layers with weights and biases
    # The bank's students are the same as before.
    assert biases(refined.bank.team(refined.spec, refined.pools, CANDIDATE)) == biases(team)


def test_the_address_changes_with_each_ingredient(refined: RefinedTeams) -> None:
    recovery, polish = refined.stages
    team, _ = refined.follow(CANDIDATE)
    longer = RefineTable(joint=JointTable(steps=11, episodes=16), polish=TABLE.polish)
    bank = refined.bank
    variants: list[tuple[RefinedTeams, RefineStage, Team]] = [
        (refined, recovery, team),
        (refined, polish, team),
        (refined, recovery, Team(refined.spec, others(team.students))),
        (refined, stages_of(longer)[0], team),
        (replace(refined, table=TABLE.model_copy(update={"validation_episodes": 7})), recovery, team),
        (replace(refined, bank=replace(bank, seed=1)), recovery, team),
        (replace(refined, bank=replace(bank, environment="other")), recovery, team),
        (replace(refined, bank=replace(bank, recipe=DistillTable(batch=7))), recovery, team),
        (
            replace(refined, pools={g: replace(pool, teacher_digest="1") for g, pool in refined.pools.items()}),
            recovery,
            team,
        ),
    ]
    addresses = [own.address(stage, students) for own, stage, students in variants]
    assert len(set(addresses)) == len(variants)
    assert refined.address(recovery, refined.follow(CANDIDATE)[0]) == addresses[0]
    assert refined.seed(recovery, team) == int(addresses[0][:7], 16)


def test_exchanged_students_are_another_team(refined: RefinedTeams) -> None:
    team, _ = refined.follow(CANDIDATE)
    changed = others(team.students)
    one = Team(refined.spec, {"left": changed["left"], "right": changed["right"]})
    two = Team(refined.spec, {"left": changed["right"], "right": changed["left"]})
    recovery = refined.stages[0]
    assert refined.address(recovery, one) != refined.address(recovery, two)


def test_a_damaged_file_says_what_to_do(refined: RefinedTeams) -> None:
    team, _ = refined.follow(CANDIDATE)
    refined.store(refined.stages[0], team, Refinement(stage="joint recovery", kept=True, gain=GAIN), team.students)
    (path,) = refined.folder.iterdir()
    whole = path.read_bytes()
    tensors, facts = read_tensors(path)
    first = next(iter(tensors))

    def refuses(said: str) -> None:
        with pytest.raises(RunError, match=rf"this refined team cannot be used: .*{said}.*delete the file to refine"):
            refined.follow(CANDIDATE)

    path.write_bytes(whole[:50])
    refuses("")
    write_tensors(path, tensors, {"specs": facts["specs"]})
    refuses("refinement")
    write_tensors(path, tensors, facts | {"refinement": {"stage": 3}})
    refuses("stage")
    write_tensors(path, tensors, facts | {"specs": {}})
    refuses("it holds {}")
    write_tensors(path, {name: tensor for name, tensor in tensors.items() if name != first}, facts)
    refuses("missing")
    write_tensors(path, tensors | {"middle/linears.0.bias": tensors[first].clone()}, facts)
    refuses("middle")


def test_a_full_disk_leaves_nothing_behind(refined: RefinedTeams, monkeypatch: pytest.MonkeyPatch) -> None:
    team, _ = refined.follow(CANDIDATE)

    def full(path: Path, *_: Any) -> bytes:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kdnas.distill.refined.write_tensors", full)
    with pytest.raises(RunError, match=r"refined/\w+.safetensors: cannot be written: No space left on device; make"):
        refined.store(refined.stages[0], team, Refinement(stage="x", kept=False, failure="y"), team.students)
    assert list(refined.folder.iterdir()) == []


def test_records_survive_json() -> None:
    record = Refinement(stage="polish", kept=False, failure="x")
    assert Refinement.model_validate(json.loads(json.dumps(record.model_dump()))) == record
