from dataclasses import replace
from pathlib import Path

from kdnas.envs.spec import EnvSpec
from kdnas.students import Student, Team, render_card
from kdnas.students.refinement import Hindsight, IntervalCard, Refinement

from .conftest import ENV, MakeStudent, card_of


def test_the_card_says_what_the_team_is(team: Team, tmp_path: Path) -> None:
    page = render_card(card_of(team, "0123abcd"))
    for line in (
        "# Student team of test, trial 7",
        "Retention 95.1 % of the teacher's return above random play (95 % interval 93.0 % to 97.0 %, 500 episodes on "
        "final seeds); return -8.500 [-9.000, -8.000], mean over agents.",
        # 50,000 / 1,000, 2,048 / 512 and 20 us / 20 us.
        "| FLOPs | 1,000 | 50,000 | 50.0 |",
        "| MACs | 500 | 25,000 | 50.0 |",
        "| parameters | 120 | 6,000 | 50.0 |",
        "| memory | 512 B | 2 KiB | 4.0 |",
        "| latency p50 (sum of agents) | 10 us | 10 us | 1.0 |",
        "| latency p95 (sum of agents) | 20 us | 20 us | 1.0 |",
        "| latency p99 (sum of agents) | 40 us | 40 us | 1.0 |",
        "Measured on board@10MHz (core small). Times are instructions.",
        "| scout | scout | mlp 8x6 w4a8i8 | 6 | 4 |",
        "| drones | drone_0, drone_1 | mlp 8x6 float | 3 | 5 |",
        "`team.onnx` chooses the same action as the students on 3,999 of 4,000 recorded observations (largest "
        "difference of a logit 0.012; ties go to the lowest index).",
        'team.act({"scout": [0.0] * 6, "drone_0": [0.0] * 3, "drone_1": [0.0] * 3})',
        "Made by kdnas 0.1.0. Weights SHA-256 `0123abcd`.",
    ):
        assert line in page.splitlines()


def test_flash_and_ram_of_targets_that_say_them(team: Team) -> None:
    card = card_of(team, "x")
    assert "flash" not in render_card(card)
    card.cost.update(flash_bytes=1024, ram_bytes=256)
    card.cost["teacher"].update(flash_bytes=4096, ram_bytes=1024)
    page = render_card(card).splitlines()
    assert "| flash (sum of agents) | 1 KiB | 4 KiB | 4.0 |" in page
    assert "| ram (sum of agents) | 256 B | 1 KiB | 4.0 |" in page


def test_what_was_not_measured_is_not_divided(team: Team) -> None:
    card = card_of(team, "x")
    card.cost["latency_s"]["p95"] = 0.0
    assert "| latency p95 (sum of agents) | - | - | - |" in render_card(card)


def test_what_was_done_after_the_search(team: Team) -> None:
    card = card_of(team, "x")
    page = render_card(card)
    assert "trained on together" not in page
    assert "The search chose" not in page
    gain = IntervalCard(mean=0.0123, low=0.01, high=0.015, episodes=2048)
    card = card.model_copy(
        update={
            "refinements": (
                Refinement(stage="joint recovery", kept=True, gain=gain),
                Refinement(stage="polish", kept=False, failure="the loss became nan"),
            ),
            "hindsight": Hindsight(
                search=gain.model_copy(update={"mean": 0.955}),
                final=gain.model_copy(update={"mean": 0.9512}),
                refinement=gain.model_copy(update={"mean": 0.008, "low": -0.001}),
            ),
        }
    )
    lines = render_card(card).splitlines()
    assert (
        "After the search the students were trained on together: joint recovery was kept: retention +0.0123 (95 % "
        "interval +0.0100 to +0.0150) on 2,048 validation episodes; polish was refused: the loss became nan."
    ) in lines
    told = (
        "The search chose the team by an estimate of 95.5 % for the weights that it trained; on the final seeds these "
        "keep 95.1 %"
    )
    assert f"{told}; refinement added 0.8 points (-0.1 to +1.5)." in lines
    nothing = card.hindsight.model_copy(update={"refinement": None})  # type: ignore[union-attr]
    assert f"{told}." in render_card(card.model_copy(update={"hindsight": nothing})).splitlines()


def test_what_is_not_read_is_named(make_student: MakeStudent) -> None:
    assert "never changed" not in render_card(card_of(Team(ENV, students_of(make_student, ENV)), "x"))
    spec = replace(ENV, constant={"scout": (1, 2, 3, 5), "drones": (0,)})
    page = render_card(card_of(Team(spec, students_of(make_student, spec)), "x"))
    assert "Features that never changed in the demonstrations are not read: 1-3, 5 of scout; 0 of drones.\n" in page
    fewer = {"scout": make_student(spaces=replace(spec.student_spec("scout"), pruned=(4,))),
             "drones": make_student(spaces=spec.student_spec("drones"))}  # fmt: skip
    pruned = render_card(card_of(Team(spec, fewer), "x"))
    assert "Features that never changed in the demonstrations are not read: 1-3, 5 of scout; 0 of drones.\n" in pruned
    assert "Features that mattered least are not read: 4 of scout.\n" in pruned
    assert "mattered" not in page
    # They are shown all the same.
    assert '"scout": [0.0] * 6' in page


def students_of(make_student: MakeStudent, spec: EnvSpec) -> dict[str, Student]:
    return {group: make_student(spaces=spec.student_spec(group)) for group in spec.groups}
