"""The faults, each a function that injects one into a real search and says what held."""

import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from home import (
    FINAL_EPISODES,
    LIMIT_S,
    SEARCH_EPISODES,
    TRAINING_EPISODES,
    Home,
    children,
    kill_session,
    wait_until_gone,
)
from moments import draw, reach, strike
from stage import Stage, TooLateError, bound, fill, make_read_only
from verdict import Verdict, check_end, check_folders, check_sentence, check_told

ENDING_S = 20.0
"""Processes that nobody needs any more are gone after so long, on a machine that has other things to do too."""

GIVE_UP_S = 60.0
"""A search that was told to end has ended after so long."""

Fault = Callable[[Stage, random.Random, Verdict], None]


def kill_worker(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """kill -9 of one worker; the search itself goes on."""
    with stage.home() as home:
        moment = draw(luck, stage, home)
        process = reach(home, moment)
        while not (workers := children(process.pid)):
            if process.poll() is not None:
                raise TooLateError
            time.sleep(0.05)
        before = home.read()
        verdict.injected = f"kill -9 of a worker {moment}"
        try:
            os.kill(luck.choice(workers), signal.SIGKILL)
        except ProcessLookupError as error:
            raise TooLateError from error
        check_end(verdict, home, before, home.finish(process))


def kill_coordinator(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """kill -9 of the coordinator; its workers end by themselves, and the same command goes on."""
    verdict.injected = "kill -9 of the coordinator"
    with stage.some_home(luck, verdict) as home:
        orphans: list[int] = []

        def kill(process: "subprocess.Popen[str]") -> None:
            process.kill()
            process.wait()  # its output ends with its workers only
            orphans.extend(wait_until_gone(process.pid, ENDING_S))

        strike(home, verdict, draw(luck, stage, home), kill)
        verdict.check("no orphan", not orphans, str(orphans))
        go_on(home, verdict)


def kill_all(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """kill -9 of everything at once, twice in a row, then the same command goes on."""
    verdict.injected = "kill -9 of all"
    with stage.some_home(luck, verdict) as home:
        for _ in range(2):
            strike(home, verdict, draw(luck, stage, home), lambda process: kill_session(process.pid))
        go_on(home, verdict)


def tell_to_end(number: signal.Signals) -> Fault:
    """Ctrl-C, or SIGTERM: to the coordinator, or to its whole group as a terminal does it; workers end their tasks."""

    def inject(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
        group = luck.random() < 0.5
        verdict.injected = f"{number.name} to {'all' if group else 'the coordinator'}"
        with stage.home() as home:

            def ask_to_end(process: "subprocess.Popen[str]") -> None:
                (os.killpg if group else os.kill)(process.pid, number)

            code, said = strike(home, verdict, draw(luck, stage, home, working=True), ask_to_end)
            verdict.check("it ends", code == 130 and "Traceback" not in said, f"{code} {said[-800:]}")
            if number is signal.SIGINT:
                verdict.check("no task is begun again", "begun again" not in said, said[-800:])
            left = wait_until_gone(home.running[-1].pid, ENDING_S)
            verdict.check("no orphan", not left, str(left))
            go_on(home, verdict)

    return inject


def go_on(home: Home, verdict: Verdict) -> None:
    """What was told is kept, and the same command ends well."""
    check_folders(verdict, home, some=False)
    before = home.read()
    check_end(verdict, home, before, home.search())


def misbehave(fault: str, *, seeds: int, first: int, times: int = 1, every: int = 1, fails: bool = False) -> Fault:
    """The environment does it in a worker: once, and the task is tried again; more often, and trials fail.

    All that need the student that was played fail with it. `every = 2` spares the teacher, who plays between two tries
    where an environment raised an error.
    """

    def inject(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
        with stage.home() as home:
            home.workers = 1 if times > 1 else home.workers
            place = {SEARCH_EPISODES: "a play", TRAINING_EPISODES: "a training", FINAL_EPISODES: "a final play"}[seeds]
            verdict.injected = f"{fault} in {place}" + (f", {times} times" if times > 1 else "")
            home.plan(fault, seeds=seeds, first=first, times=times, every=every)
            ended = home.search()
            verdict.check("it happened", home.misbehaved > first, f"{home.misbehaved} plays")
            check_end(verdict, home, {}, ended, fails=fails)

    return inject


def lose_final_play(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """A team that no worker survives on the final episodes is left out of the front, and the others are delivered."""
    with stage.home() as home:
        home.workers, verdict.injected = 1, "segfault in a final play, 3 times"
        home.plan("segfault", seeds=FINAL_EPISODES, first=0, times=3)
        code, said = home.search()
        verdict.check("it is left out", "is left out of the front: the worker process died" in said, said[-800:])
        check_end(verdict, home, {}, (code, said))


def not_a_number(fault: str) -> Fault:
    """An environment that pays NaN or infinity in one play: who needs it fails, with its cause, and nobody else."""
    return misbehave(fault, seeds=SEARCH_EPISODES, first=3, fails=True)


def nan_reference(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """NaN in the teacher's own play: nothing can be scored, and the same command begins again."""
    with stage.home() as home:
        home.workers, verdict.injected = 1, "nan in a play of the teacher"  # which is the first of all plays
        home.plan("nan", first=0)
        check_sentence(verdict, *home.search())
        go_on(home, verdict)


def fail_everybody(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """The environment raises an error in a play of students, and for their teacher then too."""
    with stage.home() as home:
        home.workers, verdict.injected = 1, "error in a play and in that of the teacher"
        home.plan("error", first=4, times=2)
        check_sentence(verdict, *home.search(), "out of fuel")
        go_on(home, verdict)


def fill_disk(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """The disk of the run folder is full from some moment on, and has room again a while later."""
    with stage.disk(16) as disk, stage.home(disk / "run") as home:
        moment = draw(luck, stage, home, working=True)
        process = reach(home, moment)
        ballast = fill(disk)
        before = home.read()
        verdict.injected = f"no room {moment}"
        assert process.stdout is not None
        said = read_until(process, "Ctrl-C ends", LIMIT_S)
        verdict.check("it pauses and says so", "is full" in said, said[-800:])
        verdict.check("it waits", process.poll() is None, said[-800:])
        time.sleep(1)
        ballast.unlink()
        code, more = home.finish(process)
        check_end(verdict, home, before, (code, said + more))


def fill_disk_of_log(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """What the search says lies on the full disk too: it cannot say that it waits, and does."""
    with stage.disk(16) as disk, stage.home(disk / "run") as home:
        home.log = disk / "log"
        moment = draw(luck, stage, home, working=True)
        process = reach(home, moment)
        ballast = fill(disk)
        before = home.read()
        verdict.injected = f"no room, for the log either, {moment}"
        time.sleep(stage.seconds / 5)
        verdict.check("it waits", process.poll() is None)
        ballast.unlink()
        check_end(verdict, home, before, home.finish(process))


def interrupt_pause(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """Ctrl-C while it waits for room; the same command goes on when there is some."""
    with stage.disk(16) as disk, stage.home(disk / "run") as home:
        moment = draw(luck, stage, home, working=True)
        process = reach(home, moment)
        ballast = fill(disk)
        verdict.injected = f"no room {moment}, then Ctrl-C"
        said = read_until(process, "Ctrl-C ends", LIMIT_S)
        verdict.check("it pauses and says so", "is full" in said, said[-800:])
        os.kill(process.pid, signal.SIGINT)
        code, more = home.finish(process, GIVE_UP_S)
        verdict.check("Ctrl-C ends it", code == 130 and "Traceback" not in more, f"{code} {more[-800:]}")
        ballast.unlink()
        go_on(home, verdict)


def read_until(process: "subprocess.Popen[str]", sign: str, limit_s: float) -> str:
    """What it says, up to the line that holds a sign."""
    import threading

    lines: list[str] = []
    seen = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if sign in line:
                break
        seen.set()

    threading.Thread(target=read, daemon=True).start()
    seen.wait(limit_s)
    return "".join(lines)


def read_only(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """The run folder becomes read-only under a running search: it ends in a sentence, and goes on later."""
    with stage.home() as home:
        home.prefix = bound()
        verdict.injected = "read-only"
        moment = draw(luck, stage, home, working=True)
        code, said = strike(home, verdict, moment, lambda process: make_read_only(home.out, True))
        check_sentence(verdict, code, said)
        check_sentence(verdict, *home.search(), "cannot be written")
        make_read_only(home.out, False)
        go_on(home, verdict)


def truncate_database(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """A database that was cut short is refused; the student folders stay what they are."""
    for share in (0.0, luck.uniform(0.01, 0.5), luck.uniform(0.5, 0.99)):
        with stage.finished_home() as home:
            path = home.out / "study.db"
            with closing(sqlite3.connect(path)) as connection:  # all of it in one file, as after a clean end
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            size = int(path.stat().st_size * share)
            os.truncate(path, size)
            verdict.injected = f"{verdict.injected} {size:,} B".strip()
            before = fingerprints(home.out / "students")
            check_sentence(verdict, *home.search(), "study.db")
            verdict.check("students untouched", fingerprints(home.out / "students") == before)
            check_folders(verdict, home)
            verdict.check("the database is left as it was", path.stat().st_size == size, f"{path.stat().st_size}")
    verdict.injected = f"study.db cut to {verdict.injected}"


def fingerprints(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def drop_constraint(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """A trial of the front whose constraints are gone from the storage: it does not count as feasible."""
    import json

    with stage.finished_home() as home:
        front = json.loads((home.out / "front.json").read_text())
        number = front[0]["trial"]
        with closing(sqlite3.connect(home.out / "study.db")) as connection, connection:
            (identity,) = connection.execute("SELECT trial_id FROM trials WHERE number = ?", (number,)).fetchone()
            gone = connection.execute(
                "DELETE FROM trial_system_attributes WHERE trial_id = ? AND key LIKE 'constraints:%'", (identity,)
            ).rowcount
        verdict.injected = f"{gone} constraints of trial {number} deleted"
        verdict.check("it had some", gone > 0)
        before = home.read()
        check_end(verdict, home, before, home.search())
        again = [entry["trial"] for entry in json.loads((home.out / "front.json").read_text())]
        verdict.check("not feasible", number not in again, str(again))


def second_coordinator(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """The same command twice at once: the second is refused, the first does not notice."""
    with stage.home() as home:
        verdict.injected = "a second coordinator"
        process = home.start()
        while not (home.out / "study.db").exists() and process.poll() is None:
            time.sleep(0.05)
        check_sentence(verdict, *home.search(), "another search is using this run")
        verdict.check("the first goes on", process.poll() is None)
        check_end(verdict, home, {}, home.finish(process))


def change_study(stage: Stage, luck: random.Random, verdict: Verdict) -> None:
    """Another teacher, space or study in the same folder is refused, with what changed."""
    changes = {
        "teacher": {"teacher": {"kwargs": {"sharpness": 3.0}}},
        "distill.batch": {"distill": {"batch": 127}},
        "space": {},
    }
    verdict.injected = f"changed: {', '.join(changes)}"
    for name, change in changes.items():
        with stage.finished_home() as home:
            before, folders = home.read(), fingerprints(home.out / "students")
            home.write_study(**change)
            if name == "space":
                space = home.folder / "space.toml"
                space.write_text(space.read_text().replace("0.75", "0.7"))
            check_sentence(verdict, *home.search(), "belongs to another search", f"{name} was")
            check_told(verdict, before, home.read())
            verdict.check("students untouched", fingerprints(home.out / "students") == folders)


FAULTS: dict[str, tuple[int, Fault]] = {
    "kill a worker": (20, kill_worker),
    "kill the coordinator": (20, kill_coordinator),
    "kill all": (10, kill_all),
    "terminate": (4, tell_to_end(signal.SIGTERM)),
    "interrupt": (4, tell_to_end(signal.SIGINT)),
    "hang": (1, misbehave("hang", seeds=TRAINING_EPISODES, first=1)),
    "hang always": (1, misbehave("hang", seeds=SEARCH_EPISODES, first=4, times=3, fails=True)),
    "segfault": (1, misbehave("segfault", seeds=TRAINING_EPISODES, first=2)),
    "segfault always": (1, misbehave("segfault", seeds=SEARCH_EPISODES, first=4, times=3, fails=True)),
    "out of memory": (1, misbehave("memory", seeds=TRAINING_EPISODES, first=2)),
    "out of memory always": (1, misbehave("memory", seeds=SEARCH_EPISODES, first=4, times=3, fails=True)),
    "killed for memory": (1, misbehave("kill", seeds=SEARCH_EPISODES, first=3)),
    "error": (1, misbehave("error", seeds=TRAINING_EPISODES, first=2)),
    "error always": (1, misbehave("error", seeds=SEARCH_EPISODES, first=4, times=2, every=2, fails=True)),
    "error for all": (1, fail_everybody),
    "crash at the end": (1, misbehave("segfault", seeds=FINAL_EPISODES, first=1)),
    "crash at the end always": (1, lose_final_play),
    "nan": (1, not_a_number("nan")),
    "inf": (1, not_a_number("inf")),
    "nan of the teacher": (1, nan_reference),
    "disk full": (4, fill_disk),
    "disk full, Ctrl-C": (1, interrupt_pause),
    "disk full, log too": (1, fill_disk_of_log),
    "read-only folder": (2, read_only),
    "truncated database": (2, truncate_database),
    "missing constraint": (1, drop_constraint),
    "second coordinator": (1, second_coordinator),
    "another study": (1, change_study),
}
"""Name -> how often it is injected, and how."""

MORE = re.compile(r"always|killed for|at the end|inf|Ctrl-C|log too|of the teacher|for all")
QUICK = [name for name in FAULTS if not MORE.search(name)]
"""One of each kind."""
