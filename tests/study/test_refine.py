"""The end of a search: teams of the front are trained on, and what the search thought of them is looked back on."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdnas.distill import last_stage
from kdnas.distill.refined import RefinedTeams
from kdnas.envs.rollouts import play
from kdnas.evaluation.score import make_gain, make_score
from kdnas.policies.team_policy import RandomPolicy
from kdnas.students import load_student
from kdnas.students.weights import weights_digest
from kdnas.study import tasks
from kdnas.study.deliver import recorded_rows
from kdnas.study.front import Member, ParetoFront, read_front
from kdnas.study.search import search
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.tasks import (
    make_bank,
    make_refined,
    play_refined,
    play_team,
    record_demonstrations,
    refine_team,
    sit_down,
    train_student,
)

from .conftest import BUDGET, Finished, Notes, WriteStudy


@pytest.fixture
def echo(write_study: WriteStudy) -> Setup:
    return open_study(read_study(write_study("echo"), budget=BUDGET))


def digests(team: Any) -> list[str]:
    return [weights_digest(student) for student in team.students.values()]


def test_every_team_of_the_front_is_refined_or_left(finished: Finished, echo: Setup) -> None:
    run, front, notes = finished
    refined, bank = make_refined(echo, run), make_bank(echo, run)
    assert [stage.name for stage in refined.stages] == ["joint recovery"]
    assert len(list(refined.folder.iterdir())) == len(front)
    assert f"refining {len(front)} of the {len(front)} teams of the front by joint recovery" in notes.messages
    for member in front:
        (record,) = member.refinements
        assert record.gain is not None
        assert record.gain.episodes == 128
        assert record.kept == (record.gain.mean > 0)
        assert f"trial {member.trial}: {record}" in notes.messages
        banked = bank.team(echo.spec, echo.pools, member.candidate)
        delivered = load_student(member.path or "").team
        after, records = refined.follow(member.candidate)
        assert records == member.refinements
        assert digests(delivered) == digests(after)
        assert (digests(after) == digests(banked)) == (not record.kept)
    # Students of 20 steps more are better on most fronts, and here on one team at least.
    assert any(member.refined for member in front)


def test_gains_are_those_of_the_same_validation_episodes(finished: Finished, echo: Setup) -> None:
    run, front, _ = finished
    refined, bank = make_refined(echo, run), make_bank(echo, run)
    seeds = echo.seeds.validation(128)

    def returns(policy: Any) -> np.ndarray[Any, Any]:
        return play(echo.env, policy, seeds, copies=64, max_steps=5).mean

    teacher, random = returns(echo.teacher), returns(RandomPolicy(echo.spec.actions, seed=0))
    for member in [member for member in front if member.refined]:
        before = returns(bank.team(echo.spec, echo.pools, member.candidate))
        after = returns(refined.follow(member.candidate)[0])
        (record,) = member.refinements
        assert record.gain is not None
        assert record.gain.model_dump() == make_gain(after, before, teacher, random).as_json()


def test_hindsight_is_of_the_weights_that_the_search_scored(finished: Finished, echo: Setup) -> None:
    run, front, _ = finished
    refined, bank = make_refined(echo, run), make_bank(echo, run)
    trained = {"search": echo.seeds.search(64), "final": echo.seeds.final(64)}
    for member in front:
        look = member.hindsight
        assert look is not None
        banked = bank.team(echo.spec, echo.pools, member.candidate)
        for name, seeds in trained.items():
            played = [
                play(echo.env, policy, seeds, copies=64, max_steps=5).mean
                for policy in (banked, echo.teacher, RandomPolicy(echo.spec.actions, seed=0))
            ]
            assert getattr(look, name).model_dump() == make_score(*played).retention.as_json()
        assert look.excess == look.search.mean - look.final.mean
        if not member.refined:
            assert look.refinement is None
            assert member.score.retention.mean == look.final.mean
            continue
        after = play(echo.env, refined.follow(member.candidate)[0], seeds, copies=64, max_steps=5).mean
        assert look.refinement is not None
        assert look.refinement.model_dump() == make_gain(after, *played).as_json()
        assert member.score == make_score(after, *played[1:])
        assert member.score.retention.mean == pytest.approx(look.final.mean + look.refinement.mean)


def test_the_figures_are_read_back(finished: Finished) -> None:
    run, front, _ = finished
    again = read_front(run / "front.json")
    for was, now in zip(front, again, strict=True):
        assert (now.refinements, now.hindsight) == (was.refinements, was.hindsight)
    entry = json.loads((run / "front.json").read_text())[0]
    del entry["refinements"], entry["hindsight"]
    plain = Member.from_json(entry)
    assert (plain.refinements, plain.hindsight, plain.refined) == ((), None, False)
    assert Member.from_json(plain.as_json()) == plain


def test_the_card_says_what_was_done(finished: Finished) -> None:
    for member in finished[1]:
        folder = member.path or Path()
        card, page = load_student(folder).card, (folder / "README.md").read_text()
        assert (card.refinements, card.hindsight) == (member.refinements, member.hindsight)
        (record,) = member.refinements
        assert f"After the search the students were trained on together: {record}.\n" in page
        look = member.hindsight
        assert look is not None
        assert f"by an estimate of {100 * look.search.mean:.1f} % for the weights that it trained; on the final" in page
        assert f"on the final seeds these keep {100 * look.final.mean:.1f} %" in page


def test_an_end_that_was_interrupted_goes_on_where_it_stopped(
    finished: Finished, copied: Path, write_study: WriteStudy, echo: Setup
) -> None:
    front, refined = finished[1], make_refined(echo, copied)
    lacking = front[0]
    path = refined._path(refined.stages[0], make_bank(echo, copied).team(echo.spec, echo.pools, lacking.candidate))
    whole = path.read_bytes()
    path.unlink()
    (copied / "front.json").unlink()
    shutil.rmtree(copied / "students")
    there = {other: other.stat().st_mtime_ns for other in refined.folder.iterdir()}
    assert len(there) == len(front) - 1
    banked = {entry: entry.read_bytes() for entry in (copied / "bank").iterdir()}
    notes = Notes()
    again = search(write_study("echo"), budget=BUDGET, trials=6, out=copied, watch=notes)
    assert [text for text in notes.messages if text.startswith("refining")] == [
        f"refining 1 of the {len(front)} teams of the front by joint recovery"
    ]
    assert {other: other.stat().st_mtime_ns for other in there} == there
    assert path.read_bytes() == whole  # the same seed, the same weights
    assert {entry: entry.read_bytes() for entry in (copied / "bank").iterdir()} == banked
    assert [(m.trial, m.score, m.refinements, m.hindsight) for m in again] == [
        (m.trial, m.score, m.refinements, m.hindsight) for m in front
    ]
    # A third time nothing is left to refine.
    notes = Notes()
    search(write_study("echo"), budget=BUDGET, trials=6, out=copied, watch=notes)
    assert not [text for text in notes.messages if text.startswith("refining")]


def test_a_search_without_refinement(write_study: WriteStudy, tmp_path: Path) -> None:
    notes = Notes()
    path = write_study("plain_end", **{"refine.joint": {"steps": 0}})
    front = search(path, budget=BUDGET, trials=2, out=tmp_path / "run", watch=notes)
    assert not (tmp_path / "run" / "refined").exists()
    assert not [text for text in notes.messages if "refin" in text]
    for member in front:
        assert member.refinements == ()
        assert member.hindsight is not None
        assert member.hindsight.refinement is None
        page = ((member.path or Path()) / "README.md").read_text()
        assert "trained on together" not in page
        assert "The search chose the team by an estimate of" in page


# What a worker does, in this process.

POLISHED = {"refine.polish": {"rounds": 1, "episodes": 32, "learning_rate": 0.01, "leash": 1.0}}
SPACE: dict[str, Any] = {
    "name": "pair",
    "groups": {"default": {"bits": ["float", "w8a8i8", "w4a8i8"], "bases": [{"hidden": [16], "prune": [0.5]}]}},
}


@pytest.fixture
def desk(write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Setup, RefinedTeams]:
    """A run of a study that polishes too, whose bank holds what `CANDIDATES` need."""
    setup = open_study(read_study(write_study("pair", space=SPACE, **POLISHED)))
    monkeypatch.setattr(tasks, "_DESK", [])
    sit_down(setup.file, tmp_path, record_demonstrations(setup, tmp_path).folder)
    return setup, make_refined(setup, tmp_path)


def candidate_of(setup: Setup, *bits: str) -> dict[str, Any]:
    """Group -> a student of 8 units at these bits, trained with its ancestors."""
    specs = {str(spec).split()[-1]: spec for spec in setup.space.groups["left"].parameters}
    for name in dict.fromkeys(bits):
        for stage in tasks.lineage(last_stage(specs[name], setup.config.distill)):
            train_student("left", stage)
    return dict(zip(("left", "right"), (specs[name] for name in bits), strict=True))


def references(setup: Setup) -> tuple[Any, Any]:
    seeds = setup.seeds.validation(128)
    return play_team(tasks.TEACHER, seeds, False), play_team(tasks.RANDOM, seeds, False)


def test_stages_follow_each_other_and_are_kept_one_by_one(
    desk: tuple[Setup, RefinedTeams], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, refined = desk
    candidate, given = candidate_of(setup, "float", "float"), references(setup)
    assert refined.follow(candidate)[1] == ()

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kdnas.distill.refined.polish_team", interrupt)
        with pytest.raises(KeyboardInterrupt):
            refine_team(candidate, *given)
    team, done = refined.follow(candidate)
    assert [record.stage for record in done] == ["joint recovery"]
    with monkeypatch.context() as patch:  # what is there is not made again
        patch.setattr("kdnas.distill.refined.recover_jointly", interrupt)
        refine_team(candidate, *given)
    last, done = refined.follow(candidate)
    assert [record.stage for record in done] == ["joint recovery", "polish"]
    assert len(list(refined.folder.iterdir())) == 2
    assert (digests(last) == digests(team)) == (not done[1].kept)
    seeds = setup.seeds.final(64)
    want = play(setup.env, last, seeds, copies=64, max_steps=5).mean
    np.testing.assert_array_equal(play_refined(candidate, seeds), want)


def test_quantized_teams_stay_what_their_exports_say(desk: tuple[Setup, RefinedTeams], tmp_path: Path) -> None:
    from kdnas.export.c import CExporter
    from kdnas.export.onnx import OnnxExporter

    setup, refined = desk
    candidate = candidate_of(setup, "w8a8i8", "w4a8i8")
    refine_team(candidate, *references(setup))
    team, done = refined.follow(candidate)
    assert len(done) == 2
    assert {group: student.spec for group, student in team.students.items()} == candidate
    recorded = recorded_rows(setup, record_demonstrations(setup, refined.folder.parent))
    for exporter in (OnnxExporter(), CExporter()):
        artifact = exporter.export(team, tmp_path, recorded=recorded)
        assert artifact.agreed_rows == artifact.checked_rows == 2 * 320


def test_a_team_whose_training_fails_stays_what_it_was(
    desk: tuple[Setup, RefinedTeams], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, refined = desk
    candidate = candidate_of(setup, "float", "float")
    bank_team, _ = refined.follow(candidate)
    whole = tasks.refine

    def spoil(stage: Any, team: Any, *rest: Any, **more: Any) -> Any:
        with torch.no_grad():  # weights of the copy, or of the team itself, if it were not copied
            return whole(spoiled(stage), team, *rest, **more)

    def spoiled(stage: Any) -> Any:
        def train(students: Any, *_: Any, **__: Any) -> None:
            students["left"].network.linears[0].weight.fill_(torch.inf)
            students["left"].check_finite()

        return type(stage)(name=stage.name, table=stage.table, train=train)

    monkeypatch.setattr(tasks, "refine", spoil)
    refine_team(candidate, *references(setup))
    team, done = refined.follow(candidate)
    assert [record.kept for record in done] == [False, False]
    assert all("holds NaN or infinity; lower the learning rate" in record.failure for record in done)
    assert digests(team) == digests(bank_team)


def test_a_teacher_without_a_critic_gets_one_for_polish(desk: tuple[Setup, RefinedTeams]) -> None:
    setup, _ = desk
    assert setup.teacher.value is None
    own = tasks._DESK[0]
    critic = own.critic()
    assert own.critic() is critic  # fitted once
    state = torch.zeros(7, setup.spec.state_size)
    assert critic(state, torch.zeros(7)).shape == (7, 2)


def test_a_front_is_a_front_all_the_same(finished: Finished) -> None:
    front = finished[1]
    assert isinstance(front, ParetoFront)
    retentions = [member.score.retention.mean for member in front]
    assert retentions == sorted(retentions, reverse=True)
