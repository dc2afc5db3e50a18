"""A search over bits of each layer and scales that are powers of two, from the space to the C."""

from pathlib import Path

import pytest

from kdnas.profiling import memory_bytes
from kdnas.students import load_family, load_student
from kdnas.study.export import export_trial
from kdnas.study.run_folder import trials_of
from kdnas.study.search import search
from kdnas.study.setup import open_study, read_study

from .conftest import WriteStudy

BASE = {"family": "mlp_softsign", "hidden": [16], "prune": [0.5]}
SPACE = {
    "name": "mixed",
    "groups": {
        "default": {
            "bits": [],
            "mixed": {"weights": [3, 8], "activations": [4, 8], "power_of_two": True},
            "bases": [BASE],
        }
    },
}


@pytest.mark.slow
def test_bits_of_each_layer_are_sampled_priced_trained_and_exported(write_study: WriteStudy, tmp_path: Path) -> None:
    path, run = write_study("mixed_bits", space=SPACE), tmp_path / "run"
    front = search(path, budget="memory<200B", trials=6, out=run)
    names = ("weights.0", "weights.1", "activations.0")
    layers = {f"{group}.0.{name}" for group in ("left", "right") for name in names}
    trials = trials_of(run)
    assert {trial.params["left.bits"] for trial in trials} == {"mixed"}
    assert all(layers <= set(trial.params) for trial in trials)
    # The smallest team, 3 bits and 4, is an anchor: 3-8-3 are 24 + 24 weights, 2 x 9 bytes; 11 biases, 3 scales of
    # inputs and 11 exponents; 8 + 4 x 3 bytes of activations.
    setup = open_study(read_study(path))
    tried = {str(spec): spec for trial in trials for spec in [setup.space.groups["left"].sample(trial)]}
    smallest = tried["mlp_softsign 8 w3a4i8p"]
    spaces = setup.spec.student_spec("left").inputs
    assert memory_bytes(load_family("mlp_softsign").layers(smallest, spaces)) == 18 + 44 + 12 + 11 + 20 == 105
    seen = {setup.space.groups[group].sample(trial).bits for trial in trials for group in setup.space.groups}
    assert any(bits.mixed for bits in seen)
    for member in front:
        team = load_student(member.path or "").team
        assert {group: student.spec for group, student in team.students.items()} == member.candidate
        folder = export_trial(run, member.trial, tmp_path / f"c{member.trial}", "c")
        bound = {artifact.format: artifact for artifact in load_student(folder).card.artifacts}
        assert bound.keys() == {"onnx", "c"}
        assert all(artifact.agreed_rows >= 0.999 * artifact.checked_rows for artifact in bound.values())
