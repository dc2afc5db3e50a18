"""The Optuna study of a run. Only the coordinator opens it."""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnas.errors import RunError

if TYPE_CHECKING:
    import optuna

OBJECTIVES = ("retention", "flops", "memory")
"""Up, down, down; the last two are team sums."""


def open_storage(url: str, study_name: str, seed: int) -> "optuna.Study":
    """Create or load the study of a run.

    SQLite is put into write-ahead-log mode, which kept every told trial on a full disk where the default mode lost some.

    Raises:
        RunError: the storage cannot be reached or is damaged.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        if url.startswith("sqlite:///"):
            with sqlite3.connect(Path(url.removeprefix("sqlite:///"))) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        storage = optuna.storages.RDBStorage(url)
        study = optuna.create_study(
            storage=storage,
            study_name=study_name,
            directions=["maximize", "minimize", "minimize"],
            load_if_exists=True,
        )
        study.set_metric_names(list(OBJECTIVES))
        told = len(study.get_trials(deepcopy=False))
    except ImportError as error:
        raise RunError(f"storage {_shown(url)}: needs {error.name!r}; install it with: pip install 'kdnas[postgres]'") from error
    except (SQLAlchemyError, sqlite3.Error, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise RunError(f"storage {_shown(url)}: cannot be used: {first_line}") from error
    # A continued study draws on with other random numbers than it began with.
    study.sampler = optuna.samplers.TPESampler(seed=seed + told, constant_liar=True)
    return study


def read_trials(url: str, study_name: str) -> list[Any]:
    """The trials of a run, for reading.

    Raises:
        RunError: the storage or the study is not there.
    """
    return _load(url, study_name).get_trials(deepcopy=False)


def read_study_id(url: str, study_name: str) -> int:
    """Number of a run's study in its storage, as the dashboard's addresses have it.

    Raises:
        RunError: the storage or the study is not there.
    """
    return _load(url, study_name)._study_id


def _load(url: str, study_name: str) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise RunError(f"storage {url}: is not there; was the run moved? repeat the search in a new --out")
    try:
        return optuna.load_study(storage=url, study_name=study_name)
    except Exception as error:  # drivers raise their own kinds
        raise RunError(f"storage {_shown(url)}: cannot be read: {str(error).strip().splitlines()[0]}") from error


def _shown(url: str) -> str:
    """A URL without its password."""
    head, at, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://...@{tail}" if at else url
