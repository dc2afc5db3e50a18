"""Teams that are tried first: the smallest, uniform 50 % / 8 bit, and the largest that the budget allows."""

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


def uniform_half(space: SearchSpace) -> dict[str, StudentSpec]:
    """Every hidden layer of a group's first base pruned by half, 8 bits everywhere; the nearest spec that there is."""

    def distance(spec: StudentSpec, first: tuple[int, ...]) -> tuple[bool, float, int]:
        off = sum(abs(own / dense - 0.5) for own, dense in zip(spec.hidden, spec.base, strict=True))
        bits = spec.bits
        return spec.base != first, off, abs(bits.weight - 8) + abs(bits.activation - 8) + abs(bits.input - 8)

    chosen = {}
    for group, choices in space.groups.items():
        first = choices.table.bases[0].hidden
        chosen[group] = min(choices.parameters, key=lambda spec, first=first: distance(spec, first))  # type: ignore[misc]
    return chosen


def largest_feasible(specs: dict[str, list[StudentSpec]], gate: Gate) -> dict[str, StudentSpec] | None:
    """The largest candidate that meets the budget, found greedily; None when even the greedy end breaks it.

    Each group first steps down to its largest spec that meets what is said of single agents; while a `team.` constraint
    is broken, the group with the most FLOPs steps down.
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
            return None
        places[max(movable, key=lambda group: size_of(candidate[group], gate, group))] -= 1
