import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from kdnas.budgets.budget import parse_budget
from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import StudentError, TeacherError
from kdnas.policies.actions import Box, Discrete, MultiDiscrete
from kdnas.profiling import Measurement, Pricer, Target
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import Bits, StudentSpec
from kdnas.teachers.network import GaussianActor, make_mlp
from kdnas.teachers.teacher import Reading, Teacher

from .test_flops import Cell, Spectrum

SPREAD = AgentSpec(observation_size=18, actions=Discrete(5))
ENV = EnvSpec(
    name="test",
    agents={"a": SPREAD, "b": SPREAD, "c": SPREAD},
    groups={"pair": ("a", "b"), "solo": ("c",)},
    state_size=54,
)


class _CountingTarget(Target):
    """The n-th measurement takes n microseconds, and 2 n at the 95th percentile."""

    name = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def measure(self, family: str, spec: StudentSpec, spaces: AgentSpec, *, normalised: bool = False) -> Measurement:
        return self._next(f"{spec}")

    def measure_module(self, network: nn.Module, probe: tuple[Tensor, ...]) -> Measurement:
        return self._next(f"module {[tuple(each.shape) for each in probe]}")

    def number_format(self, bits: Bits) -> str:
        return "integers" if bits.quantized else "floats"

    def fingerprint(self) -> dict[str, str]:
        return {}

    def reference_s(self) -> float:
        return 1.0

    def _next(self, what: str) -> Measurement:
        self.asked.append(what)
        return Measurement(p50_s=len(self.asked) * 1e-6, p95_s=len(self.asked) * 2e-6, p99_s=1.0)


def _spec(bits: str, *hidden: int) -> StudentSpec:
    return StudentSpec(family="mlp", base=(64,) * len(hidden), hidden=hidden, bits=parse_bits(bits))


@pytest.fixture
def teacher() -> Teacher:
    actor = make_mlp(18, (128, 128), 5, generator=torch.Generator().manual_seed(0))
    return Teacher(ENV, {"pair": actor, "solo": actor})


@pytest.fixture
def target() -> _CountingTarget:
    return _CountingTarget()


def test_a_student_by_hand(teacher: Teacher, target: _CountingTarget) -> None:
    cost = Pricer(ENV, teacher, target).price("pair", _spec("w4a8i8", 16))
    # 18*16 + 16*5 = 368 MACs; memory as in test_memory; the first measurement.
    assert (cost.macs, cost.flops, cost.params, cost.memory_bytes, cost.bops) == (368, 736, 389, 460, 11_776)
    assert (cost.latency_p50_s, cost.latency_p95_s, cost.latency_p99_s) == (1e-6, 2e-6, 1.0)


def test_normalisation_costs_a_mac_and_eight_bytes_a_feature(teacher: Teacher, target: _CountingTarget) -> None:
    cost = Pricer(ENV, teacher, target, normalised=True).price("pair", _spec("w4a8i8", 16))
    assert (cost.macs, cost.memory_bytes) == (368 + 18, 460 + 18 * 8)


def test_a_team_sums_over_seats(teacher: Teacher, target: _CountingTarget) -> None:
    cost = Pricer(ENV, teacher, target).team({"pair": _spec("float", 24, 24), "solo": _spec("float", 16)})
    assert cost.team.macs == 2 * 1128 + 368
    # The pair's shape was measured first: 2 * 1 us, and the other 2 us.
    assert cost.team.latency_p50_s == pytest.approx(4e-6)


def test_latency_is_measured_once_a_shape_and_number_format(teacher: Teacher, target: _CountingTarget) -> None:
    pricer = Pricer(ENV, teacher, target)
    for bits in ("w8a8i8", "w4a8i8", "float", "w4a4i8"):
        for group in ENV.groups:
            pricer.price(group, _spec(bits, 24, 24))
    # This target knows integers of one kind only.
    assert target.asked == ["mlp 24x24 w8a8i8", "mlp 24x24 float"]


def test_measurements_survive_as_json(teacher: Teacher, target: _CountingTarget) -> None:
    first = Pricer(ENV, teacher, target)
    first.price("pair", _spec("float", 24))
    first.teacher_cost()
    text = json.dumps({key: latency.as_json() for key, latency in first.measurements().items()})
    measured = {key: Measurement.from_json(data) for key, data in json.loads(text).items()}
    second = Pricer(ENV, teacher, target, measured=measured)
    assert second.price("solo", _spec("float", 24)) == first.price("solo", _spec("float", 24))
    assert second.teacher_cost() == first.teacher_cost()
    assert len(target.asked) == 2


def test_nothing_is_measured_unless_asked(teacher: Teacher, target: _CountingTarget) -> None:
    pricer = Pricer(ENV, teacher, target)
    candidate = {group: _spec("w8a8i8", 24) for group in ENV.groups}
    cost, base = pricer.team(candidate, measure=False), pricer.teacher_cost(measure=False)
    assert (cost.team.latency_p95_s, base.team.latency_p95_s, target.asked) == (0.0, 0.0, [])
    # (18*24 + 24*5) / (18*128 + 128*128 + 128*5) = 552 / 19,328 = 2.86 %.
    assert parse_budget(["flops<3%"]).violations(cost, base)["flops<3%"] == pytest.approx(552 / 19_328 / 0.03 - 1)


def test_workers_pause_for_each_measurement_only(teacher: Teacher, target: _CountingTarget) -> None:
    pauses: list[str] = []

    @contextmanager
    def pause() -> Iterator[None]:
        pauses.append("begin")
        yield
        pauses.append(f"end {len(target.asked)}")

    pricer = Pricer(ENV, teacher, target, pause=pause)
    for _ in range(2):
        pricer.team({group: _spec("float", 24) for group in ENV.groups})
        pricer.teacher_cost()
    assert pauses == ["begin", "end 1", "begin", "end 2"]


def test_what_is_measured_is_told_at_once_and_tried_twice(teacher: Teacher, target: _CountingTarget) -> None:
    kept: list[dict[str, Measurement]] = []
    pricer = Pricer(ENV, teacher, target, keep=lambda measured: kept.append(dict(measured)))
    pricer.price("solo", _spec("float", 24))
    lost, taken = StudentError("no route to host"), Measurement(p50_s=6e-6, p95_s=7e-6, p99_s=8e-6)
    with patch.object(target, "measure", side_effect=[lost, taken]):
        assert pricer.price("solo", _spec("float", 32)).latency_p95_s == 7e-6
    with patch.object(target, "measure", side_effect=[lost, lost]), pytest.raises(StudentError, match="no route"):
        pricer.price("solo", _spec("float", 48))
    assert [len(each) for each in kept] == [1, 2]
    assert kept[-1] == pricer.measurements()


def test_a_teacher_by_hand(teacher: Teacher, target: _CountingTarget) -> None:
    pricer = Pricer(ENV, teacher, target)
    cost = pricer.teacher_cost().agents["pair"]
    macs = 18 * 128 + 128 * 128 + 128 * 5
    assert (cost.macs, cost.params, cost.bops) == (macs, macs + 128 + 128 + 5, macs * 1024)
    assert cost.memory_bytes == 4 * (macs + 261 + 256)
    assert target.asked == ["module [(1, 18)]"]  # both groups have one network


def test_a_recurrent_teacher_and_one_that_reads_the_state_by_hand(target: _CountingTarget) -> None:
    spaces = AgentSpec(observation_size=6, actions=Discrete(3))
    env = EnvSpec(name="test", agents={"a": spaces, "b": spaces}, groups={"g": ("a",), "h": ("b",)}, state_size=12)
    reading = {"g": Reading(hidden_size=8), "h": Reading(state=True)}
    teacher = Teacher(env, {"g": Cell(), "h": make_mlp(6 + 12, (4,), 3)}, reading=reading)
    cost = Pricer(env, teacher, target).teacher_cost().agents
    # 6 x 8 + 8 x 8 + 8 x 3 weights, 8 + 8 + 3 biases, and 8 + 8 numbers live.
    assert (cost["g"].macs, cost["g"].params, cost["g"].memory_bytes) == (136, 136 + 19, 4 * (136 + 19 + 16))
    assert (cost["h"].macs, cost["h"].params) == (18 * 4 + 4 * 3, 18 * 4 + 4 * 3 + 4 + 3)
    assert target.asked == ["module [(1, 6), (1, 8)]", "module [(1, 18)]"]


def test_a_student_says_a_mean_a_dimension_and_a_logit_a_choice(target: _CountingTarget) -> None:
    box = AgentSpec(observation_size=18, actions=Box((-1.0, -1.0), (1.0, 1.0)))
    pairs = AgentSpec(observation_size=18, actions=MultiDiscrete((5, 10)))
    env = EnvSpec(name="test", agents={"a": box, "b": pairs}, groups={"g": ("a",), "h": ("b",)}, state_size=1)
    # A teacher says two deviations beside the two means, which take no multiplications.
    teacher = Teacher(env, {"g": GaussianActor(make_mlp(18, (64,), 2), 2), "h": make_mlp(18, (64,), 15)})
    pricer = Pricer(env, teacher, target)
    assert pricer.price("g", _spec("float", 16)).macs == 18 * 16 + 16 * 2
    assert pricer.price("h", _spec("float", 16)).macs == 18 * 16 + 16 * 15
    assert pricer.teacher_cost().agents["g"].macs == 18 * 64 + 64 * 2
    # With biases and the two logarithms of deviations.
    assert pricer.teacher_cost().agents["g"].params == 18 * 64 + 64 + 64 * 2 + 2 + 2
    assert pricer.teacher_cost().agents["h"].macs == 18 * 64 + 64 * 15


def test_a_teacher_that_cannot_be_counted_is_named(target: _CountingTarget) -> None:
    spaces = AgentSpec(observation_size=6, actions=Discrete(4))
    env = EnvSpec(name="test", agents={"a": spaces}, groups={"g": ("a",)}, state_size=6)
    with pytest.raises(TeacherError, match=r"the teacher of group 'g' cannot be priced: Spectrum.*aten::fft"):
        Pricer(env, Teacher(env, {"g": Spectrum()}), target).teacher_cost()


def test_what_is_done_with_the_outputs_is_part_of_a_shape(teacher: Teacher, target: _CountingTarget) -> None:
    """Five of them may be looked through, clipped or bent."""
    boxes = [Box((0.0,) * 5, (1.0,) * 5, squashed=squashed) for squashed in (False, True)]
    kinds = [Discrete(5), MultiDiscrete((2, 3)), *boxes]
    measured: dict[str, Measurement] = {}
    for actions in (*kinds, *kinds):
        spaces = AgentSpec(observation_size=18, actions=actions)
        env = replace(ENV, agents=dict.fromkeys(ENV.agents, spaces))
        pricer = Pricer(env, teacher, target, measured=measured)
        pricer.price("pair", _spec("float", 8))
        measured |= pricer.measurements()
    assert len(target.asked) == 4


def test_normalisation_is_of_what_a_network_reads(teacher: Teacher, target: _CountingTarget) -> None:
    """Of 18 features 6 belong to entities."""
    entities = Entities(own=(0, 1), sets=(EntitySet(name="landmarks", members=((4, 5), (6, 7))),))
    env = replace(ENV, agents=dict.fromkeys(ENV.agents, replace(SPREAD, entities=entities)))
    spec = StudentSpec(family="deepset", base=(4, 3), hidden=(4, 3))
    plain, normal = (Pricer(env, teacher, target, normalised=value).price("pair", spec) for value in (False, True))
    assert (normal.macs - plain.macs, normal.memory_bytes - plain.memory_bytes) == (6, 6 * 8)


def test_entities_are_part_of_a_shape(teacher: Teacher, target: _CountingTarget) -> None:
    """Two declarations of one observation make networks of other sizes."""
    measured: dict[str, Measurement] = {}
    for members in (((4, 5), (6, 7)), ((4, 5), (6, 7), (8, 9)), ((4, 5), (6, 7))):
        entities = Entities(own=(0, 1), sets=(EntitySet(name="landmarks", members=members),))
        spaces = replace(SPREAD, entities=entities)
        env = replace(ENV, agents=dict.fromkeys(ENV.agents, spaces))
        pricer = Pricer(env, teacher, target, measured=measured)
        cost = pricer.price("pair", StudentSpec(family="deepset", base=(4, 3), hidden=(4, 3)))
        # Encoder 2*4 a landmark, then (2 + 4)*3 and 3*5.
        measured |= pricer.measurements()
        assert cost.macs == len(members) * 8 + 18 + 15
    assert len(target.asked) == 2


def test_what_never_changes_costs_nothing(teacher: Teacher, target: _CountingTarget) -> None:
    env = replace(ENV, constant={"pair": (14, 15, 16, 17), "solo": (0, 1, 2, 3)})
    pricer = Pricer(env, teacher, target, normalised=True)
    cost = pricer.price("pair", _spec("w4a8i8", 16))
    # 14*16 + 16*5 = 304 MACs and a normalisation of 14. 304 weights in half a byte each, 21 biases, 35 scales, 36
    # activations (16 + 4 x 5, more than 14 + 16), and 14 shifts and scales.
    assert (cost.macs, cost.params) == (304 + 14, 304 + 21)
    assert cost.memory_bytes == 152 + 4 * 21 + 4 * (21 + 14) + 36 + 8 * 14
    # Which of them are left out makes no difference to the shape; how many does.
    assert pricer.price("solo", _spec("w4a8i8", 16)) == cost
    assert target.asked == ["mlp 16 w4a8i8"]
    whole = Pricer(ENV, teacher, target, normalised=True, measured=pricer.measurements())
    assert whole.price("pair", _spec("w4a8i8", 16)).macs == 368 + 18
    assert len(target.asked) == 2
    # The teacher is counted with all that it reads.
    assert pricer.teacher_cost().agents["pair"].macs == 18 * 128 + 128 * 128 + 128 * 5


def test_inputs_that_a_student_does_without_cost_nothing(teacher: Teacher, target: _CountingTarget) -> None:
    pricer = Pricer(ENV, teacher, target, normalised=True)
    spec = replace(_spec("w4a8i8", 16), inputs=14)
    cost = pricer.price("pair", spec)
    # As where four never change, and where the 14 stand: 2 bytes each.
    assert (cost.macs, cost.params) == (304 + 14, 304 + 21)
    assert cost.memory_bytes == 152 + 4 * 21 + 4 * (21 + 14) + 36 + 8 * 14 + 2 * 14
    constant = Pricer(replace(ENV, constant={"pair": (14, 15, 16, 17)}), teacher, target, normalised=True,
                      measured=pricer.measurements())  # fmt: skip
    # The same time: a target is shown 18 features and reads 14.
    assert constant.price("pair", _spec("w4a8i8", 16)).memory_bytes == cost.memory_bytes - 2 * 14
    assert target.asked == ["mlp 16 w4a8i8 on 14 inputs"]
    # Of those that change: 11 of 14 are left.
    assert constant.price("pair", replace(spec, inputs=11)).macs == 11 * 16 + 16 * 5 + 11
    assert target.asked[1:] == ["mlp 16 w4a8i8 on 11 inputs"]


def test_what_stands_in_sets_of_entities_is_pruned_as_anything_else(teacher: Teacher, target: _CountingTarget) -> None:
    entities = Entities(own=(2, 3), sets=(EntitySet(name="walls", members=((0,), (1,))),))
    env = replace(ENV, agents=dict.fromkeys(ENV.agents, replace(SPREAD, entities=entities)))
    cost = Pricer(env, teacher, target).price("pair", replace(_spec("float", 16), inputs=17))
    assert cost.macs == 17 * 16 + 16 * 5
