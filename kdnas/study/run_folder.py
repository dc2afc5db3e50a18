"""`RunFolder`: everything a search keeps, in one folder.

    study.toml, space.toml    what was searched, as resolved          bank/            trained students
    teacher/                  a copy of its checkpoint                demonstrations/  teacher rollouts
    run.json                  identity of the run, and its storage    returns/         per-episode returns
    versions.json             Python and all packages, as it began    refined/         teams that were trained on
    study.db                  the Optuna study (SQLite)               students/NNNN/   the front, ready to deploy
    device.json               what was measured
    front.json                the front's figures

`kdnas search RUN/study.toml` repeats it; modules of the user's own are looked up where they were.
"""

import json
import platform
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock, Timeout

from kdnas.errors import RunError
from kdnas.study.returns import ReturnsFolder
from kdnas.study.setup import Setup, StudyFile, read_study
from kdnas.study.storage import driver_url, read_trials, shown_url
from kdnas.teachers.checkpoint import FILES

SCHEMA = 1
DEMONSTRATIONS, TEACHER = "demonstrations", "teacher"
STORAGE_FILE = "study.db"


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """An open run: locked against a second coordinator until `close`."""

    path: Path
    fresh: bool
    """It was not there before."""
    begun: bool
    """Something was searched here before."""
    identity: Mapping[str, str]
    """Part -> what it is; a run goes on only when all parts are the same."""
    run_id: str
    storage: str
    """Optuna storage URL."""
    lock: FileLock

    def close(self) -> None:
        """Let others in; a folder that nothing came of disappears, and so does what a worker did not finish writing."""
        if (self.path / "run.json").exists():
            _sweep(self.path)
        nothing_came = self.fresh and not (self.path / "run.json").exists()
        if nothing_came:
            shutil.rmtree(self.path / DEMONSTRATIONS, ignore_errors=True)
            with suppress(OSError):
                (self.path / ".lock").unlink(missing_ok=True)
        self.lock.release()
        if nothing_came:
            with suppress(OSError):  # somebody else's files are in it, or somebody has begun a search there
                self.path.rmdir()

    def keep(self, setup: Setup) -> None:
        """Write down what is searched here: once, but for what a search may go on with otherwise, as its trials.

        Raises:
            RunError: the folder cannot be written.
        """
        config = setup.config.model_dump(exclude_none=True)
        config["space"], config["modules"] = "space.toml", str(setup.file.modules.resolve())
        if (checkpoint := setup.config.teacher.checkpoint) is not None:
            config["teacher"]["checkpoint"] = TEACHER
        write_text(self.path / "study.toml", tomli_w.dumps(config))
        if (self.path / "run.json").exists():
            return
        if checkpoint is not None:
            _copy_teacher(setup.file.folder / checkpoint, self.path / TEACHER)
        write_text(self.path / "space.toml", tomli_w.dumps(setup.space.config.model_dump(exclude_none=True)))
        self.write_json("versions.json", _versions())
        card = {
            "schema_version": SCHEMA,
            "run_id": self.run_id,
            "storage": self.storage if self.storage != _own_storage(self.path) else None,
            "identity": self.identity,
        }
        write_text(self.path / "run.json", json.dumps(card, indent=2) + "\n", private=card["storage"] is not None)

    @property
    def study_name(self) -> str:
        """Name of the Optuna study, distinct on a shared server."""
        return f"kdnas-{self.run_id}"

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file, whole or not at all.

        Raises:
            RunError: it cannot be written.
        """
        write_text(self.path / name, json.dumps(content, indent=2) + "\n")

    @property
    def returns(self) -> ReturnsFolder:
        """Per-episode returns that were played once."""
        return ReturnsFolder(self.path / "returns")


def open_run(path: Path, setup: Setup, storage: str | None) -> RunFolder:
    """Make a run folder, or open one that was made by the same study.

    Raises:
        RunError: it cannot be written, another search is using it, or it belongs to another search.
    """
    identity = identify(setup)
    lock = FileLock(path / ".lock")
    fresh = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"{path}: another search is using this run; wait for it or choose another --out") from error
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written: {error.strerror or error}; choose another folder with --out"
        ) from error
    try:
        begun = (path / "run.json").exists()
        run_id, url = _check_same(path, identity, driver_url(storage) if storage is not None else None)
        if begun:
            _sweep(path)
    except BaseException:
        lock.release()
        raise
    return RunFolder(path=path, fresh=fresh, begun=begun, identity=identity, run_id=run_id, storage=url, lock=lock)


def _sweep(path: Path) -> None:
    """Remove what somebody was writing when he was killed; nobody else writes here now.

    A student folder that was set aside and not replaced any more is put back.
    """
    for old in path.glob("students/*.old.part"):
        with suppress(OSError):  # there is a new one
            old.rename(old.with_name(old.name.removesuffix(".old.part")))
    patterns = ("*.json.part", "*.toml.part", ".room.part", "returns/*.part.npy")
    for pattern in (*patterns, *(f"{folder}/*.part" for folder in ("bank", "refined", TEACHER))):
        for part in path.glob(pattern):
            with suppress(OSError):
                part.unlink()
    for folder in ("demonstrations", "students"):
        for part in path.glob(f"{folder}/*.part"):
            shutil.rmtree(part, ignore_errors=True)


def _check_same(path: Path, identity: Mapping[str, str], storage: str | None) -> tuple[str, str]:
    """Id and storage of a run, made up for a new one; refuses a folder that belongs to another search."""
    if not (path / "run.json").exists():
        if storage is None and (odd := sorted(set(str(path.resolve())) & set("{}?"))):
            raise RunError(f"{path}: a database's address cannot hold {' '.join(odd)}; choose another --out")
        return uuid.uuid4().hex[:12], storage or _own_storage(path)
    card = read_run(path)
    was: Mapping[str, str] = card["identity"]
    if changed := differences(was, identity):
        raise RunError(f"{path}: belongs to another search ({'; '.join(changed)}); choose another --out")
    if storage is not None and storage != card["storage"]:
        raise RunError(
            f"{path}: its study lies in {shown_url(card['storage'])}; leave out --storage, or choose another --out"
        )
    return card["run_id"], card["storage"]


def _own_storage(path: Path) -> str:
    """The SQLite file of a run; it moves with the folder, so `run.json` does not name it."""
    return f"sqlite:///{path.resolve() / STORAGE_FILE}"


def identify(setup: Setup) -> dict[str, str]:
    """What makes two searches the same one: each key of the study that decides results, and what it leads to."""
    config = setup.config
    tables = config.model_dump(include={"env", "observe", "distill", "refine", "evaluation", "target"})
    del tables["evaluation"]["processes"]  # says how fast, not what
    return {
        "study": config.name,
        "budget": ", ".join(sorted({item.text for item in setup.budget.constraints})) or "none",
        "space": f"{setup.space.config.name} {setup.space.digest}",
        "teacher": " ".join(f"{group}:{setup.teacher.digest(group)}" for group in setup.spec.groups),
        "critic": setup.teacher.value_digest,
        "seed": str(config.search.seed),
        **{
            f"{table}.{key}": json.dumps(value, sort_keys=True, default=str)
            for table, content in tables.items()
            for key, value in content.items()
        },
    }


def differences(was: Mapping[str, str], now: Mapping[str, str], parts: tuple[str, ...] = ("",)) -> list[str]:
    """In what two searches differ, of the parts whose names begin with one of some words; each in a few words.

    Example: `["seed was 0, is 7"]`.
    """
    names = [name for name in dict.fromkeys([*now, *was]) if name.startswith(parts)]
    return [f"{name} was {was.get(name)}, is {now.get(name)}" for name in names if was.get(name) != now.get(name)]


def read_run(path: Path) -> dict[str, Any]:
    """`run.json` of a run.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        card = json.loads((path / "run.json").read_text(encoding="utf-8"))
        if card["schema_version"] != SCHEMA:
            raise RunError(
                f"{path / 'run.json'}: has schema version {card['schema_version']}, this kdnas reads {SCHEMA}; "
                "use the kdnas that made it"
            )
        texts = {"run_id": card["run_id"], "storage": card["storage"] or _own_storage(path)}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError("run_id and storage must be text")
        return {**texts, "identity": dict(card["identity"])}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{path}: is no kdnas run (it has no run.json); give the folder of --out") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path / 'run.json'}: cannot be read: {error!r}; choose another --out") from error


def trials_of(path: Path) -> list[Any]:
    """The trials of a run, for reading.

    Raises:
        RunError: the folder is no run, or its storage or study is not there.
    """
    card = read_run(path)
    return read_trials(card["storage"], f"kdnas-{card['run_id']}")


def reopen_study(path: Path) -> StudyFile:
    """The study of a run, as it was searched.

    Raises:
        KdnasError: the folder is no run, or its files are damaged.
    """
    read_run(path)
    return read_study(path / "study.toml")


def _copy_teacher(source: Path, folder: Path) -> None:
    """Keep a checkpoint with the run, file by file, each whole or not at all.

    Raises:
        RunError: it cannot be read or written.
    """
    for name in FILES:
        part = folder / f"{name}.part"
        try:
            folder.mkdir(exist_ok=True)
            shutil.copyfile(source / name, part)
            part.replace(folder / name)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise RunError(f"{folder}: the teacher cannot be copied: {error.strerror or error}") from error


def _versions() -> dict[str, str]:
    """What was installed, by name."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in sorted(distributions(), key=lambda each: str(each.name).lower()):  # of two, the first is imported
        if package.name:  # what was not removed whole has none
            versions.setdefault(package.name, package.version)
    return versions


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write a file, whole or not at all; a private one (it may hold the storage's password) only its owner reads.

    Raises:
        RunError: it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        part.touch(mode=0o600 if private else 0o666)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise RunError(f"{path}: cannot be written: {error.strerror or error}; make room") from error
