import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import scene_of

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.errors import BundleError, KdnasError
from kdnas.policies.actions import Box, MultiDiscrete
from kdnas.students import Normalisation, StudentTeam, Team, load_student, read_student_card
from kdnas.students.bundle import CARD, WEIGHTS, save_weights, write_card
from kdnas.students.weights import read_tensors, write_tensors

from .conftest import DRONE, ENV, MakeStudent, card_of, rows


def edit(folder: Path, change: Any) -> None:
    """Change the tables of `student.json` in place."""
    tables = json.loads((folder / CARD).read_text())
    change(tables)
    (folder / CARD).write_text(json.dumps(tables))


def rewrite(folder: Path, change: Any) -> None:
    """Change the tensors and the specs beside them, and let the card name the new file."""
    tensors, specs = read_tensors(folder / WEIGHTS)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors, specs)
    write_tensors(folder / WEIGHTS, tensors, specs)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    edit(folder, lambda tables: tables["hashes"].update(weights=digest))


def test_what_is_read_acts_as_what_was_written(team: Team, loaded: StudentTeam) -> None:
    for group, features in (("scout", 6), ("drones", 3)):  # w4a8i8, and float with a normalisation
        seen = torch.from_numpy(rows(2000, features))
        assert torch.equal(loaded.team.students[group](seen), team.students[group](seen))
    drone, scout = rows(500, 3), rows(500, 6)
    want = team.act(scene_of({"scout": scout[:, None], "drones": np.stack([drone, drone[::-1]], 1)}))
    have = loaded.act({"scout": scout, "drone_0": drone, "drone_1": drone[::-1]})
    np.testing.assert_array_equal(have["scout"], want["scout"][:, 0])
    np.testing.assert_array_equal(have["drone_0"], want["drones"][:, 0])
    np.testing.assert_array_equal(have["drone_1"], want["drones"][:, 1])


def test_weights_are_readable_by_everyone(folder: Path) -> None:
    # As the card beside them; a deployed folder is not always read by the user who made it.
    assert (folder / WEIGHTS).stat().st_mode == (folder / CARD).stat().st_mode


def test_weights_that_are_cut_in_half_or_changed_by_a_bit(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (content[: len(content) // 2], bytes(flipped), b""):
        (folder / WEIGHTS).write_bytes(damaged)
        with pytest.raises(BundleError, match=r"is not the file that student.json describes .*copy the folder again"):
            load_student(folder)


def test_weights_that_are_no_safetensors(folder: Path) -> None:
    rewrite(folder, lambda tensors, specs: None)
    content = (folder / WEIGHTS).read_bytes()[:100]
    (folder / WEIGHTS).write_bytes(content)
    edit(folder, lambda tables: tables["hashes"].update(weights=hashlib.sha256(content).hexdigest()))
    with pytest.raises(BundleError, match=r"student\.safetensors: is damaged"):
        load_student(folder)


def test_nothing_is_unpickled(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (folder / "executed",))

    content = pickle.dumps(Evil())
    (folder / WEIGHTS).write_bytes(content)
    edit(folder, lambda tables: tables["hashes"].update(weights=hashlib.sha256(content).hexdigest()))
    with pytest.raises(BundleError, match="is damaged"):
        load_student(folder)
    assert not (folder / "executed").exists()


def test_a_student_that_does_not_read_all_comes_back(make_student: MakeStudent, tmp_path: Path) -> None:
    spec = replace(ENV, constant={"scout": (1, 4)})
    normalisation = Normalisation(shift=(0.5,) * 4, scale=(2.0,) * 4)
    scout = make_student("w4a8i8", spec.student_spec("scout"), normalisation=normalisation)
    team = Team(spec, {"scout": scout, "drones": make_student()})
    write_card(tmp_path, card_of(team, save_weights(tmp_path, team)))
    loaded = load_student(tmp_path)
    assert loaded.team.spec == spec
    assert loaded.team.students["scout"].spaces == spec.student_spec("scout")
    seen = rows(2000, 6)  # users feed all that the environment shows
    assert torch.equal(loaded.team.students["scout"](torch.from_numpy(seen)), scout(torch.from_numpy(seen)))
    np.testing.assert_array_equal(loaded.act({"scout": seen})["scout"], scout(torch.from_numpy(seen)).argmax(-1))


@pytest.mark.parametrize(("kind", "bits"), [("mlp", "float"), ("mlp_softsign", "w4a8i8"), ("gru", "float"),
                                             ("mlp", "w8-4-3a8-4i8p")])  # fmt: skip
def test_a_student_that_was_pruned_of_inputs_comes_back(
    kind: str, bits: str, make_student: MakeStudent, tmp_path: Path
) -> None:
    spec = replace(ENV, constant={"scout": (1,)})
    spaces = replace(spec.student_spec("scout"), pruned=(0, 4))
    normalisation = Normalisation(shift=(0.5, 0.0, 1.0), scale=(2.0, 1.0, 1.0))
    scout = make_student(bits, spaces, normalisation=normalisation, kind=kind)
    team = Team(spec, {"scout": scout, "drones": make_student()})
    write_card(tmp_path, card_of(team, save_weights(tmp_path, team)))
    loaded = load_student(tmp_path)
    # The environment is that of the whole team; what one student does without is its own.
    assert loaded.team.spec == spec
    again = loaded.team.students["scout"]
    assert (again.spaces, again.spec, again.normalisation) == (spaces, scout.spec, normalisation)
    seen = torch.from_numpy(rows(600, 6)).reshape(-1, 6, 6)
    other = seen.clone()
    other[..., [0, 1, 4]] = 99.0
    assert torch.equal(again(other), scout(seen))
    assert loaded.act({"scout": [0.0] * 6})["scout"] in range(4)


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: cannot be read: No such file or directory"):
        load_student(folder)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"student.json: cannot be read: .*; is this a student folder\?"):
        load_student(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # Other widths, and formats that only one of the two files claims; w4 and w8 have equal shapes.
        (lambda t: t["groups"]["drones"]["spec"].update(hidden=[8, 5]), "'drones' is mlp 8x5 float, but the weights"),
        (lambda t: t["groups"]["scout"]["spec"]["bits"].update(weight=8), "'scout' is mlp 8x6 w8a8i8, but .* w4a8i8"),
        (lambda t: t["groups"]["scout"]["spec"].update(bits=None), "group 'scout' has no readable spec"),
        (lambda t: t["groups"]["scout"]["spaces"].update(observation_size=7), r"'input_ranges' is \(6,\)"),
        (lambda t: t["groups"]["drones"]["spaces"]["actions"].update(counts=[4]), r"'linears.2.bias' is \(5,\)"),
        (
            lambda t: t["groups"]["drones"]["spaces"]["actions"].update(kind="box", low=[1.0], high=[0.0]),
            r"\[groups.drones.spaces.actions\]: box: low < high must hold",
        ),
        (lambda t: t["groups"]["drones"]["spaces"].update(constant=[3]), r"drones.spaces\]: constant: features are"),
        (lambda t: t["groups"]["drones"]["spaces"].update(constant=[0, 1, 2]), "constant: all 3 features"),
        (lambda t: t["groups"]["drones"]["spaces"].update(constant="0"), "constant"),
        # The first layer of the scout has 6 columns.
        (lambda t: t["groups"]["scout"]["spaces"].update(constant=[2]), r"'input_ranges' is \(6,\)"),
        # Nor does its spec say that it was pruned.
        (lambda t: t["groups"]["scout"]["spaces"].update(pruned=[2]), "reads 5 features and is pruned of 1"),
        (lambda t: t["groups"]["scout"]["spaces"].update(pruned=[6]), r"scout.spaces\]: pruned: features are counted"),
        (lambda t: t["groups"]["drones"].update(agents=["scout"]), "an agent is in two groups"),
        (lambda t: t["groups"]["drones"]["normalisation"].update(shift=[0.0]), "is not one of 3 features"),
        (lambda t: t.update(schema_version=2), "schema_version: must be 1, but got 2"),
        (lambda t: t.update(extra=1), "extra: unknown key"),
        (lambda t: t.pop("hashes"), r"\[hashes\]: is missing"),
        (lambda t: t.update(groups={}), "groups"),
    ],
)
def test_a_card_that_does_not_describe_its_weights(folder: Path, change: Any, said: str) -> None:
    edit(folder, change)
    with pytest.raises(BundleError, match=said):
        load_student(folder)


@pytest.mark.parametrize("text", ["{", "", "[]", '"student"', "\x00"])
def test_a_card_that_is_no_json(folder: Path, text: str) -> None:
    (folder / CARD).write_text(text)
    with pytest.raises(BundleError, match=r"student\.json"):
        read_student_card(folder)


def test_a_card_that_is_no_text_or_too_long(folder: Path) -> None:
    (folder / CARD).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(BundleError, match=r"student\.json: is not text"):
        read_student_card(folder)
    (folder / CARD).write_text(" " * (1 << 21))
    with pytest.raises(BundleError, match=r"student\.json: is too large"):
        read_student_card(folder)


def _drop(tensors: dict[str, Any], specs: dict[str, Any]) -> None:
    del tensors["drones/linears.1.bias"]


def _add(tensors: dict[str, Any], specs: dict[str, Any]) -> None:
    tensors["drones/linears.9.bias"] = torch.zeros(1)


def _break(tensors: dict[str, Any], specs: dict[str, Any]) -> None:
    tensors["drones/linears.1.bias"][0] = torch.inf


def _mix(tensors: dict[str, Any], specs: dict[str, Any]) -> None:
    specs["scout"]["bits"] |= {"weight": [4, 8, 4], "power_of_two": True}


def _misfit(tensors: dict[str, Any], specs: dict[str, Any]) -> None:
    specs["scout"]["bits"] |= {"weight": [4, 8]}


def _swap(tensors: dict[str, Any], specs: dict[str, Any]) -> None:
    specs["drones"] = specs["scout"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_drop, r"'linears.1.bias' is missing, the spec wants \(6,\)"),
        (_add, r"'linears.9.bias' is \(1,\), the spec wants no such tensor"),
        (_break, "'linears.1.bias' holds NaN or infinity"),
        (_mix, "'scout' is mlp 8x6 w4a8i8, but the weights are those of mlp 8x6 w4-8-4a8i8p"),
        (_misfit, r"group 'scout' has no readable spec: .* must have one width, or 3 of weights and 2 of activations"),
        (_swap, "'drones' is mlp 8x6 float, but the weights are those of mlp 8x6 w4a8i8"),
    ],
)
def test_weights_that_are_not_those_of_the_spec(folder: Path, change: Any, said: str) -> None:
    rewrite(folder, change)
    with pytest.raises(BundleError, match=said):
        load_student(folder)


def test_a_spec_of_a_giant_is_refused_before_it_is_built(folder: Path) -> None:
    def grow(tables: Any) -> None:
        tables["groups"]["drones"]["spec"] |= {"base": [1 << 20, 1 << 20], "hidden": [1 << 20, 1 << 20]}

    def agree(tensors: dict[str, Any], specs: dict[str, Any]) -> None:
        specs["drones"] |= {"base": [1 << 20, 1 << 20], "hidden": [1 << 20, 1 << 20]}

    rewrite(folder, agree)
    edit(folder, grow)
    with pytest.raises(BundleError, match=r"weights; a student has 67,108,864 at most"):
        load_student(folder)


def test_a_spec_of_more_weights_than_there_are_is_refused_before_it_is_built(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {"base": [8000, 8000], "hidden": [8000, 8000]}  # 256 MB in float, and many times as much to quantize

    class Small(torch.nn.Linear):
        def __init__(self, inputs: int, outputs: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
            assert inputs < 8000, "it is built"
            super().__init__(inputs, outputs, bias, device, dtype)

    rewrite(folder, lambda tensors, specs: specs["drones"].update(large))
    edit(folder, lambda tables: tables["groups"]["drones"]["spec"].update(large))
    monkeypatch.setattr(torch.nn, "Linear", Small)
    with pytest.raises(BundleError, match=r"mlp 8000x8000 float: it has 64,\d+,000, and here are \d+ numbers"):
        load_student(folder)


def test_a_cell_without_a_width(folder: Path) -> None:
    none = {"family": "gru", "base": [], "hidden": []}
    rewrite(folder, lambda tensors, specs: specs["drones"].update(none))
    edit(folder, lambda tables: tables["groups"]["drones"]["spec"].update(none))
    with pytest.raises(KdnasError, match="the last width is that of its cell; give one at least"):
        load_student(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda card: card.update(score={}), "cost or score lack 'retention'"),
        (lambda card: card["score"].pop("seeds"), "cost or score lack 'seeds'"),
        (lambda card: card["score"]["return"].pop("low"), r"low\b"),
        (lambda card: card["cost"]["teacher"].pop("flops"), "cost or score lack 'flops'"),
        (lambda card: card["cost"]["latency_s"].pop("reference"), "cost or score lack 'reference'"),
        (lambda card: card["cost"].pop("memory_bytes"), "cost or score lack 'memory_bytes'"),
        (lambda card: card["cost"]["groups"].pop("drones"), "cost or score lack 'drones'"),
        (lambda card: card["cost"].update(teacher=3), "cost or score are no tables of numbers"),
        (lambda card: card["cost"].update(macs="many"), "invalid literal"),
    ],
)
def test_a_card_has_its_prices_and_its_score(folder: Path, change: Any, said: str) -> None:
    edit(folder, change)
    with pytest.raises(BundleError, match=rf"student\.json: .*{said}"):
        read_student_card(folder)


def test_groups_may_be_called_as_other_groups_files(make_student: MakeStudent, tmp_path: Path) -> None:
    groups = {"a": ("x",), "a/b": ("y",)}
    spec = EnvSpec(name="test", agents={"x": DRONE, "y": DRONE}, groups=groups, state_size=1)
    team = Team(spec, {"a": make_student(), "a/b": make_student(hidden=(4,))})
    write_card(tmp_path, card_of(team, save_weights(tmp_path, team)))
    assert load_student(tmp_path).team.students["a/b"].spec.hidden == (4,)


@pytest.mark.parametrize(
    "actions",
    [
        MultiDiscrete((2, 3)),
        Box((-1.0, -np.inf), (0.5, 0.1)),
        Box((-1.0, -2.0), (0.5, 0.1), squashed=True),
    ],
)
def test_other_actions_come_back_with_the_team(make_student: MakeStudent, tmp_path: Path, actions: Any) -> None:
    spaces = AgentSpec(observation_size=3, actions=actions)
    spec = EnvSpec(name="test", agents={"x": spaces, "y": spaces}, groups={"all": ("x", "y")}, state_size=6)
    team = Team(spec, {"all": make_student(spaces=spaces)})
    write_card(tmp_path, card_of(team, save_weights(tmp_path, team)))
    again, seen = load_student(tmp_path), rows(500, 3)
    assert again.team.spec == spec
    want = team.act(scene_of({"all": np.stack([seen, -seen], 1)}))["all"]
    have = again.act({"x": seen, "y": -seen})
    np.testing.assert_array_equal(np.stack([have["x"], have["y"]], 1), want, strict=True)
