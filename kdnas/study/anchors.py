"""Teams that are tried first: uniform ones, the largest that the budget allows, and the smallest."""

from collections.abc import Iterator, Mapping

from kdnas.budgets.budget import TEAM
from kdnas.budgets.metric import Metric
from kdnas.spaces.space import SearchSpace
from kdnas.spaces.spec import StudentSpec
from kdnas.study.gate import Gate


def size_of(spec: StudentSpec, gate: Gate, group: str) -> tuple[int, int]:
    """What specs of a group are ordered by: FLOPs, then memory."""
    cost = gate.pricer.price(group, spec, measure=False)
    return cost.flops, cost.memory_bytes


def ordered_specs(space: SearchSpace, gate: Gate) -> dict[str, list[StudentSpec]]:
    """Group -> its specs from the smallest to the largest."""
    return {
        group: sorted(choices.parameters, key=lambda spec, group=group: size_of(spec, gate, group))  # type: ignore[misc]
        for group, choices in space.groups.items()
    }


def smallest(specs: dict[str, list[StudentSpec]]) -> dict[str, StudentSpec]:
    """The candidate with the fewest FLOPs in every group."""
    return {group: own[0] for group, own in specs.items()}


def median(specs: dict[str, list[StudentSpec]]) -> dict[str, StudentSpec]:
    """The candidate in the middle of every group's specs."""
    return {group: own[len(own) // 2] for group, own in specs.items()}


def largest(specs: dict[str, list[StudentSpec]]) -> dict[str, StudentSpec]:
    """The candidate with the most FLOPs in every group."""
    return {group: own[-1] for group, own in specs.items()}


def uniform(space: SearchSpace, ratio: float) -> dict[str, StudentSpec]:
    """Every hidden layer of a group's first base pruned by one ratio, all inputs, 8 bits everywhere; the nearest spec
    there is."""

    def distance(spec: StudentSpec, first: tuple[int, ...]) -> tuple[bool, float, bool, float, bool]:
        off = sum(abs(1 - own / dense - ratio) for own, dense in zip(spec.hidden, spec.base, strict=True))
        bits, depth = spec.bits, len(spec.hidden)
        narrow = spec.inputs is not None
        widths = (bits.weights(depth + 1), bits.activations(depth), (bits.input,))
        odd = sum(sum(abs(width - 8) for width in each) / len(each) for each in widths)
        return spec.base != first, off, narrow, odd, bits.power_of_two

    chosen = {}
    for group, choices in space.groups.items():
        first = choices.table.bases[0].hidden
        chosen[group] = min(choices.parameters, key=lambda spec, first=first: distance(spec, first))  # type: ignore[misc]
    return chosen


def first_teams(space: SearchSpace, gate: Gate, feasible: Mapping[str, StudentSpec]) -> list[dict[str, StudentSpec]]:
    """What a new search tries first: uniform 50 % / 8 bit, the other uniform teams, largest feasible, and smallest.

    Uniform teams are a good front already, and cheap where groups share a pool: one student serves every seat. On
    simple_spread a search without them had found one of them after 60 trials. Students of 8 bits are complete sooner
    and lose little; the ends of the space, of which the smallest has the fewest bits and so the longest training, can
    wait.
    """
    ratios = next(iter(space.groups.values())).table.bases[0].prune
    return [
        uniform(space, 0.5),
        *(uniform(space, ratio) for ratio in ratios),
        dict(feasible),
        smallest(ordered_specs(space, gate)),
    ]


def largest_feasible(specs: dict[str, list[StudentSpec]], gate: Gate) -> dict[str, StudentSpec] | None:
    """The largest candidate that meets the budget, found greedily; None when nothing is found that does.

    Each group first steps down to its largest spec that meets what is said of single agents; while a `team.` constraint
    is broken, the group with the most FLOPs steps down. FLOPs are not everything (4-bit weights take less memory than
    fewer float ones), so the end of that way is not the end: then come the most frugal teams.
    """
    alone = {group: [spec for spec in own if gate.allows(group, spec)] for group, own in specs.items()}
    if not all(alone.values()):
        return None
    places = {group: len(own) - 1 for group, own in alone.items()}
    while True:
        candidate = {group: alone[group][place] for group, place in places.items()}
        if gate.judge(candidate).feasible:
            return candidate
        movable = [group for group, place in places.items() if place > 0]
        if not movable:
            return next((team for team in frugal(alone, gate) if gate.judge(team).feasible), None)
        places[max(movable, key=lambda group: size_of(candidate[group], gate, group))] -= 1


def frugal(specs: Mapping[str, list[StudentSpec]], gate: Gate) -> Iterator[dict[str, StudentSpec]]:
    """The teams that take least of what `team.` constraints limit: of each alone, then of all, as shares of the limits.

    A team's sum is least where every group's own is: with one such constraint nothing comes nearer to it.
    """
    teacher = gate.pricer.teacher_cost().team
    limits = [
        (item.metric, item.limit * (item.metric.read(teacher) if item.relative else 1.0))
        for item in gate.budget.constraints
        if item.scope == TEAM
    ]

    def share(group: str, spec: StudentSpec, taken: list[tuple[Metric, float]]) -> float:
        cost = gate.pricer.price(group, spec)
        return sum(metric.read(cost) / limit for metric, limit in taken if limit)

    for taken in ([limit] for limit in limits):
        yield {group: min(own, key=lambda spec: share(group, spec, taken)) for group, own in specs.items()}
    yield {group: min(own, key=lambda spec: share(group, spec, limits)) for group, own in specs.items()}
