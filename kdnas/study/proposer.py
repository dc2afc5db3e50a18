"""The proposer: which teams of banked students to play next, by what they are predicted to retain.

An Optuna study in memory goes through thousands of teams without playing one: retention is predicted, the price is a
sum over seats. What it finds is compared with the front of the teams that were played.
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

import numpy as np

from kdnas.budgets.cost import TeamCost
from kdnas.spaces.space import Candidate
from kdnas.spaces.spec import StudentSpec
from kdnas.study.board import Board, Lineup, Outcome
from kdnas.study.front import Objectives, hypervolume, non_dominated

POPULATION = 50
"""Teams of one generation of NSGA-II."""
MOVES = 25
"""Of them, neighbours of the front: a step to the next option in one group. With 16 groups NSGA-II found nothing beyond
the starting teams without them."""
UNIFORM = 10
"""Starting teams that take the same place among the options of every group."""
RATES = tuple(10 ** (step / 10) for step in range(-40, 41))
"""Retention that the teacher's whole price is taken to be worth in the starting teams: ten steps a decade."""
MIXTURES = 8
"""Steps from one kind of price to another."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A team to play."""

    candidate: dict[str, StudentSpec]
    objectives: Objectives
    """Predicted retention, team FLOPs, team memory."""
    improvement: float
    """Hypervolume that it adds, if predicted rightly, to the played front and the proposals before it."""


def propose(
    board: Board,
    *,
    played: Sequence[tuple[Candidate, Objectives]],
    asked: Iterable[Candidate] = (),
    beaten: Iterable[Candidate] = (),
    count: int,
    evaluations: int,
    seed: int,
) -> list[Proposal]:
    """The teams to play next, best first; fewer than `count` where no more feasible ones were found.

    First come the teams of the predicted front, each the one that adds most hypervolume to the played front, to what
    `asked` teams are predicted to add, and to the proposals before it. When nothing adds any more, the teams nearest to
    the front follow: prediction errs, and so they may be on it after all.

    Args:
        board: the teams that there are.
        played: teams with what they reached; those that are not on the board count too.
        asked: teams on their way: not to be proposed again, and without a result yet.
        beaten: teams that are not to be proposed again either, and add nothing.
        count: how many proposals.
        evaluations: teams that NSGA-II goes through; at most half of them are starting teams.
        seed: of its random numbers.
    """
    if not all(board.options.values()):
        return []
    points = [reached for _, reached in played]
    front = [board.team(played[place][0]) for place in non_dominated(points)]
    waiting = [team for team in map(board.team, asked) if team is not None]
    known = {*waiting, *map(board.team, beaten), *(board.team(candidate) for candidate, _ in played)}
    starts = [*(team for team in front if team is not None), *starting_teams(board)]
    found = explore(board, starts, evaluations=evaluations, seed=seed)
    fresh = [team for team, outcome in found.items() if outcome.feasible and team not in known]
    base = [*points, *(board.outcome(team).objectives for team in waiting)]
    return [
        Proposal(
            candidate=board.candidate(fresh[place]), objectives=found[fresh[place]].objectives, improvement=improvement
        )
        for place, improvement in rank([found[team].objectives for team in fresh], base, board.teacher, count)
    ]


def starting_teams(board: Board) -> list[Lineup]:
    """Teams to begin with: uniform ones, and the best for many rates of exchange between retention and price.

    Losses and prices are sums over groups, so the team with the least loss + rate x price is each group's own choice:
    the corners of the convex hull of the front, exactly, at a cost that grows with groups x options. What lies between
    them is left to the search. Prices are FLOPs, memory, what `team.` limits speak of, and mixtures of two of them.
    """
    sizes = [len(own) for own in board.options.values()]
    steps = [step / (UNIFORM - 1) for step in range(UNIFORM)]
    uniform = [tuple(round(step * (size - 1)) for size in sizes) for step in steps]
    shares = board.shares()
    kinds = np.eye(len(shares[0]))  # (D, D)
    mixtures = [
        (1 - step / MIXTURES) * kinds[one] + step / MIXTURES * kinds[other]
        for one, other in product(range(len(kinds)), repeat=2)
        if one < other
        for step in range(MIXTURES + 1)
    ]
    weights = np.array([rate * mixture for mixture in mixtures for rate in RATES])  # (N, D)
    chosen = [np.argmin(lost + weights @ taken, 1) for lost, taken in zip(board.losses(), shares, strict=True)]
    frugal = [np.argmin(np.array(mixtures) @ taken, 1) for taken in shares]
    corners = np.concatenate([np.stack(frugal, 1), np.stack(chosen, 1)]).tolist()
    return list(dict.fromkeys([*uniform, *map(tuple, corners)]))


def explore(
    board: Board, starts: Sequence[Lineup], *, evaluations: int, seed: int, moves: int = MOVES
) -> dict[Lineup, Outcome]:
    """Go through so many teams with NSGA-II; returns each distinct one with its outcome.

    All starts are looked at, and NSGA-II begins with them, evenly thinned to half of the evaluations. Of each later
    generation `moves` teams are steps from the front found so far. A team beyond a `team.` limit is told with its
    violations, from which NSGA-II learns. Prices are told as logarithms, so that teams spread over decades as the
    hypervolume counts them.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=sampler)
    choices = {
        group: optuna.distributions.CategoricalDistribution(range(len(own))) for group, own in board.options.items()
    }
    random = Random(seed)
    distinct = list(dict.fromkeys(starts))
    queue = distinct[:: max(1, math.ceil(2 * len(distinct) / max(evaluations, 1)))]
    begun = len(queue)
    found = {team: board.outcome(team) for team in distinct}
    for number in range(evaluations):
        if found and number >= begun and (number - begun) % POPULATION == 0:
            queue = _steps(board, found, moves, random)
        for team in queue:
            study.enqueue_trial(dict(zip(board.options, team, strict=True)))
        queue = []
        trial = study.ask(choices)  # type: ignore[arg-type]
        chosen = trial.params
        team = tuple(chosen[group] for group in board.options)
        if team not in found:
            found[team] = board.outcome(team)
        for name, violation in found[team].violations.items():
            trial.set_constraint(name, violation)
        retention, flops, memory = found[team].objectives
        study.tell(trial, [retention, math.log10(flops), math.log10(memory)])
    return found


def rank(
    points: Sequence[Objectives], played: Sequence[Objectives], teacher: TeamCost, count: int
) -> list[tuple[int, float]]:
    """Positions of the `count` best points with the hypervolume that each adds to the played and those before it.

    What a point adds can only fall while others are taken (hypervolume is submodular), so only the first of the queue
    is computed again. Points that add nothing follow, those that lack the least retention first.
    """
    base = [played[place] for place in non_dominated(played)]
    volume = hypervolume(base, teacher)
    queue = [(volume - hypervolume([*base, points[place]], teacher), 0, place) for place in non_dominated(points)]
    heapq.heapify(queue)
    order: list[tuple[int, float]] = []
    while queue and len(order) < count:
        less, seen, place = heapq.heappop(queue)
        if seen < len(order):
            less = volume - hypervolume([*base, points[place]], teacher)
            heapq.heappush(queue, (less, len(order), place))
        elif -less <= 1e-12:
            break
        else:
            order.append((place, -less))
            base.append(points[place])
            volume -= less
    taken = {place for place, _ in order}
    rest = [place for place in range(len(points)) if place not in taken] if len(order) < count else []
    nearest = sorted((_shortfall(points[place], base), place) for place in rest)[: count - len(order)]
    return [*order, *((place, 0.0) for _, place in nearest)]


def _steps(board: Board, found: Mapping[Lineup, Outcome], count: int, random: Random) -> list[Lineup]:
    """So many teams that are new, a step to the next option in one group away from the feasible front.

    While nothing is feasible, from the team that is nearest to it.
    """
    feasible = [team for team, outcome in found.items() if outcome.feasible]
    front = [feasible[place] for place in non_dominated([found[team].objectives for team in feasible])]
    parents = front or [min(found, key=lambda team: sum(max(0.0, over) for over in found[team].violations.values()))]
    sizes = [len(own) for own in board.options.values()]
    steps: dict[Lineup, None] = {}
    for _ in range(10 * count):  # near the end most neighbours are known
        if len(steps) == count:
            break
        team = list(random.choice(parents))
        group = random.randrange(len(sizes))
        team[group] = min(max(team[group] + random.choice((-1, 1)), 0), sizes[group] - 1)
        if tuple(team) not in found:
            steps[tuple(team)] = None
    return list(steps)


def _shortfall(point: Objectives, front: Sequence[Objectives]) -> float:
    """Retention that a point lacks to be the best at its price; one that nothing undercuts is held against 0."""
    retention, flops, memory = point
    return max((other for other, cost, size in front if cost <= flops and size <= memory), default=0.0) - retention
