"""Student folders, their copies, and playing them again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdnas.errors import BudgetError, KdnasError, PluginError, RunError, StudentError
from kdnas.students import load_student
from kdnas.study import deliver as module
from kdnas.study.deliver import deliver, export_team, recorded_rows, target_card
from kdnas.study.evaluate import evaluate
from kdnas.study.export import export_best, export_trial
from kdnas.study.finish import deliver_all, export_members
from kdnas.study.front import ParetoFront, read_front
from kdnas.study.room import Room
from kdnas.study.run_folder import open_run, trials_of
from kdnas.study.setup import Setup, open_study, read_study
from kdnas.study.tasks import make_bank, record_demonstrations

from .conftest import BUDGET, Finished, Notes, WriteStudy


@pytest.fixture
def echo(write_study: WriteStudy) -> Setup:
    return open_study(read_study(write_study("echo"), budget=BUDGET))


def test_rows_are_spread_over_all_that_was_recorded(
    echo: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demonstrations = record_demonstrations(echo, tmp_path)
    every = demonstrations.episodes(["left"]).groups["left"].rows.views
    assert len(recorded_rows(echo, demonstrations)["left"]) == 320  # fewer than asked for: all
    monkeypatch.setattr(module, "CHECKED_ROWS", 3)
    np.testing.assert_array_equal(recorded_rows(echo, demonstrations)["left"], every[[0, 159, 319]])


def test_a_folder_is_written_whole_or_not_at_all(copied: Path, echo: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(copied, echo, None)
    member = replace(read_front(copied / "front.json")[0], trial=77, path=None)
    recorded = recorded_rows(echo, record_demonstrations(echo, copied))
    device = target_card(echo.make_target())
    team = make_bank(echo, copied).team(echo.spec, echo.pools, member.candidate)
    folder = copied / "students" / "0077"
    before = sorted((copied / "students").iterdir())

    def refuse(*_: object, **__: object) -> None:
        raise StudentError("the artifact acts otherwise")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("kdnas.export.onnx.OnnxExporter.export", refuse)
        with pytest.raises(StudentError, match="acts otherwise"):
            export_team(run, 77, team, recorded, device)
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_weights", full)
        with pytest.raises(RunError, match=r"students/0077.part: cannot be written: No space left on device; make"):
            export_team(run, 77, team, recorded, device)
    assert sorted((copied / "students").iterdir()) == before
    export = export_team(run, 77, team, recorded, device)
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_card", full)
        with pytest.raises(RunError, match=r"students/0077: cannot be written: No space left on device; make room"):
            deliver(echo, run, member, export)
    assert sorted((copied / "students").iterdir()) == sorted([*before, export.part])
    delivered = deliver(echo, run, member, export, seeds="search")
    assert delivered.path == folder
    assert sorted((copied / "students").iterdir()) == sorted([*before, folder])
    assert load_student(folder).card.score["seeds"] == "search"
    run.close()


def test_the_card_names_where_it_comes_from(finished: Finished, echo: Setup) -> None:
    card = load_student(finished[1][0].path or "").card
    assert (card.environment, card.score["seeds"], card.schema_version) == ("echo", "final", 1)
    assert card.hashes.teacher == {group: echo.teacher.digest(group) for group in ("left", "right")}
    written = json.loads((finished[0] / "front.json").read_text())[0]
    assert card.score["retention"] == written["retention"]
    assert {key: card.cost[key] for key in ("flops", "worst_agent", "teacher")} == {
        key: written[key] for key in ("flops", "worst_agent", "teacher")
    }
    assert card.cost["groups"] == {group: entry["cost"] for group, entry in written["groups"].items()}


def test_the_best_is_copied_out(finished: Finished, tmp_path: Path) -> None:
    run, front, _ = finished
    folder = export_best(run, "min flops", tmp_path / "mine", "onnx")
    assert folder == tmp_path / "mine"
    assert load_student(folder).card.trial == front.best("min flops").trial
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
    with pytest.raises(RunError, match=r"mine: is there already; choose another folder with --to"):
        export_best(run, "min flops", tmp_path / "mine", "onnx")
    with pytest.raises(BudgetError, match="no student of the front meets 'flops<1'"):
        export_best(run, "flops<1", tmp_path / "none", "onnx")
    with pytest.raises(PluginError, match=r"no plugin 'onyx' in kdnas.exporters: did you mean 'onnx'"):
        export_best(run, "min flops", tmp_path / "none", "onyx")
    with pytest.raises(RunError, match=r"cannot be read: No such file .*has this search ended"):
        export_best(tmp_path, "min flops", tmp_path / "none", "onnx")
    assert not (tmp_path / "none").exists()


def test_another_format_joins_the_artifact_that_is_there(finished: Finished, tmp_path: Path) -> None:
    folder = export_best(finished[0], "min flops", tmp_path / "mine", "c")
    onnx, c = load_student(folder).card.artifacts
    assert (onnx.format, c.format) == ("onnx", "c")
    assert set(c.files) == {"team.h", "team.c", "main.c", "test.c", "vectors.h", "Makefile"}
    assert all((folder / name).stat().st_size for name in (*onnx.files, *c.files))
    assert c.agreed_rows == c.checked_rows == onnx.checked_rows
    assert "team.c" in (folder / "README.md").read_text()


def test_a_played_team_that_is_not_on_the_front_is_assembled(
    finished: Finished, copied: Path, tmp_path: Path
) -> None:
    shutil.rmtree(copied / "students")  # what lies there would only be copied, and here all may be on the front
    trials = trials_of(copied)
    on_front = {member.trial for member in finished[1]}
    played = [trial.number for trial in trials if trial.state.name == "COMPLETE"]
    other = min(played, key=lambda number: (number in on_front, number))
    team = load_student(export_trial(copied, other, tmp_path / "other", "onnx"))
    assert team.card.trial == other
    assert team.card.cost["flops"] == trials[other].values[1]
    rejected = next(trial.number for trial in trials if trial.state.name == "PRUNED")
    with pytest.raises(RunError, match=rf"trial {rejected} ended as PRUNED \(breaks flops<=96 by 50 %\)"):
        export_trial(copied, rejected, tmp_path / "none", "onnx")
    with pytest.raises(RunError, match=r"has no trial 99; it has 6, counted from 0"):
        export_trial(copied, 99, tmp_path / "none", "onnx")


def test_the_target_of_a_copy_cannot_be_written(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/mine: cannot be written: .*; choose another with --to"):
        export_best(finished[0], "min flops", tmp_path / "file" / "mine", "onnx")


def test_playing_again_on_the_final_episodes_gives_the_same_score(finished: Finished) -> None:
    """`evaluate` with the study's seed and number of episodes plays what the search played last."""
    run, front, _ = finished
    scores = evaluate(run, episodes=64, seed=0)
    assert list(scores) == [str(member.path) for member in front]
    assert list(scores.values()) == [member.score for member in front]


def test_one_folder_on_other_episodes(finished: Finished, write_study: WriteStudy, tmp_path: Path) -> None:
    run, front, _ = finished
    member = front.best()
    assert member.path is not None
    (score,) = evaluate(member.path, episodes=50, seed=9).values()
    assert score.retention.episodes == 50
    assert score != member.score
    assert score.retention.mean == pytest.approx(member.score.retention.mean, abs=0.15)
    away = export_best(run, "max retention", tmp_path / "away", "onnx")
    with pytest.raises(RunError, match="is not inside a run; name its environment and teacher with --study"):
        evaluate(away, episodes=50, seed=9)
    path = write_study("echo")
    assert list(evaluate(away, episodes=50, seed=9, study=str(path)).values()) == [score]
    other = write_study("kinds", **{"env.kwargs": {"kinds": True}})
    with pytest.raises(RunError, match="was made for other agents than those of echo in this study"):
        evaluate(away, episodes=50, seed=9, study=str(other))


def test_nothing_to_play(tmp_path: Path) -> None:
    with pytest.raises(KdnasError, match=r"front.json: cannot be read: No such file"):
        evaluate(tmp_path, episodes=5, seed=0)


def test_fronts_are_sequences(finished: Finished) -> None:
    front = finished[1]
    assert isinstance(front, ParetoFront)
    assert front[0] in list(front)


def test_a_team_that_cannot_be_exported_is_left_out_of_the_front(
    copied: Path, echo: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, notes = open_run(copied, echo, None), Notes()
    best = read_front(copied / "front.json")[0]
    members = [replace(best, trial=90 + index, path=None) for index in range(2)]
    recorded, target = recorded_rows(echo, record_demonstrations(echo, copied)), echo.make_target()
    team = make_bank(echo, copied).team(echo.spec, echo.pools, best.candidate)
    teams = {member.trial: team for member in members}
    whole = module.export_team

    def picky(run: object, trial: int, *rest: object) -> module.Export:
        if trial in refused:
            raise StudentError("the artifact acts otherwise")
        return whole(run, trial, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("kdnas.study.finish.export_team", picky)
    refused = {90}
    exports = export_members(run, members, teams, recorded, target, notes)
    assert notes.messages == ["trial 90 is left out of the front: the artifact acts otherwise"]
    front = deliver_all(echo, run, Room(copied, print), members[1:], exports)
    assert [member.trial for member in front] == [91]
    assert [member.trial for member in read_front(copied / "front.json")] == [91]
    refused = {90, 91}
    with pytest.raises(RunError, match="none of the 2 teams of the front could be exported"):
        export_members(run, members, teams, recorded, target, notes)
    run.close()
