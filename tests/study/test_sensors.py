from dataclasses import replace

import numpy as np
import torch

from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Discrete
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Student, Team, load_family
from kdnas.students.mlp import FAMILY
from kdnas.study.search import describe_features
from kdnas.study.sensors import needless_features, removable_features
from kdnas.study.setup import open_study, read_study

from .conftest import WriteStudy

SPACES = AgentSpec(observation_size=4, actions=Discrete(2), constant=(3,))


def test_what_a_student_does_not_need() -> None:
    """It names the larger of two numbers, reads a third for nothing, and is not shown the fourth."""
    spec = StudentSpec(family="mlp", base=(3,), hidden=(3,))
    network = FAMILY.build(spec, SPACES.inputs, torch.Generator().manual_seed(0))
    with torch.no_grad():
        # Logits relu(a - b) and relu(b - a); the third adds what no decision can turn on.
        network.linears[0].weight.copy_(torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1e-6]]))
        network.linears[0].bias.zero_()
        network.linears[1].weight.copy_(torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]))
        network.linears[1].bias.zero_()
    student = Student(spec, SPACES, network).eval()
    views = np.random.default_rng(0).standard_normal((2000, 4)).astype(np.float32)
    assert needless_features([student], views) == [2]


def test_of_two_that_say_the_same_one_is_needed() -> None:
    """It names the larger of a number and the mean of two that are always equal: either will do, but not neither."""
    spec = StudentSpec(family="mlp", base=(2,), hidden=(2,))
    network = FAMILY.build(spec, SPACES.inputs, torch.Generator().manual_seed(0))
    views = np.random.default_rng(0).standard_normal((2000, 4)).astype(np.float32)
    views -= views.mean(0)
    views[:, 2] = views[:, 1]
    with torch.no_grad():
        network.linears[0].weight.copy_(torch.tensor([[1e-6, -100.0, -100.0], [-1e-6, 100.0, 100.0]]))
        network.linears[0].bias.zero_()
        network.linears[1].weight.copy_(torch.eye(2))
        network.linears[1].bias.zero_()
    student = Student(spec, SPACES, network).eval()
    assert needless_features([student], views) == [0, 1]


def test_what_a_whole_front_does_without(write_study: WriteStudy) -> None:
    """Two students of three features, the second of which remembers: nothing is tried on it, but it was pruned too."""
    setup = open_study(read_study(write_study("echo")))
    pool = setup.pools["left"]
    specs = [StudentSpec(family=family, base=(4,), hidden=(4,), inputs=2) for family in ("mlp", "gru")]
    recorded = {group: np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32) for group in setup.pools}

    def needless(*pruned: int) -> dict[str, tuple[int, ...]]:
        teams = []
        for spec, feature in zip(specs, pruned, strict=True):
            spaces = replace(pool.spaces, pruned=(feature,))
            network = load_family(spec.family).build(spec, spaces.inputs, torch.Generator().manual_seed(0))
            teams.append(Team(setup.spec, dict.fromkeys(setup.pools, Student(spec, spaces, network))))
        return removable_features(teams, recorded)

    assert needless(1, 1) == {"left": (1,), "right": (1,)}
    assert needless(1, 2) == {}  # the first reads what the second does without


def test_features_in_words() -> None:
    assert describe_features({"a": (1, 2, 3), "b": (0,), "c": (1, 2, 3)}) == "1-3 of a, c; 0 of b"
