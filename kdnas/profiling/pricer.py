"""`Pricer`: what candidates and their teacher cost, each thing counted or measured once."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from kdnas.budgets.cost import Cost, TeamCost
from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import KdnasError, StudentError, TeacherError
from kdnas.policies.actions import ActionSpace, Box, MultiDiscrete
from kdnas.profiling.activations import largest_activation_pair
from kdnas.profiling.flops import count_macs
from kdnas.profiling.memory import bops, memory_bytes, parameters
from kdnas.profiling.target import Measurement, Target
from kdnas.spaces.spec import FLOAT_BITS, StudentSpec
from kdnas.students.family import Family, load_family, read_features
from kdnas.teachers.teacher import Teacher


class Pricer:
    """Prices students before they exist: MACs of a fresh float network, bytes and BOPs of its layers, and latency of a
    model of its shape.

    Args:
        spec: the environment, for spaces and seats.
        teacher: what relative budgets compare with.
        target: where latency is measured.
        normalised: students have a `Normalisation`: one more MAC, a shift and a scale for each feature that is read.
        measured: what `measurements` has returned in an earlier process on the same machine.
        pause: entered around each measurement, so that no worker trains meanwhile.
        keep: told of all measurements after each new one.
    """

    def __init__(
        self,
        spec: EnvSpec,
        teacher: Teacher,
        target: Target,
        *,
        normalised: bool = False,
        measured: Mapping[str, Measurement] | None = None,
        pause: Callable[[], AbstractContextManager[None]] = nullcontext,
        keep: Callable[[Mapping[str, Measurement]], None] = lambda measured: None,
    ) -> None:
        self._spec, self._teacher, self._target = spec, teacher, target
        self._normalised, self._pause, self._keep = normalised, pause, keep
        self._measured = dict(measured or {})
        self._families: dict[str, Family] = {}  # looking a plugin up takes milliseconds
        self._macs: dict[tuple[str, tuple[int, ...], AgentSpec], int] = {}
        self._teacher_costs: dict[bool, TeamCost] = {}

    def price(self, group: str, student: StudentSpec, *, measure: bool = True) -> Cost:
        """The price of one agent of a group; without `measure` its latency is 0.

        Raises:
            KdnasError: the family is unknown, holds operators that cannot be counted, or cannot run on the target.
        """
        spaces = self._spec.student_spec(group)
        if student.inputs is not None:  # which ones makes no difference
            spaces = spaces.reading(spaces.kept[: student.inputs])
        inputs = spaces.inputs
        layers = self._family(student.family).layers(student, inputs)
        features = read_features(self._family(student.family), inputs) if self._normalised else 0
        counted = Cost(
            macs=self._count(student, inputs) + features,
            bops=bops(layers),
            params=parameters(layers),
            memory_bytes=memory_bytes(layers, features),
            latency_p50_s=0.0,
            latency_p95_s=0.0,
        )
        return with_measurement(counted, self._measure_shape(student, spaces)) if measure else counted

    def team(self, candidate: Mapping[str, StudentSpec], *, measure: bool = True) -> TeamCost:
        """The price of a candidate."""
        agents = {group: self.price(group, candidate[group], measure=measure) for group in self._spec.groups}
        return TeamCost(agents=agents, seats=self._spec.seats)

    def teacher_cost(self, *, measure: bool = True) -> TeamCost:
        """The price of the teacher's actors, critics left out; groups that share a network share its measurement.

        Raises:
            TeacherError: an actor holds operators that cannot be counted, or cannot run on the target.
        """
        if measure not in self._teacher_costs:  # a gate asks for every candidate
            agents = {group: self._price_actor(group, measure=measure) for group in self._spec.groups}
            self._teacher_costs[measure] = TeamCost(agents=agents, seats=self._spec.seats)
        return self._teacher_costs[measure]

    def measurements(self) -> dict[str, Measurement]:
        """Everything measured so far, or given as `measured`."""
        return dict(self._measured)

    def _family(self, name: str) -> Family:
        if name not in self._families:
            self._families[name] = load_family(name)
        return self._families[name]

    def _count(self, student: StudentSpec, inputs: AgentSpec) -> int:
        key = (student.family, student.hidden, inputs)
        if key not in self._macs:
            generator = torch.Generator().manual_seed(0)
            network = self._family(student.family).build(student.floating, inputs, generator)
            hidden = self._family(student.family).hidden_size(student)
            features = torch.zeros(1, inputs.observation_size)
            self._macs[key] = count_macs(network, (features, torch.zeros(1, hidden)) if hidden else (features,))
        return self._macs[key]

    def _measure_shape(self, student: StudentSpec, spaces: AgentSpec) -> Measurement:
        entities, features = spaces.inputs.entities, str(spaces.observation_size)
        if not spaces.reads_all:  # they are selected first, and which ones makes no difference
            features = f"{len(spaces.kept)}of{features}"
        sizes = "-".join(map(str, (features, *student.hidden, spaces.actions.outputs)))
        if entities is not None:  # what a layer reads then depends on how many there are, and how large
            own, sets = len(entities.own), [(len(each.members), each.width) for each in entities.sets]
            sizes += f"({'+'.join([str(own), *(f'{count}x{width}' for count, width in sets)])})"
        extras = "+masked" * spaces.masked + "+normalised" * self._normalised + _kind(spaces.actions)
        key = f"{self._target.name}/{student.family}/{sizes}{extras}/{self._target.number_format(student.bits)}"
        return self._measure(
            key, lambda: self._target.measure(student.family, student, spaces, normalised=self._normalised)
        )

    def _measure(self, key: str, measure: Callable[[], Measurement]) -> Measurement:
        if key not in self._measured:
            with self._pause():
                try:
                    taken = measure()
                except StudentError:  # once more: a connection to a device may be lost
                    taken = measure()
            self._measured[key] = taken
            self._keep(self.measurements())
        return self._measured[key]

    def _price_actor(self, group: str, *, measure: bool) -> Cost:
        actor, probe = self._teacher.actors[group], self._teacher.probe(group)
        try:
            cost = _count_actor(actor, probe)
            if not measure:
                return cost
            key = f"{self._target.name}/teacher/{self._teacher.digest(group)}"
            measured = self._measure(key, lambda: self._target.measure_module(actor, probe))
        except KdnasError as error:
            raise TeacherError(f"the teacher of group {group!r} cannot be priced: {error}") from error
        return with_measurement(cost, measured)


def _kind(actions: ActionSpace) -> str:
    """What is done with as many outputs; most often the largest of them is looked for, which is not said."""
    if isinstance(actions, Box):
        return "+squashed" if actions.squashed else "+box"
    return f"+factors{'x'.join(map(str, actions.counts))}" if isinstance(actions, MultiDiscrete) else ""


def with_measurement(cost: Cost, measured: Measurement) -> Cost:
    """A cost with what was measured on a target."""
    return replace(
        cost,
        latency_p50_s=measured.p50_s,
        latency_p95_s=measured.p95_s,
        latency_p99_s=measured.p99_s,
        reference_s=measured.reference_s,
        flash_bytes=measured.flash_bytes,
        ram_bytes=measured.ram_bytes,
    )


def _count_actor(actor: nn.Module, probe: tuple[Tensor, ...]) -> Cost:
    macs, params = count_macs(actor, probe), sum(tensor.numel() for tensor in actor.parameters())
    word = FLOAT_BITS // 8
    return Cost(
        macs=macs,
        bops=macs * FLOAT_BITS * FLOAT_BITS,
        params=params,
        memory_bytes=word * (params + largest_activation_pair(actor, probe)),
        latency_p50_s=0.0,
        latency_p95_s=0.0,
    )
