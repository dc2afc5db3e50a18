"""`RunFolder`: everything a search keeps, in one folder.

    study.toml, space.toml    what was searched, as resolved          bank/            trained students
    run.json                  identity of the run, and its storage    demonstrations/  teacher rollouts
    study.db                  the Optuna study (SQLite)               references/      returns of teacher and random
    latency.json              measured latencies                      students/NNNN/   the front, ready to deploy
    front.json                the front's figures
"""

import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from kdnas.config.study import StudyConfig
from kdnas.config.toml import read_toml
from kdnas.errors import RunError
from kdnas.spaces.space import SpaceConfig
from kdnas.study.setup import Setup, StudyFile

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """An open run: locked against a second coordinator until `close`."""

    path: Path
    identity: Mapping[str, str]
    """Part -> what it is; a run goes on only when all parts are the same."""
    run_id: str
    storage: str
    """Optuna storage URL."""
    lock: FileLock

    def close(self) -> None:
        self.lock.release()

    @property
    def study_name(self) -> str:
        """Name of the Optuna study, distinct on a shared server."""
        return f"kdnas-{self.run_id}"

    def read_json(self, name: str) -> Any:
        """The content of a JSON file of the run, or None."""
        path = self.path / name
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{path}: is damaged ({error}); delete it, it will be made again") from error

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file, whole or not at all."""
        write_text(self.path / name, json.dumps(content, indent=2) + "\n")

    def reference(self, seeds: str, who: str, make: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Returns of the teacher or of random play on a seed set, played once."""
        path = self.path / "references" / f"{seeds}.{who}.npy"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            part = path.with_suffix(".part.npy")
            np.save(part, make())
            part.replace(path)
        returns: NDArray[np.float64] = np.load(path, allow_pickle=False)
        return returns


def open_run(path: Path, setup: Setup, storage: str | None) -> RunFolder:
    """Make a run folder, or open one that was made by the same study.

    Raises:
        RunError: it cannot be written, another search is using it, or it belongs to another search.
    """
    identity = identify(setup)
    lock = FileLock(path / ".lock")
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
        return _open_locked(path, setup, storage, identity, lock)
    except BaseException:
        lock.release()
        raise


def _open_locked(
    path: Path, setup: Setup, storage: str | None, identity: dict[str, str], lock: FileLock
) -> RunFolder:
    card_path = path / "run.json"
    if card_path.exists():
        card = read_run(path)
        changed = [part for part in identity if identity[part] != card["identity"].get(part)]
        if changed:
            told = "; ".join(f"{part} was {card['identity'].get(part)!r}, is {identity[part]!r}" for part in changed)
            raise RunError(f"{path}: belongs to another search ({told}); choose another --out")
        if storage is not None and storage != card["storage"]:
            raise RunError(f"{path}: its study lies in {card['storage']}; leave out --storage, or choose another --out")
        return RunFolder(path=path, identity=identity, run_id=card["run_id"], storage=card["storage"], lock=lock)
    run_id = uuid.uuid4().hex[:12]
    url = storage or f"sqlite:///{path.resolve() / 'study.db'}"
    try:
        config = setup.config.model_dump(exclude_none=True)
        config["space"] = "space.toml"
        teacher = config["teacher"]
        if "checkpoint" in teacher:
            teacher["checkpoint"] = str((setup.file.folder / teacher["checkpoint"]).resolve())
        write_text(path / "study.toml", tomli_w.dumps(config))
        write_text(path / "space.toml", tomli_w.dumps(setup.space.config.model_dump(exclude_none=True)))
        card = {
            "schema_version": SCHEMA,
            "run_id": run_id,
            "storage": url,
            "identity": identity,
            "study_folder": str(setup.file.folder),
        }
        write_text(card_path, json.dumps(card, indent=2) + "\n")
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error
    return RunFolder(path=path, identity=identity, run_id=run_id, storage=url, lock=lock)


def identify(setup: Setup) -> dict[str, str]:
    """What makes two searches the same one."""
    config = setup.config
    rest = config.model_dump(exclude={"budget", "space", "search", "env", "teacher", "description"})
    return {
        "study": json.dumps(rest, sort_keys=True, default=str),
        "environment": json.dumps(config.env.model_dump(), sort_keys=True, default=str),
        "teacher": " ".join(f"{group}:{setup.teacher.digest(group)}" for group in setup.spec.groups),
        "space": f"{setup.space.config.name} {setup.space.digest}",
        "budget": ", ".join(item.text for item in setup.budget.constraints) or "none",
        "seed": str(config.search.seed),
    }


def read_run(path: Path) -> dict[str, Any]:
    """`run.json` of a run.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        card = json.loads((path / "run.json").read_text(encoding="utf-8"))
        return {key: card[key] for key in ("run_id", "storage", "identity", "study_folder")}
    except FileNotFoundError as error:
        raise RunError(f"{path}: is no kdnas run (it has no run.json); give the folder of --out") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path / 'run.json'}: cannot be read: {error!r}") from error


def reopen_study(path: Path) -> StudyFile:
    """The study of a run, as it was searched.

    Raises:
        KdnasError: the folder is no run, or its files are damaged.
    """
    card = read_run(path)
    config = read_toml(path / "study.toml", StudyConfig)
    space = read_toml(path / "space.toml", SpaceConfig)
    return StudyFile(config=config, folder=Path(card["study_folder"]), space=space)


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
