"""The search that is disturbed: a study of seconds in a folder of its own, its command, and what it leaves behind."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

HERE = Path(__file__).resolve().parent

SEARCH_EPISODES, FINAL_EPISODES, TRAINING_EPISODES = 64, 48, 16
"""All different, so that an environment knows what it is played for."""

STUDY: dict[str, Any] = {
    "name": "faults",
    "space": "space.toml",
    "budget": ["flops<=96", "team.memory<2KiB"],
    "env": {"factory": "rude:make", "max_steps": 5, "kwargs": {"step_s": 0.03}},
    "teacher": {"factory": "rude:teach"},
    "distill": {
        "demonstration_episodes": 64,
        "ancestor_steps": 300,
        "recovery_steps": 150,
        "qat_steps": 30,
        "flip_rounds": 2,
        "batch": 128,
        "learning_rate": 0.01,
        "on_policy_rounds": 1,
        "on_policy_episodes": TRAINING_EPISODES,
    },
    "refine": {"joint": {"steps": 20, "rounds": 2, "episodes": 24, "flip_rounds": 1}, "validation_episodes": 40},
    "evaluation": {"search_episodes": SEARCH_EPISODES, "final_episodes": FINAL_EPISODES, "copies": 64},
    "search": {"trials": 10, "workers": 2, "patience_s": 6},
}

SPACE: dict[str, Any] = {
    "name": "faults",
    "groups": {
        "default": {"bits": ["float", "w4a8i8"], "bases": [{"hidden": [16], "prune": [0.25, 0.5, 0.625, 0.75]}]}
    },
}
"""12, 8, 6 and 4 units at 6 MACs each; 12 break the budget of 96 FLOPs."""

LIMIT_S = 240.0
"""A search that takes longer hangs: undisturbed it takes a twentieth."""

END = ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True)
class Trial:
    """A trial as the storage has it."""

    number: int
    state: str
    values: tuple[float, ...] | None
    params: tuple[tuple[str, Any], ...]
    attributes: str
    """As JSON with sorted keys, constraints among them."""

    @property
    def attribute(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.attributes)
        return read


@dataclass
class Home:
    """A study folder, and the run folder that its search writes."""

    folder: Path
    out: Path
    trials: int = STUDY["search"]["trials"]
    workers: int = STUDY["search"]["workers"]
    undisturbed: dict[int, Trial] = field(default_factory=dict)
    """What the same search tells when nothing happens."""
    prefix: list[str] = field(default_factory=list)
    """What its command begins with."""
    log: Path | None = None
    """Where its output goes; None keeps it in a pipe."""
    running: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def write_study(self, **changes: Any) -> None:
        """Write the study's files; tables of `changes` are merged into its own."""
        tables = {key: value | changes[key] if key in changes and isinstance(value, dict) else changes.get(key, value)
                  for key, value in STUDY.items()}  # fmt: skip
        (self.folder / "study.toml").write_text(tomli_w.dumps(tables))
        (self.folder / "space.toml").write_text(tomli_w.dumps(SPACE))

    def plan(self, fault: str, *, seeds: int = SEARCH_EPISODES, first: int, times: int = 1, every: int = 1) -> None:
        """Let the environment misbehave (see `rude.py`)."""
        plan = {"fault": fault, "seeds": seeds, "first": first, "times": times, "every": every}
        (self.folder / "plan.json").write_text(json.dumps(plan))

    @property
    def misbehaved(self) -> int:
        """Plays or trainings that the plan has counted."""
        return len(list((self.folder / "numbers").glob("*")))

    def start(self, *options: str) -> "subprocess.Popen[str]":
        """Begin the search, or go on with it: the same command each time."""
        arguments = ["search", str(self.folder / "study.toml"), "--out", str(self.out), "--trials", str(self.trials)]
        process = subprocess.Popen(
            [*self.prefix, sys.executable, "-c", "from kdnas.cli.app import main; main()", *arguments, "--workers",
             str(self.workers), *options],
            stdout=subprocess.PIPE if self.log is None else self.log.open("a"),
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": ""},
        )  # fmt: skip
        self.running.append(process)
        return process

    def finish(self, process: "subprocess.Popen[str]", limit_s: float = LIMIT_S) -> tuple[int, str]:
        """Exit code and output of a search that ends by itself."""
        try:
            said = process.communicate(timeout=limit_s)[0]
        except subprocess.TimeoutExpired:
            kill_session(process.pid)
            return 124, f"{process.communicate()[0]}\n(still running after {limit_s:g} s)"
        return process.returncode, said if self.log is None else self.log.read_text()

    def search(self, *options: str) -> tuple[int, str]:
        return self.finish(self.start(*options))

    def read(self) -> dict[int, Trial]:
        """The trials, read from a copy, so that looking changes nothing."""
        source, card = self.out / "study.db", self.out / "run.json"
        if not source.exists() or not card.exists():
            return {}
        name = f"kdnas-{json.loads(card.read_text())['run_id']}"
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "study.db"
            if any(process.poll() is None for process in self.running):
                with (
                    closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as live,
                    closing(sqlite3.connect(copy)) as target,
                ):
                    live.backup(target)
            else:
                for suffix in ("", "-wal"):
                    if (part := source.with_name(source.name + suffix)).exists():
                        shutil.copy(part, copy.with_name(copy.name + suffix))
            return read_trials(copy, name)

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                kill_session(process.pid)
            process.communicate()


def read_trials(database: Path, name: str) -> dict[int, Trial]:
    """Number -> trial of a study; none where the database does not hold it yet."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{database}"
    try:
        found = optuna.load_study(study_name=name, storage=url).get_trials(deepcopy=False)
    except KeyError:
        return {}
    return {
        trial.number: Trial(
            number=trial.number,
            state=trial.state.name,
            values=tuple(trial.values) if trial.values else None,
            params=tuple(sorted(trial.params.items())),
            attributes=json.dumps(trial.user_attrs | {"constraints": trial.constraints}, sort_keys=True),
        )
        for trial in found
    }


def make_home(root: Path, out: Path | None = None, **changes: Any) -> Home:
    """A study folder of its own, with a run folder beside it or elsewhere."""
    folder = root / "study"
    folder.mkdir(parents=True)
    for name in ("rude.py", "../echo.py"):
        shutil.copy(HERE / name, folder)
    home = Home(folder=folder, out=out or root / "run")
    home.write_study(**changes)
    return home


# Processes, as /proc shows them.


def children(parent: int) -> list[int]:
    """Worker processes of a coordinator."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            own = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            continue
        if own == parent and b"spawn_main" in command:
            found.append(int(status.parent.name))
    return sorted(found)


def session(leader: int) -> list[int]:
    """All processes that a search has begun, itself included."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(status.parent.name))
    return sorted(found)


def kill_session(leader: int) -> None:
    from signal import SIGKILL

    for pid in session(leader):
        try:
            os.kill(pid, SIGKILL)
        except ProcessLookupError:
            continue


def wait_until_gone(leader: int, limit_s: float) -> list[int]:
    """Processes of a session that are still there after so many seconds."""
    end = time.monotonic() + limit_s
    while (left := session(leader)) and time.monotonic() < end:
        time.sleep(0.05)
    return left
